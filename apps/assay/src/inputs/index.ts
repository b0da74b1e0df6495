export { loadInputs } from "./load-inputs.ts";
export { encodePreprocessing, parsePreprocessing } from "./preprocessing.ts";
export { readFileBytes } from "./read-bytes.ts";
export { formatOutputs, outputsToJson } from "./format-outputs.ts";
