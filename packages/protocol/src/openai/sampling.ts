import { z } from "zod";
import { responseFormatSchema, TEXT_LIMITS, toolChoiceSchema, toolSchema } from "../text/messages.ts";
import type { GenerateParameters } from "../text/engine.ts";
import { TEXT_VALUE_LIMITS as LIMIT } from "./limits.ts";
import { parameterInvalid } from "./refuse.ts";

// Members that several endpoints share. Optional ones arrive without null: the reader takes null for absence.

export const identifier = z.string().min(1).max(LIMIT.maxIdentifierChars);
export const modelName = z
  .string()
  .min(1)
  .max(LIMIT.maxModelChars)
  .regex(/^[\x20-\x7e]*$/, "a model's name is printable ASCII");
const stopText = z.string().min(1).max(LIMIT.maxStopChars);
const tokens = z.int().min(1).max(LIMIT.maxTokens);

export const metadataSchema = z
  .record(z.string().max(LIMIT.maxMetadataKeyChars), z.string().max(LIMIT.maxMetadataValueChars))
  .refine((map) => Object.keys(map).length <= LIMIT.maxMetadataPairs, {
    error: `metadata has at most ${LIMIT.maxMetadataPairs} pairs`,
  });

/** How tokens are chosen and when they end: chat and completions. */
export const samplingShape = {
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().gt(0).max(1).optional(),
  seed: z.int().optional(),
  n: z.int().min(1).max(TEXT_LIMITS.maxChoices).optional(),
  stop: z.union([stopText, z.array(stopText).max(TEXT_LIMITS.maxStops)]).optional(),
  max_tokens: tokens.optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  logit_bias: z
    .record(
      z.string().regex(/^(?:0|[1-9][0-9]{0,8})$/, "a token id is a decimal number"),
      z.number().min(-100).max(100),
    )
    .refine((map) => Object.keys(map).length <= LIMIT.maxLogitBiases, {
      error: `logit_bias has at most ${LIMIT.maxLogitBiases} tokens`,
    })
    .optional(),
  user: identifier.optional(),
  stream: z.boolean().optional(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.literal(false).nullish() })
    .optional(),
};

/** What only a conversation has. */
export const chatShape = {
  max_completion_tokens: tokens.optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: z.int().min(0).max(TEXT_LIMITS.maxTopLogprobs).optional(),
  response_format: responseFormatSchema.optional(),
  tools: z.array(toolSchema).max(TEXT_LIMITS.maxTools).optional(),
  tool_choice: toolChoiceSchema.optional(),
  parallel_tool_calls: z.boolean().optional(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).optional(),
  verbosity: z.enum(["low", "medium", "high"]).optional(),
  service_tier: z.enum(["auto", "default", "flex", "scale", "priority"]).optional(),
  prediction: z
    .strictObject({
      type: z.literal("content"),
      content: z.union([
        z.string(),
        z.array(z.strictObject({ type: z.literal("text"), text: z.string() })).max(TEXT_LIMITS.maxParts),
      ]),
    })
    .optional(),
  modalities: z
    .array(z.enum(["text", "image"]))
    .min(1)
    .max(2)
    .optional(),
  web_search: z.boolean().optional(),
  web_search_options: z
    .strictObject({
      search_context_size: z.enum(["low", "medium", "high"]).optional(),
      user_location: z
        .strictObject({
          type: z.literal("approximate"),
          approximate: z.strictObject({
            city: z.string().max(LIMIT.maxIdentifierChars).optional(),
            country: z.string().max(LIMIT.maxIdentifierChars).optional(),
            region: z.string().max(LIMIT.maxIdentifierChars).optional(),
            timezone: z.string().max(LIMIT.maxIdentifierChars).optional(),
          }),
        })
        .nullish(),
    })
    .optional(),
  prompt_cache_key: identifier.optional(),
  prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).optional(),
  safety_identifier: identifier.optional(),
  metadata: metadataSchema.optional(),
  store: z.literal(false).optional(),
};

/** Parameters that are handed to engines under the name and with the value they came with. */
const HANDED_ON = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "response_format",
  "tool_choice",
  "parallel_tool_calls",
  "reasoning_effort",
  "verbosity",
  "service_tier",
  "prediction",
  "modalities",
  "web_search_options",
  "prompt_cache_key",
  "prompt_cache_retention",
  "safety_identifier",
  "user",
  "metadata",
  "store",
  "echo",
  "suffix",
  "best_of",
] as const satisfies readonly (keyof GenerateParameters)[];

type Asked = { readonly [name: string]: unknown };

/** The parameters of a request that passed its schema; what needs more than handing on is done by the endpoints. */
export function handedOn(asked: Asked): GenerateParameters {
  const out: { [name: string]: unknown } = {};
  for (const name of HANDED_ON) if (asked[name] !== undefined) out[name] = asked[name];
  const { stop } = asked;
  if (typeof stop === "string") out["stop"] = [stop];
  else if (Array.isArray(stop) && stop.length > 0) out["stop"] = stop;
  return out;
}

/** One limit from OpenAI's two names for it. Throws `parameter_invalid` when both are given and differ. */
export function oneLimit(asked: Asked, older: string, newer: string): { readonly max_tokens?: number } {
  const [first, second] = [asked[older], asked[newer]];
  if (first !== undefined && second !== undefined && first !== second)
    throw parameterInvalid(newer, `differs from ${older}, which means the same`);
  const limit = second ?? first;
  return typeof limit === "number" ? { max_tokens: limit } : {};
}

/** `stream_options` only belong to a stream, as OpenAI has it. */
export function streamOptions(asked: {
  readonly stream?: boolean | undefined;
  readonly stream_options?: { readonly include_usage?: boolean | null | undefined } | undefined;
}): { readonly stream: boolean; readonly includeUsage: boolean } {
  const stream = asked.stream ?? false;
  if (!stream && asked.stream_options !== undefined)
    throw parameterInvalid("stream_options", "may only be given when stream is true");
  return { stream, includeUsage: asked.stream_options?.include_usage ?? false };
}
