import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./half.ts";

const every = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

/** The value of a half by the definition of IEEE 754 binary16, in exact arithmetic. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The nearest of the finite candidates, ties to the even pattern: rounding by search, not by shifting. */
function nearestHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  let low = 0;
  let high = 0x7bff;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (halfValue(middle) <= size) low = middle;
    else high = middle - 1;
  }
  if (low === 0x7bff) return sign | low;
  const below = size - halfValue(low);
  const above = halfValue(low + 1) - size;
  return sign | (below < above || (below === above && low % 2 === 0) ? low : low + 1);
}

describe("binary16", () => {
  test("every pattern widens to its value and narrows back to itself, NaN payloads included", () => {
    const wide = float16ToFloat32(every);
    for (const bits of every) expect(Object.is(wide[bits], halfValue(bits))).toBe(true);
    expect(float32ToFloat16(wide)).toEqual(every);
  });

  test("narrowing rounds to nearest, ties to even", () => {
    const wide = float16ToFloat32(every.subarray(0, 0x7c00));
    const cases: number[] = [65519.996, 65520, 1e9, -1e9, 2 ** -25, 2 ** -25 * 1.0000001, 2 ** -26, -0, 1e-45];
    for (let i = 0; i + 1 < wide.length; i += 7) cases.push(((wide[i] ?? 0) + (wide[i + 1] ?? 0)) / 2);
    const floats = Float32Array.from(cases);
    const halves = float32ToFloat16(floats);
    floats.forEach((value, i) => expect(halves[i]).toBe(nearestHalf(value)));
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        expect(float32ToFloat16(Float32Array.of(value))[0]).toBe(nearestHalf(value));
      }),
      { numRuns: 2000 },
    );
  });

  test("a NaN whose payload is cut off stays a NaN", () => {
    const sneaky = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001).buffer);
    expect([...float32ToFloat16(sneaky)]).toEqual([0x7e00, 0xfe00]);
  });
});

describe("bfloat16", () => {
  test("every pattern comes back", () => {
    expect(float32ToBfloat16(bfloat16ToFloat32(every))).toEqual(every);
  });

  test("narrowing rounds to nearest, ties to even", () => {
    const words = Uint32Array.of(0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x7f7fffff, 0x80000001, 0x80008000);
    const rounded = [0x3f80, 0x3f82, 0x3f80, 0x3f81, 0x7f80, 0x8000, 0x8000];
    expect([...float32ToBfloat16(new Float32Array(words.buffer))]).toEqual(rounded);
  });

  test("a NaN whose payload is cut off stays a NaN", () => {
    const sneaky = new Float32Array(Uint32Array.of(0x7f800001, 0xff80ffff, 0x7fffffff).buffer);
    expect([...float32ToBfloat16(sneaky)]).toEqual([0x7fc0, 0xffc0, 0x7fff]);
  });
});
