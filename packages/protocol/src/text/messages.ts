import { z } from "zod";

/** Limits of one request to a language model. Each is far above honest use and bounds what a body may cost. */
export const TEXT_LIMITS = {
  /** Prompts of a million tokens are about 4 MB; image and file parts come as base64 inside the body. */
  maxBodyBytes: 32 * 1024 * 1024,
  maxMessages: 2048,
  maxParts: 256,
  maxTools: 256,
  maxStops: 16,
  maxChoices: 16,
  maxTopLogprobs: 20,
  maxEmbeddingInputs: 2048,
} as const;

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });
const imagePart = z.strictObject({
  type: z.literal("image_url"),
  image_url: z.strictObject({ url: z.string(), detail: z.enum(["auto", "low", "high"]).optional() }),
});
const filePart = z.strictObject({
  type: z.literal("file"),
  file: z.strictObject({
    filename: z.string().optional(),
    file_data: z.string().optional(),
    file_id: z.string().optional(),
  }),
});
const audioPart = z.strictObject({
  type: z.literal("input_audio"),
  input_audio: z.strictObject({ data: z.string(), format: z.enum(["wav", "mp3"]) }),
});
const refusalPart = z.strictObject({ type: z.literal("refusal"), refusal: z.string() });
const textContent = z.union([z.string(), z.array(textPart).min(1).max(TEXT_LIMITS.maxParts)]);
const userContent = z.union([
  z.string(),
  z
    .array(z.discriminatedUnion("type", [textPart, imagePart, filePart, audioPart]))
    .min(1)
    .max(TEXT_LIMITS.maxParts),
]);
const name = z.string().max(256).optional();

/** A call of a tool as an assistant's message carries it; `arguments` is the JSON text that the model wrote. */
export const toolCallSchema = z.strictObject({
  id: z.string().min(1).max(512),
  type: z.literal("function"),
  function: z.strictObject({ name: z.string().min(1).max(256), arguments: z.string() }),
});

/** One message of a conversation, in OpenAI's shape. */
export const chatMessageSchema = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content: textContent, name }),
  z.strictObject({ role: z.literal("developer"), content: textContent, name }),
  z.strictObject({ role: z.literal("user"), content: userContent, name }),
  z.strictObject({
    role: z.literal("assistant"),
    content: z
      .union([
        z.string(),
        z
          .array(z.discriminatedUnion("type", [textPart, refusalPart]))
          .min(1)
          .max(TEXT_LIMITS.maxParts),
      ])
      .nullish(),
    refusal: z.string().nullish(),
    tool_calls: z.array(toolCallSchema).min(1).max(TEXT_LIMITS.maxTools).optional(),
    name,
  }),
  z.strictObject({ role: z.literal("tool"), content: textContent, tool_call_id: z.string().min(1).max(512), name }),
  z.strictObject({ role: z.literal("function"), content: z.string().nullable(), name: z.string().min(1).max(256) }),
]);

/** A tool that the model may call: a function with a JSON schema of its arguments. */
export const toolSchema = z.strictObject({
  type: z.literal("function"),
  function: z.strictObject({
    name: z.string().regex(/^[\w-]{1,64}$/, "a tool's name is 1 to 64 letters, digits, _ or -"),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.json()).optional(),
    strict: z.boolean().nullish(),
  }),
});

export const toolChoiceSchema = z.union([
  z.enum(["none", "auto", "required"]),
  z.strictObject({ type: z.literal("function"), function: z.strictObject({ name: z.string().min(1) }) }),
]);

export const responseFormatSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().min(1).max(64).optional(),
      description: z.string().optional(),
      schema: z.record(z.string(), z.json()),
      strict: z.boolean().nullish(),
    }),
  }),
]);

export type ChatMessage = z.infer<typeof chatMessageSchema>;
export type ToolCall = z.infer<typeof toolCallSchema>;
export type Tool = z.infer<typeof toolSchema>;
export type ToolChoice = z.infer<typeof toolChoiceSchema>;
export type ResponseFormat = z.infer<typeof responseFormatSchema>;
