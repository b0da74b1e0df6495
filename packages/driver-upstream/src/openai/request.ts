import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateParameters, GenerateRequest } from "@assay/protocol";
import { unsupported, upstreamError } from "../errors.ts";

export type OpenAiKind = "openai" | "openai-compatible";

/** Parameters that only the older completions API has, with what they ask for when they stand at their default. */
const COMPLETIONS_ONLY = ["echo", "suffix", "best_of"] as const;
/** Parameters of both APIs. `logprobs` means different things in them. */
const BOTH = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "stop",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "user",
] as const;
/** Parameters whose absence means the same as these values: an API that lacks them still applies them. */
const NEUTRAL: Readonly<Record<string, (value: JsonValue) => boolean>> = {
  echo: (value) => value === false,
  best_of: (value) => value === 1,
  suffix: (value) => value === "",
  web_search: (value) => value === false,
  tools: (value) => Array.isArray(value) && value.length === 0,
  response_format: (value) => (value as { type?: unknown }).type === "text",
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === "text",
  store: (value) => value === false,
  tool_choice: (value) => value === "auto" || value === "none",
  parallel_tool_calls: (value) => value === true,
};

/** What the API of each kind lacks, though the older or the newer one of the two has it. */
const LACKS: Readonly<Record<OpenAiKind, readonly string[]>> = {
  // OpenAI searches the web through options or a tool; a bare switch is other servers'.
  openai: ["web_search"],
  "openai-compatible": [],
};

/**
 * The body of a request, in the API that its kind names. Parameters pass as they are; one that the API lacks is
 * refused with `parameter_unsupported`, unless it asks for nothing.
 */
export function openAiBody(request: GenerateRequest, kind: OpenAiKind, provider: string): Record<string, JsonValue> {
  const chat = request.kind === "chat";
  const body: Record<string, JsonValue> = { model: request.model.name };
  if (chat) body["messages"] = request.messages.map((message) => checked(message, provider) as unknown as JsonValue);
  else body["prompt"] = prompt(request);
  for (const [name, value] of Object.entries(request.parameters) as [keyof GenerateParameters, JsonValue][]) {
    if (value === undefined) continue;
    const known = chat ? !isOneOf(COMPLETIONS_ONLY, name) : isOneOf(BOTH, name) || isOneOf(COMPLETIONS_ONLY, name);
    if (!known || LACKS[kind].includes(name)) {
      if (NEUTRAL[name]?.(value) === true) continue;
      if (name === "metadata") continue;
      throw unsupported(name, provider, `has no such parameter for ${chat ? "chats" : "completions"}`);
    }
    if (name === "stop" && Array.isArray(value) && value.length === 0) continue;
    body[name] = value;
  }
  const { max_tokens: most, logprobs, top_logprobs: top } = request.parameters;
  if (chat) {
    // OpenAI's reasoning models refuse the older name, and other servers may not know the newer one.
    if (kind === "openai" && most !== undefined) {
      delete body["max_tokens"];
      body["max_completion_tokens"] = most;
    }
  } else {
    // Here it is a count of alternatives, and zero of them still asks for the chosen tokens' own.
    delete body["top_logprobs"];
    if (logprobs === true) body["logprobs"] = top ?? 0;
    else delete body["logprobs"];
  }
  if (request.stream) {
    body["stream"] = true;
    body["stream_options"] = { include_usage: true };
  }
  return body;
}

function prompt(request: GenerateRequest): JsonValue {
  if (request.prompt === undefined) throw upstreamError("parameter_invalid", "A completion needs a prompt.");
  return request.prompt;
}

/** A file's id names something in the operator's account, which is not the caller's to read. */
function checked(message: ChatMessage, provider: string): ChatMessage {
  if (!Array.isArray(message.content)) return message;
  for (const part of message.content) {
    if (part.type === "file" && part.file.file_id !== undefined) {
      throw upstreamError(
        "content_unsupported",
        `A file by its id is refused: ids name files of ${provider}'s account.`,
        {
          hints: ["Send the file itself as file_data."],
        },
      );
    }
  }
  return message;
}

function isOneOf(names: readonly string[], name: string): boolean {
  return names.includes(name);
}
