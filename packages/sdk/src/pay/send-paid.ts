import { isAssayError } from "@assay/core";
import type { Fetch } from "../transport.ts";
import { IN_FLIGHT_MS, RESEND_FIRST_MS, RESENDS } from "./limits.ts";

export type SendPaid = {
  readonly fetch: Fetch;
  readonly url: string;
  readonly init: RequestInit;
  readonly header: { readonly name: string; readonly value: string };
  readonly now: () => number;
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
};

/**
 * Sends a request with its payment, and the very same again when the connection was lost or somebody still works on it:
 * whoever did the work gives its answer again, and nobody is paid twice. Rejects with what the last try threw.
 */
export async function sendPaid({ fetch, url, init, header, now, sleep }: SendPaid): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set(header.name, header.value);
  // A payment follows no redirect: it was signed for whom was asked.
  const paid: RequestInit = { ...init, headers, redirect: "error" };
  const signal = init.signal ?? undefined;
  const lastMs = now() + IN_FLIGHT_MS;
  for (let lost = 0; ;) {
    let response: Response;
    try {
      response = await fetch(url, paid);
    } catch (error) {
      if (signal?.aborted === true || isAssayError(error) || lost >= RESENDS) throw error;
      await sleep(RESEND_FIRST_MS * 2 ** lost, signal);
      lost++;
      continue;
    }
    const waitMs = response.status === 409 ? retryAfterMs(response) : undefined;
    if (waitMs === undefined || now() + waitMs > lastMs) return response;
    response.body?.cancel().catch(() => undefined);
    await sleep(waitMs, signal);
  }
}

/** Milliseconds until an answer under way may be asked for again; undefined when nobody says that it is. */
function retryAfterMs(response: Response): number | undefined {
  const text = response.headers.get("retry-after");
  if (text === null || !/^\d{1,4}$/.test(text)) return undefined;
  return Math.max(RESEND_FIRST_MS, Number(text) * 1000);
}
