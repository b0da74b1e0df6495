import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { resample } from "./resample.ts";

function sine(hz: number, rateHz: number, length: number): Float64Array {
  return Float64Array.from({ length }, (_, index) => Math.sin((2 * Math.PI * hz * index) / rateHz));
}

/** Largest distance from the true tone, away from the ends where the silence outside is heard. */
function worst(found: Float32Array, hz: number, rateHz: number): number {
  const margin = 64;
  let most = 0;
  for (let index = margin; index < found.length - margin; index++)
    most = Math.max(most, Math.abs((found[index] ?? 0) - Math.sin((2 * Math.PI * hz * index) / rateHz)));
  return most;
}

describe("resampling", () => {
  test.each([
    [44_100, 16_000],
    [48_000, 16_000],
    [22_050, 16_000],
    [8_000, 16_000],
    [11_025, 16_000],
    [96_000, 16_000],
    [16_000, 44_100],
  ])("keeps a 1 kHz tone's shape from %i Hz to %i Hz", (from, to) => {
    const found = resample(sine(1_000, from, from / 5), from, to, "audio");
    expect(found.length).toBe(Math.ceil(to / 5));
    expect(worst(found, 1_000, to)).toBeLessThan(5e-4);
  });

  test("keeps tones to 6.5 kHz and removes what 16 kHz cannot hold", () => {
    expect(worst(resample(sine(6_500, 48_000, 9_600), 48_000, 16_000, "audio"), 6_500, 16_000)).toBeLessThan(2e-3);
    for (const hz of [9_000, 12_000, 20_000]) {
      const found = resample(sine(hz, 48_000, 9_600), 48_000, 16_000, "audio").subarray(64, -64);
      expect(Math.max(...found.map(Math.abs))).toBeLessThan(1e-3);
    }
  });

  test("keeps a constant exactly as loud", () => {
    const found = resample(new Float64Array(4_410).fill(0.25), 44_100, 16_000, "audio").subarray(64, -64);
    for (const value of found) expect(value).toBeCloseTo(0.25, 7);
  });

  test("does nothing but round between equal rates", () => {
    expect(resample(Float64Array.of(0.1, -1.5), 16_000, 16_000, "audio")).toEqual(Float32Array.of(0.1, -1.5));
  });

  test("gives the bytes it gave before", () => {
    // Input without Math.sin, so that this digest depends on nothing but IEEE arithmetic.
    const samples = Float64Array.from({ length: 2_000 }, (_, index) => (((index * 7_919) % 2_003) - 1_001) / 1_024);
    const digest = createHash("sha256")
      .update(resample(samples, 22_050, 16_000, "audio"))
      .digest("hex");
    expect(digest).toBe("8eed89c5db414bd3e4e66cc1bb11c1a85b937857d68f38e6d1f2c1b9c9e996b8");
  });

  test("takes a single sample", () => {
    expect(resample(Float64Array.of(1), 48_000, 16_000, "audio")).toHaveLength(1);
    expect(resample(Float64Array.of(1), 8_000, 16_000, "audio")).toHaveLength(2);
  });

  test("refuses a ratio whose filter would be enormous", () => {
    expect(() => resample(new Float64Array(10), 383_993, 381_991, "audio")).toThrow(
      expect.objectContaining({ code: "input_format_unsupported" }),
    );
  });
});
