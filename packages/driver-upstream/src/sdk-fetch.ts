import type { AssayError } from "@assay/core";
import { isAssayError } from "@assay/core";
import { contentOf } from "./body.ts";
import type { Connection } from "./connection.ts";
import { malformed, upstreamError } from "./errors.ts";
import { MAX_ANSWER_BYTES, MAX_EVENT_BYTES } from "./limits.ts";
import type { Report } from "./report.ts";
import type { StopSignal } from "./stop.ts";
import type { Body } from "./transport.ts";

/** One exchange that a provider's own client makes over our transport. */
export type SdkCall = {
  readonly fetch: (input: string | URL | Request, init?: RequestInit) => Promise<Response>;
  /** What went wrong on our side, which the client may have wrapped or swallowed. */
  readonly failure: () => AssayError | undefined;
  /** Closes the connection unless the answer was read to its end. */
  readonly leave: () => void;
};

/**
 * Lends our transport to a provider's client as its `fetch`: statuses become our errors before the client sees them,
 * sizes and times are held, and only one request is let through, so that nothing is retried, continued or called on
 * behind the caller's back. The client adds the credential; the path must lie below the configured address.
 */
export function createSdkCall(
  connection: Connection,
  call: {
    readonly signal: StopSignal;
    readonly stream: boolean;
    readonly firstByteMs: number;
    readonly model?: string;
    readonly report: Report;
  },
): SdkCall {
  let used = false;
  let failure: AssayError | undefined;
  let body: Body | undefined;

  const fail = (error: unknown): AssayError => {
    failure = isAssayError(error) ? error : malformed("it could not be read", error);
    return failure;
  };

  return {
    failure: () => failure,
    leave: () => body?.leave(),
    async fetch(input, init = {}) {
      try {
        if (used) throw upstreamError("upstream_failed", "A second request in place of one was held back.");
        used = true;
        const url = new URL(input instanceof Request ? input.url : input);
        if (url.origin !== connection.origin)
          throw upstreamError("upstream_failed", "A request to elsewhere was held back.");
        const answer = await connection.send({
          method: init.method?.toUpperCase() === "GET" ? "GET" : "POST",
          path: url.pathname + url.search,
          headers: { ...Object.fromEntries(new Headers(init.headers)), "accept-encoding": "identity" },
          ...(typeof init.body === "string" ? { body: init.body } : {}),
          signal: call.signal,
          firstByteMs: call.firstByteMs,
          contentType: call.stream ? "text/event-stream" : "application/json",
          report: call.report,
          ...(call.model === undefined ? {} : { model: call.model }),
        });
        const content = contentOf(answer, MAX_ANSWER_BYTES);
        body = content;
        const guard = call.stream ? eventGuard() : undefined;
        const stream = new ReadableStream<Uint8Array>(
          {
            async pull(controller) {
              try {
                const chunk = await content.read();
                if (chunk === undefined) return controller.close();
                guard?.(chunk);
                controller.enqueue(chunk);
              } catch (error) {
                content.leave();
                controller.error(fail(error));
              }
            },
            cancel: () => content.leave(),
          },
          { highWaterMark: 0 },
        );
        return new Response(stream, {
          status: answer.status,
          headers: { "content-type": call.stream ? "text/event-stream" : "application/json" },
        });
      } catch (error) {
        throw fail(error);
      }
    },
  };
}

const LF = 0x0a;
const CR = 0x0d;

/** Throws `upstream_malformed` once more than {@link MAX_EVENT_BYTES} came without a blank line. */
function eventGuard(): (chunk: Uint8Array) => void {
  let size = 0;
  let blank = true;
  return (chunk) => {
    for (let start = 0; start < chunk.length;) {
      const found = chunk.indexOf(LF, start);
      const end = found === -1 ? chunk.length : found;
      const empty = end === start || (end === start + 1 && chunk[start] === CR);
      size += end - start;
      if (size > MAX_EVENT_BYTES) throw malformed(`an event of its stream is larger than ${MAX_EVENT_BYTES} bytes`);
      if (found === -1) blank = blank && empty;
      else {
        if (empty && blank) size = 0;
        blank = true;
      }
      start = end + 1;
    }
  };
}
