import { z } from "zod";
import { TEXT_LIMITS } from "../text/messages.ts";
import type { ChatMessage, ToolCall } from "../text/messages.ts";
import { parameterInvalid, parameterUnsupported } from "./refuse.ts";

// Items of a Responses request, as clients write them and as they send back what they got.

const id = z.string().max(512).nullish();
const status = z.enum(["in_progress", "completed", "incomplete"]).nullish();
const inputText = z.strictObject({ type: z.literal("input_text"), text: z.string() });
const outputText = z.strictObject({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.json()).nullish(),
  logprobs: z.array(z.json()).nullish(),
  parsed: z.json().optional(),
});
const refusal = z.strictObject({ type: z.literal("refusal"), refusal: z.string() });
const inputImage = z.strictObject({
  type: z.literal("input_image"),
  image_url: z.string().nullish(),
  file_id: z.string().nullish(),
  detail: z.enum(["auto", "low", "high"]).nullish(),
});
const inputFile = z.strictObject({
  type: z.literal("input_file"),
  filename: z.string().nullish(),
  file_data: z.string().nullish(),
  file_id: z.string().nullish(),
  file_url: z.string().nullish(),
});
const inputPart = z.discriminatedUnion("type", [inputText, inputImage, inputFile]);
const parts = <Part extends z.ZodType>(part: Part) =>
  z.union([z.string(), z.array(part).min(1).max(TEXT_LIMITS.maxParts)]);

const messageItem = z.discriminatedUnion("role", [
  z.strictObject({
    type: z.literal("message").optional(),
    role: z.enum(["user"]),
    content: parts(inputPart),
    id,
    status,
  }),
  z.strictObject({
    type: z.literal("message").optional(),
    role: z.enum(["system", "developer"]),
    content: parts(inputText),
    id,
    status,
  }),
  z.strictObject({
    type: z.literal("message").optional(),
    role: z.literal("assistant"),
    content: parts(z.discriminatedUnion("type", [outputText, refusal, inputText])),
    id,
    status,
    phase: z.enum(["commentary", "final_answer"]).nullish(),
  }),
]);
const callItem = z.strictObject({
  type: z.literal("function_call"),
  call_id: z.string().min(1).max(512),
  name: z.string().min(1).max(256),
  arguments: z.string(),
  parsed_arguments: z.json().optional(),
  id,
  status,
});
const callOutputItem = z.strictObject({
  type: z.literal("function_call_output"),
  call_id: z.string().min(1).max(512),
  output: parts(inputPart),
  id,
  status,
});
const reasoningItem = z.strictObject({
  type: z.literal("reasoning"),
  id,
  summary: z.array(z.json()).nullish(),
  content: z.array(z.json()).nullish(),
  encrypted_content: z.null().optional(),
  status,
});

export const inputItemSchema = z.union([messageItem, callItem, callOutputItem, reasoningItem]);
type Item = z.infer<typeof inputItemSchema>;
type InputPart = z.infer<typeof inputPart>;

/**
 * The conversation that a request's instructions and items stand for. Calls that follow each other, or an assistant's
 * text, become one message with several calls, as chat has it. Thoughts of earlier turns, logprobs and annotations that
 * clients send back are not given to engines; their paths are noted.
 */
export function messagesOf(
  instructions: string | undefined,
  input: string | readonly Item[],
): { readonly messages: readonly ChatMessage[]; readonly omitted: string[] } {
  const omitted: string[] = [];
  const messages: ChatMessage[] = instructions === undefined ? [] : [{ role: "system", content: instructions }];
  if (typeof input === "string") {
    messages.push({ role: "user", content: input });
    return { messages, omitted };
  }
  for (const [i, item] of input.entries()) {
    const path = `input[${i}]`;
    if (!("role" in item)) {
      if (item.type === "reasoning") omitted.push(path);
      else if (item.type === "function_call") addCall(messages, item);
      else messages.push({ role: "tool", content: toolText(item.output, path), tool_call_id: item.call_id });
      continue;
    }
    switch (item.role) {
      case "user":
        messages.push({
          role: "user",
          content:
            typeof item.content === "string" ? item.content : item.content.map((part, k) => userPart(part, path, k)),
        });
        break;
      case "system":
      case "developer":
        messages.push({
          role: item.role,
          content:
            typeof item.content === "string"
              ? item.content
              : item.content.map(({ text }) => ({ type: "text" as const, text })),
        });
        break;
      case "assistant":
        if (item.phase) omitted.push(`${path}.phase`);
        messages.push({
          role: "assistant",
          content:
            typeof item.content === "string"
              ? item.content
              : item.content.map((part, k) => {
                  if (part.type === "refusal") return part;
                  if (part.type === "output_text") {
                    if (part.annotations?.length) omitted.push(`${path}.content[${k}].annotations`);
                    if (part.logprobs?.length) omitted.push(`${path}.content[${k}].logprobs`);
                  }
                  return { type: "text" as const, text: part.text };
                }),
        });
        break;
    }
  }
  if (messages.length === (instructions === undefined ? 0 : 1)) throw parameterInvalid("input", "says nothing");
  return { messages, omitted };
}

function addCall(messages: ChatMessage[], item: z.infer<typeof callItem>): void {
  const call: ToolCall = {
    id: item.call_id,
    type: "function",
    function: { name: item.name, arguments: item.arguments },
  };
  const last = messages.at(-1);
  if (last?.role === "assistant")
    messages[messages.length - 1] = { ...last, tool_calls: [...(last.tool_calls ?? []), call] };
  else messages.push({ role: "assistant", content: null, tool_calls: [call] });
}

function toolText(output: string | readonly InputPart[], path: string): string | { type: "text"; text: string }[] {
  if (typeof output === "string") return output;
  return output.map((part, k) => {
    if (part.type !== "input_text")
      throw parameterUnsupported(`${path}.output[${k}]`, "what a tool gives back is text here");
    return { type: "text", text: part.text };
  });
}

type UserPart = Exclude<Extract<ChatMessage, { role: "user" }>["content"], string>[number];

function userPart(part: InputPart, path: string, k: number): UserPart {
  const where = `${path}.content[${k}]`;
  if (part.type === "input_text") return { type: "text", text: part.text };
  if (typeof part.file_id === "string")
    throw parameterUnsupported(`${where}.file_id`, "no files are kept here", "Send the data itself.");
  if (part.type === "input_image") {
    if (typeof part.image_url !== "string") throw parameterInvalid(`${where}.image_url`, "is missing");
    return {
      type: "image_url",
      image_url: { url: part.image_url, ...(part.detail ? { detail: part.detail } : {}) },
    };
  }
  if (typeof part.file_url === "string")
    throw parameterUnsupported(`${where}.file_url`, "files are not fetched here", "Send the data itself.");
  if (typeof part.file_data !== "string") throw parameterInvalid(`${where}.file_data`, "is missing");
  return {
    type: "file",
    file: { file_data: part.file_data, ...(part.filename ? { filename: part.filename } : {}) },
  };
}
