import { isAssayError } from "@assay/core";
import { clientError } from "./errors.ts";

export type Pace = {
  readonly signal?: AbortSignal | undefined;
  /** Longest pause between two pieces, milliseconds. Default: none. */
  readonly idleMs?: number;
};

/**
 * The pieces of a body as they come. Leaving the loop cancels the body, so that the sender stops. Throws the signal's
 * reason, `gateway_timeout` after a pause that is too long, and `gateway_unreachable` when the connection breaks.
 */
export async function* piecesOf(
  body: ReadableStream<Uint8Array> | null,
  pace: Pace = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!body) return;
  // By a reader and not by the stream's own iterator, which some browsers lack.
  const reader = body.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), pace);
      if (done) {
        ended = true;
        return;
      }
      yield value;
    }
  } catch (cause) {
    throw brokenOff(cause, pace.signal);
  } finally {
    // Not awaited: a sender that does not answer is what the limits are for.
    if (!ended) reader.cancel().catch(() => undefined);
  }
}

/** `work`, unless the signal or the time comes first. */
async function within<Result>(work: Promise<Result>, { signal, idleMs }: Pace): Promise<Result> {
  if (!signal && idleMs === undefined) return work;
  let stop = (): void => undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    const abort = (): void => reject(signal?.reason as Error);
    const timer =
      idleMs === undefined
        ? undefined
        : setTimeout(() => reject(clientError("gateway_timeout", `The answer stood still for ${idleMs} ms.`)), idleMs);
    stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    stop();
    // Whichever lost may still reject, and nobody waits for it any more.
    limit.catch(() => undefined);
    work.catch(() => undefined);
  }
}

/** What a body threw, as an error of this client; an abort and errors of our own stay as they are. */
function brokenOff(cause: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (isAssayError(cause)) return cause;
  const name = cause instanceof Error ? cause.name : "";
  if (name === "AbortError") return cause;
  if (name === "TimeoutError") return clientError("gateway_timeout", "The answer did not end in time.", { cause });
  return clientError("gateway_unreachable", "The connection broke before the answer was complete.", { cause });
}
