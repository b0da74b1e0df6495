import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as pb from "onnx-buf";
import { describe, expect, test } from "vitest";
import { castBoundary } from "./cast.ts";
import { checkModel } from "./check.ts";
import type { GraphParts, ModelParts } from "./encode.ts";
import { encodeModel } from "./encode.ts";
import { readModel } from "./read.ts";
import { graphSignature } from "./signature.ts";
import { joinChunks, messageField, rewriteGraph, rewriteMessage, stringField, varintField } from "./write.ts";

const BF16 = 16;
const noise = Uint8Array.from({ length: 4096 }, (_, i) => (i * 37) & 255);
const value = (name: string, elementType: number) => ({ name, elementType, shape: ["n", 3] });
const encode = (graph: Partial<GraphParts>, parts: Partial<ModelParts> = {}): Uint8Array =>
  joinChunks(encodeModel({ irVersion: 10, opsets: [["", 21]], graph: { name: "g", ...graph }, ...parts }));

const wrapped = encode({
  nodes: [
    { opType: "Add", inputs: ["x", "w"], outputs: ["y"], name: "assay_cast_in_x" },
    {
      opType: "If",
      inputs: ["c"],
      outputs: ["z"],
      attributes: [
        { name: "then_branch", graph: { name: "t", nodes: [{ opType: "Neg", inputs: ["x"], outputs: ["tz"] }] } },
        // This body has its own x, which hides the outer one.
        {
          name: "else_branch",
          graph: {
            name: "e",
            nodes: [
              { opType: "Abs", inputs: ["c"], outputs: ["x"] },
              { opType: "Neg", inputs: ["x"], outputs: ["ez"] },
            ],
          },
        },
      ],
    },
    { opType: "Relu", inputs: ["y"], outputs: ["x__bf16"] },
  ],
  initializers: [{ name: "w", elementType: 1, dims: [1024], raw: noise }],
  inputs: [value("x", BF16), value("c", 9), value("f", 10)],
  outputs: [value("y", BF16), value("z", 1)],
});

describe("castBoundary", () => {
  test("gives FP32 at the boundary under the same names, with casts inside", () => {
    const { bytes, casts, inputs, outputs } = castBoundary(wrapped);
    expect(casts).toEqual(["x: BF16->FP32", "y: BF16->FP32"]);
    expect([inputs, outputs]).toEqual([["x"], ["y"]]);
    const model = readModel(bytes);
    const types = graphSignature(model).inputs.map((input) => `${input.name}:${input.datatype}:${input.shape.join()}`);
    expect(types).toEqual(["x:FP32:-1,3", "c:BOOL:-1,3", "f:FP16:-1,3"]);
    expect(graphSignature(model).outputs.map((output) => output.datatype)).toEqual(["FP32", "FP32"]);
    // The names x__bf16 and assay_cast_in_x were taken, so the next free ones are.
    expect(model.graph.nodes.map((n) => [n.opType, ...n.inputs, ">", ...n.outputs].join(" "))).toEqual([
      "Cast x > x__bf16_1",
      "Add x__bf16_1 w > y__bf16",
      "If c > z",
      "Relu y__bf16 > x__bf16",
      "Cast y__bf16 > y",
    ]);
    expect(model.graph.nodes.map((n) => n.name)).toEqual([
      "assay_cast_in_x_1",
      "assay_cast_in_x",
      "",
      "",
      "assay_cast_out_y",
    ]);
    expect(model.graph.nodes.at(0)?.attributes[0]?.int).toBe(16n);
    expect(model.graph.nodes.at(-1)?.attributes[0]?.int).toBe(1n);
    const bodies = model.graph.nodes[2]?.attributes.map((a) => a.graphs[0]?.nodes.map((n) => n.inputs[0]));
    expect(bodies).toEqual([["x__bf16_1"], ["c", "x"]]);
    expect(checkModel(model).accepted).toBe(true);
  });

  test("is deterministic, keeps the weights and parses elsewhere", () => {
    const { bytes } = castBoundary(wrapped);
    expect(castBoundary(wrapped).bytes).toEqual(bytes);
    const other = fromBinary(pb.ModelProtoSchema, bytes);
    expect(other.graph?.initializer[0]?.rawData).toEqual(noise);
    expect(other.graph?.node).toHaveLength(5);
    expect(castBoundary(bytes).bytes).toBe(bytes);
  });

  test("keeps what it does not know", () => {
    const unknown = joinChunks([
      ...rewriteGraph(wrapped, () => true, stringField(99, "in the graph")),
      ...stringField(500, "outside"),
    ]);
    const text = new TextDecoder("latin1").decode(castBoundary(unknown).bytes);
    expect(text).toContain("in the graph");
    expect(text).toContain("outside");
  });

  test("a model without bfloat16 at its boundary comes back as it is", () => {
    const plain = encode({ inputs: [value("x", 1)], outputs: [value("y", 10)] });
    expect(castBoundary(plain)).toEqual({ bytes: plain, casts: [], inputs: [], outputs: [] });
    expect(castBoundary(plain).bytes).toBe(plain);
  });

  test("an output that an initialiser is gets renamed without touching its bytes", () => {
    const constant = encode({
      initializers: [{ name: "y", elementType: BF16, dims: [2048], raw: noise }],
      inputs: [value("x", BF16)],
      outputs: [value("y", BF16)],
    });
    const model = readModel(castBoundary(constant).bytes);
    expect(model.graph.initializers[0]?.name).toBe("y__bf16");
    expect(model.graph.nodes.map((n) => `${n.inputs.join()} > ${n.outputs.join()}`).toSorted()).toEqual([
      "x > x__bf16",
      "y__bf16 > y",
    ]);
    expect(checkModel(model).accepted).toBe(true);
  });

  test("an optional input stays bfloat16, and one handed straight out needs no second cast", () => {
    const optional = encode({
      initializers: [{ name: "x", elementType: BF16, dims: [2048], raw: noise }],
      inputs: [value("x", BF16)],
    });
    expect(castBoundary(optional).casts).toEqual([]);
    const straight = encode({ nodes: [], inputs: [value("x", BF16)], outputs: [value("x", BF16)] });
    const result = castBoundary(straight);
    expect(result.casts).toEqual(["x: BF16->FP32"]);
    expect(graphSignature(readModel(result.bytes)).outputs[0]?.datatype).toBe("FP32");
  });

  test.each([12, 0])("refuses opset %i, whose Cast has no bfloat16", (version) => {
    const old = encode({ inputs: [value("x", BF16)] }, { opsets: version === 0 ? [] : [["", version]] });
    expect(() => castBoundary(old)).toThrow(expect.objectContaining({ code: "onnx_cast_unsupported" }));
  });

  test("refuses bytes that are no model", () => {
    expect(() => castBoundary(new Uint8Array([1, 2, 3]))).toThrow(expect.objectContaining({ code: "onnx_malformed" }));
  });
});

describe("writing", () => {
  test("varints agree with an independent encoder at every size", () => {
    for (const n of [0n, 1n, 127n, 128n, 16384n, 2n ** 32n, 2n ** 63n - 1n, -1n, -(2n ** 63n)]) {
      const ours = joinChunks(varintField(5, n));
      expect(fromBinary(pb.ModelProtoSchema, ours).modelVersion).toBe(n);
      expect(toBinary(pb.ModelProtoSchema, create(pb.ModelProtoSchema, { modelVersion: n }))).toEqual(ours);
    }
  });

  test("an identity rewrite gives the same bytes, and dropping a field leaves the rest", () => {
    expect(joinChunks(rewriteGraph(wrapped, () => true))).toEqual(wrapped);
    const without = joinChunks(rewriteMessage(wrapped, 0, wrapped.length, (field) => field.number !== 8));
    expect(readModel(without).opsets).toEqual([]);
    expect(joinChunks([...messageField(1, []), ...stringField(2, "\u00e9")])).toEqual(
      new Uint8Array([0x0a, 0, 0x12, 2, 0xc3, 0xa9]),
    );
  });

  test("joining refuses what protobuf cannot carry", () => {
    const big = new Uint8Array(2 ** 20);
    const chunks = Array.from({ length: 2048 }, () => big);
    expect(() => joinChunks(chunks)).toThrow(expect.objectContaining({ code: "onnx_rewrite_too_large" }));
  });
});
