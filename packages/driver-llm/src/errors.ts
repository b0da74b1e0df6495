import { AssayError } from "@assay/core";

/** Codes that a child may report; anything else in a report is read as `model_failed`. */
const REPORTED = [
  "kind_unsupported",
  "parameter_unsupported",
  "parameter_invalid",
  "content_unsupported",
  "schema_unsupported",
  "context_exceeded",
  "template_failed",
  "model_digest_mismatch",
  "model_invalid",
  "model_out_of_memory",
  "model_failed",
] as const;

/** Codes of every error that leaves this driver. */
export type LlmErrorCode =
  | (typeof REPORTED)[number]
  | "model_not_found"
  | "model_aborted"
  | "engine_overloaded"
  | "engine_unavailable"
  | "engine_interrupted"
  | "request_cancelled";

/** An error whose code is one of {@link LlmErrorCode}. */
export function llmError(
  code: LlmErrorCode,
  message: string,
  hints: readonly string[] = [],
  cause?: unknown,
): AssayError<LlmErrorCode> {
  return new AssayError(code, message, cause === undefined ? { hints } : { hints, cause });
}

/** The code that a child reported, narrowed to what a child may say. */
export function reportedCode(code: string): LlmErrorCode {
  return REPORTED.find((known) => known === code) ?? "model_failed";
}
