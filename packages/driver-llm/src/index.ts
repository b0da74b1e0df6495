export { createLocalEngine } from "./engine.ts";
export type { LocalEngine, LocalEngineStats } from "./engine.ts";
export type { LocalEngineOptions } from "./options.ts";
export type { ModelInfo } from "./slot.ts";
export type { RecheckAnswer, RecheckDisagreement, RecheckOptions, RecheckResult } from "./recheck.ts";
export type { LlmErrorCode } from "./errors.ts";
export { LOGIT_TOLERANCE } from "./profile.ts";
export { SAMPLER } from "./sampler.ts";
export { JSON_INSTRUCTION, SCHEMA_INSTRUCTION } from "./instructions.ts";
