import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import type { Datatype, Tensor } from "../tensor.ts";
import { bytesElements, DATATYPES, elementSize, packBytesElements, typedData } from "./datatypes.ts";
import { joinBody } from "./encode.ts";
import { parseInferRequest, encodeInferRequest } from "./request.ts";
import { encodeInferResponse, parseInferResponse } from "./response.ts";
import { inferRequestSchema, inferResponseSchema } from "./schemas.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** The first element, which the test says is there. */
function first<T>(list: readonly T[] | undefined): T {
  const [element] = list ?? [];
  if (element === undefined) throw new Error("the list is empty");
  return element;
}

const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
const countOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function tensorOf(datatype: Datatype, textOnly: boolean): fc.Arbitrary<Tensor> {
  return shapes.chain((shape) => {
    const count = countOf(shape);
    const data: fc.Arbitrary<Uint8Array> =
      datatype === "BYTES"
        ? fc
            .array(
              textOnly
                ? fc.string({ unit: "binary", maxLength: 6 }).map((text) => utf8(text.replace(/\p{Surrogate}/gu, "?")))
                : fc.uint8Array({ maxLength: 6 }),
              { minLength: count, maxLength: count },
            )
            .map(packBytesElements)
        : datatype === "BOOL"
          ? fc.array(fc.constantFrom(0, 1), { minLength: count, maxLength: count }).map((bits) => Uint8Array.from(bits))
          : fc.uint8Array({ minLength: count * elementSize(datatype), maxLength: count * elementSize(datatype) });
    return data.map((bytes) => ({ name: 'x\u00e9"\n', datatype, shape, data: bytes.slice() }));
  });
}

/** A copy whose floats are finite, since JSON has no others. */
function finite(tensor: Tensor): Tensor {
  const data = tensor.data.slice();
  const values = typedData({ ...tensor, data });
  if (values instanceof Float32Array || values instanceof Float64Array)
    for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) values[i] = -0;
  return { ...tensor, data };
}

describe("round trips", () => {
  test.each(DATATYPES)("%s in binary form, bit for bit", (datatype) => {
    fc.assert(
      fc.property(fc.array(tensorOf(datatype, false), { minLength: 1, maxLength: 4 }), (list) => {
        const tensors = list.map((tensor, i) => ({ ...tensor, name: `${tensor.name}${i}` }));
        const request = encodeInferRequest({ id: "7", inputs: tensors });
        expect((request.headerLength ?? 1) % 8).toBe(0);
        const read = parseInferRequest(joinBody(request), request.headerLength);
        expect(read.inputs).toEqual(tensors);
        expect(read.binaryOutput).toBe(true);
        const outputs = tensors.map((tensor) => ({ tensor, binary: true }));
        const response = encodeInferResponse({ modelName: "m", outputs });
        expect(parseInferResponse(joinBody(response), response.headerLength).outputs).toEqual(tensors);
      }),
      { numRuns: 60 },
    );
  });

  test.each(DATATYPES.filter((datatype) => datatype !== "FP16" && datatype !== "BF16"))(
    "%s in JSON form, bit for bit, and as the platform reads it",
    (datatype) => {
      fc.assert(
        fc.property(tensorOf(datatype, true).map(finite), (tensor) => {
          const request = encodeInferRequest({ inputs: [tensor], binary: false });
          expect(request.headerLength).toBeUndefined();
          expect(parseInferRequest(joinBody(request), undefined).inputs).toEqual([tensor]);
          inferRequestSchema.parse(JSON.parse(textOf(joinBody(request))));
          const response = encodeInferResponse({ modelName: "m", outputs: [{ tensor, binary: false }] });
          expect(parseInferResponse(joinBody(response), undefined).outputs).toEqual([tensor]);
          inferResponseSchema.parse(JSON.parse(textOf(joinBody(response))));
        }),
        { numRuns: 100 },
      );
    },
  );

  test("binary and JSON outputs in one answer, in any order", () => {
    const tensors: Tensor[] = [
      { name: "a", datatype: "UINT8", shape: [3], data: Uint8Array.of(1, 2, 3) },
      { name: "b", datatype: "BYTES", shape: [], data: packBytesElements([utf8("\u00fcber \u{1f600}")]) },
      { name: "c", datatype: "FP32", shape: [0, 2], data: new Uint8Array() },
      { name: "d", datatype: "INT64", shape: [1], data: new Uint8Array(BigInt64Array.of(-(2n ** 63n)).buffer) },
    ];
    const outputs = tensors.map((tensor, i) => ({ tensor, binary: i % 2 === 0 }));
    const parts = { modelName: "m", modelVersion: "3", id: "x", parameters: { note: "n", ok: true, k: 1 }, outputs };
    const body = encodeInferResponse(parts);
    const read = parseInferResponse(joinBody(body), body.headerLength);
    expect(read).toEqual({
      modelName: "m",
      modelVersion: "3",
      id: "x",
      parameters: { note: "n", ok: true, k: 1 },
      outputs: tensors,
    });
    expect(textOf(joinBody(body))).toContain('"data":[-9223372036854775808]');
  });

  test("binary tensors are views on the body, and typed views copy only when they must", () => {
    const data = new Uint8Array(Float64Array.of(1, 2).buffer);
    const encoded = encodeInferRequest({ inputs: [{ name: "x", datatype: "FP64", shape: [2], data }] });
    const body = joinBody(encoded);
    const tensor = first(parseInferRequest(body, encoded.headerLength).inputs);
    expect(tensor.data.buffer).toBe(body.buffer);
    expect(typedData(tensor).buffer).toBe(body.buffer);
    const shifted = new Uint8Array(body.length + 1);
    shifted.set(body, 1);
    const odd = first(parseInferRequest(shifted.subarray(1), encoded.headerLength).inputs);
    expect(odd.data.buffer).toBe(shifted.buffer);
    expect(typedData(odd).buffer).not.toBe(shifted.buffer);
    expect(typedData(odd)).toEqual(Float64Array.of(1, 2));
  });
});

describe("JSON numbers", () => {
  const floats = (lexemes: readonly string[], datatype: "FP32" | "FP64"): number[] => {
    const body = utf8(
      `{"inputs":[{"name":"x","shape":[${lexemes.length}],"datatype":"${datatype}","data":[${lexemes.join(" , ")}]}]}`,
    );
    return [...(typedData(first(parseInferRequest(body, undefined).inputs)) as Float32Array | Float64Array)];
  };
  const lexeme = fc
    .tuple(
      fc.boolean(),
      fc.oneof(fc.constant("0"), fc.bigInt({ min: 1n, max: 10n ** 25n }).map(String)),
      fc.option(
        fc.string({
          unit: fc.constantFrom("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
          minLength: 1,
          maxLength: 25,
        }),
      ),
      fc.option(fc.integer({ min: -60, max: 12 })),
    )
    .map(([sign, whole, part, exponent]) => {
      const fraction = part === null ? "" : `.${part}`;
      const power = exponent === null ? "" : `${exponent % 2 === 0 ? "e" : "E"}${exponent > 5 ? "+" : ""}${exponent}`;
      return `${sign ? "-" : ""}${whole}${fraction}${power}`;
    });

  test("are what the platform's own reading gives, for both widths", () => {
    fc.assert(
      fc.property(lexeme, (text) => {
        const value = Number(text);
        expect(Object.is(floats([text], "FP64")[0], value)).toBe(true);
        expect(Object.is(floats([text], "FP32")[0], Math.fround(value))).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });

  test("at and beside the middles between two float32 values round as the nearest double does", () => {
    const scratch = new Float32Array(1);
    const bits = new Uint32Array(scratch.buffer);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0x7f7ffffe }), fc.integer({ min: -3, max: 3 }), (word, nudge) => {
        bits[0] = word;
        const low = first([...scratch]);
        bits[0] = word + 1;
        const middle = (low + first([...scratch])) / 2;
        const value = middle * (1 + nudge * 2 ** -52);
        for (const text of [String(value), value.toExponential(17), value.toPrecision(19)]) {
          expect(Object.is(floats([text], "FP32")[0], Math.fround(Number(text)))).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("extremes", () => {
    const texts = [
      "5e-324",
      "2.2250738585072014e-308",
      "1.7976931348623157e308",
      "-0",
      "0e999",
      "1e-400",
      "1E5",
      "0.1",
    ];
    expect(floats(texts, "FP64")).toEqual(texts.map(Number));
    const single = ["1e-45", "7e-46", "1.17549435e-38", "3.4028235e38", "3.4028235677973362e38", "16777217", "-0.0"];
    expect(floats(single, "FP32")).toEqual(single.map((text) => Math.fround(Number(text))));
  });

  test("float32 is printed as the shortest decimal that reads back", () => {
    const printed = (value: number): string => {
      const tensor: Tensor = {
        name: "x",
        datatype: "FP32",
        shape: [1],
        data: new Uint8Array(Float32Array.of(value).buffer),
      };
      const text = textOf(joinBody(encodeInferResponse({ modelName: "m", outputs: [{ tensor, binary: false }] })));
      return /"data":\[(.*?)\]/.exec(text)?.[1] ?? "";
    };
    for (const [value, text] of [
      [0.1, "0.1"],
      [1 / 3, "0.33333334"],
      [16777216, "16777216"],
      [-2.5, "-2.5"],
      [0, "0"],
      [-0, "-0"],
      [100, "100"],
      [Math.fround(3.4028235e38), "3.4028235e+38"],
      [Math.fround(1e-45), "1e-45"],
      [Math.fround(1e-6), "0.000001"],
      [Math.fround(9.99999e-7), "9.99999e-7"],
      [Math.fround(999999.9), "999999.9"],
      [Math.fround(1e20), "100000000000000000000"],
    ] as const) {
      expect(printed(value)).toBe(text);
    }
    const significant = (text: string): number =>
      text.replace(/e.*$/, "").replace(/[-.]/g, "").replace(/^0+/, "").replace(/0+$/, "").length;
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const text = printed(value);
        expect(Object.is(Math.fround(Number(text)), value)).toBe(true);
        let fewest = 9;
        for (let digits = 9; digits >= 1; digits--)
          if (Math.fround(Number(value.toPrecision(digits))) === value) fewest = digits;
        expect(significant(text)).toBeLessThanOrEqual(fewest);
      }),
      { numRuns: 3000 },
    );
  });
});

describe("fuzz", () => {
  const encoded = encodeInferRequest({
    id: "a",
    parameters: { k: "v" },
    inputs: [
      { name: "x", datatype: "FP32", shape: [2], data: new Uint8Array(8) },
      { name: "s", datatype: "BYTES", shape: [2], data: packBytesElements([utf8("a"), utf8("")]) },
    ],
    outputs: [{ name: "y", binary: true }],
  });
  const body = joinBody(encoded);
  const json = utf8(
    '{"id":"a","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1.5,-2e3],[0,1]]},' +
      '{"data":["\\u00e9","b"],"datatype":"BYTES","shape":[2],"name":"s"}],"outputs":[{"name":"y"}]}',
  );
  test("damaged requests never throw anything but the package's errors", () => {
    const attempt = (bytes: Uint8Array, headerLength: number | undefined): boolean => {
      try {
        for (const tensor of parseInferRequest(bytes, headerLength).inputs) typedData(tensor);
        return true;
      } catch (error) {
        return isAssayError(error);
      }
    };
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(body.length + 8)),
        (useJson, edits, length) => {
          const bytes = (useJson ? json : body).slice();
          for (const [at, to] of edits) bytes[at % bytes.length] = to;
          expect(attempt(bytes, useJson ? undefined : (length ?? encoded.headerLength))).toBe(true);
        },
      ),
      { numRuns: 4000 },
    );
  });
});

test("BYTES elements come back as views", () => {
  const data = packBytesElements([utf8("ab"), new Uint8Array(), utf8("c")]);
  const elements = bytesElements({ name: "x", datatype: "BYTES", shape: [3], data });
  expect(elements.map(textOf)).toEqual(["ab", "", "c"]);
  expect(elements[0]?.buffer).toBe(data.buffer);
});
