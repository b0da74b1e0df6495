import { AssayError, isAssayError } from "@assay/core";
import { MAX_MESSAGE } from "./limits.ts";

/** Codes of every error that leaves this driver. */
export type UpstreamErrorCode =
  | "upstream_invalid"
  | "content_unsupported"
  | "context_exceeded"
  | "engine_interrupted"
  | "engine_overloaded"
  | "engine_unavailable"
  | "kind_unsupported"
  | "model_not_found"
  | "parameter_invalid"
  | "parameter_unsupported"
  | "request_cancelled"
  | "schema_unsupported"
  | "upstream_failed"
  | "upstream_malformed"
  | "upstream_rate_limited"
  | "upstream_refused"
  | "upstream_timeout"
  | "upstream_unauthorized"
  | "upstream_unreachable";

/** An error whose code is one of {@link UpstreamErrorCode}. */
export function upstreamError(
  code: UpstreamErrorCode,
  message: string,
  options: { readonly hints?: readonly string[]; readonly cause?: unknown } = {},
): AssayError<UpstreamErrorCode> {
  return new AssayError(code, message, options);
}

/** Refuses `parameter` as `LanguageEngine` prescribes: named in the sentence and in the first hint. */
export function unsupported(parameter: string, provider: string, why = "has no such parameter"): AssayError {
  return upstreamError("parameter_unsupported", `${parameter} is refused: ${provider} ${why}.`, {
    hints: [`Leave ${parameter} out, or name a model of an upstream that applies it.`],
  });
}

/** What an upstream did that its interface does not allow. */
export function malformed(why: string, cause?: unknown): AssayError<UpstreamErrorCode> {
  return upstreamError("upstream_malformed", `The upstream's answer is not acceptable: ${why}.`, { cause });
}

/** The caller's own wish to stop. */
export function cancelled(): AssayError<UpstreamErrorCode> {
  return upstreamError("request_cancelled", "The request was cancelled.");
}

/** An answer that is not there in time. */
export function tooLong(ms: number): AssayError<UpstreamErrorCode> {
  return upstreamError("upstream_timeout", `The upstream's answer took longer than ${ms} ms.`);
}

/** Anything thrown, as an error of ours; what is not one already is a fault in the answer's form. */
export function asUpstreamError(error: unknown): AssayError {
  return isAssayError(error) ? error : malformed("it could not be read", withoutText(error));
}

/** Wraps what went wrong after the answer had begun. */
export function interrupted(cause: AssayError): AssayError {
  return upstreamError("engine_interrupted", `The answer broke off: ${cause.message}`, { hints: cause.hints, cause });
}

/** Longest run of characters that passes as a word: keys are longer, and words of messages are not. */
const KEY_LIKE = /(?:sk|pk|rk|key|tok|AIza|gsk|xai|hf|ya29|eyJ)[\w.*~+/=-]{12,}|\b(?=\w*\d)(?=\w*[A-Za-z])[\w-]{32,}/g;

/**
 * An upstream's message as it may be passed on: one line of at most {@link MAX_MESSAGE} characters, without `secret`
 * and without anything that looks like a key.
 */
export function passOn(message: string, secret: string | undefined): string {
  let text = message.slice(0, MAX_MESSAGE * 4);
  if (secret !== undefined && secret !== "") text = text.replaceAll(secret, "[redacted]");
  text = text.replace(KEY_LIKE, "[redacted]");
  // Control characters would let a message forge lines of a log.
  text = text.replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim();
  return text.length > MAX_MESSAGE ? `${text.slice(0, MAX_MESSAGE)}…` : text;
}

/** A foreign error's name: its message may hold parts of an answer, which logs must not see. */
function withoutText(error: unknown): Error | undefined {
  return error instanceof Error ? new Error(error.name) : undefined;
}
