import type { AssayError } from "@assay/core";
import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { withRetryAfter } from "@assay/protocol";
import { readAll } from "./body.ts";
import { passOn, upstreamError } from "./errors.ts";
import { MAX_DEPTH, MAX_ERROR_BYTES } from "./limits.ts";
import { isObject, objectOf, textOf } from "./read.ts";
import type { TransportAnswer } from "./transport.ts";

/** What an upstream said about an error, from whichever of the three formats. */
type Said = { readonly message: string; readonly code?: string };

/** What the mapping needs to know of the request. */
export type ErrorContext = {
  readonly provider: string;
  /** The credential, so that it can be taken out of what is passed on. */
  readonly secret: string | undefined;
  readonly model?: string;
  /** Now, milliseconds since 1970, for `Retry-After` as a date. */
  readonly now: () => number;
};

/** Pause that is advised when an upstream is overloaded without saying for how long, milliseconds. */
const RATE_LIMIT_MS = 1000;

/** Reads the body of an answer that is no success and says what it means. */
export async function errorOf(answer: TransportAnswer, context: ErrorContext): Promise<AssayError> {
  let said: Said = { message: "" };
  try {
    said = read(await readAll(answer, MAX_ERROR_BYTES));
  } catch {
    // The status alone tells enough.
    answer.body.leave();
  }
  return statusError(answer.status, said, context, answer.headers["retry-after"]);
}

/** An error that an upstream sends as an event of a stream that began well. */
export function eventError(error: JsonValue | undefined, context: ErrorContext): AssayError {
  const said = saidOf(error);
  const { code, type, status } = objectOf(error);
  const named = [code, type, status].find((value) => typeof value === "string");
  const number = [code, status].find((value): value is number => typeof value === "number");
  return statusError(number ?? STATUS_OF[String(named)] ?? 500, said, context, undefined);
}

/** Statuses of the names that providers give to errors. */
const STATUS_OF: Readonly<Record<string, number>> = {
  rate_limit_error: 429,
  rate_limit_exceeded: 429,
  RESOURCE_EXHAUSTED: 429,
  authentication_error: 401,
  permission_error: 403,
  invalid_request_error: 400,
  INVALID_ARGUMENT: 400,
  not_found_error: 404,
  overloaded_error: 529,
  api_error: 500,
};

function statusError(
  status: number,
  said: Said,
  { provider, secret, model, now }: ErrorContext,
  retryAfter: string | string[] | undefined,
): AssayError {
  const message = passOn(said.message, secret);
  const quoted = message === "" ? "" : ` It says: ${message}`;
  if (status === 401 || status === 403) {
    // Its message may repeat the key, or parts of it.
    return upstreamError("upstream_unauthorized", `${provider} does not accept this gateway's key (HTTP ${status}).`, {
      hints: ["The operator sets the upstream's key."],
    });
  }
  if (status === 429) {
    const error = upstreamError("upstream_rate_limited", `${provider} limits this gateway's requests.${quoted}`);
    return withRetryAfter(error, retryMs(retryAfter, now()) ?? RATE_LIMIT_MS);
  }
  if (status === 404 && model !== undefined)
    return upstreamError("model_not_found", `${provider} has no model ${model}.${quoted}`);
  if (said.code === "context_length_exceeded" || /context (?:length|window)|too many (?:input )?tokens/i.test(message))
    return upstreamError("context_exceeded", `The request is too long for ${model ?? "the model"}.${quoted}`);
  if (status >= 300 && status < 400) {
    return upstreamError("upstream_refused", `${provider} answered with a redirect (HTTP ${status}).`, {
      hints: [
        "Redirects are not followed, since the key would go with them: set the upstream's address to its target.",
      ],
    });
  }
  if (status >= 400 && status < 500 && status !== 408)
    return upstreamError("upstream_refused", `${provider} refused the request (HTTP ${status}).${quoted}`);
  const error = upstreamError("upstream_failed", `${provider} failed (HTTP ${status}).${quoted}`);
  const pause = retryMs(retryAfter, now());
  return pause === undefined ? error : withRetryAfter(error, pause);
}

/** `Retry-After` (RFC 9110 section 10.2.3) in milliseconds: seconds, or a date. */
function retryMs(value: string | string[] | undefined, now: number): number | undefined {
  const text = Array.isArray(value) ? value[0] : value;
  if (text === undefined) return undefined;
  if (/^\d{1,9}(?:\.\d+)?$/.test(text)) return Math.min(Number(text) * 1000, MAX_RETRY_MS);
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - now), MAX_RETRY_MS);
}

/** Longest pause that is believed, milliseconds: a day. */
const MAX_RETRY_MS = 86_400_000;

function read(bytes: Uint8Array): Said {
  const document = parseJson(bytes, { maxBytes: MAX_ERROR_BYTES, maxDepth: MAX_DEPTH });
  // Gemini wraps the document of some errors in a list.
  const value = Array.isArray(document) ? (document[0] as JsonValue | undefined) : document;
  return saidOf(isObject(value) ? (value["error"] ?? value) : value);
}

function saidOf(error: JsonValue | undefined): Said {
  if (typeof error === "string") return { message: error };
  const { message, code, detail } = objectOf(error);
  const named = textOf(code);
  return { message: textOf(message) ?? textOf(detail) ?? "", ...(named === undefined ? {} : { code: named }) };
}
