import { isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, GenerateRequest, TextFinishReason } from "@assay/protocol";
import { llmError } from "../errors.ts";
import type { JsonObject } from "../json.ts";
import { MAX_CHOICES, MAX_DISAGREEMENTS } from "../limits.ts";
import { createAnswer } from "./answer.ts";
import type { Past } from "./decoder.ts";
import { echoOf, prepareGeneration } from "./generation.ts";
import type { Prepared } from "./generation.ts";
import type { Job } from "./job.ts";
import type { Model } from "./model.ts";

type RecheckedAnswer = {
  readonly text: string;
  readonly toolCalls: readonly { readonly id: string; readonly name: string; readonly arguments: string }[];
  /** How the tokens end; undefined when nothing ended them. */
  readonly finish?: TextFinishReason;
};

/** `difference` is null where no change of the logits would do: rules forbid the token. */
type Disagreement = {
  readonly choice: number;
  readonly position: number;
  readonly token: number;
  readonly tokenText: string;
  readonly expected: number;
  readonly expectedText: string;
  readonly difference: number | null;
};

export type Rechecked = {
  readonly positions: number;
  readonly disagreements: readonly Disagreement[];
  readonly disagreementCount: number;
  readonly largestDifference: number | null;
  /** Names of parameters whose stated values do not follow from the request. */
  readonly mismatches: readonly string[];
  readonly answers: readonly RecheckedAnswer[];
  readonly prefillMs: number;
};

export type PreparedRecheck = Prepared & {
  readonly tokens: readonly (readonly number[])[];
  readonly mismatches: readonly string[];
  readonly tolerance: number;
};

/** Reads a request and what was stated about its answer. Throws `parameter_invalid` for what no engine of ours states. */
export function prepareRecheck(
  model: Model,
  request: GenerateRequest,
  tokens: readonly (readonly number[])[],
  stated: JsonObject,
  tolerance: number,
): PreparedRecheck {
  const seed = stated["seed"];
  if (typeof seed !== "number" || !Number.isSafeInteger(seed)) {
    throw llmError("parameter_invalid", "The statement names no seed.", ["seed"]);
  }
  const asked = { ...request, parameters: { ...request.parameters, seed: request.parameters.seed ?? seed } };
  const prepared = prepareGeneration(model, asked);
  const size = prepared.generator.decoder.vocabularySize;
  const fits = tokens.length === prepared.applied.choices && tokens.length <= MAX_CHOICES;
  const known = tokens.every((answer) =>
    answer.every((token) => Number.isInteger(token) && token >= 0 && token < size),
  );
  const short = tokens.every((answer) => answer.length > 0 && answer.length <= model.context - prepared.prompt.length);
  if (!fits || !known || !short) {
    throw llmError(
      "parameter_invalid",
      "The tokens are not one list for each answer, of ids that the model has, within its context.",
      ["tokens"],
    );
  }
  const names = new Set([...Object.keys(stated), ...Object.keys(prepared.stated)]);
  const mismatches = [...names].filter((name) => !same(stated[name], prepared.stated[name]));
  return { ...prepared, tokens, mismatches, tolerance };
}

function same(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  const [left, right] = [a as JsonObject, b as JsonObject];
  return [...keys].every((key) => same(left[key], right[key]));
}

/**
 * Runs the prompt and each answer through the network as they stand, in chunks, and asks of every token how far the
 * sampler is from choosing it. Nothing that a generation left behind is used.
 */
export function createRecheck(id: number, prepared: PreparedRecheck, done: (result: Rechecked) => void): Job {
  const { generator, applied, prompt, maxTokens, tokens, mismatches, tolerance } = prepared;
  const { decoder, sampler, table } = generator;
  const disagreements: Disagreement[] = [];
  let disagreementCount = 0;
  let largest = 0;
  let positions = 0;
  let prefillMs = 0;
  let base: Past = decoder.empty;
  let past: Past | undefined;
  let choice = 0;
  let at = 0;
  const answers = tokens.map((_, index) => {
    const answer = createAnswer(generator, applied, index, maxTokens, prompt);
    const text = applied.echo ? (echoOf(generator, index, prompt).delta.content ?? "") : "";
    return { answer, text, calls: [] as { id: string; name: string; arguments: string }[], lost: false };
  });

  const textOf = (token: number): string => {
    const bytes = table.bytes[token];
    return bytes === undefined ? (table.names[token] ?? "") : Buffer.from(bytes).toString("utf8");
  };
  const keep = (entry: (typeof answers)[number], delta: ChoiceDelta | undefined): void => {
    entry.text += delta?.delta.content ?? "";
    for (const call of delta?.delta.tool_calls ?? []) {
      if (call.id !== undefined)
        entry.calls[call.index] = { id: call.id, name: call.function?.name ?? "", arguments: "" };
      const known = entry.calls[call.index];
      if (known !== undefined) known.arguments += call.function?.arguments ?? "";
    }
  };
  const compare = (entry: (typeof answers)[number], row: Float32Array, token: number): void => {
    const position = entry.answer.tokens.length;
    // After a token that rules forbid, nobody can say what the rules allow.
    if (entry.lost) return;
    positions++;
    const ended = entry.answer.finish !== undefined;
    const { expected, distance } = ended
      ? { expected: -1, distance: Infinity }
      : sampler.distance(row, applied.sampling, entry.answer.draw(), token);
    largest = Math.max(largest, distance);
    if (!(distance <= tolerance)) {
      disagreementCount++;
      if (disagreements.length < MAX_DISAGREEMENTS) {
        disagreements.push({
          choice: entry.answer.index,
          position,
          token,
          tokenText: textOf(token),
          expected,
          expectedText: expected < 0 ? "" : textOf(expected),
          difference: Number.isFinite(distance) ? distance : null,
        });
      }
    }
    try {
      keep(entry, entry.answer.take(token));
    } catch (error) {
      if (!isAssayError(error)) throw error;
      entry.lost = true;
    }
  };
  const timed = async <T>(run: Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await run;
    prefillMs += performance.now() - started;
    return result;
  };
  // Several answers share the prompt's keys and values; its last token runs with each, for the logits behind it.
  const shared = tokens.length > 1 ? prompt.length - 1 : 0;
  const before = prompt.length - 1 - shared;

  return {
    id,
    paused: () => false,
    step: async () => {
      if (base.length < shared) {
        const chunk = prompt.slice(base.length, Math.min(base.length + decoder.maxRecheckChunk, shared));
        base = (await timed(decoder.run(base, chunk))).past;
        return false;
      }
      const chosen = tokens[choice] ?? [];
      const entry = answers[choice];
      if (entry === undefined) return true;
      // The last token is not run: what follows it is not asked.
      const all = [...prompt.slice(shared), ...chosen.slice(0, -1)];
      const fed = all.slice(at, at + decoder.maxRecheckChunk);
      const over = at + fed.length === all.length;
      const from = past ?? base;
      let row: (index: number) => Float32Array;
      if (over) row = await timed(decoder.end(from, fed));
      else ({ past, row } = await timed(decoder.run(from, fed)));
      for (let index = Math.max(0, before - at); index < fed.length; index++) {
        compare(entry, row(index), chosen[at + index - before] ?? 0);
      }
      at += fed.length;
      if (!over) return false;
      past = undefined;
      at = 0;
      choice++;
      if (choice < tokens.length) return false;
      done({
        positions,
        disagreements,
        disagreementCount,
        largestDifference: Number.isFinite(largest) ? largest : null,
        mismatches,
        answers: answers.map(({ answer, text, calls }) => ({
          text,
          toolCalls: calls,
          ...(answer.finish === undefined ? {} : { finish: answer.finish }),
        })),
        prefillMs,
      });
      return true;
    },
    close: () => {
      for (const { answer } of answers) answer.release();
    },
  };
}
