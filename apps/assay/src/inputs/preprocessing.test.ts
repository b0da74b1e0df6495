import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { MAX_PREPROCESSING_BYTES, MAX_STEPS } from "./limits.ts";
import { audioTensor, encodePreprocessing, imageTensor, parsePreprocessing } from "./preprocessing.ts";
import type { ImagePreparation, PreprocessingDocument } from "./preprocessing.ts";

const code = (value: string) => expect.objectContaining({ code: value });

const image: ImagePreparation = {
  input: "image",
  kind: "image",
  alpha: "white",
  steps: [{ op: "gray" }],
  layout: "chw",
  mean: [0],
  std: [1],
};
const document: PreprocessingDocument = {
  format: "assay-preprocessing/1",
  inputs: [image, { input: "audio", kind: "audio", sampleRateHz: 16_000 }],
  outputs: [{ output: "p", kind: "classes", labels: ["a", "b"] }],
};
const changed = (change: object) => encodePreprocessing({ ...document, ...change });
const withImage = (change: object) => changed({ inputs: [{ ...image, ...change }] });
const withStep = (step: object) => withImage({ steps: [step] });

describe("a preprocessing document", () => {
  test("reads back with the digest of its bytes", () => {
    const bytes = encodePreprocessing(document);
    const found = parsePreprocessing(bytes);
    expect(found.document).toEqual(document);
    expect(found.digest).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  test.each<[string, Uint8Array]>([
    ["no JSON", Buffer.from("{")],
    ["an array", Buffer.from("[]")],
    ["another format", changed({ format: "assay-preprocessing/2" })],
    ["no outputs", changed({ outputs: undefined })],
    ["a further key", changed({ note: "hi" })],
    ["an input twice", changed({ inputs: [image, image] })],
    ["an output twice", changed({ outputs: [...document.outputs, ...document.outputs] })],
    ["an unknown kind", changed({ inputs: [{ input: "x", kind: "video" }] })],
    ["an unknown step", withStep({ op: "blur", radius: 2 })],
    ["a step with a further key", withStep({ op: "gray", weights: [1, 1, 1] })],
    ["a step without its numbers", withStep({ op: "resize", width: 8, filter: "area" })],
    ["another filter", withStep({ op: "resize", width: 8, height: 8, filter: "lanczos" })],
    ["a size of nothing", withStep({ op: "resize", width: 0, height: 8, filter: "area" })],
    ["an enormous size", withStep({ op: "resize", width: 2_049, height: 8, filter: "area" })],
    ["half a pixel", withStep({ op: "resize", width: 7.5, height: 8, filter: "area" })],
    ["a stretch the wrong way", withStep({ op: "stretch", lowPermille: 600, highPermille: 500 })],
    ["a threshold of nothing", withStep({ op: "crop_to_content", thresholdPermille: 0 })],
    ["a margin beyond its measure", withStep({ op: "margin", marginPermille: 1_001 })],
    ["too many steps", withImage({ steps: Array.from({ length: MAX_STEPS + 1 }, () => ({ op: "gray" })) })],
    ["a std of 0", withImage({ std: [0] })],
    ["an unknown layout", withImage({ layout: "whc" })],
    ["no alpha", withImage({ alpha: undefined })],
    ["an unusual rate", changed({ inputs: [{ input: "a", kind: "audio", sampleRateHz: 100 }] })],
    [
      "a threshold above 1",
      changed({ outputs: [{ output: "p", kind: "frames", label: "l", frameMs: 1, threshold: 2 }] }),
    ],
    [
      "too many bytes",
      changed({ outputs: [{ output: "p", kind: "classes", labels: ["x".repeat(MAX_PREPROCESSING_BYTES)] }] }),
    ],
    ["spaces", Buffer.from(JSON.stringify(document, undefined, 1))],
    ["a newline at its end", Buffer.concat([encodePreprocessing(document), Buffer.from("\n")])],
    ["keys out of order", Buffer.from(JSON.stringify(document))],
    [
      "a key twice",
      Buffer.from(Buffer.from(encodePreprocessing(document)).toString().replace('"format"', '"format":1,"format"')),
    ],
  ])("is refused with %s", (_, bytes) => {
    expect(() => parsePreprocessing(new Uint8Array(bytes))).toThrow(code("preprocessing_invalid"));
  });

  test("names what is wrong and where", () => {
    let hints: readonly string[] = [];
    try {
      parsePreprocessing(withStep({ op: "resize", width: 0, height: 8, filter: "area" }));
    } catch (error) {
      ({ hints } = error as { hints: readonly string[] });
    }
    expect(hints).toEqual([expect.stringContaining("inputs.0.steps.0.width")]);
  });
});

describe("applying it", () => {
  const colours = { width: 2, height: 1, rgba: Uint16Array.of(65_535, 0, 0, 65_535, 0, 65_535, 0, 65_535) };
  const colour: ImagePreparation = { ...image, steps: [], mean: [0.5, 0.5, 0], std: [0.5, 0.25, 1] };
  const floats = (data: Uint8Array) => [...new Float32Array(data.slice().buffer)];

  test("channels come first or last, scaled by mean and std", () => {
    const chw = imageTensor(colours, colour, { name: "image", datatype: "FP32", shape: [-1, 3, -1, -1] });
    expect(chw.shape).toEqual([1, 3, 1, 2]);
    expect(floats(chw.data)).toEqual([1, -1, -2, 2, 0, 0]);
    const hwc = imageTensor(
      colours,
      { ...colour, layout: "hwc" },
      { name: "image", datatype: "FP32", shape: [1, 1, 2, 3] },
    );
    expect(floats(hwc.data)).toEqual([1, -2, 0, -1, 2, 0]);
  });

  test("a UINT8 model gets bytes", () => {
    const plain = { ...colour, mean: [0, 0, 0], std: [1, 1, 1] };
    const tensor = imageTensor(colours, plain, { name: "image", datatype: "UINT8", shape: [3, 1, 2] });
    expect([...tensor.data]).toEqual([255, 0, 0, 255, 0, 0]);
  });

  test.each<[string, Partial<ImagePreparation>, "FP32" | "UINT8" | "FP64", number[], string]>([
    ["too few means", { mean: [0] }, "FP32", [-1, 3, 1, 2], "preprocessing_invalid"],
    ["too many means", { steps: [{ op: "gray" }] }, "FP32", [-1, 1, 1, 2], "preprocessing_invalid"],
    ["a flat layout for colours", { layout: "hw" }, "FP32", [-1, -1], "preprocessing_invalid"],
    ["a mean for bytes", {}, "UINT8", [3, 1, 2], "preprocessing_invalid"],
    ["another size", {}, "FP32", [-1, 3, 8, 8], "input_shape"],
    ["another type", {}, "FP64", [-1, 3, 1, 2], "input_datatype"],
  ])("refuses %s", (_, change, datatype, shape, expected) => {
    expect(() => imageTensor(colours, { ...colour, ...change }, { name: "image", datatype, shape })).toThrow(
      code(expected),
    );
  });

  test("a recording is brought to the model's rate and shape", () => {
    const recording = { sampleRateHz: 8_000, samples: new Float64Array(100) };
    const preparation = { input: "audio", kind: "audio", sampleRateHz: 16_000 } as const;
    expect(audioTensor(recording, preparation, { name: "audio", datatype: "FP32", shape: [-1] }).shape).toEqual([200]);
    expect(audioTensor(recording, preparation, { name: "audio", datatype: "FP32", shape: [-1, -1] }).shape).toEqual([
      1, 200,
    ]);
    expect(() => audioTensor(recording, preparation, { name: "audio", datatype: "FP32", shape: [512] })).toThrow(
      code("input_shape"),
    );
    expect(() => audioTensor(recording, preparation, { name: "audio", datatype: "INT16", shape: [-1] })).toThrow(
      code("input_datatype"),
    );
  });
});
