import type { ChoiceDelta, TokenLogprob } from "../text/engine.ts";
import type { Frame } from "../text/execution.ts";
import { createChoiceBook } from "./choices.ts";
import { createCompletionState } from "./completion-state.ts";
import type { JsonObject } from "./read.ts";
import { drained } from "./render-chat.ts";
import type { RenderEnd, RenderOptions, TextRenderer } from "./renderer.ts";
import { createJoiner, soundJson } from "./well-formed.ts";
import type { Joiner } from "./well-formed.ts";

type Progress = { readonly joiner: Joiner; offset: number };

/** Writes an answer of the older completions API: `text_completion`, in one piece or in many. */
export function createCompletionRenderer({ receiptId, createdS, model, parsed }: RenderOptions): TextRenderer {
  const id = `cmpl-${receiptId}`;
  const state = createCompletionState();
  const book = createChoiceBook(parsed.parameters.n ?? 1);
  const progress = new Map<number, Progress>();
  const head = `${JSON.stringify({ id, object: "text_completion", created: createdS, model }).slice(0, -1)},`;
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
    let at = progress.get(index);
    if (!at) {
      at = { joiner: createJoiner(), offset: 0 };
      progress.set(index, at);
    }
    const piece = at.joiner.next(step.delta.content ?? "") + (finish === null ? "" : at.joiner.rest());
    const tokens = step.logprobs?.content;
    if (piece !== "" || tokens) {
      const logprobs = tokens ? olderLogprobs(tokens, at) : null;
      yield frame({ choices: [{ text: piece, index, logprobs, finish_reason: null }] });
    }
    if (finish === null) return;
    const last = { choices: [{ text: "", index, logprobs: null, finish_reason: finish }] };
    if (book.ended(step)) heldFinish = last;
    else yield frame(last);
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
  const body = (): string =>
    soundJson({ id, object: "text_completion", created: createdS, model, ...state.rest() }).text;
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

// The older API has four parallel lists; offsets count characters of the choice's text.
function olderLogprobs(tokens: readonly TokenLogprob[], at: Progress): JsonObject {
  const offsets: number[] = [];
  for (const { token } of tokens) {
    offsets.push(at.offset);
    at.offset += codePoints(token);
  }
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    top_logprobs: tokens.map(({ top_logprobs: most }) => {
      const map = new Map<string, number>();
      // Tokens that differ in bytes may read alike: the likelier one stands for both.
      for (const { token, logprob } of most) {
        map.set(token, Math.max(logprob, map.get(token) ?? -Infinity));
      }
      return Object.fromEntries(map);
    }),
    text_offset: offsets,
  };
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
