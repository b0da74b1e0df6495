export { checkInclusion, createLogCheck } from "./log-check.ts";
export { createVerifier } from "./verifier.ts";
export type { Verifier, VerifierOptions } from "./verifier.ts";
