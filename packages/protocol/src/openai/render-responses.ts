import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, TextUsage, ToolCallDelta } from "../text/engine.ts";
import type { Frame } from "../text/execution.ts";
import { createChoiceBook } from "./choices.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";
import { drained } from "./render-chat.ts";
import type { RenderEnd, RenderOptions, TextRenderer } from "./renderer.ts";
import { createResponsesState } from "./responses-state.ts";
import { createJoiner, soundJson } from "./well-formed.ts";
import type { Joiner } from "./well-formed.ts";

type Mutable = { [key: string]: JsonValue };
type TextKind = "output_text" | "refusal" | "reasoning_text";
/** The item that text goes to, with its open part. */
type Open = {
  readonly itemId: string;
  readonly outputIndex: number;
  readonly item: "message" | "reasoning";
  readonly parts: Mutable[];
  kind: TextKind;
  joiner: Joiner;
};
type Call = { readonly outputIndex: number; readonly item: Mutable; readonly joiner: Joiner };

/** Writes an answer of the Responses API: its object, or its events in the order that OpenAI's have. */
export function createResponsesRenderer({
  receiptId,
  itemSecret,
  createdS,
  model,
  parsed,
}: RenderOptions): TextRenderer {
  const idOf = (prefix: string, index: number): string =>
    `${prefix}_${receiptId}_${index}${itemSecret === undefined ? "" : `_${itemSecret}`}`;
  const state = createResponsesState();
  const book = createChoiceBook(1);
  const base = baseOf(`resp_${receiptId}`, createdS, model, parsed.repeated ?? {});
  const calls = new Map<number, Call>();
  const finished: JsonObject[] = [];
  let open: Open | undefined;
  let sequence = 0;
  let items = 0;
  let begun = false;
  let complete = false;

  const emit = (type: string, members: JsonObject): Frame => {
    const event: JsonObject = { type, sequence_number: sequence++, ...members };
    if (!parsed.stream) {
      state.take(event);
      return { data: "" };
    }
    const { value, text } = soundJson(event);
    state.take(value);
    return { event: type, data: text };
  };

  const start = function* (): Generator<Frame> {
    if (begun) return;
    begun = true;
    const response = { ...base, status: "in_progress", output: [] };
    yield emit("response.created", { response });
    yield emit("response.in_progress", { response });
  };

  const openItem = function* (item: Open["item"], kind: TextKind): Generator<Frame, Open> {
    if (open && open.item !== item) yield* close("completed");
    if (open && open.kind !== kind) {
      yield* closePart(open);
      open.kind = kind;
      open.joiner = createJoiner();
      yield* openPart(open);
    }
    if (open) return open;
    const outputIndex = items++;
    const itemId = idOf(item === "message" ? "msg" : "rs", outputIndex);
    const opened: Open = { itemId, outputIndex, item, parts: [], kind, joiner: createJoiner() };
    open = opened;
    yield emit("response.output_item.added", { output_index: outputIndex, item: itemOf(opened, "in_progress") });
    yield* openPart(opened);
    return opened;
  };
  const openPart = function* (at: Open): Generator<Frame> {
    at.parts.push(emptyPart(at.kind));
    yield emit("response.content_part.added", { ...partPlace(at), part: emptyPart(at.kind) });
  };
  const closePart = function* (at: Open): Generator<Frame> {
    const left = at.joiner.rest();
    if (left !== "") yield* write(at, left, undefined);
    const part = at.parts.at(-1) ?? {};
    const text = part[at.kind === "refusal" ? "refusal" : "text"] ?? "";
    if (at.kind === "output_text")
      yield emit("response.output_text.done", { ...partPlace(at), text, logprobs: part["logprobs"] ?? [] });
    else if (at.kind === "refusal") yield emit("response.refusal.done", { ...partPlace(at), refusal: text });
    else yield emit("response.reasoning_text.done", { ...partPlace(at), text });
    yield emit("response.content_part.done", { ...partPlace(at), part });
  };
  const write = function* (at: Open, delta: string, logprobs: JsonValue | undefined): Generator<Frame> {
    const part = at.parts.at(-1);
    if (!part) return;
    const name = at.kind === "refusal" ? "refusal" : "text";
    part[name] = `${part[name] as string}${delta}`;
    if (at.kind === "output_text") {
      if (Array.isArray(logprobs)) {
        const list = part["logprobs"] as JsonValue[];
        for (const item of logprobs as readonly JsonValue[]) list.push(item);
      }
      yield emit("response.output_text.delta", { ...partPlace(at), delta, logprobs: logprobs ?? [] });
    } else if (at.kind === "refusal") yield emit("response.refusal.delta", { ...partPlace(at), delta });
    else yield emit("response.reasoning_text.delta", { ...partPlace(at), delta });
  };
  const close = function* (status: "completed" | "incomplete"): Generator<Frame> {
    if (!open) return;
    const at = open;
    yield* closePart(at);
    open = undefined;
    const item = itemOf(at, status);
    finished[at.outputIndex] = item;
    yield emit("response.output_item.done", { output_index: at.outputIndex, item });
  };

  const tool = function* (step: ToolCallDelta): Generator<Frame> {
    let call = calls.get(step.index);
    if (!call) {
      yield* close("completed");
      const outputIndex = items++;
      const item: Mutable = {
        id: idOf("fc", outputIndex),
        type: "function_call",
        status: "in_progress",
        call_id: step.id === undefined || step.id === "" ? `call_${receiptId}_${step.index}` : step.id,
        name: step.function?.name ?? "",
        arguments: "",
      };
      call = { outputIndex, item, joiner: createJoiner() };
      calls.set(step.index, call);
      yield emit("response.output_item.added", { output_index: outputIndex, item: { ...item } });
    } else if (step.function?.name) call.item["name"] = step.function.name;
    const delta = call.joiner.next(step.function?.arguments ?? "");
    if (delta !== "") yield* writeCall(call, delta);
  };
  const writeCall = function* (call: Call, delta: string): Generator<Frame> {
    call.item["arguments"] = `${call.item["arguments"] as string}${delta}`;
    yield emit("response.function_call_arguments.delta", {
      item_id: call.item["id"] ?? "",
      output_index: call.outputIndex,
      delta,
    });
  };
  const closeCalls = function* (status: "completed" | "incomplete"): Generator<Frame> {
    for (const call of calls.values()) {
      const left = call.joiner.rest();
      if (left !== "") yield* writeCall(call, left);
      const { id = "", name = "", arguments: text = "" } = call.item;
      const place = { item_id: id, output_index: call.outputIndex };
      yield emit("response.function_call_arguments.done", { ...place, name, arguments: text });
      const item = { ...call.item, status };
      finished[call.outputIndex] = item;
      yield emit("response.output_item.done", { output_index: call.outputIndex, item });
    }
  };

  const image = function* (source: string): Generator<Frame> {
    yield* close("completed");
    const outputIndex = items++;
    const id = idOf("ig", outputIndex);
    // A data URI's payload is what OpenAI gives; an address is given as it is.
    const result = /^data:[^,]*;base64,/.test(source) ? source.slice(source.indexOf(",") + 1) : source;
    const item = { id, type: "image_generation_call", status: "completed", result };
    finished[outputIndex] = item;
    yield emit("response.output_item.added", {
      output_index: outputIndex,
      item: { id, type: "image_generation_call", status: "in_progress", result: null },
    });
    yield emit("response.output_item.done", { output_index: outputIndex, item });
  };
  const annotate = function* (annotations: JsonValue): Generator<Frame> {
    if (!Array.isArray(annotations)) return;
    const at = yield* openItem("message", "output_text");
    const part = at.parts.at(-1);
    for (const given of annotations as readonly JsonValue[]) {
      const list = [...((part?.["annotations"] ?? []) as JsonValue[])];
      const annotation = flattened(given);
      if (part) part["annotations"] = [...list, annotation];
      yield emit("response.output_text.annotation.added", {
        ...partPlace(at),
        annotation_index: list.length,
        annotation,
      });
    }
  };

  const steps = function* (step: ChoiceDelta): Generator<Frame> {
    book.check(step);
    yield* start();
    const { content, refusal, reasoning_content: thought, tool_calls: made, images, annotations } = step.delta;
    if (thought) yield* text("reasoning", "reasoning_text", thought, undefined);
    const logprobs = step.logprobs?.content as JsonValue | undefined;
    if (content || Array.isArray(logprobs)) yield* text("message", "output_text", content ?? "", logprobs);
    if (refusal) yield* text("message", "refusal", refusal, undefined);
    if (annotations !== undefined) yield* annotate(annotations);
    for (const call of made ?? []) yield* tool(call);
    for (const source of images ?? []) yield* image(source);
    if (step.finish_reason === null) return;
    if (items === 0) yield* openItem("message", "output_text");
    book.ended(step);
    const status = cutShort(step.finish_reason) ? "incomplete" : "completed";
    yield* close(status);
    yield* closeCalls(status);
  };
  const text = function* (
    item: Open["item"],
    kind: TextKind,
    piece: string,
    logprobs: JsonValue | undefined,
  ): Generator<Frame> {
    const at = yield* openItem(item, kind);
    const delta = at.joiner.next(piece);
    if (delta !== "" || Array.isArray(logprobs)) yield* write(at, delta, logprobs);
  };

  const ends = function* ({ usage, tokens }: RenderEnd): Generator<Frame> {
    book.requireAll();
    const reason = book.finish();
    const incomplete = reason === "length" ? "max_output_tokens" : reason === "content_filter" ? reason : undefined;
    const response: JsonObject = {
      ...base,
      status: incomplete === undefined ? "completed" : "incomplete",
      incomplete_details: incomplete === undefined ? null : { reason: incomplete },
      output: finished,
      usage: usageOf(usage),
      assay: { receipt_id: receiptId, ...(tokens ? { tokens } : {}) },
    };
    const last = emit(incomplete === undefined ? "response.completed" : "response.incomplete", { response });
    complete = true;
    yield { ...last, final: true };
  };
  const body = (): string => soundJson(state.response()).text;
  const whole = function* (end: RenderEnd): Generator<Frame> {
    drained(ends(end));
    yield { data: body(), final: true };
  };
  return {
    delta: parsed.stream ? steps : (step) => drained(steps(step)),
    end: parsed.stream ? ends : whole,
    body,
    finish: () => (complete ? book.finish() : undefined),
  };
}

function cutShort(reason: string): boolean {
  return reason === "length" || reason === "content_filter";
}

function emptyPart(kind: TextKind): Mutable {
  if (kind === "refusal") return { type: kind, refusal: "" };
  return kind === "reasoning_text" ? { type: kind, text: "" } : { type: kind, text: "", annotations: [], logprobs: [] };
}

function partPlace(at: Open): { item_id: string; output_index: number; content_index: number } {
  return { item_id: at.itemId, output_index: at.outputIndex, content_index: at.parts.length - 1 };
}

function itemOf(at: Open, status: string): JsonObject {
  const content = at.parts.map((part) => ({ ...part }));
  return at.item === "message"
    ? { id: at.itemId, type: "message", status, role: "assistant", content }
    : { id: at.itemId, type: "reasoning", status, summary: [], content };
}

// Chat nests an annotation's members under its type; this API has them beside it.
function flattened(annotation: JsonValue): JsonValue {
  if (!isObject(annotation) || typeof annotation["type"] !== "string") return annotation;
  const { [annotation["type"]]: nested, ...rest } = annotation;
  return isObject(nested) ? { ...rest, ...nested } : annotation;
}

function usageOf(usage: TextUsage): JsonObject {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0 },
    total_tokens: usage.total_tokens,
    ...(usage.estimated === undefined ? {} : { estimated: usage.estimated }),
  };
}

function baseOf(id: string, createdS: number, model: string, repeated: JsonObject): JsonObject {
  const { text, reasoning } = repeated as { readonly text?: JsonValue; readonly reasoning?: JsonValue };
  return {
    id,
    object: "response",
    created_at: createdS,
    background: false,
    error: null,
    incomplete_details: null,
    instructions: null,
    max_output_tokens: null,
    metadata: {},
    model,
    parallel_tool_calls: true,
    previous_response_id: null,
    store: false,
    temperature: null,
    tool_choice: "auto",
    tools: [],
    top_p: null,
    truncation: "disabled",
    ...repeated,
    reasoning: { effort: null, summary: null, ...(isObject(reasoning) ? reasoning : {}) },
    text: isObject(text) ? { ...text, format: text["format"] ?? { type: "text" } } : { format: { type: "text" } },
  };
}
