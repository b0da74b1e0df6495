import type { Datatype } from "@assay/protocol";
import { describe, expect, test } from "vitest";
import { decodeElements } from "./elements.ts";
import { jsonTensor } from "./json-input.ts";
import { MAX_ELEMENTS, MAX_RANK } from "./limits.ts";

const input = (datatype: Datatype, shape: readonly number[]) => ({ name: "x", datatype, shape });
const code = (value: string) => expect.objectContaining({ code: value });

describe("JSON as a tensor", () => {
  test.each<[string, Datatype, number[], number[], unknown[]]>([
    ["3", "FP32", [], [], [3]],
    ["3", "INT64", [-1], [1], [3n]],
    ["[[1,2],[3,4]]", "FP32", [-1, 2], [2, 2], [1, 2, 3, 4]],
    ["[1,2]", "FP64", [-1, 2], [1, 2], [1, 2]],
    ["[[1,2],[3,4]]", "UINT8", [-1, 1, 2, 2], [1, 1, 2, 2], [1, 2, 3, 4]],
    ["[]", "FP32", [-1], [0], []],
    ["[[],[]]", "FP32", [-1, -1], [2, 0], []],
    ["[true,false,1,0]", "BOOL", [4], [4], [true, false, true, false]],
    ['["a",""]', "BYTES", [-1], [2], ["a", ""]],
    ['["-9223372036854775808"]', "INT64", [-1], [1], [-9_223_372_036_854_775_808n]],
    ['["18446744073709551615"]', "UINT64", [-1], [1], [18_446_744_073_709_551_615n]],
    ['["NaN","-Infinity",0.5]', "FP16", [-1], [3], [Number.NaN, Number.NEGATIVE_INFINITY, 0.5]],
    ["[-128,127]", "INT8", [2], [2], [-128, 127]],
    ["[65535]", "UINT16", [1], [1], [65_535]],
    ["[-32768]", "INT16", [1], [1], [-32_768]],
    ["[4294967295]", "UINT32", [1], [1], [4_294_967_295]],
    ["[-2147483648]", "INT32", [1], [1], [-2_147_483_648]],
    ["[1,3.140625]", "BF16", [2], [2], [1, 3.140625]],
    ['{"shape":[2,1],"data":[5,6]}', "INT32", [-1, 1], [2, 1], [5, 6]],
    ['{"shape":[2,1],"datatype":"INT32","data":[[5],[6]]}', "INT32", [-1, 1], [2, 1], [5, 6]],
  ])("%s becomes %s", (text, datatype, wanted, shape, values) => {
    const tensor = jsonTensor(text, input(datatype, wanted));
    expect(tensor).toMatchObject({ name: "x", datatype, shape });
    expect(decodeElements(tensor.data, datatype)).toEqual(values);
  });

  test.each<[string, Datatype, number[], string]>([
    ["[1,", "FP32", [-1], "input_file_invalid"],
    ["three.png", "FP32", [-1], "input_file_invalid"],
    ["NaN", "FP32", [], "input_file_invalid"],
    ["[[1,2],[3]]", "FP32", [-1, 2], "input_shape"],
    ["[1,[2]]", "FP32", [-1], "input_shape"],
    ["[[1],2]", "FP32", [-1, 1], "input_shape"],
    ["[1,2,3]", "FP32", [2], "input_shape"],
    ["[[1]]", "FP32", [-1], "input_shape"],
    ["[1,2]", "FP32", [], "input_shape"],
    ["[1.5]", "INT32", [-1], "input_value"],
    ["[256]", "UINT8", [-1], "input_value"],
    ["[-1]", "UINT32", [-1], "input_value"],
    ["[9007199254740993]", "INT64", [-1], "input_value"],
    ['["9223372036854775808"]', "INT64", [-1], "input_value"],
    ['["1e3"]', "INT64", [-1], "input_value"],
    ['["007"]', "INT64", [-1], "input_value"],
    ['["-0"]', "INT64", [-1], "input_value"],
    ["[1e39]", "FP32", [-1], "input_value"],
    ["[65520]", "FP16", [-1], "input_value"],
    ['["nan"]', "FP32", [-1], "input_value"],
    ["[null]", "FP32", [-1], "input_value"],
    ["[2]", "BOOL", [-1], "input_value"],
    ['["true"]', "BOOL", [-1], "input_value"],
    ["[1]", "BYTES", [-1], "input_value"],
    ["null", "FP32", [], "input_value"],
    ['{"shape":[2]}', "FP32", [-1], "input_file_invalid"],
    ['{"data":[1]}', "FP32", [-1], "input_file_invalid"],
    ['{"shape":[-1],"data":[1]}', "FP32", [-1], "input_file_invalid"],
    ['{"shape":[3],"data":[1]}', "FP32", [-1], "input_shape"],
    ['{"shape":[1],"data":[1],"datatype":"FP64"}', "FP32", [-1], "input_datatype"],
    [`{"shape":[${MAX_ELEMENTS + 1}],"data":[1]}`, "FP32", [-1], "input_too_large"],
    [`${"[".repeat(MAX_RANK + 1)}1${"]".repeat(MAX_RANK + 1)}`, "FP32", [-1], "input_too_large"],
    [`${"[".repeat(MAX_RANK + 2)}1${"]".repeat(MAX_RANK + 2)}`, "FP32", [-1], "input_file_invalid"],
  ])("refuses %s for %s", (text, datatype, wanted, expected) => {
    expect(() => jsonTensor(text, input(datatype, wanted))).toThrow(code(expected));
  });

  test("says what was wanted and what was given", () => {
    expect(() => jsonTensor("[1,2,3]", input("FP32", [-1, 8]))).toThrow(
      'Input "x" has another shape: the model wants FP32 [-1,8]; given was FP32 [3].',
    );
  });
});

describe("bytes as elements", () => {
  test("a BYTES tensor that ends inside an element is refused", () => {
    for (const data of [Uint8Array.of(1, 0), Uint8Array.of(2, 0, 0, 0, 65), Uint8Array.of(255, 255, 255, 255)])
      expect(() => decodeElements(data, "BYTES")).toThrow(code("input_value"));
  });

  test("no more are read than asked for", () => {
    expect(decodeElements(new Uint8Array(1_000), "FP32", 3)).toEqual([0, 0, 0]);
    expect(decodeElements(Uint8Array.of(1, 0, 0, 0, 65, 9), "BYTES", 1)).toEqual(["A"]);
  });
});
