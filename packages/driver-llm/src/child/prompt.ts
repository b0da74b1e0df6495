import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateRequest } from "@assay/protocol";
import { llmError } from "../errors.ts";
import type { AnswerForm } from "../grammar/answer.ts";
import { pythonJson } from "../grammar/json.ts";
import { JSON_INSTRUCTION, SCHEMA_INSTRUCTION } from "../instructions.ts";
import { isObject } from "../json.ts";
import { MAX_CHARACTERS_PER_TOKEN } from "../limits.ts";
import type { Model } from "./model.ts";

type Turn = Record<string, unknown> & { readonly role: string; content: string };

/**
 * The prompt's tokens. Throws `kind_unsupported` for a chat with a model that has no template, `content_unsupported`
 * for parts that are no text, `template_failed` when the template refuses the messages, and `context_exceeded`.
 */
export function promptTokens(model: Model, request: GenerateRequest, form: AnswerForm): number[] {
  const generator = model.generator;
  if (generator === undefined) {
    throw llmError("kind_unsupported", "The model turns texts into vectors and writes none.");
  }
  if (request.kind === "completion") return completionTokens(model, request.prompt ?? "");
  if (generator.template === undefined) {
    throw llmError("kind_unsupported", "The model has no chat template and continues texts only.", [
      "Ask it for a completion.",
    ]);
  }
  const turns = request.messages.map(turnOf);
  instruct(turns, form);
  const tools = form.choice === "none" || form.tools.length === 0 ? undefined : form.tools;
  const { values, split } = generator.controls.guard({ messages: turns, tools });
  let rendered: string;
  try {
    rendered = generator.template.render({ ...model.specials, ...values, add_generation_prompt: true });
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw llmError("template_failed", "The model's chat template refused the messages.", [
      `It said: ${said.length > 300 ? `${said.slice(0, 300)}…` : said}`,
    ]);
  }
  return encode(model, split(rendered), false);
}

function completionTokens(model: Model, prompt: string | readonly number[]): number[] {
  const size = model.generator?.decoder.vocabularySize ?? 0;
  if (typeof prompt === "string") {
    const tokens = encode(model, [prompt], true);
    if (tokens.length > 0) return tokens;
    throw llmError("parameter_invalid", "The prompt is empty, and the model has no token to begin a text with.", [
      "prompt",
    ]);
  }
  if (prompt.length === 0) throw llmError("parameter_invalid", "The prompt has no tokens.", ["prompt"]);
  const known = prompt.every((token) => Number.isInteger(token) && token >= 0 && token < size);
  if (!known) throw llmError("parameter_invalid", `The prompt has a token that is no id below ${size}.`, ["prompt"]);
  if (prompt.length >= model.context) throw contextExceeded(model, prompt.length);
  return [...prompt];
}

/** The tokens of a text that is given in pieces. `begin` adds what the tokenizer puts around a whole text. */
export function encode(model: Model, pieces: readonly string[], begin: boolean): number[] {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (length > model.context * MAX_CHARACTERS_PER_TOKEN) throw contextExceeded(model, undefined);
  const tokens = pieces.flatMap((piece) => model.tokenizer.encode(piece, { add_special_tokens: begin }).ids);
  if (tokens.length >= model.context) throw contextExceeded(model, tokens.length);
  return tokens;
}

function contextExceeded(model: Model, tokens: number | undefined): Error {
  const has = tokens === undefined ? "is too long" : `has ${tokens} tokens`;
  return llmError("context_exceeded", `The text ${has}, and the model's context has ${model.context}.`, [
    "An answer needs at least one token of the context.",
  ]);
}

function turnOf(message: ChatMessage): Turn {
  const content = contentOf(message);
  if (message.role === "developer") return { role: "system", content };
  if (message.role === "function") return { role: "tool", content, name: message.name };
  if (message.role === "tool") return { role: "tool", content, tool_call_id: message.tool_call_id };
  if (message.role === "assistant" && message.tool_calls !== undefined) {
    const calls = message.tool_calls.map((call) => ({
      id: call.id,
      type: call.type,
      function: { name: call.function.name, arguments: argumentsOf(call.function.arguments) },
    }));
    return { role: "assistant", content, tool_calls: calls };
  }
  return { role: message.role, content };
}

function contentOf(message: ChatMessage): string {
  const { content } = message;
  const said = message.role === "assistant" ? (message.refusal ?? "") : "";
  if (content === undefined || content === null) return said;
  if (typeof content === "string") return content;
  return content
    .map((part) => {
      if (part.type === "text") return part.text;
      if (part.type === "refusal") return part.refusal;
      throw llmError("content_unsupported", `The model reads text, and a message has a part of type ${part.type}.`, [
        part.type,
      ]);
    })
    .join("");
}

/** Templates write arguments as JSON themselves, so they get the value; a text that is no JSON stays what it is. */
function argumentsOf(text: string): unknown {
  try {
    const value = parseJson(text);
    return isObject(value) ? value : text;
  } catch (error) {
    if (isAssayError(error)) return text;
    throw error;
  }
}

function instruct(turns: Turn[], form: AnswerForm): void {
  const { format } = form;
  if (format.type === "text") return;
  const line =
    format.type === "json_object"
      ? JSON_INSTRUCTION
      : `${SCHEMA_INSTRUCTION}${pythonJson(format.json_schema.schema satisfies Record<string, JsonValue>)}`;
  const system = turns.find((turn) => turn.role === "system");
  if (system === undefined) turns.unshift({ role: "system", content: line });
  else system.content = system.content === "" ? line : `${system.content}\n${line}`;
}
