import type { JsonValue } from "@assay/core";
import { z } from "zod";
import type { GenerateParameters } from "../text/engine.ts";
import type { ParsedText } from "../text/execution.ts";
import { TEXT_LIMITS } from "../text/messages.ts";
import { checkToolChoice } from "./chat-request.ts";
import { TEXT_VALUE_LIMITS } from "./limits.ts";
import { isObject, readRequest } from "./read.ts";
import type { Endpoint, JsonObject } from "./read.ts";
import { parameterInvalid, parameterUnsupported } from "./refuse.ts";
import { inputItemSchema, messagesOf } from "./responses-input.ts";
import { routingOptionsSchema } from "./routing.ts";
import { chatShape, handedOn, identifier, metadataSchema, modelName, samplingShape } from "./sampling.ts";

const functionTool = z.strictObject({
  type: z.literal("function"),
  name: z.string().regex(/^[\w-]{1,64}$/, "a tool's name is 1 to 64 letters, digits, _ or -"),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.json()).nullish(),
  strict: z.boolean().nullish(),
});
const formatSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string().min(1).max(64),
    schema: z.record(z.string(), z.json()),
    description: z.string().nullish(),
    strict: z.boolean().nullish(),
  }),
]);
const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.strictObject({ type: z.literal("function"), name: z.string().min(1) }),
]);

/** `POST /v1/responses`: what is applied. Nothing is kept between requests, so a conversation is sent whole. */
export const responsesRequestSchema = z.strictObject({
  model: modelName,
  input: z.union([z.string(), z.array(inputItemSchema).min(1).max(TEXT_LIMITS.maxMessages)]),
  instructions: z.string().optional(),
  temperature: samplingShape.temperature,
  top_p: samplingShape.top_p,
  max_output_tokens: z.int().min(1).max(TEXT_VALUE_LIMITS.maxTokens).optional(),
  top_logprobs: chatShape.top_logprobs,
  tools: z.array(functionTool).max(TEXT_LIMITS.maxTools).optional(),
  tool_choice: toolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  text: z
    .strictObject({ format: formatSchema.nullish(), verbosity: z.enum(["low", "medium", "high"]).nullish() })
    .optional(),
  reasoning: z.strictObject({ effort: chatShape.reasoning_effort.nullable(), summary: z.null().optional() }).optional(),
  include: z
    .array(z.enum(["message.output_text.logprobs", "reasoning.encrypted_content"]))
    .max(8)
    .optional(),
  store: z.literal(false).optional(),
  stream: z.boolean().optional(),
  stream_options: z.strictObject({ include_obfuscation: z.literal(false).nullish() }).optional(),
  metadata: metadataSchema.optional(),
  user: identifier.optional(),
  prompt_cache_key: identifier.optional(),
  prompt_cache_retention: chatShape.prompt_cache_retention,
  safety_identifier: identifier.optional(),
  service_tier: chatShape.service_tier,
  assay: routingOptionsSchema.optional(),
});

const KEPT = "nothing is kept here between requests";
const SEND_WHOLE = "Send the conversation whole, as input items.";

export const responsesEndpoint: Endpoint<typeof responsesRequestSchema.shape> = {
  schema: responsesRequestSchema,
  unsupported: {
    previous_response_id: { reason: KEPT, instead: SEND_WHOLE },
    conversation: { reason: KEPT, instead: SEND_WHOLE },
    prompt: { reason: "prompts are not kept here", instead: "Send instructions and input." },
    store: {
      reason: KEPT,
      instead: "Leave it out; the receipt and its opening are yours to keep.",
      unless: (value) => value === false,
    },
    background: {
      reason: "an answer is given on the connection that asked for it",
      instead: "Send stream: true for a long answer.",
      unless: (value) => value === false,
    },
    truncation: {
      reason: "input is never shortened unseen",
      instead: "Shorten the input, or send disabled.",
      unless: (value) => value === "disabled",
    },
    context_management: { reason: "input is never shortened unseen" },
    max_tool_calls: { reason: "it counts calls of built-in tools, and here are none" },
    moderation: { reason: "no moderation runs beside the model here" },
    prompt_cache_options: { reason: "no engine here has them", instead: "Send prompt_cache_key instead." },
    n: { reason: "this API gives one answer", instead: "Use /v1/chat/completions for several." },
    stop: { reason: "this API has no stop texts", instead: "Use /v1/chat/completions." },
    seed: { reason: "this API has no seed", instead: "Use /v1/chat/completions." },
    max_tokens: { reason: "this API calls it max_output_tokens" },
    response_format: { reason: "this API calls it text.format" },
    messages: { reason: "this API calls it input" },
  },
};

/** Members that OpenAI's answer repeats as they came. */
const REPEATED = [
  "instructions",
  "metadata",
  "max_output_tokens",
  "parallel_tool_calls",
  "prompt_cache_key",
  "reasoning",
  "safety_identifier",
  "service_tier",
  "temperature",
  "text",
  "tool_choice",
  "tools",
  "top_logprobs",
  "top_p",
  "user",
] as const;

/** Reads a request of the Responses API. Throws `parameter_unknown`, `_invalid` and `_unsupported`. */
export function parseResponses(
  body: JsonObject,
  item?: (id: string) => JsonValue | undefined,
): Omit<ParsedText, "routing"> {
  refuseForeign(body);
  const asked = readRequest(responsesEndpoint, dereferenced(body, item));
  const stream = asked.stream ?? false;
  if (!stream && asked.stream_options !== undefined)
    throw parameterInvalid("stream_options", "may only be given when stream is true");
  const { messages, omitted } = messagesOf(asked.instructions, asked.input);
  const repeated: { [key: string]: JsonValue } = {};
  for (const key of REPEATED) {
    const value = body[key];
    if (value !== undefined && value !== null) repeated[key] = value;
  }
  return {
    dialect: "responses",
    kind: "chat",
    model: asked.model,
    messages,
    parameters: parametersOf(asked, omitted),
    stream,
    includeUsage: false,
    repeated,
    ...(omitted.length === 0 ? {} : { omitted }),
  };
}

type Asked = z.infer<typeof responsesRequestSchema>;

function parametersOf(asked: Asked, omitted: string[]): GenerateParameters {
  const { tools = [], tool_choice: chosen, text, include = [], top_logprobs: most, reasoning } = asked;
  const choice = typeof chosen === "object" ? { type: "function" as const, function: { name: chosen.name } } : chosen;
  checkToolChoice(
    choice,
    tools.map((tool) => tool.name),
  );
  const logprobs = include.includes("message.output_text.logprobs");
  if (most !== undefined && most > 0 && !logprobs)
    throw parameterInvalid("top_logprobs", "needs message.output_text.logprobs in include");
  // Clients of reasoning models ask for it by default; no engine here gives thoughts in a sealed form.
  if (include.includes("reasoning.encrypted_content")) omitted.push("include.reasoning.encrypted_content");
  const format = text?.format ?? undefined;
  const { tool_choice: _, parallel_tool_calls: parallel, ...others } = handedOn(asked);
  return {
    ...others,
    ...(asked.max_output_tokens === undefined ? {} : { max_tokens: asked.max_output_tokens }),
    ...(logprobs ? { logprobs: true, top_logprobs: most ?? 0 } : {}),
    ...(format === undefined ? {} : { response_format: formatOf(format) }),
    ...(text?.verbosity ? { verbosity: text.verbosity } : {}),
    ...(reasoning?.effort ? { reasoning_effort: reasoning.effort } : {}),
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map(({ name, description, parameters, strict }) => ({
            type: "function" as const,
            function: {
              name,
              ...(typeof description === "string" ? { description } : {}),
              ...(parameters ? { parameters } : {}),
              ...(typeof strict === "boolean" ? { strict } : {}),
            },
          })),
          ...(choice === undefined ? {} : { tool_choice: choice }),
          ...(parallel === undefined ? {} : { parallel_tool_calls: parallel }),
        }),
  };
}

function formatOf(format: z.infer<typeof formatSchema>): NonNullable<GenerateParameters["response_format"]> {
  if (format.type !== "json_schema") return format;
  const { name, schema, description, strict } = format;
  return {
    type: "json_schema",
    json_schema: {
      name,
      schema,
      ...(typeof description === "string" ? { description } : {}),
      ...(typeof strict === "boolean" ? { strict } : {}),
    },
  };
}

// What OpenAI has and we have not gets its reason before the schema speaks of a wrong literal.
function refuseForeign(body: JsonObject): void {
  const { tools, tool_choice: choice, include, reasoning, input } = body;
  for (const [i, tool] of listOf(tools).entries()) {
    if (isObject(tool) && typeof tool["type"] === "string" && tool["type"] !== "function") {
      throw parameterUnsupported(
        `tools[${i}].type`,
        "only functions can be called through this server",
        "Run the tool on your side and offer it as a function.",
      );
    }
  }
  if (isObject(choice) && typeof choice["type"] === "string" && choice["type"] !== "function")
    throw parameterUnsupported("tool_choice.type", "only a function can be chosen");
  for (const [i, wanted] of listOf(include).entries()) {
    if (wanted !== "message.output_text.logprobs" && wanted !== "reasoning.encrypted_content")
      throw parameterUnsupported(`include[${i}]`, "no answer here has it");
  }
  if (isObject(reasoning)) {
    for (const key of Object.keys(reasoning)) {
      if (key !== "effort" && reasoning[key] !== null)
        throw parameterUnsupported(`reasoning.${key}`, "no engine here summarises or keeps thoughts");
    }
  }
  for (const [i, item] of listOf(input).entries()) refuseForeignItem(item, `input[${i}]`);
}

function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]) : [];
}

/** The same request with items in the place of references to them. What was sent stays what the receipt commits to. */
function dereferenced(body: JsonObject, item: ((id: string) => JsonValue | undefined) | undefined): JsonObject {
  const { input } = body;
  if (!Array.isArray(input) || !(input as readonly JsonValue[]).some(isReference)) return body;
  return {
    ...body,
    input: (input as readonly JsonValue[]).map((given, i) => {
      if (!isReference(given)) return given;
      const { id } = given;
      const found = typeof id === "string" ? item?.(id) : undefined;
      if (found !== undefined) return found;
      throw parameterUnsupported(
        `input[${i}].type`,
        "it refers to an item that is not kept here, or not any more",
        "Send the item itself; clients do so when told store: false (AI SDK: providerOptions.openai.store).",
      );
    }),
  };
}

function isReference(item: JsonValue): item is JsonObject {
  return isObject(item) && item["type"] === "item_reference";
}

const KNOWN_ITEMS = new Set(["message", "function_call", "function_call_output", "reasoning", "item_reference"]);

function refuseForeignItem(item: JsonValue, path: string): void {
  if (!isObject(item) || typeof item["type"] !== "string" || KNOWN_ITEMS.has(item["type"])) {
    if (isObject(item) && item["type"] === "reasoning" && typeof item["encrypted_content"] === "string") {
      throw parameterUnsupported(
        `${path}.encrypted_content`,
        "no engine here can read sealed thoughts",
        "Leave the item out.",
      );
    }
    return;
  }
  throw parameterUnsupported(`${path}.type`, "items are messages, function calls, their outputs and reasoning");
}
