import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { TEXT_LIMITS } from "../text/messages.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";

/** One choice of a conversation as far as its frames went. */
type Choice = {
  content: string | null;
  refusal: string | null;
  reasoning: string | undefined;
  readonly tools: Map<number, { id: string; name: string; arguments: string }>;
  readonly images: JsonValue[];
  readonly annotations: JsonValue[];
  logprobs: { content: JsonValue[] | null; refusal: JsonValue[] | null } | undefined;
  finish: JsonValue;
};

/** The logical answer of a conversation, grown from the objects of its frames by writer and reader alike. */
export type ChatState = {
  /** Takes `choices`, `usage` and `assay` of one frame. Throws `response_malformed`. */
  readonly take: (frame: JsonObject) => void;
  /** Members after `model`: `choices`, and `usage` and `assay` when they came. */
  readonly rest: () => JsonObject;
};

export function createChatState(): ChatState {
  const choices = new Map<number, Choice>();
  let usage: JsonValue | undefined;
  let assay: JsonValue | undefined;
  const choiceAt = (index: JsonValue | undefined): Choice => {
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= TEXT_LIMITS.maxChoices)
      throw malformed("a choice has no index");
    let choice = choices.get(index);
    if (!choice) {
      choice = {
        content: null,
        refusal: null,
        reasoning: undefined,
        tools: new Map(),
        images: [],
        annotations: [],
        logprobs: undefined,
        finish: null,
      };
      choices.set(index, choice);
    }
    return choice;
  };
  return {
    take(frame) {
      const list = frame["choices"];
      if (!Array.isArray(list)) throw malformed("a frame has no choices");
      for (const item of list as readonly JsonValue[]) {
        if (!isObject(item)) throw malformed("a choice is no object");
        const choice = choiceAt(item["index"]);
        if (isObject(item["delta"])) takeDelta(choice, item["delta"]);
        if (isObject(item["logprobs"])) takeLogprobs(choice, item["logprobs"]);
        if (item["finish_reason"] !== undefined && item["finish_reason"] !== null)
          choice.finish = item["finish_reason"];
      }
      if (frame["usage"] !== undefined) ({ usage } = frame);
      if (frame["assay"] !== undefined) ({ assay } = frame);
    },
    rest() {
      const sorted = [...choices].sort(([a], [b]) => a - b);
      return {
        choices: sorted.map(([index, choice]) => ({
          index,
          message: messageOf(choice),
          logprobs: choice.logprobs ? copied(choice.logprobs) : null,
          finish_reason: choice.finish,
        })),
        ...(usage === undefined ? {} : { usage }),
        ...(assay === undefined ? {} : { assay }),
      };
    },
  };
}

function takeDelta(choice: Choice, delta: JsonObject): void {
  const { content, refusal, reasoning_content: reasoning, tool_calls: calls, images, annotations } = delta;
  if (typeof content === "string") choice.content = (choice.content ?? "") + content;
  if (typeof refusal === "string") choice.refusal = (choice.refusal ?? "") + refusal;
  if (typeof reasoning === "string") choice.reasoning = (choice.reasoning ?? "") + reasoning;
  if (Array.isArray(images)) choice.images.push(...(images as readonly JsonValue[]));
  if (Array.isArray(annotations)) choice.annotations.push(...(annotations as readonly JsonValue[]));
  if (!Array.isArray(calls)) return;
  for (const call of calls as readonly JsonValue[]) {
    const at = isObject(call) ? call["index"] : undefined;
    if (!isObject(call) || typeof at !== "number" || !Number.isInteger(at) || at < 0 || at >= TEXT_LIMITS.maxTools)
      throw malformed("a call of a tool has no index");
    let tool = choice.tools.get(at);
    if (!tool) {
      tool = { id: "", name: "", arguments: "" };
      choice.tools.set(at, tool);
    }
    if (typeof call["id"] === "string" && call["id"] !== "") tool.id = call["id"];
    const named = call["function"];
    if (!isObject(named)) continue;
    if (typeof named["name"] === "string" && named["name"] !== "") tool.name = named["name"];
    if (typeof named["arguments"] === "string") tool.arguments += named["arguments"];
  }
}

function takeLogprobs(choice: Choice, logprobs: JsonObject): void {
  choice.logprobs ??= { content: null, refusal: null };
  for (const side of ["content", "refusal"] as const) {
    const more = logprobs[side];
    if (!Array.isArray(more)) continue;
    const list = (choice.logprobs[side] ??= []);
    for (const item of more as readonly JsonValue[]) list.push(item);
  }
}

// What was given out stays as it was when more frames come.
function copied({ content, refusal }: NonNullable<Choice["logprobs"]>): JsonObject {
  return { content: content && [...content], refusal: refusal && [...refusal] };
}

function messageOf(choice: Choice): JsonObject {
  const tools = [...choice.tools].sort(([a], [b]) => a - b);
  return {
    role: "assistant",
    content: choice.content,
    refusal: choice.refusal,
    ...(choice.reasoning === undefined ? {} : { reasoning_content: choice.reasoning }),
    ...(tools.length === 0
      ? {}
      : {
          tool_calls: tools.map(([, tool]) => ({
            id: tool.id,
            type: "function",
            function: { name: tool.name, arguments: tool.arguments },
          })),
        }),
    ...(choice.images.length === 0 ? {} : { images: [...choice.images] }),
    ...(choice.annotations.length === 0 ? {} : { annotations: [...choice.annotations] }),
  };
}

/** The refusal of frames or a body that are no answer of this API. */
export function malformed(why: string, cause?: unknown): AssayError<"response_malformed"> {
  return new AssayError(
    "response_malformed",
    `The answer cannot be read: ${why}.`,
    cause === undefined ? {} : { cause },
  );
}
