import type { Inspection } from "./serve.ts";

/** Loads a model as it is: for callers that have checked its structure before. */
export function inspectNothing(bytes: Uint8Array): Inspection {
  return { bytes, casts: [], bf16: [] };
}
