import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, ToolCallDelta } from "../text/engine.ts";
import type { Frame } from "../text/execution.ts";
import { createChatState } from "./chat-state.ts";
import { createChoiceBook } from "./choices.ts";
import type { JsonObject } from "./read.ts";
import type { RenderEnd, RenderOptions, TextRenderer } from "./renderer.ts";
import { createJoiner, soundJson } from "./well-formed.ts";
import type { Joiner } from "./well-formed.ts";

type Mutable = { [key: string]: JsonValue };
type Joiners = { readonly content: Joiner; readonly reasoning: Joiner; readonly refusal: Joiner };

/** Writes a conversation's answer: `chat.completion` or its chunks. */
export function createChatRenderer({ receiptId, createdS, model, parsed }: RenderOptions): TextRenderer {
  const id = `chatcmpl-${receiptId}`;
  const state = createChatState();
  const book = createChoiceBook(parsed.parameters.n ?? 1);
  const begun = new Map<number, Joiners>();
  const tools = new Map<string, Joiner>();
  const head = `${JSON.stringify({ id, object: "chat.completion.chunk", created: createdS, model }).slice(0, -1)},`;
  let heldFinish: JsonObject | undefined;
  let complete = false;

  const frame = (members: JsonObject): Frame => {
    if (!parsed.stream) {
      state.take(members);
      return { data: "" };
    }
    const { value, text } = soundJson(members);
    state.take(value);
    return { data: head + text.slice(1) };
  };

  const steps = function* (step: ChoiceDelta): Generator<Frame> {
    book.check(step);
    const { index, finish_reason: finish } = step;
    const first = !begun.has(index);
    let joiners = begun.get(index);
    if (!joiners) {
      joiners = { content: createJoiner(), reasoning: createJoiner(), refusal: createJoiner() };
      begun.set(index, joiners);
    }
    const made = deltaOf(step, joiners, (call) => toolCall(call, index));
    const delta = first ? opened(made) : made;
    const { logprobs } = step;
    if (Object.keys(delta).length > 0 || logprobs !== undefined) {
      const choice: Mutable = { index, delta, finish_reason: null };
      if (logprobs !== undefined) choice["logprobs"] = logprobs;
      yield frame({ choices: [choice] });
    }
    if (finish === null) return;
    const last = { choices: [{ index, delta: {}, finish_reason: finish }] };
    if (book.ended(step)) heldFinish = last;
    else yield frame(last);
  };

  const toolCall = (call: ToolCallDelta, choice: number): JsonObject => {
    const key = `${choice}/${call.index}`;
    let joiner = tools.get(key);
    const opened = joiner === undefined;
    if (!joiner) {
      joiner = createJoiner();
      tools.set(key, joiner);
    }
    const text = joiner.next(call.function?.arguments ?? "");
    if (!opened) {
      const named = call.function?.name;
      return {
        index: call.index,
        function: { ...(named === undefined || named === "" ? {} : { name: named }), arguments: text },
      };
    }
    return {
      index: call.index,
      id: call.id === undefined || call.id === "" ? `call_${receiptId}_${choice}_${call.index}` : call.id,
      type: "function",
      function: { name: call.function?.name ?? "", arguments: text },
    };
  };

  const ends = function* ({ usage, tokens }: RenderEnd): Generator<Frame> {
    book.requireAll();
    const tail: JsonObject = {
      usage,
      assay: { receipt_id: receiptId, ...(tokens ? { tokens } : {}) },
    };
    if (parsed.includeUsage && heldFinish) yield { ...frame(heldFinish), final: true };
    const last = frame({ ...(parsed.includeUsage ? { choices: [] } : heldFinish), ...tail });
    complete = true;
    yield { ...last, final: true };
  };

  // Asked for twice, by the frame and by the receipt: a complete answer grows no more.
  let text: string | undefined;
  const body = (): string => {
    if (text !== undefined) return text;
    const written = soundJson({ id, object: "chat.completion", created: createdS, model, ...state.rest() }).text;
    if (complete) text = written;
    return written;
  };
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

/** Runs the writer for its effect on the logical answer: without a stream nobody reads its frames. */
export function drained(frames: Iterable<Frame>): readonly Frame[] {
  for (const _ of frames);
  return [];
}

// The first chunk of a choice says who speaks; without text, but with something else, its content is null, as OpenAI
// has it.
function opened(delta: JsonObject): JsonObject {
  const { content = Object.keys(delta).length === 0 ? "" : null, ...others } = delta;
  return { role: "assistant", content, ...others };
}

function deltaOf(step: ChoiceDelta, joiners: Joiners, call: (call: ToolCallDelta) => JsonObject): Mutable {
  const { content, refusal, reasoning_content: reasoning, tool_calls: calls, images, annotations } = step.delta;
  const out: Mutable = {};
  const ending = step.finish_reason !== null;
  const text = joined(joiners.content, content, ending);
  const thought = joined(joiners.reasoning, reasoning, ending);
  const refused = joined(joiners.refusal, refusal, ending);
  if (text !== undefined) out["content"] = text;
  if (refused !== undefined) out["refusal"] = refused;
  if (thought !== undefined) out["reasoning_content"] = thought;
  if (calls && calls.length > 0) out["tool_calls"] = calls.map(call);
  if (images && images.length > 0) out["images"] = images;
  if (annotations !== undefined) out["annotations"] = annotations;
  return out;
}

function joined(joiner: Joiner, piece: string | undefined, ending: boolean): string | undefined {
  if (piece === undefined && !ending) return undefined;
  const text = (piece === undefined ? "" : joiner.next(piece)) + (ending ? joiner.rest() : "");
  return text === "" ? undefined : text;
}
