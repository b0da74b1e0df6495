import { base64ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { TEXT_FINISH_REASONS, TEXT_LIMITS, toolCallSchema } from "@assay/protocol";
import { z } from "zod";
import { read } from "../documents.ts";
import { clientError } from "../errors.ts";
import { isObject } from "./json.ts";
import type { JsonObject } from "./json.ts";
import type { ChatAnswer, CompletionAnswer, EmbeddingAnswer, Receipted, TextDelta } from "./requests.ts";

// What this client reads of answers. Members that a newer gateway adds are passed over, and stay in `body`.

const count = z.int().min(0);
const finish = z.enum(TEXT_FINISH_REASONS);
const index = z.int().min(0).max(TEXT_LIMITS.maxChoices);
const usage = z.looseObject({ prompt_tokens: count, completion_tokens: count, total_tokens: count });
const message = z.object({
  role: z.literal("assistant"),
  content: z.string().nullable(),
  refusal: z.string().nullish(),
  reasoning_content: z.string().optional(),
  tool_calls: z.array(toolCallSchema).max(TEXT_LIMITS.maxTools).optional(),
});
const named = { id: z.string(), model: z.string(), assay: z.looseObject({ receipt_id: z.string() }) };
const chatBody = z.object({
  ...named,
  choices: z.array(z.object({ index, message, finish_reason: finish })).min(1),
  usage,
});
const completionBody = z.object({
  ...named,
  choices: z.array(z.object({ index, text: z.string(), finish_reason: finish })).min(1),
  usage,
});
const embeddingBody = z.object({
  model: z.string(),
  assay: named.assay,
  data: z.array(z.object({ index: count, embedding: z.union([z.string(), z.array(z.number())]) })),
  usage: z.object({ prompt_tokens: count, total_tokens: count }),
});
const listedModels = z.object({
  data: z.array(z.object({ id: z.string(), created: z.number(), owned_by: z.string() })),
});

/** A conversation's answer out of its body. Throws `response_malformed`. */
export function chatAnswer(body: JsonObject, receipted: Receipted): ChatAnswer {
  const answer = read(chatBody, body, "answer");
  requireId(answer.assay.receipt_id, receipted);
  const choices = answer.choices.map(({ index, message, finish_reason: finishReason }) => {
    const { refusal, reasoning_content: reasoning, tool_calls: calls } = message;
    return {
      index,
      finishReason,
      message: {
        role: message.role,
        content: message.content,
        ...(refusal === undefined ? {} : { refusal }),
        ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
        ...(calls === undefined ? {} : { tool_calls: calls }),
      },
    };
  });
  const [first] = choices;
  if (!first) throw malformed("it has no choice");
  return {
    ...receipted,
    id: answer.id,
    model: answer.model,
    text: first.message.content ?? "",
    toolCalls: first.message.tool_calls ?? [],
    message: first.message,
    finishReason: first.finishReason,
    choices,
    usage: answer.usage,
    body,
  };
}

/** A completion's answer out of its body. Throws `response_malformed`. */
export function completionAnswer(body: JsonObject, receipted: Receipted): CompletionAnswer {
  const answer = read(completionBody, body, "answer");
  requireId(answer.assay.receipt_id, receipted);
  const choices = answer.choices.map(({ index, text, finish_reason: finishReason }) => ({ index, text, finishReason }));
  const [first] = choices;
  if (!first) throw malformed("it has no choice");
  const { id, model } = answer;
  return {
    ...receipted,
    id,
    model,
    text: first.text,
    finishReason: first.finishReason,
    choices,
    usage: answer.usage,
    body,
  };
}

/** Vectors out of their body, whichever way they are written. Throws `response_malformed`. */
export function embeddingAnswer(body: JsonObject, receipted: Receipted): EmbeddingAnswer {
  const answer = read(embeddingBody, body, "answer");
  requireId(answer.assay.receipt_id, receipted);
  const vectors = answer.data.map(({ index, embedding }, position) => {
    if (index !== position) throw malformed("its vectors are out of order");
    return typeof embedding === "string" ? floatsOf(embedding) : Float32Array.from(embedding);
  });
  return { ...receipted, model: answer.model, vectors, usage: answer.usage };
}

/** A model as OpenAI's interface lists it. */
export type TextModel = { readonly id: string; readonly createdS: number; readonly ownedBy: string };

/** Models out of the list of `/v1/models`. Throws `response_malformed`. */
export function textModels(body: JsonValue): readonly TextModel[] {
  return read(listedModels, body, "list of models").data.map(({ id, created, owned_by: ownedBy }) => ({
    id,
    createdS: created,
    ownedBy,
  }));
}

/** The steps that one frame holds. Throws `response_malformed`. */
export function deltasOf(frame: JsonObject): readonly TextDelta[] {
  const { choices } = frame;
  if (!Array.isArray(choices)) throw malformed("a frame has no choices");
  return (choices as readonly JsonValue[]).map((choice) => {
    if (!isObject(choice)) throw malformed("a choice is no object");
    const at = index.safeParse(choice["index"]);
    const reason = finish.nullable().safeParse(choice["finish_reason"] ?? null);
    if (!at.success || !reason.success)
      throw malformed("a choice has no index, or ends for a reason that there is not");
    const { delta, text } = choice;
    const step = isObject(delta) ? delta : typeof text === "string" ? { content: text } : {};
    const content = step["content"];
    return {
      choice: at.data,
      text: typeof content === "string" ? content : "",
      delta: step,
      finishReason: reason.data,
    };
  });
}

function requireId(id: string, { receiptId }: Receipted): void {
  if (id !== receiptId) throw malformed("it names another receipt than its headers");
}

function floatsOf(text: string): Float32Array {
  const bytes = base64ToBytes(text);
  if (bytes.length % 4 !== 0) throw malformed("a vector is no list of float32");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(i * 4, true));
}

function malformed(why: string): Error {
  return clientError("response_malformed", `The gateway's answer is not one: ${why}.`);
}
