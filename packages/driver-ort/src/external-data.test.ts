import { ELEMENT_TYPE, encodeModelFile, floatTensor } from "@assay/onnx";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { externalFiles, inlineExternalData } from "./external-data.ts";

const port = { name: "x", elementType: ELEMENT_TYPE.FLOAT, shape: [2] };
const graph = (external?: Record<string, string>): Uint8Array => {
  const w = { name: "w", elementType: ELEMENT_TYPE.FLOAT, dims: [2] };
  return encodeModelFile({
    inputs: [port],
    outputs: [{ ...port, name: "y" }],
    initializers: [floatTensor("before", [1], [9]), external ? { ...w, external } : floatTensor("w", [2], [1, 2])],
    nodes: [{ opType: "Add", inputs: ["x", "w"], outputs: ["y"] }],
  });
};
const weights = new Uint8Array(Float32Array.of(7, 1, 2).buffer);
const files = new Map([["w.bin", weights]]);

describe("external weights", () => {
  test("are found once per file, and not in a model without any", () => {
    expect(externalFiles(graph())).toEqual([]);
    expect(externalFiles(graph({ location: "w.bin" }))).toEqual(["w.bin"]);
    expect(externalFiles(new Uint8Array())).toEqual([]);
    expect(() => externalFiles(graph({ offset: "4" }))).toThrow(/does not say where/);
  });

  test("make the model that would have held them itself", () => {
    const inlined = inlineExternalData(graph({ location: "w.bin", offset: "4" }), files, 10_000);
    expect(externalFiles(inlined)).toEqual([]);
    // The same fields in another order: names before data, as the writer here puts them.
    expect(Buffer.from(inlined.toSorted()).equals(graph().toSorted())).toBe(true);
    expect(inlined.length).toBe(graph().length);
  });

  test.each([
    [{ offset: "8", length: "8" }, /claims 8 bytes from 8/],
    [{ offset: "13" }, /claims -1 bytes/],
    [{ offset: "1e1" }, /not a whole number/],
    [{ length: "-1" }, /not a whole number/],
    [{ length: "99999999999999999999" }, /not a whole number/],
  ])("are refused with %j", (entries, message) => {
    const model = graph({ location: "w.bin", ...entries });
    expect(() => inlineExternalData(model, files, 10_000)).toThrow(message);
  });

  test("are refused when the whole becomes too large", () => {
    const model = graph({ location: "w.bin", offset: "4" });
    const { length } = inlineExternalData(model, files, 10_000);
    expect(() => inlineExternalData(model, files, length)).not.toThrow();
    expect(() => inlineExternalData(model, files, length - 1)).toThrow(/more than/);
  });

  test("two graphs are refused: parsers would merge them", () => {
    expect(() => externalFiles(Buffer.concat([graph(), graph()]))).toThrow(/more than one graph/);
  });

  test("whatever the bytes are, the reader ends with a model error or an answer", () => {
    const base = graph({ location: "w.bin", offset: "4" });
    const mutated = fc
      .array(fc.tuple(fc.nat({ max: base.length - 1 }), fc.nat({ max: 255 })), { minLength: 1, maxLength: 6 })
      .map((edits) => {
        const copy = Uint8Array.from(base);
        for (const [at, value] of edits) copy[at] = value;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 60 })), (bytes) => {
        try {
          externalFiles(bytes);
          inlineExternalData(bytes, files, 10_000);
        } catch (error) {
          expect(error).toMatchObject({ code: "model_invalid" });
        }
      }),
    );
  });
});
