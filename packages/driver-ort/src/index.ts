export { createOrtRuntime } from "./runtime.ts";
export type { OrtModelRef, OrtRuntime } from "./runtime.ts";
export type { OrtOptions } from "./options.ts";
export type { OrtErrorCode } from "./errors.ts";
export type { ModelFile } from "./model-file.ts";
