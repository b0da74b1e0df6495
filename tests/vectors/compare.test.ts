import { float32ToFloat16 } from "@assay/onnx";
import { packBytesElements } from "@assay/protocol";
import type { Tensor } from "@assay/protocol";
import { expect, test } from "vitest";
import { differenceOf } from "./compare.ts";

const fp32 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => ({
  name: "y",
  datatype: "FP32",
  shape,
  data: new Uint8Array(Float32Array.from(values).buffer),
});
const bytes = (texts: readonly string[]): Tensor => ({
  name: "y",
  datatype: "BYTES",
  shape: [texts.length],
  data: packBytesElements(texts.map((text) => new TextEncoder().encode(text))),
});
const int32 = (value: number): Tensor => ({
  name: "y",
  datatype: "INT32",
  shape: [1],
  data: new Uint8Array(Int32Array.of(value).buffer),
});

test.each([
  ["equal", fp32([1, -0, 0]), fp32([1, 0, -0])],
  ["a thousandth away", fp32([1000.9]), fp32([1000])],
  ["both not a number", fp32([Number.NaN]), fp32([Number.NaN])],
  ["both infinite", fp32([-Infinity]), fp32([-Infinity])],
  ["the same strings", bytes(["a", ""]), bytes(["a", ""])],
])("%s is no difference", (_, actual, expected) => {
  expect(differenceOf(actual, expected)).toBeUndefined();
});

test.each([
  ["more than a thousandth", fp32([1001.1]), fp32([1000])],
  ["a small number where zero is expected", fp32([1e-6]), fp32([0])],
  ["a number where not a number is expected", fp32([0]), fp32([Number.NaN])],
  ["not a number where a number is expected", fp32([Number.NaN]), fp32([0])],
  ["a large number where an infinity is expected", fp32([3.4e38]), fp32([Infinity])],
  ["the wrong infinity", fp32([-Infinity]), fp32([Infinity])],
  ["an infinity where a number is expected", fp32([Infinity]), fp32([1])],
  ["another shape", fp32([1, 2], [2, 1]), fp32([1, 2])],
  ["another datatype", int32(0), fp32([0])],
  ["an integer one away", int32(1_000_000), int32(1_000_001)],
  ["another string", bytes(["a"]), bytes(["b"])],
  ["a longer string", bytes(["ab"]), bytes(["a"])],
  [
    "a half that differs",
    { ...fp32([1]), datatype: "FP16" as const, data: new Uint8Array(float32ToFloat16(Float32Array.of(1)).buffer) },
    { ...fp32([1]), datatype: "FP16" as const, data: new Uint8Array(float32ToFloat16(Float32Array.of(1.01)).buffer) },
  ],
])("%s is a difference", (_, actual, expected) => {
  expect(differenceOf(actual, expected)).toBeTypeOf("string");
});
