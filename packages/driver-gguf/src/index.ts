export { createGgufEngine } from "./engine.ts";
export type { GgufEngine, GgufOptions } from "./engine.ts";
