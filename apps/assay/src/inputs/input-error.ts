import { AssayError } from "@assay/core";
import type { Datatype } from "@assay/protocol";

/** One input or output as the model declares it; -1 is an axis of any size. */
export type TensorSignature = { readonly name: string; readonly datatype: Datatype; readonly shape: readonly number[] };

/** What can be wrong with what a person gave on the command line. */
export type InputErrorCode =
  /** The `name=value` itself is malformed. */
  | "input_spec_invalid"
  /** The model has no input of that name. */
  | "input_unexpected"
  /** The same input was given twice. */
  | "input_duplicate"
  /** The model needs an input that was not given. */
  | "input_missing"
  | "input_file_missing"
  /** The file is there but cannot be read. */
  | "input_file_unreadable"
  /** The file's kind is not one that is read, for this input or at all. */
  | "input_format_unsupported"
  /** The file says it is of a kind and breaks that kind's rules. */
  | "input_file_invalid"
  | "input_too_large"
  | "input_shape"
  | "input_datatype"
  /** A single value does not fit its type. */
  | "input_value"
  /** A picture holds nothing but background. */
  | "input_blank"
  /** A picture or recording was given, and the model ships no document that says how to prepare it. */
  | "preprocessing_missing"
  | "preprocessing_invalid";

/** An {@link AssayError} about one input, or about none in particular. */
export function inputError(
  code: InputErrorCode,
  sentence: string,
  hints: readonly string[] = [],
  cause?: unknown,
): AssayError<InputErrorCode> {
  return new AssayError(code, sentence, cause === undefined ? { hints } : { hints, cause });
}

/** For example `FP32 [-1,1,8,8]`. */
export function describeType(of: { readonly datatype: Datatype; readonly shape: readonly number[] }): string {
  return `${of.datatype} [${of.shape.join(",")}]`;
}
