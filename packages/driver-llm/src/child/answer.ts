import { createHash } from "node:crypto";
import type { ChoiceDelta, TextFinishReason, TokenLogprob } from "@assay/protocol";
import { createAnswerText } from "../answer-text.ts";
import { llmError } from "../errors.ts";
import type { Matcher } from "../grammar/matcher.ts";
import { largest, logSumExp } from "../sampler.ts";
import type { Draw } from "../sampler.ts";
import { createCallParser } from "../tool-calls.ts";
import type { Generator } from "./model.ts";
import type { Applied } from "./parameters.ts";

/** One answer of a request: its tokens so far, and what they say. */
export type Answer = {
  readonly index: number;
  readonly tokens: readonly number[];
  readonly finish: TextFinishReason | undefined;
  /** The draw of the next token: what may come, and what came. */
  readonly draw: () => Draw;
  /** The token that the sampler chooses from a row of logits, which it changes; then takes it. */
  readonly choose: (row: Float32Array) => ChoiceDelta | undefined;
  /** Takes a token that somebody else chose; `row` is for its log probability. Throws for one that is not allowed. */
  readonly take: (token: number, row?: Float32Array) => ChoiceDelta | undefined;
  readonly release: () => void;
};

/**
 * An empty answer. It ends with a token that ends answers, a stop sequence, the end of its grammar, or `maxTokens`.
 * Ids of calls follow from the prompt, the answer's index and the call's, so that a repetition has the same.
 */
export function createAnswer(
  generator: Generator,
  applied: Applied,
  index: number,
  maxTokens: number,
  promptTokens: readonly number[],
): Answer {
  const { form, stops, sampling } = applied;
  const matcher: Matcher | undefined = generator.grammar(form)?.matcher();
  const text = createAnswerText(stops);
  const calls =
    form.choice === "none" || form.tools.length === 0
      ? undefined
      : createCallParser((call) => callId(promptTokens, sampling.seed, index, call));
  const tokens: number[] = [];
  const counts = new Map<number, number>();
  const counted = sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
  let pending: { readonly entry: TokenLogprob; readonly start: number }[] = [];
  let emitted = 0;
  let finish: TextFinishReason | undefined;

  const mask = (): Uint32Array => {
    if (matcher === undefined) return generator.free;
    const allowed = matcher.allowed();
    if (!matcher.mayEnd()) return allowed;
    const ending = allowed.slice();
    for (const end of generator.ends) ending[end >> 5] = (ending[end >> 5] ?? 0) | (1 << (end & 31));
    return ending;
  };
  const draw = (): Draw => ({ choice: index, position: tokens.length, counts, mask: mask() });

  const delta = (piece: string, reason: TextFinishReason | undefined): ChoiceDelta | undefined => {
    emitted += piece.length;
    const parsed = calls?.push(piece);
    let content = parsed?.content ?? piece;
    if (reason !== undefined) content += calls?.end().content ?? "";
    const called = parsed?.calls ?? [];
    if (content === "" && called.length === 0 && reason === undefined) return undefined;
    const logprobs = applied.logprobs && content !== "" ? pending.filter(({ start }) => start < emitted) : [];
    if (content !== "") pending = pending.filter(({ start }) => start >= emitted);
    return {
      index,
      delta: {
        ...(content === "" ? {} : { content }),
        ...(called.length === 0 ? {} : { tool_calls: called }),
      },
      ...(logprobs.length === 0 ? {} : { logprobs: { content: logprobs.map(({ entry }) => entry) } }),
      finish_reason: reason ?? null,
    };
  };

  const take = (token: number, row?: Float32Array): ChoiceDelta | undefined => {
    if (finish !== undefined) throw llmError("model_failed", "The answer has ended already.");
    const ends = generator.ends.has(token);
    if (ends && matcher !== undefined && !matcher.mayEnd())
      throw llmError("model_failed", "The answer may not end here.");
    if (!ends && matcher?.accept(token) === false)
      throw llmError("model_failed", "The grammar does not allow this token.");
    tokens.push(token);
    if (counted) counts.set(token, (counts.get(token) ?? 0) + 1);
    let piece = "";
    if (ends) finish = "stop";
    else {
      const start = text.decoded();
      const bytes = generator.table.bytes[token] ?? new Uint8Array();
      const pushed = text.push(bytes);
      piece = pushed.text;
      if (row !== undefined && applied.logprobs)
        pending.push({ entry: logprobOf(generator, applied, row, token), start });
      if (pushed.stopped || matcher?.mustEnd() === true) finish = "stop";
      else if (tokens.length >= maxTokens) finish = "length";
    }
    if (finish !== undefined) {
      const rest = text.end();
      piece += rest.text;
      if (rest.stopped) finish = "stop";
      const last = delta(piece, finish);
      matcher?.release();
      if (last === undefined || finish !== "stop" || calls === undefined || calls.complete() === 0) return last;
      finish = "tool_calls";
      return { ...last, finish_reason: finish };
    }
    return delta(piece, undefined);
  };

  return {
    index,
    tokens,
    get finish() {
      return finish;
    },
    draw,
    choose: (row) => {
      // The rules change the logits they work on; log probabilities are of the network's own.
      const own = applied.logprobs ? row.slice() : undefined;
      const token = generator.sampler.choose(row, sampling, draw());
      if (token < 0) throw llmError("model_failed", "No token of the model can continue the answer.");
      return take(token, own);
    },
    take,
    release: () => matcher?.release(),
  };
}

function logprobOf(generator: Generator, applied: Applied, row: Float32Array, token: number): TokenLogprob {
  const sum = logSumExp(row);
  const entry = (id: number): { token: string; logprob: number; bytes: number[] | null } => {
    const bytes = generator.table.bytes[id];
    return {
      token: bytes === undefined ? (generator.table.names[id] ?? "") : Buffer.from(bytes).toString("utf8"),
      // JSON has no infinities: OpenAI states this number for a token that is all but impossible.
      logprob: Math.max(-9999, (row[id] ?? -Infinity) - sum),
      bytes: bytes === undefined ? null : [...bytes],
    };
  };
  return {
    ...entry(token),
    top_logprobs: applied.topLogprobs === 0 ? [] : largest(row, applied.topLogprobs).map(entry),
  };
}

function callId(prompt: readonly number[], seed: number, answer: number, call: number): string {
  const digest = createHash("sha256")
    .update(JSON.stringify([prompt, seed, answer, call]))
    .digest("hex");
  return `call_${digest.slice(0, 24)}`;
}
