export { loadInputs } from "./load-inputs.ts";
export type { LoadedInputs, LoadInputsOptions } from "./load-inputs.ts";
export { encodePreprocessing, parsePreprocessing } from "./preprocessing.ts";
export type { Preprocessing, PreprocessingDocument } from "./preprocessing.ts";
export { readFileBytes, readStreamBytes } from "./read-bytes.ts";
export { writeNpy } from "./npy.ts";
export { formatOutputs, outputsToJson } from "./format-outputs.ts";
export type { FormatOptions } from "./format-outputs.ts";
export type { InputErrorCode, TensorSignature } from "./input-error.ts";
