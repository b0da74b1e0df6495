import { bytesToHex } from "@assay/core";
import { describe, expect, test } from "vitest";
import { encodeAttribute, encodeGraph, encodeModel, encodeModelFile, floatTensor, int64Tensor } from "./encode.ts";
import type { GraphParts } from "./encode.ts";
import { readModel } from "./read.ts";
import { ELEMENT_TYPE, elementTypeName } from "./types.ts";
import { joinChunks } from "./write.ts";

const hex = (...chunks: Parameters<typeof joinChunks>): string => bytesToHex(joinChunks(...chunks));
const graph: GraphParts = {
  inputs: [{ name: "x", elementType: ELEMENT_TYPE.FLOAT, shape: [2] }],
  outputs: [{ name: "y", elementType: ELEMENT_TYPE.FLOAT, shape: [2] }],
  nodes: [{ opType: "LeakyRelu", inputs: ["x"], outputs: ["y"], attributes: [{ name: "alpha", float: -0.1 }] }],
};

describe("a model file", () => {
  test("has one graph, which has a name, and one set of operators", () => {
    const { irVersion, opsets, graph: read, functions } = readModel(encodeModelFile(graph));
    expect({ irVersion, opsets, functions }).toEqual({
      irVersion: 8,
      opsets: [{ domain: "", version: 17 }],
      functions: [],
    });
    expect(read.nodes.map(({ opType }) => opType)).toEqual(["LeakyRelu"]);
    // Field 2, two bytes on: the name that the format wants.
    expect(hex(encodeGraph({}))).toBe("120167");
    expect(hex(encodeGraph({ name: "of its own" }))).not.toContain("120167");
  });

  test("states the versions that are given", () => {
    const parts = { irVersion: 10, opsets: [["", 21]] as const, graph };
    expect(encodeModelFile(graph, 21, 10)).toEqual(joinChunks(encodeModel(parts)));
  });

  test("is refused by the reader once a byte is missing", () => {
    const bytes = encodeModelFile(graph);
    expect(() => readModel(bytes.subarray(0, bytes.length - 1))).toThrow(
      expect.objectContaining({ code: "onnx_malformed" }),
    );
  });
});

describe("a float attribute", () => {
  test("is four bytes, little-endian, in field 2", () => {
    expect(hex(encodeAttribute({ name: "a", float: -1.5 }))).toBe("0a0161150000c0bfa00101");
  });

  test.each([0, -0, 1e-45, -3.4e38, Infinity, NaN])("of %d is read as the float32 it was written as", (value) => {
    const nodes = [{ opType: "Elu", attributes: [{ name: "alpha", float: value }] }];
    const [node] = readModel(encodeModelFile({ ...graph, nodes })).graph.nodes;
    expect(node?.attributes.map(({ float }) => float)).toEqual([Math.fround(value)]);
  });
});

describe("tensors", () => {
  test("of float32 and int64 have their elements in little-endian order", () => {
    expect(floatTensor("w", [2], [1, -2])).toEqual({
      name: "w",
      elementType: 1,
      dims: [2],
      raw: Uint8Array.of(0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0),
    });
    expect(int64Tensor("n", [], [-2])).toEqual({
      name: "n",
      elementType: 7,
      dims: [],
      raw: Uint8Array.of(0xfe, 255, 255, 255, 255, 255, 255, 255),
    });
  });

  test("of int64 take whole numbers only", () => {
    expect(() => int64Tensor("n", [1], [0.5])).toThrow(RangeError);
  });
});

test("every name of an element type stands for the number that has this name", () => {
  for (const [name, type] of Object.entries(ELEMENT_TYPE)) expect(elementTypeName(type)).toBe(name);
  // Of onnx.proto, TensorProto.DataType.
  expect(ELEMENT_TYPE).toMatchObject({ FLOAT: 1, UINT8: 2, INT64: 7, STRING: 8, BFLOAT16: 16, UINT4: 21, INT4: 22 });
});
