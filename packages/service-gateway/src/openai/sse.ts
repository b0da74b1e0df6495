import type { ServerResponse } from "node:http";
import type { Frame } from "@assay/protocol";

/** One event as it stands on the wire: a name if it has one, one line of data after one space, a blank line. */
export function eventText({ event, data }: Frame): string {
  return event === undefined ? `data: ${data}\n\n` : `event: ${event}\ndata: ${data}\n\n`;
}

/**
 * Waits until `response` takes more. Resolves with whether it does: false when the connection is gone, when `signal`
 * aborts, or when it stayed full for `stallMs`, in which case it is cut here.
 */
export function drained(response: ServerResponse, stallMs: number, signal: AbortSignal): Promise<boolean> {
  if (response.destroyed || signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const settle = (goesOn: boolean): void => {
      clearTimeout(timer);
      response.off("drain", drain);
      response.off("close", close);
      signal.removeEventListener("abort", close);
      resolve(goesOn);
    };
    const drain = (): void => settle(true);
    const close = (): void => settle(false);
    const timer = setTimeout(() => {
      settle(false);
      response.destroy();
    }, stallMs);
    response.once("drain", drain);
    response.once("close", close);
    signal.addEventListener("abort", close, { once: true });
  });
}

/** Ends `response`, and cuts a client that does not take the rest within `stallMs`. */
export function endWithin(response: ServerResponse, last: string | Uint8Array, stallMs: number): void {
  const timer = setTimeout(() => response.destroy(), stallMs);
  timer.unref();
  response.once("close", () => clearTimeout(timer));
  response.end(last);
}
