import { parseJson } from "@assay/core";
import type { Fetch } from "@assay/sdk";
import { parsePaymentRequired } from "@assay/x402";
import type { ParsedQuote } from "@assay/x402";
import type { Cli } from "./command.ts";

/** How long a command waits for parts of a gateway that has just started, milliseconds, all its calls together. */
const START_WAIT_MS = 15_000;
const START_LOOK_MS = 500;
/** Error documents are small; one that is larger is not read to find out what it says. */
const MAX_ERROR_BYTES = 64 * 1024;

/** What a gateway answers with while a part of it is not there yet, and what that part is. Nothing was begun then. */
const STARTING: Readonly<Record<string, string>> = {
  database_unavailable: "database",
  payments_starting: "payments",
};

/** A `fetch` that waits for a gateway which is still starting, and remembers what was last asked to be paid. */
export type WatchedFetch = {
  readonly fetch: Fetch;
  /** The quote of the last 402; undefined when there was none, or none that can be read. */
  readonly quote: () => ParsedQuote | undefined;
  /** Waits a moment for `what` and resolves to true; to false once the time of this command is over. */
  readonly wait: (what: string) => Promise<boolean>;
};

/** Watches what a command asks of its gateway. */
export function watchFetch({ world, output }: Cli): WatchedFetch {
  let header: string | undefined;
  let waitedMs = 0;
  const wait: WatchedFetch["wait"] = async (what) => {
    if (waitedMs >= START_WAIT_MS) return false;
    output.progress(`waiting for the gateway's ${what}, which is starting`);
    waitedMs += START_LOOK_MS;
    await world.sleep(START_LOOK_MS, world.interrupt);
    return true;
  };
  return {
    wait,
    async fetch(url, init) {
      for (;;) {
        const response = await world.fetch(url, init);
        if (response.status === 402) header = response.headers.get("payment-required") ?? undefined;
        // A body that is a stream is gone once it was sent.
        const repeatable = init.body === undefined || !(init.body instanceof ReadableStream);
        if (response.status !== 503 || !repeatable) return response;
        const { what, again } = await startingOf(response);
        if (what === undefined || !(await wait(what))) return again;
      }
    },
    quote() {
      if (header === undefined) return undefined;
      try {
        return parsePaymentRequired({ header });
      } catch {
        return undefined;
      }
    },
  };
}

/** What a 503 says is still starting, and the same answer to be read by whoever asked. */
async function startingOf(
  response: Response,
): Promise<{ readonly what: string | undefined; readonly again: Response }> {
  if (Number(response.headers.get("content-length") ?? "0") > MAX_ERROR_BYTES)
    return { what: undefined, again: response };
  const bytes = new Uint8Array(await response.arrayBuffer());
  const { status, statusText, headers } = response;
  const again = new Response(bytes, { status, statusText, headers });
  try {
    const body = parseJson(bytes, { maxBytes: MAX_ERROR_BYTES, maxDepth: 8 });
    const code = typeof body === "object" && body !== null && "code" in body ? body["code"] : undefined;
    return { what: typeof code === "string" ? STARTING[code] : undefined, again };
  } catch {
    return { what: undefined, again };
  }
}
