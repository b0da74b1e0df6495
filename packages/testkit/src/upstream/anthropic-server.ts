import type { ServerResponse } from "node:http";
import type { JsonValue } from "@assay/core";
import { LITTLE_DEFAULTS, littleAnswer } from "./little-chat.ts";
import type { LittleChat } from "./little-chat.ts";
import { listOf, numberOf, objectOf, textOf, unknownMember } from "./wire-read.ts";
import { sendJson, writeOn } from "./wire-server.ts";
import type { WireHandler, WireRequest } from "./wire-server.ts";

/** The model that the fake serves. */
export const ANTHROPIC_MODEL = "claude-little-1";

const MEMBERS =
  "max_tokens messages model metadata output_config service_tier stop_sequences stream system thinking tool_choice tools".split(
    " ",
  );
/** What the API still took before its version of October 2026. */
const OLDER_MEMBERS = ["temperature", "top_p"];
const STOP_REASONS = { stop: "end_turn", length: "max_tokens", tool_calls: "tool_use" } as const;

/** Serves the messages API and the list of models in Anthropic's formats, answered by the little model. */
export const anthropicHandler: WireHandler = async (request, response) => {
  response.setHeader("request-id", "req_little_2");
  const path = request.path.split("?")[0];
  // The API of October 2026 takes the key as a bearer; versions before it have a header of their own for it.
  const key = older(request) ? request.headers["x-api-key"] : request.headers.authorization;
  if (key === undefined) return refuse(response, 401, "authentication_error", "no credential was sent");
  if (path === "/v1/models") {
    return sendJson(response, 200, {
      data: [
        {
          type: "model",
          id: ANTHROPIC_MODEL,
          display_name: "Little",
          created_at: "2026-01-01T00:00:00Z",
          max_input_tokens: 1000,
          max_tokens: 500,
        },
      ],
      has_more: false,
      first_id: ANTHROPIC_MODEL,
      last_id: ANTHROPIC_MODEL,
    });
  }
  if (path !== "/v1/messages") return refuse(response, 404, "not_found_error", `No route ${path}`);
  return messages(request, response);
};

async function messages(request: WireRequest, response: ServerResponse): Promise<void> {
  const body = objectOf(request.body);
  const known = older(request) ? [...MEMBERS, ...OLDER_MEMBERS] : MEMBERS;
  const fault = unknownMember(body, known);
  if (fault !== undefined)
    return refuse(response, 400, "invalid_request_error", `${fault}: Extra inputs are not permitted`);
  if (typeof body["max_tokens"] !== "number")
    return refuse(response, 400, "invalid_request_error", "max_tokens: Field required");
  if (body["model"] !== ANTHROPIC_MODEL)
    return refuse(response, 404, "not_found_error", `model: ${textOf(body["model"])}`);
  const wrong = misplaced(listOf(body["messages"]));
  if (wrong !== undefined) return refuse(response, 400, "invalid_request_error", wrong);

  const stops = listOf(body["stop_sequences"]).map(textOf);
  const format = objectOf(objectOf(body["output_config"])["format"]);
  const chat: LittleChat = {
    ...LITTLE_DEFAULTS,
    prompt: [textOf(body["system"]), ...listOf(body["messages"]).map((message) => JSON.stringify(message))].join("\n"),
    temperature: numberOf(body["temperature"], 0),
    topP: numberOf(body["top_p"], 1),
    maxTokens: endlessOr(body),
    stop: stops,
    tools: listOf(body["tools"]).map((tool) => ({
      name: textOf(objectOf(tool)["name"]),
      schema: objectOf(tool)["input_schema"],
    })),
    toolChoice: toolChoice(body["tool_choice"]),
    parallel: objectOf(body["tool_choice"])["disable_parallel_tool_use"] !== true,
    format: format["type"] === "json_schema" ? { type: "json", schema: format["schema"] ?? {} } : { type: "text" },
  };
  const answer = littleAnswer(chat);
  const choice = answer.choices[0];
  if (choice === undefined) return refuse(response, 500, "api_error", "no choice");
  const base = {
    id: "msg_little_1",
    type: "message",
    role: "assistant",
    model: ANTHROPIC_MODEL,
    stop_sequence: null,
  };
  const input = { input_tokens: answer.promptTokens, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };

  if (body["stream"] !== true) {
    const tokens = [...choice.tokens];
    const content: JsonValue[] = choice.calls.map((call) => ({
      type: "tool_use",
      id: call.id,
      name: call.name,
      input: call.input,
    }));
    if (tokens.length > 0) content.unshift({ type: "text", text: tokens.map((token) => token.text).join("") });
    return sendJson(response, 200, {
      ...base,
      content,
      stop_reason: STOP_REASONS[choice.finish],
      usage: { ...input, output_tokens: tokens.length + choice.calls.length * 8 },
    });
  }

  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  const event = (type: string, rest: { readonly [key: string]: JsonValue }): Promise<boolean> =>
    writeOn(response, `event: ${type}\ndata: ${JSON.stringify({ type, ...rest })}\n\n`);
  await event("message_start", {
    message: { ...base, content: [], stop_reason: null, usage: { ...input, output_tokens: 1 } },
  });
  let block = 0;
  let output = 0;
  if (choice.calls.length === 0) {
    await event("content_block_start", { index: 0, content_block: { type: "text", text: "" } });
    await event("ping", {});
    for (const token of choice.tokens) {
      output++;
      if (!(await event("content_block_delta", { index: 0, delta: { type: "text_delta", text: token.text } }))) return;
    }
    await event("content_block_stop", { index: 0 });
  }
  for (const call of choice.calls) {
    output += 8;
    const text = JSON.stringify(call.input);
    const half = Math.ceil(text.length / 2);
    await event("content_block_start", {
      index: block,
      content_block: { type: "tool_use", id: call.id, name: call.name, input: {} },
    });
    for (const part of [text.slice(0, half), text.slice(half)])
      await event("content_block_delta", { index: block, delta: { type: "input_json_delta", partial_json: part } });
    await event("content_block_stop", { index: block });
    block++;
  }
  await event("message_delta", {
    delta: { stop_reason: STOP_REASONS[choice.finish], stop_sequence: null },
    usage: { output_tokens: output },
  });
  await event("message_stop", {});
  response.end();
}

function older(request: WireRequest): boolean {
  return request.headers["anthropic-version"] === "2023-06-01";
}

/** The default of 4,096 tokens still counts as "no limit" to the little model's endless prompt. */
function endlessOr(body: { readonly [key: string]: JsonValue }): number {
  const limit = numberOf(body["max_tokens"], 0);
  return limit >= 4096 ? Number.POSITIVE_INFINITY : limit;
}

function toolChoice(value: JsonValue | undefined): LittleChat["toolChoice"] {
  const { type, name } = objectOf(value);
  if (type === "none") return "none";
  if (type === "any") return "required";
  return type === "tool" ? { name: textOf(name) } : "auto";
}

/** Results of tools stand in a user's message right after the calls, as the API demands. */
function misplaced(messages: readonly JsonValue[]): string | undefined {
  let called: readonly string[] = [];
  for (const [index, message] of messages.entries()) {
    const { role, content } = objectOf(message);
    const blocks = listOf(content).map(objectOf);
    const results = blocks
      .filter((block) => block["type"] === "tool_result")
      .map((block) => textOf(block["tool_use_id"]));
    if (called.some((id) => !results.includes(id))) return `messages.${index}: tool_use ids without tool_result`;
    if (results.some((id) => !called.includes(id))) return `messages.${index}: unexpected tool_use_id`;
    called = blocks.filter((block) => block["type"] === "tool_use").map((block) => textOf(block["id"]));
    if (role !== "user" && role !== "assistant") return `messages.${index}: unexpected role`;
    if (blocks.some((block) => block["type"] === "text" && block["text"] === ""))
      return `messages.${index}: text content blocks must be non-empty`;
  }
  return undefined;
}

function refuse(response: ServerResponse, status: number, type: string, message: string): void {
  sendJson(response, status, { type: "error", error: { type, message }, request_id: "req_little_2" });
}
