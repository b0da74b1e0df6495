import { philox4x32 } from "./philox.ts";

/**
 * How tokens are chosen, version 1. Of the network's logits l, float32 taken as doubles, in this order:
 *
 * 1. penalties: l[t] -= frequency * c[t] + presence * [c[t] > 0], c[t] being how often t was chosen in this answer;
 * 2. bias: l[t] += logit_bias[t];
 * 3. mask: tokens that the grammar does not allow are no candidates; nor are control tokens other than those that end;
 * 4. temperature 0: the candidate with the largest l, the lowest id among equals. Otherwise s[t] = l[t] / temperature;
 * 5. top_p below 1: candidates by s, largest first and lower ids first among equals, until the softmax of s over all
 *    candidates sums to top_p or more; the rest are no candidates;
 * 6. the candidate with the largest s[t] + g[t], the lowest id among equals.
 *
 * g[t] = -ln(-ln((w + 0.5) / 2^32)) is Gumbel noise, so that step 6 draws from the softmax of s. w is word t mod 4 of
 * Philox4x32-10 with the counter (floor(t / 4), position, choice, 1) and the key (seed mod 2^32, floor(seed / 2^32) mod
 * 2^32), in two's complement. `position` counts the tokens of the answer from 0, `choice` the answers of the request.
 *
 * So a seed fixes every draw beforehand, and whoever has the tokens can check each of them without the others.
 */
export const SAMPLER = "gumbel-max/1";

/** Tells these draws from those of any later use of the same generator. */
const DOMAIN = 1;
/** No noise is larger than this or smaller than that: the generator's words have 32 bits. */
const MOST_NOISE = noiseOf(0xffff_ffff);

/** Smallest whole noise that {@link LEAST_WORD} knows. */
const LEAST_NOISE = -4;
/**
 * By whole noise n, from {@link LEAST_NOISE} up: words below this one give less noise than n. Most draws are dismissed
 * by it without a logarithm; it is a little low, so that rounding dismisses none wrongly.
 */
const LEAST_WORD = Float64Array.from(
  { length: Math.ceil(MOST_NOISE) - LEAST_NOISE + 1 },
  (_, index) => Math.floor(2 ** 32 * Math.exp(-Math.exp(-(index + LEAST_NOISE)))) - 2,
);

export type Sampling = {
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Bias by token id. */
  readonly bias: ReadonlyMap<number, number>;
};

/** Where a draw stands: which answer, which token of it, and how often each token was chosen before. */
export type Draw = {
  readonly choice: number;
  readonly position: number;
  readonly counts: ReadonlyMap<number, number>;
  /** One bit for each candidate. Never changed once it was used: what it says is remembered for the next draw. */
  readonly mask: Uint32Array;
};

export function noiseOf(word: number): number {
  return -Math.log(-Math.log((word + 0.5) / 2 ** 32));
}

/** The two key words of a seed, an integer up to 2^53 in size. */
export function seedKey(seed: number): readonly [number, number] {
  const bits = BigInt.asUintN(64, BigInt(seed));
  return [Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
}

/** Buffers that one thread reuses for every draw of a vocabulary. */
export type Sampler = {
  /** The token that the rules choose, or -1 when there is no candidate. `logits` is changed by steps 1 and 2. */
  readonly choose: (logits: Float32Array, sampling: Sampling, draw: Draw) => number;
  /**
   * How far `token` is from being chosen: the smallest number by which every logit may have to change, so that the
   * rules choose it. 0 when they do, Infinity when no such change helps; `expected` is what they choose.
   */
  readonly distance: (
    logits: Float32Array,
    sampling: Sampling,
    draw: Draw,
    token: number,
  ) => { readonly expected: number; readonly distance: number };
};

export function createSampler(vocabularySize: number): Sampler {
  const scores = new Float64Array(vocabularySize);
  const candidates = new Int32Array(vocabularySize);
  const words = new Uint32Array(4);
  // Most draws have the mask of the draw before, and the seed.
  const masked = new Int32Array(vocabularySize);
  let maskedCount = 0;
  let lastMask: Uint32Array | undefined;
  let lastSeed = 0;
  let lastKey = seedKey(lastSeed);

  const keyOf = (seed: number): readonly [number, number] => {
    if (seed !== lastSeed) lastKey = seedKey(seed);
    lastSeed = seed;
    return lastKey;
  };
  const unmask = (mask: Uint32Array): void => {
    if (mask === lastMask) return;
    lastMask = mask;
    maskedCount = 0;
    for (let word = 0; word < mask.length; word++) {
      let bits = mask[word] ?? 0;
      while (bits !== 0) {
        masked[maskedCount++] = (word << 5) + 31 - Math.clz32(bits & -bits);
        bits &= bits - 1;
      }
    }
  };

  /** Steps 1 to 3: candidates and their adjusted logits, which `scores` holds by token. */
  const adjust = (logits: Float32Array, { presencePenalty, frequencyPenalty, bias }: Sampling, draw: Draw): number => {
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [token, count] of draw.counts) {
        logits[token] = (logits[token] ?? 0) - (frequencyPenalty * count + presencePenalty);
      }
    }
    for (const [token, extra] of bias) logits[token] = (logits[token] ?? 0) + extra;
    unmask(draw.mask);
    let count = 0;
    for (let at = 0; at < maskedCount; at++) {
      const token = masked[at] ?? 0;
      const score = logits[token] ?? Number.NaN;
      // A network that gives no number for a token cannot have chosen it.
      if (Number.isNaN(score)) continue;
      candidates[count++] = token;
      scores[token] = score;
    }
    return count;
  };

  const greedy = (count: number): number => {
    let best = -1;
    let most = -Infinity;
    for (let at = 0; at < count; at++) {
      const token = candidates[at] ?? 0;
      const score = scores[token] ?? 0;
      if (best < 0 || score > most) {
        best = token;
        most = score;
      }
    }
    return best;
  };

  /** Step 5 on candidates whose `scores` are divided by the temperature already; gives how many stay. */
  const nucleus = (count: number, topP: number): number => {
    if (topP >= 1) return count;
    const sorted = candidates.subarray(0, count).sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b);
    const most = scores[sorted[0] ?? 0] ?? 0;
    let total = 0;
    for (const token of sorted) total += Math.exp((scores[token] ?? 0) - most);
    let sum = 0;
    let kept = 0;
    while (kept < count) {
      sum += Math.exp((scores[sorted[kept] ?? 0] ?? 0) - most);
      kept++;
      if (sum >= topP * total) break;
    }
    return kept;
  };

  /** Step 6. `key` is the seed's. */
  const noisy = (count: number, seed: number, draw: Draw): { readonly best: number; readonly score: number } => {
    const [key0, key1] = keyOf(seed);
    let best = -1;
    let most = -Infinity;
    let block = -1;
    for (let at = 0; at < count; at++) {
      const token = candidates[at] ?? 0;
      const score = scores[token] ?? 0;
      const needed = most - score;
      // Even the largest noise would not do, so none is drawn.
      if (needed > MOST_NOISE) continue;
      if (token >> 2 !== block) {
        block = token >> 2;
        philox4x32(words, block, draw.position, draw.choice, DOMAIN, key0, key1);
      }
      const word = words[token & 3] ?? 0;
      if (needed > LEAST_NOISE && word < (LEAST_WORD[Math.floor(needed) - LEAST_NOISE] ?? 0)) continue;
      const noisyScore = score + noiseOf(word);
      if (noisyScore > most || (noisyScore === most && token < best)) {
        best = token;
        most = noisyScore;
      }
    }
    return { best, score: most };
  };

  const noiseFor = (token: number, seed: number, draw: Draw): number => {
    const [key0, key1] = keyOf(seed);
    philox4x32(words, token >> 2, draw.position, draw.choice, DOMAIN, key0, key1);
    return noiseOf(words[token & 3] ?? 0);
  };

  const choose: Sampler["choose"] = (logits, sampling, draw) => {
    const count = adjust(logits, sampling, draw);
    if (count === 0) return -1;
    const { temperature } = sampling;
    if (temperature === 0) return greedy(count);
    for (let at = 0; at < count; at++) {
      const token = candidates[at] ?? 0;
      scores[token] = (scores[token] ?? 0) / temperature;
    }
    const kept = nucleus(count, sampling.topP);
    return noisy(kept, sampling.seed, draw).best;
  };

  const distance: Sampler["distance"] = (logits, sampling, draw, token) => {
    const count = adjust(logits, sampling, draw);
    if (count === 0) return { expected: -1, distance: Infinity };
    const { temperature, topP, seed } = sampling;
    const isCandidate =
      ((draw.mask[token >> 5] ?? 0) >>> (token & 31)) & 1 && !Number.isNaN(logits[token] ?? Number.NaN);
    if (temperature === 0) {
      const expected = greedy(count);
      if (expected === token) return { expected, distance: 0 };
      if (!isCandidate) return { expected, distance: Infinity };
      return { expected, distance: ((scores[expected] ?? 0) - (scores[token] ?? 0)) / 2 };
    }
    for (let at = 0; at < count; at++) {
      const other = candidates[at] ?? 0;
      scores[other] = (scores[other] ?? 0) / temperature;
    }
    const kept = nucleus(count, topP);
    const { best } = noisy(kept, seed, draw);
    if (best === token) return { expected: best, distance: 0 };
    if (!isCandidate) return { expected: best, distance: Infinity };
    const own = (scores[token] ?? 0) + noiseFor(token, seed, draw);
    const fits = (change: number): boolean => wins(count, kept, token, own, change / temperature, topP, seed, draw);
    // The smallest sufficient change, found by halving: it is not a closed expression once top_p cuts candidates off.
    let enough = 2 ** -20;
    while (enough < 1024 && !fits(enough)) enough *= 2;
    if (enough >= 1024) return { expected: best, distance: Infinity };
    let tooFew = enough === 2 ** -20 ? 0 : enough / 2;
    for (let round = 0; round < 20; round++) {
      const middle = (enough + tooFew) / 2;
      if (fits(middle)) enough = middle;
      else tooFew = middle;
    }
    return { expected: best, distance: enough };
  };

  /**
   * Whether `token` may be chosen when its score may rise and all others may fall by `change`. Then it is among the
   * kept ones if the candidates that stay above it sum to less than top_p, and it competes only with those that are
   * kept whatever happens.
   */
  const wins = (
    count: number,
    kept: number,
    token: number,
    own: number,
    change: number,
    topP: number,
    seed: number,
    draw: Draw,
  ): boolean => {
    const mine = (scores[token] ?? 0) + change;
    const scoreAt = (at: number): number => scores[candidates[at] ?? 0] ?? 0;
    const most = scoreAt(0);
    let limit = kept;
    if (topP < 1) {
      // Among the kept at best: what stays above falls, what is below rises.
      let above = 0;
      let below = Math.exp(mine - most);
      let all = 0;
      for (let at = 0; at < count; at++) {
        const mass = Math.exp(scoreAt(at) - most);
        all += mass;
        if (candidates[at] === token) continue;
        if (scoreAt(at) - change > mine) above += mass * Math.exp(-change);
        else below += mass * Math.exp(change);
      }
      if (above >= topP * (above + below)) return false;
      // Kept whatever happens: even if all that may come before it rises, and it and the rest fall.
      let before = 0;
      let next = 0;
      for (limit = 0; limit < kept; limit++) {
        while (next < count && scoreAt(next) + change >= scoreAt(limit) - change)
          before += Math.exp(scoreAt(next++) - most);
        const others = (before - Math.exp(scoreAt(limit) - most)) * Math.exp(change);
        const rest = (all - before + Math.exp(scoreAt(limit) - most)) * Math.exp(-change);
        if (others >= topP * (others + rest)) break;
      }
    }
    for (let at = 0; at < limit; at++) {
      const other = candidates[at] ?? 0;
      if (other === token) continue;
      const rival = (scores[other] ?? 0) - change;
      if (rival + MOST_NOISE <= own + change) continue;
      if (rival + noiseFor(other, seed, draw) > own + change) return false;
    }
    return true;
  };

  return { choose, distance };
}

/** Natural logarithms of the softmax of the network's own logits, before any rule: what `logprobs` states. */
export function logSumExp(logits: Float32Array): number {
  let most = -Infinity;
  for (const logit of logits) if (logit > most) most = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return most + Math.log(sum);
}

/** The `count` tokens with the largest logits, largest first, lower ids first among equals. */
export function largest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let token = 0; token < logits.length; token++) {
    const score = logits[token] ?? 0;
    const last = best.at(-1);
    if (best.length === count && last !== undefined && score <= (logits[last] ?? 0)) continue;
    let at = best.length;
    while (at > 0 && (logits[best[at - 1] ?? 0] ?? 0) < score) at--;
    best.splice(at, 0, token);
    if (best.length > count) best.pop();
  }
  return best;
}
