import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { philox4x32 } from "./philox.ts";
import { createSampler, largest, logSumExp, noiseOf, seedKey } from "./sampler.ts";
import type { Draw, Sampling } from "./sampler.ts";

const PLAIN: Sampling = {
  temperature: 1,
  topP: 1,
  seed: 7,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: new Map(),
};
const all = (size: number): Uint32Array => {
  const mask = new Uint32Array((size + 31) >> 5);
  for (let token = 0; token < size; token++) mask[token >> 5] = (mask[token >> 5] ?? 0) | (1 << (token & 31));
  return mask;
};
const draw = (size: number, position = 0, choice = 0): Draw => ({
  choice,
  position,
  counts: new Map(),
  mask: all(size),
});
const words = (counter: readonly number[], key: readonly number[]): string[] => {
  const out = new Uint32Array(4);
  const [c0 = 0, c1 = 0, c2 = 0, c3 = 0] = counter;
  philox4x32(out, c0, c1, c2, c3, key[0] ?? 0, key[1] ?? 0);
  return [...out].map((word) => word.toString(16).padStart(8, "0"));
};

describe("philox4x32-10", () => {
  // The known answers that its authors publish with the generator.
  test("gives the authors' known answers", () => {
    const ones = 0xffff_ffff;
    expect(words([0, 0, 0, 0], [0, 0])).toEqual(["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
    expect(words([ones, ones, ones, ones], [ones, ones])).toEqual(["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]);
    expect(words([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])).toEqual([
      "d16cfe09",
      "94fdcceb",
      "5001e420",
      "24126ea1",
    ]);
  });
});

describe("the sampler", () => {
  test("fixed draws, which no version of this profile may change", () => {
    const sampler = createSampler(10);
    const logits = (): Float32Array => Float32Array.from([1, 2, 3, 4, 5, 5, 4, 3, 2, 1]);
    const tokens = (sampling: Sampling, choice: number): number[] =>
      Array.from({ length: 16 }, (_, position) => sampler.choose(logits(), sampling, draw(10, position, choice)));
    expect(tokens(PLAIN, 0)).toMatchInlineSnapshot(`
      [
        4,
        4,
        2,
        7,
        5,
        4,
        6,
        4,
        7,
        8,
        4,
        5,
        4,
        4,
        5,
        5,
      ]
    `);
    expect(tokens(PLAIN, 1)).toMatchInlineSnapshot(`
      [
        4,
        4,
        4,
        4,
        4,
        6,
        5,
        4,
        4,
        5,
        7,
        5,
        4,
        4,
        3,
        3,
      ]
    `);
    expect(tokens({ ...PLAIN, seed: -1 }, 0)).toMatchInlineSnapshot(`
      [
        5,
        3,
        4,
        5,
        5,
        4,
        3,
        4,
        3,
        5,
        2,
        5,
        4,
        5,
        5,
        5,
      ]
    `);
    expect(tokens({ ...PLAIN, seed: Number.MAX_SAFE_INTEGER, topP: 0.5 }, 0)).toMatchInlineSnapshot(`
      [
        4,
        5,
        5,
        5,
        4,
        4,
        4,
        5,
        5,
        4,
        4,
        5,
        5,
        4,
        5,
        4,
      ]
    `);
    expect(seedKey(-1)).toEqual([0xffff_ffff, 0xffff_ffff]);
    expect(seedKey(2 ** 32 + 5)).toEqual([5, 1]);
  });

  test("draws from the softmax", () => {
    const sampler = createSampler(4);
    const counts = [0, 0, 0, 0];
    const rounds = 20_000;
    for (let position = 0; position < rounds; position++) {
      const token = sampler.choose(Float32Array.from([0, 1, 2, -Infinity]), PLAIN, draw(4, position));
      counts[token] = (counts[token] ?? 0) + 1;
    }
    const total = 1 + Math.E + Math.E ** 2;
    // Five standard deviations of a share of 20,000 draws are below 0.018; the draws are fixed, so this never wavers.
    expect((counts[0] ?? 0) / rounds).toBeCloseTo(1 / total, 1.7);
    expect((counts[1] ?? 0) / rounds).toBeCloseTo(Math.E / total, 1.7);
    expect((counts[2] ?? 0) / rounds).toBeCloseTo(Math.E ** 2 / total, 1.7);
    expect(counts[3]).toBe(0);
  });

  test("is greedy at temperature 0, lowest id among equals", () => {
    const sampler = createSampler(5);
    expect(sampler.choose(Float32Array.from([0, 3, 1, 3, Number.NaN]), { ...PLAIN, temperature: 0 }, draw(5))).toBe(1);
    expect(
      sampler.choose(Float32Array.from([0, -1]), { ...PLAIN, temperature: 0 }, { ...draw(5), mask: Uint32Array.of(0) }),
    ).toBe(-1);
  });

  test("applies penalties, bias and mask before it chooses", () => {
    const sampler = createSampler(4);
    const greedy = { ...PLAIN, temperature: 0 };
    const logits = (): Float32Array => Float32Array.from([4, 3.5, 3, 0]);
    const counts = new Map([[0, 2]]);
    expect(sampler.choose(logits(), { ...greedy, presencePenalty: 0.6 }, { ...draw(4), counts })).toBe(1);
    expect(sampler.choose(logits(), { ...greedy, presencePenalty: 0.4 }, { ...draw(4), counts })).toBe(0);
    expect(sampler.choose(logits(), { ...greedy, frequencyPenalty: 0.3 }, { ...draw(4), counts })).toBe(1);
    expect(sampler.choose(logits(), { ...greedy, bias: new Map([[3, 100]]) }, draw(4))).toBe(3);
    expect(
      sampler.choose(logits(), { ...greedy, bias: new Map([[3, 100]]) }, { ...draw(4), mask: Uint32Array.of(6) }),
    ).toBe(1);
  });

  test("top_p keeps the fewest that reach it", () => {
    const sampler = createSampler(3);
    const chosen = new Set<number>();
    for (let position = 0; position < 500; position++) {
      const logits = Float32Array.from([Math.log(0.2), Math.log(0.5), Math.log(0.3)]);
      chosen.add(sampler.choose(logits, { ...PLAIN, topP: 0.7 }, draw(3, position)));
    }
    expect([...chosen].sort((a, b) => a - b)).toEqual([1, 2]);
  });

  test("distance is 0 for what is chosen, and a change of that size makes any candidate the choice", () => {
    const size = 40;
    const sampler = createSampler(size);
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -6, max: 6, noNaN: true }), { minLength: size, maxLength: size }),
        fc.constantFrom(0, 0.3, 1, 2),
        fc.constantFrom(0.2, 0.9, 1),
        fc.integer(),
        fc.nat(size - 1),
        (values, temperature, topP, seed, token) => {
          const sampling = { ...PLAIN, temperature, topP, seed };
          const chosen = sampler.choose(Float32Array.from(values), sampling, draw(size));
          expect(sampler.distance(Float32Array.from(values), sampling, draw(size), chosen)).toEqual({
            expected: chosen,
            distance: 0,
          });
          const other = sampler.distance(Float32Array.from(values), sampling, draw(size), token);
          expect(other.expected).toBe(chosen);
          if (token === chosen) return;
          expect(other.distance).toBeGreaterThanOrEqual(0);
          if (topP < 1 || !Number.isFinite(other.distance)) return;
          const changed = values.map((value, index) => value + (index === token ? 1 : -1) * (other.distance + 1e-4));
          expect(sampler.choose(Float32Array.from(changed), sampling, draw(size))).toBe(token);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("noise of one network's logits explains a choice of another's within that noise", () => {
    const size = 40;
    const sampler = createSampler(size);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.float({ min: -6, max: 6, noNaN: true }), fc.float({ min: -1, max: 1, noNaN: true })), {
          minLength: size,
          maxLength: size,
        }),
        fc.constantFrom(0, 0.5, 1),
        fc.constantFrom(0.5, 0.95, 1),
        fc.integer(),
        (values, temperature, topP, seed) => {
          const sampling = { ...PLAIN, temperature, topP, seed };
          const noise = 0.01;
          const theirs = Float32Array.from(values.map(([value, shift]) => value + shift * noise));
          const token = sampler.choose(theirs, sampling, draw(size));
          const ours = Float32Array.from(values.map(([value]) => value));
          expect(sampler.distance(ours, sampling, draw(size), token).distance).toBeLessThanOrEqual(noise + 1e-4);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("what the mask forbids is infinitely far", () => {
    const sampler = createSampler(4);
    const masked = { ...draw(4), mask: Uint32Array.of(3) };
    for (const temperature of [0, 1]) {
      expect(sampler.distance(Float32Array.of(1, 2, 3, 4), { ...PLAIN, temperature }, masked, 3).distance).toBe(
        Infinity,
      );
    }
  });

  test("logprobs are those of the network", () => {
    const logits = Float32Array.from([Math.log(0.25), Math.log(0.5), Math.log(0.25)]);
    expect(logSumExp(logits)).toBeCloseTo(0, 6);
    expect(largest(logits, 2)).toEqual([1, 0]);
    expect(largest(logits, 20)).toEqual([1, 0, 2]);
  });

  test("noise is finite at both ends", () => {
    expect(noiseOf(0)).toBeGreaterThan(-4);
    expect(noiseOf(0xffff_ffff)).toBeLessThan(23);
  });
});
