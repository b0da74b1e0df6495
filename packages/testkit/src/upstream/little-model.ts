import type { JsonValue } from "@assay/core";

/**
 * A language model small enough to read: scores are a hash of the prompt, the last token and the position, and every
 * sampling parameter does to them what it says. The same request always has the same answer, so that served wire
 * traffic can be compared, and a parameter that was lost on the way changes nothing where it should.
 */
export type LittleSettings = {
  readonly prompt: string;
  /** Which answer of several this is; they differ unless sampling is greedy. */
  readonly choice: number;
  readonly seed: number;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
};

export type LittleToken = {
  readonly text: string;
  readonly logprob: number;
  /** The likeliest tokens in order, at most {@link LITTLE_TOP}. */
  readonly top: readonly { readonly text: string; readonly logprob: number }[];
};

export type LittleText = { readonly tokens: readonly LittleToken[]; readonly finish: "stop" | "length" };

/** Alternatives that are kept beside each token. */
export const LITTLE_TOP = 20;
/** A prompt with this word is answered without an end, until the reader leaves. */
const ENDLESS = "endless";
/** Most tokens of an answer that ends by itself; {@link ENDLESS} ones end nowhere. */
const MOST_TOKENS = 64;

const WORDS =
  "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ocean plain quarry ridge shore thorn upland vale willow yarrow".split(
    " ",
  );
const END = WORDS.length;

/** Finds the end of a text at once: the sampling of every token, and what cut it. */
export function littleText(settings: LittleSettings): LittleText {
  const tokens: LittleToken[] = [];
  let text = "";
  for (const token of littleTokens(settings)) {
    if (tokens.length === settings.maxTokens) return { tokens, finish: "length" };
    const cut = firstStop(text + token.text, settings.stop);
    if (cut !== -1) return { tokens: keepUntil([...tokens, token], cut), finish: "stop" };
    tokens.push(token);
    text += token.text;
  }
  return { tokens, finish: "stop" };
}

/** The tokens one by one, without stops or a limit. Endless when the prompt asks for it. */
export function* littleTokens(settings: LittleSettings): Generator<LittleToken> {
  const end = settings.prompt.includes(ENDLESS) ? Number.POSITIVE_INFINITY : MOST_TOKENS;
  const random = mulberry32(hash(`${settings.seed}/${settings.choice}`));
  const counts = new Map<number, number>();
  const base = hash(settings.prompt);
  let last = END;
  for (let position = 0; position < end; position++) {
    const scores = WORDS.map((_, id) => {
      const count = counts.get(id) ?? 0;
      const penalty = (count > 0 ? settings.presencePenalty : 0) + count * settings.frequencyPenalty;
      return score(base, last, position, id) + (settings.logitBias.get(id) ?? 0) - penalty;
    });
    scores.push(end === MOST_TOKENS ? position * 0.3 - 4 : -1e9);
    const logprobs = logSoftmax(scores);
    const chosen = sample(scores, settings.temperature, settings.topP, random);
    if (chosen === END) return;
    counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
    yield { text: word(chosen, position), logprob: logprobs[chosen] ?? 0, top: topOf(logprobs, position) };
    last = chosen;
  }
}

/** An instance of a JSON schema: every property, the first of each choice. Enough for what tests ask for. */
export function instanceOf(schema: JsonValue | undefined): JsonValue {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return "amber";
  const read = schema as { readonly [key: string]: JsonValue };
  if (Array.isArray(read["enum"])) return (read["enum"] as readonly JsonValue[])[0] ?? null;
  switch (read["type"]) {
    case "object":
      return Object.fromEntries(
        Object.entries((read["properties"] ?? {}) as Record<string, JsonValue>).map(([key, value]) => [
          key,
          instanceOf(value),
        ]),
      );
    case "array":
      return [instanceOf(read["items"])];
    case "integer":
      return 7;
    case "number":
      return 7.5;
    case "boolean":
      return true;
    default:
      return "amber";
  }
}

/** A unit vector of `dimensions` numbers that is the text's own. */
export function littleVector(text: string, dimensions: number): number[] {
  const random = mulberry32(hash(text));
  const raw = Array.from({ length: dimensions }, () => random() - 0.5);
  const norm = Math.sqrt(raw.reduce((sum, x) => sum + x * x, 0));
  return raw.map((x) => x / norm);
}

/** Tokens of a text as this model counts them: its words. */
export function littleCount(text: string): number {
  return text.split(/\s+/).filter((part) => part !== "").length;
}

function word(id: number, position: number): string {
  return `${position === 0 ? "" : " "}${WORDS[id] ?? ""}`;
}

function firstStop(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at !== -1);
  return found.length === 0 ? -1 : Math.min(...found);
}

function keepUntil(tokens: readonly LittleToken[], cut: number): LittleToken[] {
  const out: LittleToken[] = [];
  let length = 0;
  for (const token of tokens) {
    const text = token.text.slice(0, Math.max(0, cut - length));
    if (text === "") break;
    out.push({ ...token, text });
    length += token.text.length;
  }
  return out;
}

function sample(scores: readonly number[], temperature: number, topP: number, random: () => number): number {
  const order = scores.map((_, id) => id).sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));
  if (temperature === 0) return order[0] ?? END;
  const logprobs = logSoftmax(scores.map((value) => value / temperature));
  let mass = 0;
  const kept: number[] = [];
  for (const id of order) {
    kept.push(id);
    mass += Math.exp(logprobs[id] ?? 0);
    if (mass >= topP) break;
  }
  let at = random() * mass;
  for (const id of kept) {
    at -= Math.exp(logprobs[id] ?? 0);
    if (at <= 0) return id;
  }
  return kept[0] ?? END;
}

function topOf(logprobs: readonly number[], position: number): { text: string; logprob: number }[] {
  return logprobs
    .map((logprob, id) => ({ text: id === END ? "" : word(id, position), logprob }))
    .sort((a, b) => b.logprob - a.logprob)
    .slice(0, LITTLE_TOP);
}

function logSoftmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const total = Math.log(scores.reduce((sum, value) => sum + Math.exp(value - most), 0));
  return scores.map((value) => value - most - total);
}

function score(base: number, last: number, position: number, id: number): number {
  return (mix(base ^ Math.imul(last + 1, 0x9e3779b1) ^ Math.imul(position + 1, 0x85ebca6b) ^ id) / 2 ** 32) * 4;
}

/** FNV-1a over UTF-16 code units. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return mix(value);
}

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    return mix(state) / 2 ** 32;
  };
}
