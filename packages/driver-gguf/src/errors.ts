import { AssayError } from "@assay/core";

/** Codes of every error that leaves this driver. */
const GGUF_CODES = [
  "content_unsupported",
  "context_exceeded",
  "engine_interrupted",
  "engine_overloaded",
  "engine_unavailable",
  "kind_unsupported",
  "model_aborted",
  "model_digest_mismatch",
  "model_invalid",
  "model_not_found",
  "parameter_invalid",
  "parameter_unsupported",
  "request_cancelled",
  "schema_unsupported",
] as const;
export type GgufErrorCode = (typeof GGUF_CODES)[number];

/** An error whose code is one of {@link GgufErrorCode}. */
export function ggufError(
  code: GgufErrorCode,
  message: string,
  hints: readonly string[] = [],
  cause?: unknown,
): AssayError<GgufErrorCode> {
  return new AssayError(code, message, cause === undefined ? { hints } : { hints, cause });
}

/** The code that a child reported, narrowed to what a child may say. */
export function reportedCode(code: unknown): GgufErrorCode {
  return GGUF_CODES.find((known) => known === code) ?? "model_aborted";
}
