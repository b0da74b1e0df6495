import type Anthropic from "@anthropic-ai/sdk";
import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateParameters, GenerateRequest, ToolCall } from "@assay/protocol";
import { unsupported, upstreamError } from "../errors.ts";
import { MAX_DEPTH } from "../limits.ts";
import { contentUnsupported, dataUri, fileData, plainText, splitSystem } from "../parts.ts";
import { isObject } from "../read.ts";

/** The API demands a limit; this one is far above a usual answer and stated with every answer that it held for. */
export const DEFAULT_MAX_TOKENS = 4096;

/** The API's parameters, with the two that versions before October 2026 still take. */
export type AnthropicBody = Anthropic.MessageCreateParamsNonStreaming & {
  temperature?: number;
  top_p?: number;
};

const IMAGES = ["image/jpeg", "image/png", "image/gif", "image/webp"] as const;
const EFFORTS = ["low", "medium", "high", "xhigh", "max"] as const;

/**
 * The request in Anthropic's form. Refuses with `parameter_unsupported` whatever the messages API has no place for,
 * unless it asks for nothing, and with `content_unsupported` parts of messages that it cannot be given.
 */
export function anthropicBody(request: GenerateRequest, provider: string, sampling: boolean): AnthropicBody {
  const { parameters } = request;
  refuseOthers(parameters, provider, sampling);
  const { system, conversation } = splitSystem(request.messages);
  const choice = toolChoice(parameters);
  const effort = EFFORTS.find((level) => level === parameters.reasoning_effort);
  const format = parameters.response_format;
  const output = {
    ...(effort === undefined ? {} : { effort }),
    ...(format?.type === "json_schema"
      ? { format: { type: "json_schema" as const, schema: format.json_schema.schema } }
      : {}),
  };
  return {
    model: request.model.name,
    max_tokens: parameters.max_tokens ?? DEFAULT_MAX_TOKENS,
    messages: turns(conversation),
    ...(system === "" ? {} : { system }),
    ...(parameters.stop === undefined || parameters.stop.length === 0 ? {} : { stop_sequences: [...parameters.stop] }),
    ...(parameters.tools === undefined || parameters.tools.length === 0 ? {} : { tools: parameters.tools.map(tool) }),
    ...(choice === undefined ? {} : { tool_choice: choice }),
    ...(Object.keys(output).length === 0 ? {} : { output_config: output }),
    ...(parameters.service_tier === undefined ? {} : { service_tier: serviceTier(parameters.service_tier, provider) }),
    ...(parameters.user === undefined ? {} : { metadata: { user_id: parameters.user } }),
    ...(sampling && parameters.temperature !== undefined ? { temperature: parameters.temperature } : {}),
    ...(sampling && parameters.top_p !== undefined ? { top_p: parameters.top_p } : {}),
  };
}

function refuseOthers(parameters: GenerateParameters, provider: string, sampling: boolean): void {
  const refuse = (name: keyof GenerateParameters, neutral: boolean, why?: string): void => {
    if (parameters[name] !== undefined && !neutral) throw unsupported(name, provider, why);
  };
  const { temperature, top_p: topP } = parameters;
  if (sampling) refuse("temperature", temperature === undefined || temperature <= 1, "takes it from 0 to 1");
  else {
    refuse("temperature", temperature === 1, "takes none in this version of its API");
    refuse("top_p", topP === 1, "takes none in this version of its API");
  }
  refuse("n", parameters.n === 1, "gives one answer to a request");
  refuse("seed", false);
  refuse("presence_penalty", parameters.presence_penalty === 0);
  refuse("frequency_penalty", parameters.frequency_penalty === 0);
  refuse("logit_bias", Object.keys(parameters.logit_bias ?? {}).length === 0);
  refuse("logprobs", parameters.logprobs === false);
  refuse("top_logprobs", parameters.top_logprobs === 0);
  refuse(
    "response_format",
    parameters.response_format?.type !== "json_object",
    "has no JSON without a schema; give a json_schema",
  );
  refuse(
    "reasoning_effort",
    EFFORTS.some((level) => level === parameters.reasoning_effort),
    "has no effort of that name",
  );
  refuse("echo", parameters.echo === false);
  refuse("suffix", parameters.suffix === "");
  refuse("best_of", parameters.best_of === 1);
  refuse("verbosity", false);
  refuse("prediction", false);
  refuse("modalities", parameters.modalities?.length === 1 && parameters.modalities[0] === "text", "answers in text");
  refuse("audio", false);
  refuse("web_search", parameters.web_search === false);
  refuse("web_search_options", false);
  refuse("prompt_cache_key", false);
  refuse("prompt_cache_retention", false);
  refuse("safety_identifier", false);
  refuse("store", parameters.store === false);
}

function toolChoice(parameters: GenerateParameters): Anthropic.ToolChoice | undefined {
  const { tool_choice: choice, parallel_tool_calls: parallel, tools } = parameters;
  if (tools === undefined || tools.length === 0) return undefined;
  const single = parallel === false ? { disable_parallel_tool_use: true } : {};
  if (choice === "none") return { type: "none" };
  if (choice === "required") return { type: "any", ...single };
  if (typeof choice === "object") return { type: "tool", name: choice.function.name, ...single };
  return choice === undefined && parallel !== false ? undefined : { type: "auto", ...single };
}

function tool({ function: given }: NonNullable<GenerateParameters["tools"]>[number]): Anthropic.Tool {
  const schema = given.parameters ?? { type: "object", properties: {} };
  if (schema["type"] !== "object") {
    throw upstreamError("schema_unsupported", `The arguments of the tool ${given.name} must be an object's schema.`);
  }
  return {
    name: given.name,
    input_schema: { ...schema, type: "object" },
    ...(given.description === undefined ? {} : { description: given.description }),
    ...(given.strict === true ? { strict: true } : {}),
  };
}

function serviceTier(tier: string, provider: string): "auto" | "standard_only" {
  if (tier === "auto") return "auto";
  if (tier === "default") return "standard_only";
  throw unsupported("service_tier", provider, "has the tiers auto and default");
}

/** The conversation in turns: results of tools belong to one user's turn, right after the calls. */
function turns(messages: readonly ChatMessage[]): Anthropic.MessageParam[] {
  const out: { role: "user" | "assistant"; content: Anthropic.ContentBlockParam[] }[] = [];
  let afterTool = false;
  for (const message of messages) {
    const role = message.role === "assistant" ? "assistant" : "user";
    const blocks = blocksOf(message);
    const last = out.at(-1);
    if (last !== undefined && afterTool && role === "user") last.content.push(...blocks);
    else if (blocks.length > 0) out.push({ role, content: blocks });
    afterTool = message.role === "tool";
  }
  return out;
}

function blocksOf(message: ChatMessage): Anthropic.ContentBlockParam[] {
  switch (message.role) {
    case "user":
      return typeof message.content === "string" ? text(message.content) : message.content.flatMap(userPart);
    case "assistant": {
      const { content } = message;
      const said =
        typeof content === "string"
          ? text(content)
          : (content ?? []).flatMap((part) => text(part.type === "text" ? part.text : part.refusal));
      return [...said, ...text(message.refusal ?? ""), ...(message.tool_calls ?? []).map(toolUse)];
    }
    case "tool":
      return [{ type: "tool_result", tool_use_id: message.tool_call_id, content: plainText(message.content) }];
    case "system":
    case "developer":
    case "function":
      throw contentUnsupported(`a message of the role ${message.role} here`);
  }
}

/** The API refuses empty texts. */
function text(value: string): Anthropic.TextBlockParam[] {
  return value === "" ? [] : [{ type: "text", text: value }];
}

type UserPart = Exclude<Extract<ChatMessage, { role: "user" }>["content"], string>[number];

function userPart(part: UserPart): Anthropic.ContentBlockParam[] {
  switch (part.type) {
    case "text":
      return text(part.text);
    case "image_url":
      return [{ type: "image", source: imageSource(part.image_url.url) }];
    case "file": {
      const data = fileData(part.file);
      if (data.mimeType !== "application/pdf") throw contentUnsupported(`a file of the type ${data.mimeType}`);
      return [
        {
          type: "document",
          source: { type: "base64", media_type: "application/pdf", data: data.base64 },
          ...(part.file.filename === undefined ? {} : { title: part.file.filename }),
        },
      ];
    }
    case "input_audio":
      throw contentUnsupported("audio");
  }
}

function imageSource(url: string): Anthropic.Base64ImageSource | Anthropic.URLImageSource {
  const data = dataUri(url);
  if (data === undefined) {
    if (!/^https:\/\//i.test(url)) throw contentUnsupported("an image from anywhere but https or a data URI");
    return { type: "url", url };
  }
  const type = IMAGES.find((known) => known === data.mimeType);
  if (type === undefined) throw contentUnsupported(`an image of the type ${data.mimeType}`);
  return { type: "base64", media_type: type, data: data.base64 };
}

function toolUse(call: ToolCall): Anthropic.ToolUseBlockParam {
  let input: JsonValue;
  try {
    input = parseJson(call.function.arguments, { maxDepth: MAX_DEPTH });
  } catch (cause) {
    throw upstreamError("parameter_invalid", `The arguments of the call ${call.id} are not JSON.`, { cause });
  }
  if (!isObject(input)) throw upstreamError("parameter_invalid", `The arguments of the call ${call.id} are no object.`);
  return { type: "tool_use", id: call.id, name: call.function.name, input };
}
