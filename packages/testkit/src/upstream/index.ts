export { ANTHROPIC_MODEL, anthropicHandler } from "./anthropic-server.ts";
export { GEMINI_MODELS, geminiHandler } from "./gemini-server.ts";
export { OPENAI_MODELS, openAiHandler } from "./openai-server.ts";
export { drained, sendJson, serveWire, writeOn } from "./wire-server.ts";
export type { WireHandler, WireRequest, WireServer } from "./wire-server.ts";
