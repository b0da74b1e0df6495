import type { ServerResponse } from "node:http";
import type { Frame, TextDialect } from "@assay/protocol";
import type { OpenAiError } from "./problem.ts";

/** One event as it stands on the wire: a name if it has one, one line of data after one space, a blank line. */
export function eventText({ event, data }: Frame): string {
  return event === undefined ? `data: ${data}\n\n` : `event: ${event}\ndata: ${data}\n\n`;
}

/**
 * The event that ends a stream which failed, in the shape that clients of the dialect raise an exception for.
 * `sent` is how many events were sent before it.
 */
export function errorEvent(dialect: TextDialect, error: OpenAiError, sent: number): string {
  return dialect === "responses"
    ? eventText({ event: "error", data: JSON.stringify({ type: "error", sequence_number: sent, error }) })
    : eventText({ data: JSON.stringify({ error }) });
}

/**
 * Waits until `response` takes more. Resolves with whether it does: false when the connection is gone, or stayed full
 * for `stallMs`, in which case it is cut here.
 */
export function drained(response: ServerResponse, stallMs: number): Promise<boolean> {
  if (response.destroyed) return Promise.resolve(false);
  return new Promise((resolve) => {
    const settle = (goesOn: boolean): void => {
      clearTimeout(timer);
      response.off("drain", drain);
      response.off("close", close);
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
  });
}

/** Ends `response`, and cuts a client that does not take the rest within `stallMs`. */
export function endWithin(response: ServerResponse, last: string, stallMs: number): void {
  const timer = setTimeout(() => response.destroy(), stallMs);
  timer.unref();
  response.once("close", () => clearTimeout(timer));
  response.end(last);
}
