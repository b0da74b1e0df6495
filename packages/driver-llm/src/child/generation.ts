import { randomInt } from "node:crypto";
import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, GenerateRequest, TextUsage } from "@assay/protocol";
import { llmError } from "../errors.ts";
import { createAnswer } from "./answer.ts";
import type { Answer } from "./answer.ts";
import type { Past } from "./decoder.ts";
import type { Job } from "./job.ts";
import type { Generator, Model } from "./model.ts";
import { readParameters, statedParameters } from "./parameters.ts";
import type { Applied } from "./parameters.ts";
import { promptTokens } from "./prompt.ts";

/** A request that is ready to run: everything that can be refused was. */
export type Prepared = {
  readonly generator: Generator;
  readonly applied: Applied;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  readonly stated: Readonly<Record<string, JsonValue>>;
};

/** Seeds that are drawn stay well inside what every JSON reader keeps exactly. */
const SEEDS = 2 ** 47;

/** Renders, splits, compiles and checks a request. Throws the codes that `LanguageEngine.check` names. */
export function prepareGeneration(model: Model, request: GenerateRequest): Prepared {
  const { generator } = model;
  if (generator === undefined)
    throw llmError("kind_unsupported", "The model turns texts into vectors and writes none.");
  const applied = readParameters(request, generator.defaults, generator.decoder.vocabularySize, () => randomInt(SEEDS));
  const prompt = promptTokens(model, request, applied.form);
  generator.grammar(applied.form);
  const maxTokens = Math.min(applied.maxTokens ?? Infinity, model.context - prompt.length);
  return { generator, applied, prompt, maxTokens, stated: statedParameters(applied, maxTokens) };
}

/** What a generation sends to its consumer. */
export type Outlet = {
  /** Room for more events; without any the generation pauses. */
  readonly room: () => boolean;
  readonly started: (facts: {
    readonly stated: Prepared["stated"];
    readonly promptTokens: number;
    readonly cachedTokens: number;
  }) => void;
  /** New events, and the tokens chosen since the last call as pairs of choice and token. */
  readonly events: (deltas: readonly ChoiceDelta[], tokens: readonly number[]) => void;
  readonly done: (outcome: { readonly usage: TextUsage; readonly engineMs: number }) => void;
};

/** Runs a prepared request: its prompt in chunks, then a token of one answer at a time. */
export function createGeneration(id: number, prepared: Prepared, outlet: Outlet): Job {
  const { generator, applied, prompt, maxTokens, stated } = prepared;
  const { decoder, cache } = generator;
  const started = performance.now();
  let past: Past | undefined;
  let cached = 0;
  let answers: { readonly answer: Answer; past: Past }[] = [];
  let next = 0;
  let unsent: number[] = [];

  const send = (deltas: readonly ChoiceDelta[]): void => {
    if (deltas.length === 0) return;
    outlet.events(deltas, unsent);
    unsent = [];
  };
  const note = (answer: Answer, delta: ChoiceDelta | undefined): ChoiceDelta[] => {
    unsent.push(answer.index, answer.tokens.at(-1) ?? 0);
    return delta === undefined ? [] : [delta];
  };
  const finish = (): void => {
    const completion = answers.reduce((sum, { answer }) => sum + answer.tokens.length, 0);
    const usage: TextUsage = {
      prompt_tokens: prompt.length,
      completion_tokens: completion,
      total_tokens: prompt.length + completion,
      prompt_tokens_details: { cached_tokens: cached },
    };
    outlet.done({ usage, engineMs: performance.now() - started });
  };

  const prefill = async (): Promise<boolean> => {
    if (past === undefined) {
      past = cache.find(prompt) ?? decoder.empty;
      cached = past.length;
      outlet.started({ stated, promptTokens: prompt.length, cachedTokens: cached });
    }
    const chunk = prompt.slice(past.length, past.length + decoder.maxChunk);
    const result = await decoder.run(past, chunk);
    past = result.past;
    if (past.length < prompt.length) return false;
    cache.put(prompt, past);
    const first = result.row(chunk.length - 1);
    const deltas: ChoiceDelta[] = [];
    for (let index = 0; index < applied.choices; index++) {
      const answer = createAnswer(generator, applied, index, maxTokens, prompt);
      answers.push({ answer, past });
      if (applied.echo) deltas.push(echoOf(generator, index, prompt));
      deltas.push(...note(answer, answer.choose(applied.choices === 1 ? first : first.slice())));
    }
    send(deltas);
    return answers.every(({ answer }) => answer.finish !== undefined);
  };

  const decode = async (): Promise<boolean> => {
    // Answers of one request take turns, so that none of them runs ahead of the others.
    let turn = answers[next % answers.length];
    while (turn?.answer.finish !== undefined) turn = answers[++next % answers.length];
    next++;
    if (turn === undefined) return true;
    const { answer } = turn;
    const result = await decoder.run(turn.past, [answer.tokens.at(-1) ?? 0]);
    turn.past = result.past;
    send(note(answer, answer.choose(result.row(0))));
    if (answer.finish === undefined) return false;
    cache.put([...prompt, ...answer.tokens.slice(0, -1)], turn.past);
    return answers.every((other) => other.answer.finish !== undefined);
  };

  return {
    id,
    paused: () => !outlet.room(),
    step: async () => {
      const over = await (answers.length === 0 ? prefill() : decode());
      if (over) finish();
      return over;
    },
    close: () => {
      for (const { answer } of answers) answer.release();
      answers = [];
    },
  };
}

/** The prompt as an answer's beginning, for those that repeat it. */
export function echoOf(generator: Generator, index: number, prompt: readonly number[]): ChoiceDelta {
  const bytes = prompt.map((token) => generator.table.bytes[token] ?? new Uint8Array());
  return { index, delta: { content: Buffer.concat(bytes).toString("utf8") }, finish_reason: null };
}
