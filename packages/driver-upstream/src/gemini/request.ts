import type { Content, FunctionDeclaration, GenerateContentConfig, Part } from "@google/genai";
import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateParameters, GenerateRequest } from "@assay/protocol";
import { unsupported, upstreamError } from "../errors.ts";
import { MAX_DEPTH } from "../limits.ts";
import { contentUnsupported, dataUri, fileData, plainText, splitSystem } from "../parts.ts";
import { isObject } from "../read.ts";

/** The API's limits; beyond them it would refuse in words of its own. */
const MAX_CANDIDATES = 8;
const MAX_STOPS = 5;
const INT32 = 2 ** 31;
/** Levels of thinking by our names. */
const EFFORTS: Readonly<Record<string, string>> = {
  minimal: "MINIMAL",
  low: "LOW",
  medium: "MEDIUM",
  high: "HIGH",
};
const TIERS: Readonly<Record<string, string>> = { default: "standard", flex: "flex", priority: "priority" };
const MODALITIES: Readonly<Record<string, string>> = { text: "TEXT", image: "IMAGE", audio: "AUDIO" };

export type GeminiBody = { readonly contents: Content[]; readonly config: GenerateContentConfig };

/**
 * The request in the form of Gemini's client. Refuses with `parameter_unsupported` whatever generateContent has no
 * place for, unless it asks for nothing, and with `content_unsupported` parts of messages that it cannot be given.
 */
export function geminiBody(request: GenerateRequest, provider: string): GeminiBody {
  const { parameters } = request;
  refuseOthers(parameters, provider);
  const { system, conversation } = splitSystem(request.messages);
  const { response_format: format, tools, modalities } = parameters;
  const declarations = (tools ?? []).map(declaration);
  const toolList = [
    ...(declarations.length === 0 ? [] : [{ functionDeclarations: declarations }]),
    ...(parameters.web_search === true ? [{ googleSearch: {} }] : []),
  ];
  const calling = declarations.length === 0 ? undefined : functionCalling(parameters);
  const effort = parameters.reasoning_effort === undefined ? undefined : EFFORTS[parameters.reasoning_effort];
  const plain = modalities === undefined || (modalities.length === 1 && modalities[0] === "text");
  const config: Record<string, unknown> = {
    ...(system === "" ? {} : { systemInstruction: { parts: [{ text: system }] } }),
    temperature: parameters.temperature,
    topP: parameters.top_p,
    candidateCount: parameters.n === 1 ? undefined : parameters.n,
    maxOutputTokens: parameters.max_tokens,
    stopSequences: parameters.stop?.length === 0 ? undefined : parameters.stop,
    seed: parameters.seed,
    presencePenalty: parameters.presence_penalty,
    frequencyPenalty: parameters.frequency_penalty,
    ...(parameters.logprobs === true ? { responseLogprobs: true, logprobs: parameters.top_logprobs } : {}),
    ...(format === undefined || format.type === "text" ? {} : { responseMimeType: "application/json" }),
    ...(format?.type === "json_schema" ? { responseJsonSchema: format.json_schema.schema } : {}),
    ...(toolList.length === 0 ? {} : { tools: toolList }),
    ...(calling === undefined ? {} : { toolConfig: { functionCallingConfig: calling } }),
    ...(effort === undefined ? {} : { thinkingConfig: { thinkingLevel: effort } }),
    ...(parameters.service_tier === undefined ? {} : { serviceTier: TIERS[parameters.service_tier] }),
    ...(plain ? {} : { responseModalities: modalities.map((name) => MODALITIES[name]) }),
    store: parameters.store,
    // One request is one exchange: nothing is called or continued behind it.
    automaticFunctionCalling: { disable: true },
    automaticContinuation: false,
  };
  return { contents: turns(conversation), config };
}

function refuseOthers(parameters: GenerateParameters, provider: string): void {
  const refuse = (name: keyof GenerateParameters, fine: boolean, why?: string): void => {
    if (parameters[name] !== undefined && !fine) throw unsupported(name, provider, why);
  };
  const { seed } = parameters;
  refuse("n", (parameters.n ?? 1) <= MAX_CANDIDATES, `gives at most ${MAX_CANDIDATES} candidates`);
  refuse("stop", (parameters.stop?.length ?? 0) <= MAX_STOPS, `takes at most ${MAX_STOPS} of them`);
  refuse("seed", seed !== undefined && seed >= -INT32 && seed < INT32, "takes one of 32 bits");
  refuse("logit_bias", Object.keys(parameters.logit_bias ?? {}).length === 0);
  refuse("parallel_tool_calls", parameters.parallel_tool_calls === true, "cannot be kept from parallel calls");
  refuse("reasoning_effort", Object.hasOwn(EFFORTS, parameters.reasoning_effort ?? ""), "has no effort of that name");
  refuse("service_tier", Object.hasOwn(TIERS, parameters.service_tier ?? ""), "has no tier of that name");
  refuse(
    "modalities",
    parameters.modalities?.every((name) => name === "text" || name === "image") ?? false,
    "answers in text and images here",
  );
  refuse("echo", parameters.echo === false);
  refuse("suffix", parameters.suffix === "");
  refuse("best_of", parameters.best_of === 1);
  refuse("verbosity", false);
  refuse("prediction", false);
  refuse("audio", false);
  refuse("web_search_options", false);
  refuse("prompt_cache_key", false);
  refuse("prompt_cache_retention", false);
  refuse("safety_identifier", false);
}

function functionCalling({ tool_choice: choice }: GenerateParameters): Record<string, unknown> | undefined {
  if (choice === undefined) return undefined;
  if (choice === "none") return { mode: "NONE" };
  if (choice === "auto") return { mode: "AUTO" };
  if (choice === "required") return { mode: "ANY" };
  return { mode: "ANY", allowedFunctionNames: [choice.function.name] };
}

function declaration({ function: given }: NonNullable<GenerateParameters["tools"]>[number]): FunctionDeclaration {
  return {
    name: given.name,
    ...(given.description === undefined ? {} : { description: given.description }),
    ...(given.parameters === undefined ? {} : { parametersJsonSchema: given.parameters }),
  };
}

/** The conversation in turns of `user` and `model`; results of tools are a user's. */
function turns(messages: readonly ChatMessage[]): Content[] {
  const names = new Map<string, string>();
  const out: { role: string; parts: Part[] }[] = [];
  for (const message of messages) {
    if (message.role === "assistant")
      for (const call of message.tool_calls ?? []) names.set(call.id, call.function.name);
    const role = message.role === "assistant" ? "model" : "user";
    const parts = partsOf(message, names);
    const last = out.at(-1);
    if (last !== undefined && last.role === role) last.parts.push(...parts);
    else if (parts.length > 0) out.push({ role, parts });
  }
  return out;
}

function partsOf(message: ChatMessage, names: ReadonlyMap<string, string>): Part[] {
  switch (message.role) {
    case "user":
      return typeof message.content === "string" ? text(message.content) : message.content.flatMap(userPart);
    case "assistant": {
      const { content } = message;
      const said =
        typeof content === "string"
          ? text(content)
          : (content ?? []).flatMap((part) => text(part.type === "text" ? part.text : part.refusal));
      const calls = (message.tool_calls ?? []).map((call): Part => ({
        functionCall: { name: call.function.name, args: objectIn(call.function.arguments, call.id) },
      }));
      return [...said, ...text(message.refusal ?? ""), ...calls];
    }
    case "tool": {
      const name = names.get(message.tool_call_id);
      if (name === undefined)
        throw upstreamError("parameter_invalid", `No call before it has the id ${message.tool_call_id}.`);
      return [{ functionResponse: { name, response: { output: plainText(message.content) } } }];
    }
    case "system":
    case "developer":
    case "function":
      throw contentUnsupported(`a message of the role ${message.role} here`);
  }
}

function text(value: string): Part[] {
  return value === "" ? [] : [{ text: value }];
}

type UserPart = Exclude<Extract<ChatMessage, { role: "user" }>["content"], string>[number];

function userPart(part: UserPart): Part[] {
  switch (part.type) {
    case "text":
      return text(part.text);
    case "image_url": {
      const data = dataUri(part.image_url.url);
      if (data === undefined) throw contentUnsupported("an image by its address; send it as a data URI");
      return [{ inlineData: { mimeType: data.mimeType, data: data.base64 } }];
    }
    case "file": {
      const data = fileData(part.file);
      return [{ inlineData: { mimeType: data.mimeType, data: data.base64 } }];
    }
    case "input_audio":
      return [{ inlineData: { mimeType: `audio/${part.input_audio.format}`, data: part.input_audio.data } }];
  }
}

function objectIn(json: string, id: string): Record<string, unknown> {
  let value: JsonValue;
  try {
    value = parseJson(json, { maxDepth: MAX_DEPTH });
  } catch (cause) {
    throw upstreamError("parameter_invalid", `The arguments of the call ${id} are not JSON.`, { cause });
  }
  if (!isObject(value)) throw upstreamError("parameter_invalid", `The arguments of the call ${id} are no object.`);
  return { ...value };
}
