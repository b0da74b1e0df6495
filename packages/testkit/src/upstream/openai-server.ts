import type { ServerResponse } from "node:http";
import type { JsonValue } from "@assay/core";
import { LITTLE_DEFAULTS, littleAnswer } from "./little-chat.ts";
import type { LittleAnswer, LittleChat } from "./little-chat.ts";
import { LITTLE_TOP, littleCount, littleVector } from "./little-model.ts";
import type { LittleToken } from "./little-model.ts";
import { listOf, numberOf, objectOf, textOf, unknownMember } from "./wire-read.ts";
import { sendJson, writeOn } from "./wire-server.ts";
import type { WireHandler, WireRequest } from "./wire-server.ts";

/** Models that the fake serves. */
export const OPENAI_MODELS = { chat: "little-chat", completion: "little-instruct", embedding: "little-embed" } as const;

const CHAT_MEMBERS =
  "messages model temperature top_p n seed stop max_tokens max_completion_tokens presence_penalty frequency_penalty logit_bias logprobs top_logprobs response_format tools tool_choice parallel_tool_calls stream stream_options reasoning_effort verbosity service_tier prediction modalities audio web_search web_search_options prompt_cache_key prompt_cache_retention safety_identifier user metadata store".split(
    " ",
  );
const COMPLETION_MEMBERS =
  "model prompt temperature top_p n seed stop max_tokens presence_penalty frequency_penalty logit_bias logprobs echo suffix best_of stream stream_options user".split(
    " ",
  );
const CREATED = 1_700_000_000;
const DIMENSIONS = 16;

/** Serves chat completions, completions, embeddings and models in OpenAI's formats, answered by the little model. */
export const openAiHandler: WireHandler = async (request, response) => {
  if (request.headers.authorization === "Bearer sk-refused-0123456789abcdef")
    return refuse(response, 401, "Incorrect API key provided: sk-refused-0123456789abcdef.", "invalid_api_key");
  response.setHeader("x-request-id", "req_little_1");
  const path = request.path.replace(/^\/v1/, "");
  if (path === "/models") return models(response);
  if (path === "/chat/completions") return chat(request, response);
  if (path === "/completions") return completions(request, response);
  if (path === "/embeddings") return embeddings(request, response);
  refuse(response, 404, `Unknown request URL: ${request.method} ${request.path}.`, "unknown_url");
};

function models(response: ServerResponse): void {
  const data = Object.values(OPENAI_MODELS).map((id) => ({
    id,
    object: "model",
    created: CREATED,
    owned_by: "little",
  }));
  sendJson(response, 200, { object: "list", data });
}

async function chat(request: WireRequest, response: ServerResponse): Promise<void> {
  const body = objectOf(request.body);
  const fault = unknownMember(body, CHAT_MEMBERS);
  if (fault !== undefined) return refuse(response, 400, `Unrecognized request argument supplied: ${fault}`, null);
  if (body["model"] !== OPENAI_MODELS.chat) return noModel(response, body["model"]);
  const format = objectOf(body["response_format"]);
  const answer = littleAnswer({
    ...sampling(body),
    prompt: listOf(body["messages"]).map(messageText).join("\n"),
    tools: listOf(body["tools"]).map((tool) => {
      const { name, parameters } = objectOf(objectOf(tool)["function"]);
      return { name: textOf(name), schema: parameters };
    }),
    toolChoice: toolChoice(body["tool_choice"]),
    parallel: body["parallel_tool_calls"] !== false,
    format:
      format["type"] === "json_schema"
        ? { type: "json", schema: objectOf(format["json_schema"])["schema"] ?? {} }
        : { type: format["type"] === "json_object" ? "json" : "text" },
  });
  await send(response, body, answer, "chat.completion");
}

async function completions(request: WireRequest, response: ServerResponse): Promise<void> {
  const body = objectOf(request.body);
  const fault = unknownMember(body, COMPLETION_MEMBERS);
  if (fault !== undefined) return refuse(response, 400, `Unrecognized request argument supplied: ${fault}`, null);
  if (body["model"] !== OPENAI_MODELS.completion) return noModel(response, body["model"]);
  const { prompt } = body;
  const text = typeof prompt === "string" ? prompt : JSON.stringify(prompt);
  await send(response, body, littleAnswer({ ...sampling(body), prompt: text }), "text_completion", text);
}

function embeddings(request: WireRequest, response: ServerResponse): void {
  const body = objectOf(request.body);
  if (body["model"] !== OPENAI_MODELS.embedding) return noModel(response, body["model"]);
  const inputs = typeof body["input"] === "string" ? [body["input"]] : listOf(body["input"]);
  const texts = inputs.map((input) => (typeof input === "string" ? input : JSON.stringify(input)));
  const dimensions = numberOf(body["dimensions"], DIMENSIONS);
  const tokens = texts.reduce((sum, text) => sum + littleCount(text), 0);
  const data = texts.map((text, index) => {
    const vector = littleVector(text, DIMENSIONS).slice(0, dimensions);
    const embedding =
      body["encoding_format"] === "base64" ? Buffer.from(Float32Array.from(vector).buffer).toString("base64") : vector;
    return { object: "embedding", index, embedding };
  });
  sendJson(response, 200, {
    object: "list",
    data,
    model: OPENAI_MODELS.embedding,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  });
}

function sampling(body: { readonly [key: string]: JsonValue }): LittleChat {
  const { stop } = body;
  return {
    ...LITTLE_DEFAULTS,
    n: numberOf(body["n"], 1),
    seed: numberOf(body["seed"], 0),
    temperature: numberOf(body["temperature"], 1),
    topP: numberOf(body["top_p"], 1),
    maxTokens: numberOf(body["max_completion_tokens"] ?? body["max_tokens"], Number.POSITIVE_INFINITY),
    stop: typeof stop === "string" ? [stop] : listOf(stop).map(textOf),
    presencePenalty: numberOf(body["presence_penalty"], 0),
    frequencyPenalty: numberOf(body["frequency_penalty"], 0),
    logitBias: new Map(
      Object.entries(objectOf(body["logit_bias"])).map(([id, bias]) => [Number(id), numberOf(bias, 0)]),
    ),
  };
}

function toolChoice(value: JsonValue | undefined): LittleChat["toolChoice"] {
  if (value === "none" || value === "required") return value;
  const name = textOf(objectOf(objectOf(value)["function"])["name"]);
  return name === "" ? "auto" : { name };
}

async function send(
  response: ServerResponse,
  body: { readonly [key: string]: JsonValue },
  answer: LittleAnswer,
  object: "chat.completion" | "text_completion",
  prompt = "",
): Promise<void> {
  const isChat = object === "chat.completion";
  const base = {
    id: `${isChat ? "chatcmpl" : "cmpl"}-little1`,
    created: CREATED,
    model: textOf(body["model"]),
    system_fingerprint: "fp_little",
  };
  const echo = body["echo"] === true ? prompt : "";
  const suffix = textOf(body["suffix"]);
  const withLogprobs = body["logprobs"] !== undefined && body["logprobs"] !== false;
  const top = isChat ? numberOf(body["top_logprobs"], 0) : numberOf(body["logprobs"], 0);
  const lists = answer.choices.map((choice) => (body["stream"] === true ? [] : [...choice.tokens]));
  let completion = answer.choices.reduce(
    (sum, choice, index) => sum + (choice.calls.length > 0 ? 8 : (lists[index]?.length ?? 0)),
    0,
  );
  const usage = (): JsonValue => ({
    prompt_tokens: answer.promptTokens,
    completion_tokens: completion,
    total_tokens: answer.promptTokens + completion,
    prompt_tokens_details: { cached_tokens: 0 },
  });
  const logprobs = (tokens: readonly LittleToken[]): JsonValue =>
    !withLogprobs ? null : isChat ? chatLogprobs(tokens, top) : legacyLogprobs(tokens, top);

  if (body["stream"] !== true) {
    const choices = answer.choices.map((choice, index) => {
      const tokens = lists[index] ?? [];
      const text = echo + tokens.map((token) => token.text).join("") + suffix;
      const calls = choice.calls.map((call) => ({
        id: call.id,
        type: "function",
        function: { name: call.name, arguments: JSON.stringify(call.input) },
      }));
      return {
        index,
        ...(isChat
          ? {
              message:
                calls.length > 0
                  ? { role: "assistant", content: null, tool_calls: calls }
                  : { role: "assistant", content: text, refusal: null },
            }
          : { text }),
        logprobs: logprobs(tokens),
        finish_reason: choice.finish,
      };
    });
    return sendJson(response, 200, { ...base, object, choices, usage: usage() });
  }

  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  const frame = (choices: JsonValue, extra: { readonly [key: string]: JsonValue } = {}): Promise<boolean> =>
    writeOn(
      response,
      `data: ${JSON.stringify({ ...base, object: isChat ? "chat.completion.chunk" : object, choices, ...extra })}\n\n`,
    );
  const piece = (index: number, text: string, tokens: readonly LittleToken[]): JsonValue => ({
    index,
    ...(isChat ? { delta: { content: text } } : { text }),
    logprobs: logprobs(tokens),
    finish_reason: null,
  });
  for (const [index, choice] of answer.choices.entries()) {
    if (isChat)
      await frame([{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }]);
    if (echo !== "") await frame([piece(index, echo, [])]);
    for (const token of choice.tokens) {
      completion++;
      if (!(await frame([piece(index, token.text, [token])]))) return;
    }
    if (suffix !== "") await frame([piece(index, suffix, [])]);
    for (const [at, call] of choice.calls.entries()) {
      const text = JSON.stringify(call.input);
      const half = Math.ceil(text.length / 2);
      const parts: JsonValue[] = [
        { index: at, id: call.id, type: "function", function: { name: call.name, arguments: "" } },
        { index: at, function: { arguments: text.slice(0, half) } },
        { index: at, function: { arguments: text.slice(half) } },
      ];
      for (const part of parts) await frame([{ index, delta: { tool_calls: [part] }, finish_reason: null }]);
    }
    await frame([{ index, ...(isChat ? { delta: {} } : { text: "" }), logprobs: null, finish_reason: choice.finish }]);
  }
  if (objectOf(body["stream_options"])["include_usage"] === true) await frame([], { usage: usage() });
  response.end("data: [DONE]\n\n");
}

function chatLogprobs(tokens: readonly LittleToken[], top: number): JsonValue {
  return {
    content: tokens.map((token) => ({
      token: token.text,
      logprob: token.logprob,
      bytes: [...Buffer.from(token.text)],
      top_logprobs: token.top.slice(0, Math.min(top, LITTLE_TOP)).map((other) => ({
        token: other.text,
        logprob: other.logprob,
        bytes: [...Buffer.from(other.text)],
      })),
    })),
    refusal: null,
  };
}

function legacyLogprobs(tokens: readonly LittleToken[], top: number): JsonValue {
  return {
    tokens: tokens.map((token) => token.text),
    token_logprobs: tokens.map((token) => token.logprob),
    top_logprobs: tokens.map((token) =>
      Object.fromEntries(token.top.slice(0, top).map((other) => [other.text, other.logprob])),
    ),
    text_offset: tokens.map((_, index) => index),
  };
}

function messageText(message: JsonValue): string {
  const { role, content, tool_calls: calls } = objectOf(message);
  const text =
    typeof content === "string"
      ? content
      : listOf(content)
          .map((part) => textOf(objectOf(part)["text"]))
          .join("");
  return `${textOf(role)}: ${text}${listOf(calls)
    .map((call) => JSON.stringify(call))
    .join("")}`;
}

function noModel(response: ServerResponse, model: JsonValue | undefined): void {
  refuse(
    response,
    404,
    `The model \`${textOf(model)}\` does not exist or you do not have access to it.`,
    "model_not_found",
  );
}

function refuse(response: ServerResponse, status: number, message: string, code: string | null): void {
  sendJson(response, status, { error: { message, type: "invalid_request_error", param: null, code } });
}
