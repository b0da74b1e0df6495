import type { JsonValue } from "@assay/core";
import { z } from "zod";
import type { ParsedText } from "../text/execution.ts";
import { TEXT_LIMITS } from "../text/messages.ts";
import { readRequest } from "./read.ts";
import type { Endpoint, JsonObject } from "./read.ts";
import { parameterInvalid, parameterUnsupported } from "./refuse.ts";
import { routingOptionsSchema } from "./routing.ts";
import { handedOn, modelName, samplingShape, streamOptions } from "./sampling.ts";

const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31);
/** One prompt: a text or token ids, bare or in a list of one. */
const promptSchema = z.union([
  z.string(),
  z.tuple([z.string()]),
  z.array(tokenId).min(1),
  z.tuple([z.array(tokenId).min(1)]),
]);

/** `POST /v1/completions`: what is applied. `web_search` is what OpenGradient's clients send. */
export const completionRequestSchema = z.strictObject({
  model: modelName,
  prompt: promptSchema,
  ...samplingShape,
  echo: z.boolean().optional(),
  suffix: z.string().optional(),
  best_of: z.int().min(1).max(TEXT_LIMITS.maxChoices).optional(),
  logprobs: z.int().min(0).max(TEXT_LIMITS.maxTopLogprobs).optional(),
  web_search: z.boolean().optional(),
  assay: routingOptionsSchema.optional(),
});

export const completionEndpoint: Endpoint<typeof completionRequestSchema.shape> = {
  schema: completionRequestSchema,
  unsupported: {},
};

/** Reads a request of the older completions API. Throws `parameter_unknown`, `_invalid` and `_unsupported`. */
export function parseCompletion(body: JsonObject): Omit<ParsedText, "routing"> {
  const { prompt } = body;
  if (prompt === undefined || prompt === null) throw parameterInvalid("prompt", "is missing");
  if (Array.isArray(prompt) && prompt.length > 1 && typeof (prompt as readonly JsonValue[])[0] !== "number") {
    throw parameterUnsupported(
      "prompt",
      "one request has one prompt, and so one receipt",
      "Send a request for each prompt, or n for several answers to one.",
    );
  }
  const asked = readRequest(completionEndpoint, body);
  const { stream, includeUsage } = streamOptions(asked);
  const { n = 1, best_of: bestOf, logprobs } = asked;
  if (bestOf !== undefined && bestOf < n) throw parameterInvalid("best_of", "must be at least n");
  if (bestOf !== undefined && bestOf > n && stream)
    throw parameterInvalid("best_of", "must equal n in a stream, which cannot take back what it sent");
  return {
    dialect: "completions",
    kind: "completion",
    model: asked.model,
    messages: [],
    prompt: onePrompt(asked.prompt),
    parameters: {
      ...handedOn(asked),
      ...(asked.max_tokens === undefined ? {} : { max_tokens: asked.max_tokens }),
      ...(logprobs === undefined ? {} : { logprobs: true, top_logprobs: logprobs }),
      ...(asked.web_search === true ? { web_search: true } : {}),
    },
    stream,
    includeUsage,
  };
}

function onePrompt(prompt: z.infer<typeof promptSchema>): string | readonly number[] {
  if (typeof prompt === "string") return prompt;
  const [first] = prompt;
  return typeof first === "string" || Array.isArray(first) ? first : (prompt as readonly number[]);
}
