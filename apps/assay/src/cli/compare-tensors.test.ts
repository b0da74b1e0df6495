import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Datatype, Tensor } from "@assay/protocol";
import { ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, compareTensors } from "./compare-tensors.ts";

const tensor = (datatype: Datatype, data: ArrayBufferView, shape: readonly number[]): Tensor => ({
  name: "y",
  datatype,
  shape,
  data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});
const floats = (...values: number[]): Tensor => tensor("FP32", new Float32Array(values), [values.length]);
const longs = (...values: bigint[]): Tensor => tensor("INT64", new BigInt64Array(values), [values.length]);

describe("byte for byte", () => {
  test("equal bytes are equal, whatever they mean", () => {
    fc.assert(
      fc.property(fc.array(fc.float()), (values) => {
        expect(compareTensors(floats(...values), floats(...values), "bytes")).toEqual({
          name: "y",
          equal: true,
          largest: "0",
        });
      }),
    );
  });

  test("one other bit is a difference, however small", () => {
    const a = new Float32Array([1]);
    const b = new Float32Array(new Uint32Array([(new Uint32Array(a.buffer)[0] ?? 0) + 1]).buffer);
    expect(compareTensors(tensor("FP32", a, [1]), tensor("FP32", b, [1]), "bytes").equal).toBe(false);
    expect(compareTensors(floats(0), floats(-0), "bytes").equal).toBe(false);
  });
});

describe("within tolerance", () => {
  test("holds up to the tolerance and not beyond it, both ways round", () => {
    fc.assert(
      fc.property(fc.float({ min: Math.fround(0.01), max: 1e6, noNaN: true }), (value) => {
        const near = value * (1 + RELATIVE_TOLERANCE / 2);
        const far = value * (1 + RELATIVE_TOLERANCE * 2) + ABSOLUTE_TOLERANCE * 2;
        for (const [x, y] of [
          [value, near],
          [near, value],
        ] as const)
          expect(compareTensors(floats(x), floats(y), "tolerance").equal).toBe(true);
        expect(compareTensors(floats(value), floats(far), "tolerance").equal).toBe(false);
        expect(compareTensors(floats(far), floats(value), "tolerance").equal).toBe(false);
      }),
    );
  });

  test("the largest difference is told", () => {
    expect(compareTensors(floats(1, 2, 3), floats(1, 2.5, 3.25), "tolerance")).toEqual({
      name: "y",
      equal: false,
      largest: "0.5",
    });
  });

  test.each([
    ["NaN where there was a number", floats(1), floats(Number.NaN)],
    ["a number where there was NaN", floats(Number.NaN), floats(1)],
    ["infinity where there was a number", floats(1), floats(Number.POSITIVE_INFINITY)],
    ["the other infinity", floats(Number.NEGATIVE_INFINITY), floats(Number.POSITIVE_INFINITY)],
    ["an integer that is one more", longs(7n), longs(8n)],
    ["two integers that one number stands for", longs(2n ** 53n), longs(2n ** 53n + 1n)],
    [
      "another text",
      tensor("BYTES", new Uint8Array([1, 0, 0, 0, 65]), [1]),
      tensor("BYTES", new Uint8Array([1, 0, 0, 0, 66]), [1]),
    ],
    ["another truth", tensor("BOOL", new Uint8Array([1]), [1]), tensor("BOOL", new Uint8Array([0]), [1])],
    ["another shape of the same bytes", floats(1, 2), { ...floats(1, 2), shape: [2, 1] }],
    ["another type of the same bytes", floats(1), { ...floats(1), datatype: "INT32" as const }],
    ["no output at all", floats(1), undefined],
  ])("%s is a difference", (_name, signed, found) => {
    expect(compareTensors(signed, found, "tolerance").equal).toBe(false);
    expect(compareTensors(signed, found, "bytes").equal).toBe(false);
  });

  test("NaN and infinity are equal to themselves, beside values that are near", () => {
    const signed = floats(Number.NaN, Number.POSITIVE_INFINITY, 1);
    expect(compareTensors(signed, floats(Number.NaN, Number.POSITIVE_INFINITY, 1.0001), "tolerance").equal).toBe(true);
  });
});
