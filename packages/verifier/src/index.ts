export { checkInclusion, createLogCheck } from "./log-check.ts";
export { createVerifier } from "./verifier.ts";
export type { Verifier, VerifierOptions } from "./verifier.ts";
export { createWebSuite, lazySuite } from "./web-suite.ts";
export type { SubtleVerifier } from "./web-suite.ts";
