import type { JsonValue } from "@assay/core";
import { z } from "zod";
import type { ParsedText } from "../text/execution.ts";
import { chatMessageSchema, TEXT_LIMITS } from "../text/messages.ts";
import { isObject, readRequest } from "./read.ts";
import type { Endpoint, JsonObject } from "./read.ts";
import { parameterInvalid, parameterUnsupported } from "./refuse.ts";
import { routingOptionsSchema } from "./routing.ts";
import { chatShape, handedOn, modelName, oneLimit, samplingShape, streamOptions } from "./sampling.ts";

/** `POST /v1/chat/completions`: what is applied. The `assay` member holds routing options. */
export const chatRequestSchema = z.strictObject({
  model: modelName,
  messages: z.array(chatMessageSchema).min(1).max(TEXT_LIMITS.maxMessages),
  ...samplingShape,
  ...chatShape,
  assay: routingOptionsSchema.optional(),
});

const NOTHING_KEPT = "nothing is kept here to be read again";

export const chatEndpoint: Endpoint<typeof chatRequestSchema.shape> = {
  schema: chatRequestSchema,
  unsupported: {
    functions: { reason: "it is OpenAI's older form of tools", instead: "Send tools instead." },
    function_call: { reason: "it is OpenAI's older form of tool_choice", instead: "Send tool_choice instead." },
    audio: { reason: "answers here are text and images", instead: "Leave it out, and audio out of modalities." },
    moderation: { reason: "no moderation runs beside the model here" },
    prompt_cache_options: { reason: "no engine here has them", instead: "Send prompt_cache_key instead." },
    store: {
      reason: NOTHING_KEPT,
      instead: "Leave it out; the receipt and its opening are yours to keep.",
      unless: (value) => value === false,
    },
  },
};

/** Reads a chat request. Throws `parameter_unknown`, `parameter_invalid` and `parameter_unsupported`. */
export function parseChat(body: JsonObject): Omit<ParsedText, "routing"> {
  const omitted: string[] = [];
  const { messages } = body;
  const tidied = Array.isArray(messages)
    ? { ...body, messages: (messages as readonly JsonValue[]).map((message, i) => tidy(message, i, omitted)) }
    : body;
  refuseForeignTools(body);
  if (body["modalities"] !== undefined && JSON.stringify(body["modalities"]).includes('"audio"'))
    throw parameterUnsupported("modalities", "answers here are text and images", "Leave audio out.");
  const asked = readRequest(chatEndpoint, tidied);
  const { stream, includeUsage } = streamOptions(asked);
  const { tools, tool_choice: choice, logprobs, top_logprobs: most } = asked;
  const parameters = { ...handedOn(asked), ...oneLimit(asked, "max_tokens", "max_completion_tokens") };
  if (most !== undefined && logprobs !== true)
    throw parameterInvalid("top_logprobs", "may only be given when logprobs is true");
  const hasTools = tools !== undefined && tools.length > 0;
  checkToolChoice(choice, hasTools ? tools.map((tool) => tool.function.name) : []);
  return {
    dialect: "chat",
    kind: "chat",
    model: asked.model,
    messages: asked.messages,
    parameters: {
      // Without tools a choice that forces none says what holds anyway, and engines need not know of it.
      ...(hasTools ? parameters : without(parameters, ["tool_choice", "parallel_tool_calls"])),
      ...(hasTools ? { tools } : {}),
      ...(logprobs === undefined ? {} : { logprobs }),
      ...(most === undefined ? {} : { top_logprobs: most }),
      ...(asked.web_search === true ? { web_search: true } : {}),
    },
    stream,
    includeUsage,
    ...(omitted.length === 0 ? {} : { omitted }),
  };
}

function without<T extends object>(value: T, names: readonly string[]): T {
  return Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name))) as T;
}

type Choice = z.infer<typeof chatRequestSchema>["tool_choice"];

/** A choice that forces a call needs a tool to call. */
export function checkToolChoice(choice: Choice, names: readonly string[]): void {
  if (choice === undefined || choice === "auto" || choice === "none") return;
  if (names.length === 0) throw parameterInvalid("tool_choice", "asks for a call, and tools has none to call");
  if (choice !== "required" && !names.includes(choice.function.name))
    throw parameterInvalid("tool_choice", "names a function that is not among tools");
}

function refuseForeignTools(body: JsonObject): void {
  const { tools, tool_choice: choice } = body;
  if (Array.isArray(tools)) {
    for (const [i, tool] of (tools as readonly JsonValue[]).entries()) {
      if (isObject(tool) && typeof tool["type"] === "string" && tool["type"] !== "function")
        throw parameterUnsupported(`tools[${i}].type`, "only functions can be called through this server");
    }
  }
  if (isObject(choice) && typeof choice["type"] === "string" && choice["type"] !== "function")
    throw parameterUnsupported("tool_choice.type", "only a function can be chosen");
}

/** Members of an earlier answer that clients send back with its message, and that mean nothing when empty. */
const EMPTY_WHEN_UNUSED = ["refusal", "audio", "function_call", "tool_calls"];
/** Members of an earlier answer that no model reads again; `parsed` is what OpenAI's client made of the text. */
const NOT_READ_AGAIN = ["annotations", "reasoning_content", "images", "parsed"];

/**
 * An assistant's message as people send it back, which is the whole message of an earlier answer: empty members go, and
 * so do thoughts, annotations and images, whose paths are then noted. Other roles are written by hand and are taken as
 * they are.
 */
function tidy(message: JsonValue, at: number, omitted: string[]): JsonValue {
  if (!isObject(message) || message["role"] !== "assistant") return message;
  const out: { [key: string]: JsonValue } = { ...message };
  for (const key of EMPTY_WHEN_UNUSED) {
    if (isEmpty(out[key])) delete out[key];
  }
  for (const key of NOT_READ_AGAIN) {
    const value = out[key];
    if (value === undefined) continue;
    if (!isEmpty(value)) omitted.push(`messages[${at}].${key}`);
    delete out[key];
  }
  if (out["function_call"] !== undefined) {
    throw parameterUnsupported(
      `messages[${at}].function_call`,
      "it is OpenAI's older form of tool_calls",
      "Send tool_calls instead.",
    );
  }
  const calls = out["tool_calls"];
  if (Array.isArray(calls)) {
    out["tool_calls"] = (calls as readonly JsonValue[]).map((call, k) =>
      withoutParsed(call, `messages[${at}].tool_calls[${k}]`, omitted),
    );
  }
  return out;
}

function withoutParsed(call: JsonValue, path: string, omitted: string[]): JsonValue {
  if (!isObject(call) || !isObject(call["function"]) || !("parsed_arguments" in call["function"])) return call;
  const { parsed_arguments: parsed, ...named } = call["function"];
  if (!isEmpty(parsed)) omitted.push(`${path}.function.parsed_arguments`);
  return { ...call, function: named };
}

function isEmpty(value: JsonValue | undefined): boolean {
  return value === null || value === "" || (Array.isArray(value) && value.length === 0);
}
