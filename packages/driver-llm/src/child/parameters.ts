import type { JsonValue } from "@assay/core";
import type { GenerateParameters, GenerateRequest, ResponseFormat } from "@assay/protocol";
import { llmError } from "../errors.ts";
import type { AnswerForm } from "../grammar/answer.ts";
import { MAX_BIASES, MAX_CHOICES, MAX_STOPS, MAX_STOP_BYTES, MAX_TOP_LOGPROBS } from "../limits.ts";
import type { Sampling } from "../sampler.ts";
import type { GenerationDefaults } from "./model.ts";

/** A request's parameters as they are applied. */
export type Applied = {
  readonly sampling: Sampling;
  readonly choices: number;
  /** Undefined leaves the answer the rest of the context. */
  readonly maxTokens: number | undefined;
  readonly stops: readonly string[];
  readonly logprobs: boolean;
  readonly topLogprobs: number;
  readonly form: AnswerForm;
  readonly echo: boolean;
};

/** Parameters that name something or that ask for what happens anyway: accepted, and nothing to do. */
const LABELS = new Set(["user", "metadata", "safety_identifier", "prompt_cache_key"]);
const APPLIED = new Set([
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
  "response_format",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "echo",
  "best_of",
]);

/**
 * Reads a request's parameters. Throws `parameter_unsupported` for one that this engine does not apply, with its name
 * as the first hint, and `parameter_invalid` for one that no engine could.
 */
export function readParameters(
  request: Pick<GenerateRequest, "kind" | "parameters">,
  defaults: GenerationDefaults,
  vocabularySize: number,
  drawSeed: () => number,
): Applied {
  const { kind, parameters } = request;
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || APPLIED.has(name) || LABELS.has(name) || harmless(name, value)) continue;
    throw unsupported(name);
  }
  const number = (name: keyof GenerateParameters, low: number, high: number): number | undefined => {
    const value = parameters[name];
    if (value === undefined) return undefined;
    if (typeof value !== "number" || !(value >= low && value <= high))
      throw invalid(name, `is a number from ${low} to ${high}`);
    return value;
  };
  const integer = (name: keyof GenerateParameters, low: number, high: number): number | undefined => {
    const value = number(name, low, high);
    if (value !== undefined && !Number.isInteger(value)) throw invalid(name, "is a whole number");
    return value;
  };
  const flag = (name: "logprobs" | "echo" | "parallel_tool_calls", otherwise: boolean): boolean => {
    const value = parameters[name] ?? otherwise;
    if (typeof value !== "boolean") throw invalid(name, "is true or false");
    return value;
  };

  const topP = number("top_p", 0, 1) ?? defaults.topP;
  if (topP === 0) throw invalid("top_p", "is above 0");
  const choices = integer("n", 1, MAX_CHOICES) ?? 1;
  const bestOf = integer("best_of", 1, MAX_CHOICES);
  if (bestOf !== undefined && bestOf !== choices) {
    throw unsupported("best_of", "More answers than are returned are not made: best_of must equal n.");
  }
  const logprobs = flag("logprobs", false);
  const topLogprobs = integer("top_logprobs", 0, MAX_TOP_LOGPROBS) ?? 0;
  if (topLogprobs > 0 && !logprobs) throw invalid("top_logprobs", "needs logprobs");
  const echo = flag("echo", false);
  if (echo && kind !== "completion") throw unsupported("echo", "Only completions repeat their prompt.");
  if (echo && logprobs) throw unsupported("echo", "The prompt's own log probabilities are not stated.");
  return {
    sampling: {
      temperature: number("temperature", 0, 2) ?? defaults.temperature,
      topP,
      seed: integer("seed", Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER) ?? drawSeed(),
      presencePenalty: number("presence_penalty", -2, 2) ?? 0,
      frequencyPenalty: number("frequency_penalty", -2, 2) ?? 0,
      bias: readBias(parameters.logit_bias, vocabularySize),
    },
    choices,
    maxTokens: integer("max_tokens", 1, Number.MAX_SAFE_INTEGER),
    stops: readStops(parameters.stop),
    logprobs,
    topLogprobs,
    form: readForm(request, flag("parallel_tool_calls", true)),
    echo,
  };
}

/** Whether a parameter that is not applied asks for nothing but what happens anyway. */
function harmless(name: string, value: unknown): boolean {
  if (name === "store" || name === "web_search") return value === false;
  if (name === "service_tier") return value === "auto" || value === "default";
  return name === "modalities" && Array.isArray(value) && value.every((modality) => modality === "text");
}

function readStops(stop: readonly string[] | undefined): readonly string[] {
  const stops = stop ?? [];
  const fine = stops.every(
    (text) => typeof text === "string" && text !== "" && Buffer.byteLength(text) <= MAX_STOP_BYTES,
  );
  if (!fine || stops.length > MAX_STOPS) {
    throw invalid("stop", `is at most ${MAX_STOPS} texts of 1 to ${MAX_STOP_BYTES} bytes`);
  }
  return stops;
}

function readBias(
  bias: Readonly<Record<string, number>> | undefined,
  vocabularySize: number,
): ReadonlyMap<number, number> {
  const entries = Object.entries(bias ?? {});
  if (entries.length > MAX_BIASES) throw invalid("logit_bias", `has at most ${MAX_BIASES} entries`);
  return new Map(
    entries.map(([id, value]) => {
      const token = Number(id);
      if (!/^\d+$/.test(id) || token >= vocabularySize)
        throw invalid("logit_bias", `names token ids below ${vocabularySize}`);
      if (typeof value !== "number" || !(value >= -100 && value <= 100))
        throw invalid("logit_bias", "has values from -100 to 100");
      return [token, value];
    }),
  );
}

function readForm({ kind, parameters }: Pick<GenerateRequest, "kind" | "parameters">, parallel: boolean): AnswerForm {
  const tools = parameters.tools ?? [];
  const choice = parameters.tool_choice ?? (tools.length > 0 ? "auto" : "none");
  const format: ResponseFormat = parameters.response_format ?? { type: "text" };
  if (kind === "completion" && tools.length > 0) throw unsupported("tools", "Only chats call tools.");
  if (tools.length === 0 && (choice === "required" || typeof choice === "object")) {
    throw invalid("tool_choice", "asks for a call where no tools are given");
  }
  if (typeof choice === "object" && !tools.some((tool) => tool.function.name === choice.function.name)) {
    throw invalid("tool_choice", `names ${JSON.stringify(choice.function.name)}, which is none of the tools`);
  }
  const names = new Set(tools.map((tool) => tool.function.name));
  if (names.size !== tools.length) throw invalid("tools", "has two tools of one name");
  return { format, tools, choice, parallel };
}

/** The parameters as an outcome states them: OpenAI's names, fractions as texts. */
export function statedParameters(applied: Applied, maxTokens: number): Record<string, JsonValue> {
  const { sampling, choices, stops, logprobs, topLogprobs, form, echo } = applied;
  const stated: Record<string, JsonValue> = {
    temperature: exact(sampling.temperature),
    top_p: exact(sampling.topP),
    seed: sampling.seed,
    n: choices,
    max_tokens: maxTokens,
    presence_penalty: exact(sampling.presencePenalty),
    frequency_penalty: exact(sampling.frequencyPenalty),
  };
  if (stops.length > 0) stated["stop"] = stops;
  if (sampling.bias.size > 0) {
    stated["logit_bias"] = Object.fromEntries([...sampling.bias].map(([token, bias]) => [String(token), exact(bias)]));
  }
  if (logprobs) {
    stated["logprobs"] = true;
    stated["top_logprobs"] = topLogprobs;
  }
  const { format } = form;
  if (format.type === "json_schema" && format.json_schema.name !== undefined) {
    stated["response_format"] = { type: format.type, name: format.json_schema.name };
  } else if (format.type !== "text") stated["response_format"] = { type: format.type };
  if (form.tools.length > 0) {
    // What a tool takes is the caller's content and stands in the request alone.
    stated["tools"] = form.tools.map((tool) => tool.function.name);
    stated["tool_choice"] = form.choice as JsonValue;
    stated["parallel_tool_calls"] = form.parallel;
  }
  if (echo) stated["echo"] = true;
  return stated;
}

function exact(value: number): number | string {
  // Negative zero is no number of its own in a receipt.
  return Number.isInteger(value) ? value + 0 : String(value);
}

function unsupported(name: string, detail = ""): Error {
  const sentence =
    detail === "" ? `This engine does not apply ${name}.` : `This engine does not apply ${name} as asked. ${detail}`;
  return llmError("parameter_unsupported", sentence, [name, "Leave it out, or choose a model that supports it."]);
}

function invalid(name: string, rule: string): Error {
  return llmError("parameter_invalid", `The parameter ${name} ${rule}.`, [name]);
}
