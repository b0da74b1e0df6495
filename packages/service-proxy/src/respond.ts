import type { ServerResponse } from "node:http";
import { AssayError, isAssayError } from "@assay/core";
import { errorFrame, openAiError } from "@assay/protocol";
import type { TextDialect } from "@assay/protocol";

const STATUS: Readonly<Record<string, number>> = {
  host_refused: 403,
  origin_refused: 403,
  route_not_found: 404,
  request_too_large: 413,
  content_type_unsupported: 415,
  request_aborted: 499,
  request_cancelled: 499,
  proxy_overloaded: 503,
  proxy_closing: 503,
  payment_unpayable: 402,
  payment_quote_malformed: 502,
  gateway_timeout: 504,
  gateway_unreachable: 502,
  response_malformed: 502,
  response_too_large: 502,
};

/** Whatever was thrown, as an error with a code. */
function problemOf(error: unknown): AssayError {
  return isAssayError(error)
    ? error
    : new AssayError("internal_error", "Something unexpected went wrong in the proxy.");
}

/** The status of a problem that the proxy itself has. */
function statusOf(problem: AssayError): number {
  // What is not paid is the client's to know, as it would be if it had asked the gateway itself.
  if (problem.code.startsWith("spend_")) return 402;
  return STATUS[problem.code] ?? (problem.code === "internal_error" ? 500 : 502);
}

/** Answers with a problem in OpenAI's shape; an answer that has begun already is cut. */
export function sendProblem(
  response: ServerResponse,
  error: unknown,
  more: Readonly<Record<string, string>> = {},
): number {
  const problem = problemOf(error);
  const status = statusOf(problem);
  if (response.headersSent) {
    response.destroy();
    return status;
  }
  const body = JSON.stringify(openAiError(problem, status));
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    ...(status === 503 ? { "retry-after": "1" } : {}),
    // The body of a request that was refused may still be on its way.
    ...(status === 413 || status === 415 ? { connection: "close" } : {}),
    ...more,
  });
  response.end(body);
  return status;
}

/**
 * Passes a body on as fast as the client takes it. When it fails the stream ends with an error event and without its
 * `[DONE]`, so that no client takes it for whole. Resolves with what broke it.
 */
export async function sendStream(
  response: ServerResponse,
  body: ReadableStream<Uint8Array>,
  dialect: TextDialect,
  stallMs: number,
): Promise<unknown> {
  const reader = body.getReader();
  let sent = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      sent++;
      if (!response.write(value) && !(await drained(response, stallMs)))
        throw new AssayError("request_cancelled", "The client stopped reading before its answer was complete.");
    }
  } catch (error) {
    reader.cancel().catch(() => undefined);
    const problem = problemOf(error);
    const { event, data } = errorFrame(dialect, problem, statusOf(problem), sent);
    if (!response.destroyed) response.end(`${event === undefined ? "" : `event: ${event}\n`}data: ${data}\n\n`);
    return error;
  }
  response.end();
  return undefined;
}

/** Whether `response` takes more: false when the connection is gone, or stayed full for `stallMs` and was cut. */
function drained(response: ServerResponse, stallMs: number): Promise<boolean> {
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
