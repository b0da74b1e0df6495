import { z } from "zod";
import type { ParsedText } from "../text/execution.ts";
import { TEXT_LIMITS } from "../text/messages.ts";
import { TEXT_VALUE_LIMITS } from "./limits.ts";
import { readRequest } from "./read.ts";
import type { Endpoint, JsonObject } from "./read.ts";
import { routingOptionsSchema } from "./routing.ts";
import { identifier, modelName } from "./sampling.ts";

const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31);
const text = z.string().min(1);
const inputSchema = z.union([
  text,
  z.array(text).min(1).max(TEXT_LIMITS.maxEmbeddingInputs),
  z.array(tokenId).min(1),
  z.array(z.array(tokenId).min(1)).min(1).max(TEXT_LIMITS.maxEmbeddingInputs),
]);

/** `POST /v1/embeddings`: what is applied. */
export const embeddingRequestSchema = z.strictObject({
  model: modelName,
  input: inputSchema,
  encoding_format: z.enum(["float", "base64"]).optional(),
  dimensions: z.int().min(1).max(TEXT_VALUE_LIMITS.maxDimensions).optional(),
  user: identifier.optional(),
  assay: routingOptionsSchema.optional(),
});

export const embeddingEndpoint: Endpoint<typeof embeddingRequestSchema.shape> = {
  schema: embeddingRequestSchema,
  unsupported: {},
};

/** Reads a request for embeddings. Throws `parameter_unknown` and `parameter_invalid`. */
export function parseEmbedding(body: JsonObject): Omit<ParsedText, "routing"> {
  const asked = readRequest(embeddingEndpoint, body);
  return {
    dialect: "embeddings",
    kind: "embedding",
    model: asked.model,
    messages: [],
    inputs: inputsOf(asked.input),
    ...(asked.encoding_format === undefined ? {} : { encodingFormat: asked.encoding_format }),
    ...(asked.dimensions === undefined ? {} : { dimensions: asked.dimensions }),
    parameters: asked.user === undefined ? {} : { user: asked.user },
    stream: false,
    includeUsage: false,
  };
}

function inputsOf(input: z.infer<typeof inputSchema>): readonly (string | readonly number[])[] {
  if (typeof input === "string") return [input];
  return typeof input[0] === "number"
    ? [input as readonly number[]]
    : (input as readonly (string | readonly number[])[]);
}
