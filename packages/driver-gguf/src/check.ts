import type { JsonValue } from "@assay/core";
import type { ChatMessage, GenerateParameters, GenerateRequest } from "@assay/protocol";
import { ggufError } from "./errors.ts";
import { MAX_SCHEMA_DEPTH, MAX_SCHEMA_NODES, MAX_SEED } from "./limits.ts";
import type { Turn } from "./wire.ts";

/** Parameters that the engine applies. */
const APPLIED: ReadonlySet<string> = new Set([
  "temperature",
  "top_p",
  "seed",
  "n",
  "stop",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "response_format",
  // Of no effect on the answer: they stand in the receipt.
  "user",
  "metadata",
] satisfies (keyof GenerateParameters)[]);

/** Values that ask for nothing, of parameters that the engine does not apply. */
const NEUTRAL: Readonly<Record<string, (value: JsonValue) => boolean>> = {
  logprobs: (value) => value === false,
  top_logprobs: (value) => value === 0,
  tools: (value) => Array.isArray(value) && value.length === 0,
  tool_choice: (value) => value === "none" || value === "auto",
  parallel_tool_calls: (value) => value === true,
  echo: (value) => value === false,
  suffix: (value) => value === "",
  best_of: (value) => value === 1,
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === "text",
  web_search: (value) => value === false,
  // Nothing is ever kept beyond what the receipt's retention says.
  store: (value) => value === false,
};

/**
 * Refuses what the engine cannot apply: `parameter_unsupported`, `parameter_invalid` for a token that the vocabulary
 * lacks or a seed that is not of 32 bits, `schema_unsupported` for a JSON schema that the grammar could not hold.
 */
export function checkParameters(parameters: GenerateParameters, vocabulary: number): void {
  for (const [name, value] of Object.entries(parameters) as [string, JsonValue | undefined][]) {
    if (value === undefined || APPLIED.has(name) || NEUTRAL[name]?.(value) === true) continue;
    throw ggufError("parameter_unsupported", `${name} is refused: the llama.cpp engine has no such parameter.`, [
      `Leave ${name} out, or name a model of another engine.`,
    ]);
  }
  const { seed, response_format: format } = parameters;
  if (seed !== undefined && (seed < 0 || seed > MAX_SEED))
    throw ggufError("parameter_invalid", "The seed is not of 32 bits, as llama.cpp needs it.", [`0 to ${MAX_SEED}`]);
  for (const id of Object.keys(parameters.logit_bias ?? {}))
    if (!/^\d{1,9}$/.test(id) || Number(id) >= vocabulary)
      throw ggufError("parameter_invalid", `logit_bias names the token ${id.slice(0, 20)}, which is none.`);
  if (format?.type === "json_schema") checkSchema(format.json_schema.schema);
}

/** The conversation as turns. Refuses with `content_unsupported` whatever is not text or needs tools. */
export function turnsOf(request: GenerateRequest): Turn[] {
  return request.messages.map((message): Turn => {
    if (message.role === "tool" || message.role === "function") throw unsupportedContent("results of tools");
    if (message.role !== "assistant") {
      const role = message.role === "user" ? "user" : "system";
      return { role, text: textOf(message) };
    }
    if (message.tool_calls !== undefined) throw unsupportedContent("calls of tools");
    return { role: "model", text: textOf(message) };
  });
}

function textOf(message: Exclude<ChatMessage, { role: "tool" | "function" }>): string {
  const { content } = message;
  if (content === null || content === undefined) return message.role === "assistant" ? (message.refusal ?? "") : "";
  if (typeof content === "string") return content;
  return content
    .map((part) => {
      if (part.type === "text") return part.text;
      if (part.type === "refusal") return part.refusal;
      throw unsupportedContent("images, files or audio");
    })
    .join("");
}

function unsupportedContent(what: string): Error {
  return ggufError("content_unsupported", `The llama.cpp engine takes texts, and no ${what}.`);
}

/** Words of JSON Schema that the grammar holds an answer to, or that say nothing about an answer. */
const HELD: ReadonlySet<string> = new Set([
  ..."type enum const properties required additionalProperties items prefixItems minItems maxItems oneOf $ref $defs".split(
    " ",
  ),
  ..."minLength maxLength minProperties maxProperties title description default examples $schema $id $comment".split(
    " ",
  ),
]);

/** Refuses a schema with a word that the grammar would pass over: an answer outside the schema would look held to it. */
function checkSchema(root: JsonValue): void {
  let nodes = 0;
  const visit = (schema: JsonValue | undefined, depth: number): void => {
    if (schema === undefined || typeof schema === "boolean") return;
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) throw badSchema("a part is no schema");
    if (++nodes > MAX_SCHEMA_NODES) throw badSchema(`it has more than ${MAX_SCHEMA_NODES} parts`);
    if (depth > MAX_SCHEMA_DEPTH) throw badSchema(`it nests deeper than ${MAX_SCHEMA_DEPTH}`);
    const read = schema as { readonly [key: string]: JsonValue };
    const other = Object.keys(read).find((word) => !HELD.has(word));
    if (other !== undefined) throw badSchema(`it uses ${other.slice(0, 40)}`);
    if (Object.keys(read).every((word) => !DECIDING.has(word))) throw badSchema("a part allows anything");
    const { properties, required } = read;
    const names = Object.keys((properties ?? {}) as object);
    if (Array.isArray(required) && !required.every((name) => names.includes(String(name))))
      throw badSchema("it requires a property that it does not describe");
    for (const value of Object.values((properties ?? {}) as Record<string, JsonValue>)) visit(value, depth + 1);
    for (const value of Object.values((read["$defs"] ?? {}) as Record<string, JsonValue>)) visit(value, depth + 1);
    for (const word of ["oneOf", "prefixItems"])
      for (const value of (read[word] ?? []) as readonly JsonValue[]) visit(value, depth + 1);
    visit(read["items"], depth + 1);
    visit(read["additionalProperties"], depth + 1);
  };
  visit(root, 0);
}

const DECIDING: ReadonlySet<string> = new Set(["type", "enum", "const", "oneOf", "$ref"]);

function badSchema(why: string): Error {
  return ggufError("schema_unsupported", `The JSON schema cannot be held to: ${why}.`);
}
