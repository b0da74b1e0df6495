import type { Datatype, Tensor } from "@assay/protocol";
import { describe, expect, test } from "vitest";
import { encodeElements } from "./elements.ts";
import { formatOutputs, outputsToJson, segmentsAbove } from "./format-outputs.ts";
import type { PreprocessingDocument } from "./preprocessing.ts";

function tensor(name: string, datatype: Datatype, shape: number[], values: (number | string | boolean)[]): Tensor {
  return { name, datatype, shape, data: encodeElements(values, datatype, name) };
}

const document: PreprocessingDocument = {
  format: "assay-preprocessing/1",
  inputs: [],
  outputs: [
    { output: "p", kind: "classes", labels: ["cat", "dog", "bird"] },
    { output: "speech", kind: "frames", label: "speech", frameMs: 100, threshold: 0.5 },
  ],
};

describe("outputs for people", () => {
  test("probabilities as bars, the likeliest first", () => {
    const probabilities = tensor("p", "FP32", [1, 3], [0.25, 0.5, 0.25]);
    expect(formatOutputs([probabilities], { document })).toBe(
      ["p  FP32 [1,3]", "  dog    50.0 %  ████████████", "  cat    25.0 %  ██████", "  bird   25.0 %  ██████"].join(
        "\n",
      ),
    );
    expect(formatOutputs([probabilities], { topK: 1 })).toBe("p  FP32 [1,3]\n  1   50.0 %  ████████████");
  });

  test("a batch shows each row's best", () => {
    expect(formatOutputs([tensor("p", "FP32", [2, 2], [1, 0, 0.25, 0.75])])).toBe(
      [
        "p  FP32 [2,2]",
        "  row 0: 0  100.0 %  ████████████████████████",
        "  row 1: 1   75.0 %  ██████████████████",
      ].join("\n"),
    );
  });

  test.each<[Tensor, string]>([
    [tensor("label", "INT64", [1], [3]), "label  INT64 [1]  3"],
    [tensor("score", "FP32", [], [0.1]), "score  FP32 []  0.1"],
    [tensor("logits", "FP32", [1, 2], [2.5, -1]), "logits  FP32 [1,2]  [2.5, -1]"],
    // Sums to 1, but one value is below 0: no probabilities.
    [tensor("p", "FP32", [1, 2], [1.5, -0.5]), "p  FP32 [1,2]  [1.5, -0.5]"],
    [tensor("names", "BYTES", [2], ["a", "b"]), 'names  BYTES [2]  ["a", "b"]'],
    [tensor("none", "FP32", [0, 4], []), "none  FP32 [0,4]  empty"],
    [tensor("flags", "BOOL", [2], [true, false]), "flags  BOOL [2]  [true, false]"],
    [
      tensor(
        "many",
        "INT32",
        [20],
        Array.from({ length: 20 }, (_, index) => index),
      ),
      "many  INT32 [20]  from 0 to 19, mean 9.5; begins 0, 1, 2, 3",
    ],
    [
      tensor("odd", "FP32", [17], ["NaN", "Infinity", ...Array.from({ length: 15 }, () => 2)]),
      "odd  FP32 [17]  from 2 to 2, mean 2; begins NaN, Infinity, 2, 2; 2 not finite",
    ],
    [
      tensor(
        "lost",
        "FP32",
        [17],
        Array.from({ length: 17 }, () => "NaN"),
      ),
      "lost  FP32 [17]  no finite value; begins NaN, NaN, NaN, NaN",
    ],
    [
      tensor(
        "words",
        "BYTES",
        [17],
        Array.from({ length: 17 }, () => "w"),
      ),
      'words  BYTES [17]  begins "w", "w", "w", "w"',
    ],
  ])("plain values and summaries", (given, expected) => {
    expect(formatOutputs([given])).toBe(expected);
  });

  test("frames as a line of bars and segments in seconds", () => {
    const frames = tensor("speech", "FP32", [8], [0, 0, 0.6, 1, 0.9, 0.1, 0.5, 0]);
    expect(formatOutputs([frames], { document })).toBe(
      ["speech  FP32 [8]", "  ▁▁▅██▁▅▁", "  speech: 0.20-0.50 s, 0.60-0.70 s of 0.80 s"].join("\n"),
    );
    const quiet = tensor("speech", "FP32", [3], [0, 0.1, 0.2]);
    expect(formatOutputs([quiet], { document })).toContain("no speech in 0.30 s");
  });

  test("a long line is folded to the width, by the loudest of its frames", () => {
    const frames = tensor(
      "speech",
      "FP32",
      [1_000],
      Array.from({ length: 1_000 }, (_, index) => (index === 999 ? 1 : 0)),
    );
    const line = formatOutputs([frames], { document, width: 40 }).split("\n")[1] ?? "";
    expect(line.length).toBeLessThanOrEqual(40);
    expect(line.endsWith("▁█")).toBe(true);
  });

  test("text from a model cannot command the terminal", () => {
    const hostile = tensor("n\u001b[2J", "BYTES", [1], ["a\u001b]0;x\u0007\u202eb\r\n\u009b31m"]);
    const shown = formatOutputs([hostile]);
    expect(shown).not.toMatch(/\p{C}/u);
    expect(shown).toContain("a\u{fffd}]0;x");
    const labelled = { ...document, outputs: [{ output: "p", kind: "classes" as const, labels: ["\u001b[31m", "b"] }] };
    expect(formatOutputs([tensor("p", "FP32", [2], [1, 0])], { document: labelled })).not.toContain("\u001b");
    expect(formatOutputs([tensor("t", "BYTES", [1], ["y".repeat(5_000)])]).length).toBeLessThan(300);
  });
});

test("segments begin and end at the edges too", () => {
  const facts = { frameMs: 32, threshold: 0.5 };
  expect(segmentsAbove([0.5, 0.5], facts)).toEqual([[0, 0.064]]);
  expect(segmentsAbove([0.49, Number.NaN], facts)).toEqual([]);
  expect(segmentsAbove([], facts)).toEqual([]);
});

test("JSON keeps large integers and non-finite values as text that inputs accept", () => {
  expect(
    outputsToJson([
      tensor("a", "INT64", [2], [1, "9007199254740993"]),
      tensor("b", "FP16", [3], [0.5, "NaN", "-Infinity"]),
      tensor("c", "BYTES", [1], ["é"]),
      tensor("d", "BOOL", [], [true]),
    ]),
  ).toEqual([
    { name: "a", datatype: "INT64", shape: [2], data: [1, "9007199254740993"] },
    { name: "b", datatype: "FP16", shape: [3], data: [0.5, "NaN", "-Infinity"] },
    { name: "c", datatype: "BYTES", shape: [1], data: ["é"] },
    { name: "d", datatype: "BOOL", shape: [], data: [true] },
  ]);
});
