export {
  chatMessageSchema,
  responseFormatSchema,
  TEXT_LIMITS,
  toolCallSchema,
  toolChoiceSchema,
  toolSchema,
} from "./messages.ts";
export type { ChatMessage, ResponseFormat, Tool, ToolCall, ToolChoice } from "./messages.ts";
export { retryAfterOf, withRetryAfter } from "./retry-after.ts";
export { statedParameters } from "./stated-parameters.ts";
export { TEXT_FINISH_REASONS } from "./engine.ts";
export type {
  ChoiceDelta,
  EmbedOutcome,
  EmbedRequest,
  EngineModel,
  EngineOutcome,
  EngineStats,
  GenerateParameters,
  GenerateRequest,
  Generation,
  LanguageEngine,
  LanguageModelFiles,
  ListedEngineModel,
  LocalFacts,
  TextFinishReason,
  TextUsage,
  TokenLogprob,
  ToolCallDelta,
  UpstreamFacts,
} from "./engine.ts";
export { JURISDICTION_EVIDENCE, OBJECTIVES, SECURITY_MODES, TEXT_DIALECTS } from "./execution.ts";
export type {
  ExecutedText,
  Frame,
  JurisdictionEvidence,
  Objective,
  ParsedText,
  RoutingOptions,
  SecurityMode,
  TextDialect,
  TextExecution,
  TextExecutor,
  TextOutcome,
  TextRequest,
  TextTarget,
} from "./execution.ts";
