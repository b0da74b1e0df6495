import type { EmbedRequest, EngineModel, GenerateRequest } from "../text/engine.ts";
import type { ParsedText } from "../text/execution.ts";

/** What an engine is asked for, from a parsed request and the model that the route chose. */
export function engineRequestOf(parsed: ParsedText, model: EngineModel): GenerateRequest | EmbedRequest {
  if (parsed.kind === "embedding") {
    return {
      model,
      inputs: parsed.inputs ?? [],
      ...(parsed.dimensions === undefined ? {} : { dimensions: parsed.dimensions }),
      ...(parsed.parameters.user === undefined ? {} : { user: parsed.parameters.user }),
    };
  }
  return {
    kind: parsed.kind,
    model,
    messages: parsed.messages,
    ...(parsed.prompt === undefined ? {} : { prompt: parsed.prompt }),
    parameters: parsed.parameters,
    stream: parsed.stream,
  };
}
