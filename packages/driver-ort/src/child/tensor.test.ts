import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { engineFault } from "./engine-fault.ts";
import { parseSettings } from "./settings.ts";
import { canonicalNaN, narrowBf16, widenBf16 } from "./tensor.ts";
import { ortError } from "../errors.ts";

describe("BF16", () => {
  test("goes to FP32 and back without a change, for every pattern", () => {
    const all = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer);
    expect(Buffer.from(narrowBf16(widenBf16(all))).equals(all)).toBe(true);
  });

  test("has the values of FP32's upper half", () => {
    const one = new Uint8Array(Uint16Array.of(0x3f80, 0xc2c8).buffer);
    expect([...new Float32Array(widenBf16(one).buffer)]).toEqual([1, -100]);
  });
});

describe("NaN", () => {
  test.each([
    ["FP16", Uint16Array.of(0x7c01, 0xffff, 0x7c00, 0x3c00), Uint16Array.of(0x7e00, 0x7e00, 0x7c00, 0x3c00)],
    ["BF16", Uint16Array.of(0x7f81, 0xffff, 0x7f80, 0x3f80), Uint16Array.of(0x7fc0, 0x7fc0, 0x7f80, 0x3f80)],
    ["INT16", Uint16Array.of(0x7c01, 0xffff), Uint16Array.of(0x7c01, 0xffff)],
  ] as const)("has one pattern in %s", (datatype, given, expected) => {
    const bytes = canonicalNaN(datatype, new Uint8Array(given.slice().buffer));
    expect(Buffer.from(bytes).equals(Buffer.from(expected.buffer))).toBe(true);
  });

  test.each(["FP32", "FP64"] as const)("is the only thing that changes in %s, aligned or not", (datatype) => {
    const size = datatype === "FP32" ? 4 : 8;
    const quiet = datatype === "FP32" ? "0000c07f" : "000000000000f87f";
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: size, maxLength: size })),
        fc.nat({ max: 7 }),
        (values, shift) => {
          const buffer = Buffer.concat([Buffer.alloc(shift), ...values]);
          const out = Buffer.from(canonicalNaN(datatype, new Uint8Array(buffer).subarray(shift)));
          for (const [i, value] of values.entries()) {
            const view = Buffer.from(value);
            const nan = Number.isNaN(size === 4 ? view.readFloatLE() : view.readDoubleLE());
            expect(out.subarray(i * size, (i + 1) * size).toString("hex")).toBe(nan ? quiet : view.toString("hex"));
          }
        },
      ),
    );
  });
});

describe("engine faults", () => {
  test.each([
    [new Error("std::bad_alloc"), "model_out_of_memory", true],
    [new RangeError("Array buffer allocation failed"), "model_out_of_memory", true],
    [new Error("Aborted(). Build with -sASSERTIONS for more info."), "model_aborted", true],
    [new RangeError("Maximum call stack size exceeded"), "model_aborted", true],
    [new Error("Calculation for Tensor storage size overflowed"), "tensor_too_large", false],
    [new Error("Unsupported data type: 16"), "datatype_unsupported", false],
    [new Error("indices element out of data bounds"), "model_failed", false],
    [ortError("model_digest_mismatch", "No."), "model_digest_mismatch", false],
    ["a thrown text", "model_failed", false],
  ])("%s is %s", (error, code, fatal) => {
    expect(engineFault(error, "model_failed")).toMatchObject({ code, fatal });
  });

  test("do not repeat an engine's message at any length", () => {
    expect(engineFault(new Error("x".repeat(10_000)), "model_invalid").hints[0]?.length).toBeLessThan(500);
  });
});

describe("a child's settings", () => {
  const good = {
    profile: "native",
    parentPid: 1,
    maxRssBytes: 1,
    watchdogIntervalMs: 1,
    maxFrameBytes: 1,
    maxTensorBytes: 1,
    maxTensorElements: 1,
  };
  test("are taken when whole", () => {
    expect(parseSettings(JSON.stringify(good))).toEqual(good);
  });
  test.each(Object.keys(good))("are refused without %s", (missing) => {
    expect(() => parseSettings(JSON.stringify({ ...good, [missing]: undefined }))).toThrow(/A child needs/);
  });
  test("are refused when they are no object", () => {
    expect(() => parseSettings("")).toThrow(/JSON/);
    expect(() => parseSettings("[]")).toThrow(/JSON object/);
    expect(() => parseSettings(JSON.stringify({ ...good, maxRssBytes: -1 }))).toThrow(/maxRssBytes/);
  });
});
