import { AssayError } from "@assay/core";

/** Codes that a child may report; anything else in a report is read as `model_failed`. */
const REPORTED = [
  "model_digest_mismatch",
  "model_invalid",
  "model_aborted",
  "model_out_of_memory",
  "model_failed",
  "datatype_unsupported",
  "tensor_too_large",
] as const;

/** Codes of every error that leaves this driver. */
export type OrtErrorCode =
  | (typeof REPORTED)[number]
  | "model_timeout"
  | "input_missing"
  | "input_unexpected"
  | "input_datatype"
  | "input_shape"
  | "output_unknown"
  | "runtime_overloaded"
  | "runtime_unavailable"
  | "runtime_closed"
  | "request_cancelled";

/** An error whose code is one of {@link OrtErrorCode}. */
export function ortError(
  code: OrtErrorCode,
  message: string,
  hints: readonly string[] = [],
  cause?: unknown,
): AssayError<OrtErrorCode> {
  return new AssayError(code, message, cause === undefined ? { hints } : { hints, cause });
}

/** The code that a child reported, narrowed to what a child may say. */
export function reportedCode(code: string): OrtErrorCode {
  return REPORTED.find((known) => known === code) ?? "model_failed";
}
