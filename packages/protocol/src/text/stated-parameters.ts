import type { JsonValue } from "@assay/core";
import type { GenerateParameters } from "./engine.ts";

/**
 * Parameters as a receipt states them, by OpenAI's names: numbers that are not integers as decimal texts (`"0.7"`),
 * since claims hold no fractions. What the caller wrote as content stands in the request's committed fields alone and
 * is named here without its text: tools by name, a response format by type and name. `user`, labels, predictions and
 * the other texts of a caller are left out.
 */
export function statedParameters(parameters: GenerateParameters): Record<string, JsonValue> {
  const out: Record<string, JsonValue> = {};
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined) continue;
    if (name === "tools") out[name] = (parameters.tools ?? []).map((tool) => tool.function.name);
    else if (name === "response_format") out[name] = format(parameters.response_format);
    else if (STATED.has(name)) out[name] = withoutFractions(value as JsonValue);
  }
  return out;
}

/** `value` with every number that is no integer as its decimal text, and with what is no JSON left out. */
function withoutFractions(value: JsonValue): JsonValue {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : String(value);
  if (Array.isArray(value)) return value.map((item) => withoutFractions(item as JsonValue));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutFractions(item)]));
}

function format(value: GenerateParameters["response_format"]): JsonValue {
  if (value?.type !== "json_schema") return { type: value?.type ?? "text" };
  const { name } = value.json_schema;
  return name === undefined ? { type: value.type } : { type: value.type, name };
}

const STATED: ReadonlySet<string> = new Set([
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
  "tool_choice",
  "parallel_tool_calls",
  "echo",
  "best_of",
  "reasoning_effort",
  "verbosity",
  "service_tier",
  "modalities",
  "web_search",
  "prompt_cache_retention",
  "store",
] satisfies (keyof GenerateParameters)[]);
