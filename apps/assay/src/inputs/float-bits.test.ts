import fc from "fast-check";
import { expect, test } from "vitest";
import { BFLOAT16, fromSmallFloat, HALF, toSmallFloat } from "./float-bits.ts";

test.each([
  ["half", HALF],
  ["bfloat16", BFLOAT16],
] as const)("every %s that is a number survives the way there and back", (_, format) => {
  let compared = 0;
  for (let bits = 0; bits < 65_536; bits++) {
    const value = fromSmallFloat(bits, format);
    if (Number.isNaN(value)) continue;
    if (toSmallFloat(value, format) !== bits) expect.fail(`bits ${bits} of value ${value} came back differently`);
    compared++;
  }
  // All but the NaN patterns: two signs of 2^m - 1 mantissas.
  expect(compared).toBe(65_536 - 2 * ((1 << format.mantissaBits) - 1));
});

test.each([
  [1, 0x3c00],
  [-2, 0xc000],
  [65_504, 0x7bff],
  [65_519.99, 0x7bff],
  [65_520, 0x7c00],
  [-1e9, 0xfc00],
  [2 ** -24, 0x0001],
  [2 ** -25, 0x0000],
  [2 ** -25 * 1.0001, 0x0001],
  [1 + 2 ** -11, 0x3c00],
  [1 + 3 * 2 ** -11, 0x3c02],
  // Through float32 this would be rounded twice and come out one step lower.
  [1 + 2 ** -11 + 2 ** -40, 0x3c01],
  [-0, 0x8000],
  [Number.NaN, 0x7e00],
  [5e-324, 0x0000],
])("half of %d is 0x%s", (value, bits) => {
  expect(toSmallFloat(value, HALF)).toBe(bits);
});

test("bfloat16 takes the nearest of its neighbours, and the even one of two equally near", () => {
  fc.assert(
    fc.property(
      fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e38), max: Math.fround(1e38) }),
      (value) => {
        const bits = toSmallFloat(value, BFLOAT16);
        const error = Math.abs(fromSmallFloat(bits, BFLOAT16) - value);
        for (const other of [bits - 1, bits + 1]) {
          if (other < 0 || (other & 0x7fff) >= 0x7f80) continue;
          const theirs = Math.abs(fromSmallFloat(other, BFLOAT16) - value);
          expect(error < theirs || (error === theirs && bits % 2 === 0)).toBe(true);
        }
      },
    ),
  );
});
