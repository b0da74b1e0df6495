import { create, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import * as pb from "onnx-buf";
import { describe, expect, test } from "vitest";
import type { AssayError } from "@assay/core";
import { isAssayError } from "@assay/core";
import { castBoundary } from "./cast.ts";
import { checkModel } from "./check.ts";
import type { ModelParts } from "./encode.ts";
import { encodeModel } from "./encode.ts";
import type { ReadLimits } from "./limits.ts";
import { readModel } from "./read.ts";
import { graphSignature } from "./signature.ts";
import { joinChunks, messageField, stringField, varintField } from "./write.ts";

const value = (name: string, elementType: number, shape?: readonly (number | string | null)[]) =>
  shape === undefined ? { name, elementType } : { name, elementType, shape };

const small: ModelParts = {
  irVersion: 10,
  producerName: "hand",
  opsets: [["", 21]],
  graph: {
    name: "main",
    nodes: [
      { opType: "Add", inputs: ["x", "w"], outputs: ["s"], name: "add" },
      {
        opType: "If",
        inputs: ["c"],
        outputs: ["y"],
        attributes: [
          { name: "then_branch", graph: { name: "then", nodes: [{ opType: "Relu", inputs: ["s"], outputs: ["t"] }] } },
          { name: "else_branch", graph: { name: "else", nodes: [{ opType: "Neg", inputs: ["s"], outputs: ["e"] }] } },
        ],
      },
    ],
    initializers: [{ name: "w", elementType: 1, dims: [2], raw: new Uint8Array(8) }],
    inputs: [value("x", 1, ["batch", 2]), value("c", 9, []), value("w", 1, [2])],
    outputs: [value("y", 1, [null, 2])],
  },
};
const bytes = joinChunks(encodeModel(small));

const tensor = (init: Parameters<typeof create<typeof pb.TensorProtoSchema>>[1]) => create(pb.TensorProtoSchema, init);
const typed = (type: Uint8Array[]) =>
  readModel(joinChunks(messageField(7, messageField(11, [...stringField(1, "x"), ...messageField(2, type)]))));

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isAssayError(error)) return error.code;
    throw error;
  }
  return "nothing";
}

describe("readModel", () => {
  test("gives the structure and leaves the weights where they are", () => {
    const model = readModel(bytes);
    expect(model.irVersion).toBe(10);
    expect(model.producerName).toBe("hand");
    expect(model.opsets).toEqual([{ domain: "", version: 21 }]);
    expect(model.nodeCount).toBe(4);
    expect(model.graph.nodes.map((node) => node.opType)).toEqual(["Add", "If"]);
    expect(model.graph.nodes[1]?.attributes[0]?.graphs[0]?.nodes[0]?.opType).toBe("Relu");
    const storage = model.graph.initializers[0]?.storage;
    expect(storage).toEqual({ kind: "raw", offset: expect.any(Number) as number, length: 8 });
    expect(model.bytes).toBe(bytes);
  });

  test("agrees with an independent encoder on every kind of storage, type and attribute", () => {
    const model = create(pb.ModelProtoSchema, {
      irVersion: 13n,
      modelVersion: -5n,
      domain: "org.example",
      metadataProps: [{ key: "k", value: "v\u00e9" }],
      opsetImport: [{ domain: "", version: 26n }],
      graph: {
        name: "g",
        node: [
          {
            opType: "Constant",
            output: ["c"],
            attribute: [
              { name: "value", type: 4, t: tensor({ dims: [2n], dataType: 7, int64Data: [1n, -1n] }) },
              { name: "axes", type: 7, ints: [-1n, 3n, 9007199254740993n] },
              { name: "i", type: 2, i: -9223372036854775808n },
              { name: "f", type: 1, f: 0.5 },
              { name: "s", type: 3, s: new Uint8Array([255, 0]) },
            ],
          },
        ],
        initializer: [
          tensor({ name: "f", dims: [3n], dataType: 1, floatData: [1, 2, 3] }),
          tensor({ name: "i", dims: [2n], dataType: 3, int32Data: [-1, 2] }),
          tensor({ name: "t", dims: [1n], dataType: 8, stringData: [new Uint8Array([1])] }),
          tensor({ name: "d", dims: [1n], dataType: 11, doubleData: [1] }),
          tensor({ name: "u", dims: [1n], dataType: 13, uint64Data: [18446744073709551615n] }),
          tensor({
            name: "x",
            dims: [4n],
            dataType: 1,
            dataLocation: 1,
            externalData: [{ key: "location", value: "w.bin" }],
          }),
          tensor({ name: "n", dims: [0n], dataType: 1 }),
        ],
        input: [
          {
            name: "seq",
            type: {
              value: {
                case: "sequenceType",
                value: { elemType: { value: { case: "tensorType", value: { elemType: 1 } } } },
              },
            },
          },
          {
            name: "map",
            type: {
              value: {
                case: "mapType",
                value: { keyType: 8, valueType: { value: { case: "tensorType", value: { elemType: 1 } } } },
              },
            },
          },
        ],
      },
    });
    const read = readModel(toBinary(pb.ModelProtoSchema, model));
    expect(read.modelVersion).toBe(-5n);
    expect(read.metadata).toEqual([{ key: "k", value: "v\u00e9" }]);
    expect(read.graph.initializers.map((t) => t.storage)).toEqual([
      { kind: "typed", field: "float_data", count: 3 },
      { kind: "typed", field: "int32_data", count: 2 },
      { kind: "typed", field: "string_data", count: 1 },
      { kind: "typed", field: "double_data", count: 1 },
      { kind: "typed", field: "uint64_data", count: 1 },
      { kind: "external", entries: [{ key: "location", value: "w.bin" }] },
      { kind: "none" },
    ]);
    const attributes = read.graph.nodes[0]?.attributes;
    expect(attributes?.map((a) => [a.int, a.float])).toEqual([
      [undefined, undefined],
      [undefined, undefined],
      [-9223372036854775808n, undefined],
      [undefined, 0.5],
      [undefined, undefined],
    ]);
    expect(attributes?.[1]?.ints.slice(0, 2)).toEqual([-1, 3]);
    expect(attributes?.[4]?.bytes).toEqual(new Uint8Array([255, 0]));
    expect(read.graph.inputs.map((info) => info.type.kind)).toEqual(["sequence", "map"]);
  });

  test.each<[string, Uint8Array, string]>([
    ["nothing at all", new Uint8Array(), "onnx_graph_missing"],
    ["text", new TextEncoder().encode("<!doctype html><p>not found</p>"), "onnx_malformed"],
    ["a truncated file", bytes.subarray(0, bytes.length - 1), "onnx_malformed"],
    ["field number zero", new Uint8Array([0x02, 0x00]), "onnx_malformed"],
    ["a group", new Uint8Array([0x3b]), "onnx_malformed"],
    ["a varint without an end", new Uint8Array([0x08, ...Array<number>(11).fill(0x80)]), "onnx_malformed"],
    ["a varint of 65 bits", new Uint8Array([0x08, ...Array<number>(9).fill(0xff), 2]), "onnx_malformed"],
    ["a length past the end", new Uint8Array([0x3a, 0x7f]), "onnx_malformed"],
    ["a length beyond exact numbers", new Uint8Array([0x3a, ...Array<number>(9).fill(0xff), 1]), "onnx_malformed"],
    ["a graph that is a number", new Uint8Array([0x38, 0x01]), "onnx_malformed"],
    ["two graphs", joinChunks([...messageField(7, []), ...messageField(7, [])]), "onnx_malformed"],
    ["a node without an operator", joinChunks(messageField(7, messageField(1, stringField(3, "n")))), "onnx_malformed"],
    [
      "a name that is not UTF-8",
      joinChunks(messageField(7, messageField(2, [new Uint8Array([0xc0, 0x80])]))),
      "onnx_malformed",
    ],
    [
      "a float in packed form of five bytes",
      joinChunks(messageField(7, messageField(5, messageField(4, [new Uint8Array(5)])))),
      "onnx_malformed",
    ],
    [
      "a type with two alternatives",
      joinChunks(
        messageField(
          7,
          messageField(11, messageField(2, [...messageField(1, varintField(1, 1)), ...messageField(4, [])])),
        ),
      ),
      "onnx_malformed",
    ],
    [
      "a dimension with two alternatives",
      joinChunks(
        messageField(
          7,
          messageField(
            11,
            messageField(
              2,
              messageField(1, messageField(2, messageField(1, [...varintField(1, 2), ...stringField(2, "n")]))),
            ),
          ),
        ),
      ),
      "onnx_malformed",
    ],
    [
      "an element type beyond 32 bits",
      joinChunks(messageField(7, messageField(5, varintField(2, 2n ** 32n + 1n)))),
      "onnx_malformed",
    ],
  ])("refuses %s", (_, input, expected) => {
    expect(code(() => readModel(input))).toBe(expected);
  });

  test.each<[keyof ReadLimits, number]>([
    ["maxBytes", bytes.length],
    ["maxNodes", 4],
    ["maxNameBytes", "then_branch".length],
    ["maxDepth", 7],
    ["maxRank", 2],
  ])("holds the limit %s and refuses one below it", (limit, most) => {
    expect(code(() => readModel(bytes, { [limit]: most }))).toBe("nothing");
    let error: AssayError | undefined;
    try {
      readModel(bytes, { [limit]: most - 1 });
    } catch (caught) {
      if (isAssayError(caught)) error = caught;
    }
    expect(error?.code).toBe("onnx_limit_exceeded");
    expect(error?.message).toContain(limit);
  });

  test("holds the limits on fields and on text", () => {
    const packed = joinChunks(
      messageField(
        7,
        messageField(1, [...stringField(4, "X"), ...messageField(5, messageField(8, [new Uint8Array(100)]))]),
      ),
    );
    expect(code(() => readModel(packed, { maxFields: 105 }))).toBe("nothing");
    expect(code(() => readModel(packed, { maxFields: 100 }))).toBe("onnx_limit_exceeded");
    const text = joinChunks([...messageField(7, []), ...messageField(14, stringField(2, "0123456789"))]);
    expect(code(() => readModel(text, { maxTextBytes: 10 }))).toBe("nothing");
    expect(code(() => readModel(text, { maxTextBytes: 9 }))).toBe("onnx_limit_exceeded");
  });

  test("a deep nest of subgraphs is refused before the stack is", () => {
    let graph: Uint8Array = joinChunks(stringField(2, "g"));
    for (let i = 0; i < 5000; i++) {
      graph = joinChunks(messageField(1, [...stringField(4, "If"), ...messageField(5, messageField(6, [graph]))]));
    }
    expect(code(() => readModel(joinChunks(messageField(7, [graph]))))).toBe("onnx_limit_exceeded");
  });

  test("mutated models never throw anything but the package's errors", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(bytes.length - 1), to: fc.nat(255) }), { minLength: 1, maxLength: 6 }),
        fc.nat(bytes.length),
        (edits, cut) => {
          const mutant = bytes.slice(0, edits.length > 4 ? cut : bytes.length);
          for (const { at, to } of edits) if (at < mutant.length) mutant[at] = to;
          const report = checkModel(mutant);
          expect(report.accepted).toBe(!report.findings.some((finding) => finding.severity === "refuse"));
          code(() => graphSignature(readModel(mutant)));
          code(() => castBoundary(mutant));
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("random bytes never throw anything but the package's errors", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => {
        expect(code(() => readModel(noise))).toMatch(/^(?:onnx_|nothing)/);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("graphSignature", () => {
  test("marks inputs that an initialiser backs, and maps symbolic and unknown axes to -1", () => {
    const { inputs, outputs } = graphSignature(readModel(bytes));
    expect(inputs.map(({ name, datatype, shape, optional }) => ({ name, datatype, shape, optional }))).toEqual([
      { name: "x", datatype: "FP32", shape: [-1, 2], optional: false },
      { name: "c", datatype: "BOOL", shape: [], optional: false },
      { name: "w", datatype: "FP32", shape: [2], optional: true },
    ]);
    expect(outputs[0]).toEqual({ name: "y", elementType: 1, datatype: "FP32", dims: [null, 2], shape: [-1, 2] });
  });

  test("before IR version 4 an initialiser among the inputs is no input", () => {
    const old = readModel(joinChunks(encodeModel({ ...small, irVersion: 3 })));
    expect(graphSignature(old).inputs.map((input) => input.name)).toEqual(["x", "c"]);
  });

  const served = new Map([
    [1, "FP32"],
    [2, "UINT8"],
    [3, "INT8"],
    [4, "UINT16"],
    [5, "INT16"],
    [6, "INT32"],
    [7, "INT64"],
    [8, "BYTES"],
    [9, "BOOL"],
    [10, "FP16"],
    [11, "FP64"],
    [12, "UINT32"],
    [13, "UINT64"],
    [16, "BF16"],
  ]);
  test.each(Array.from({ length: 28 }, (_, type) => type))("element type %i is mapped or refused by name", (type) => {
    const graph = { name: "g", inputs: [value("x", type, [1])] };
    const model = readModel(joinChunks(encodeModel({ ...small, graph })));
    const datatype = served.get(type);
    let given: string | undefined;
    expect(code(() => (given = graphSignature(model).inputs[0]?.datatype))).toBe(
      datatype === undefined ? "datatype_unsupported" : "nothing",
    );
    expect(given).toBe(datatype);
  });

  test("refuses sequences, maps, optionals and untyped values, naming them", () => {
    const float = messageField(1, varintField(1, 1));
    for (const [name, type] of [
      ["sequence(FLOAT)", [...messageField(4, messageField(1, float))]],
      ["optional(FLOAT)", [...messageField(9, messageField(1, float))]],
      ["map(STRING, FLOAT)", [...messageField(5, [...varintField(1, 8), ...messageField(2, float)])]],
      ["sparse_tensor(FLOAT)", [...messageField(8, varintField(1, 1))]],
      ["unknown", []],
    ] as const) {
      expect(() => graphSignature(typed([...type]))).toThrow(`has type ${name},`);
    }
  });

  test.each([
    ["two inputs of one name", [value("x", 1), value("x", 1)]],
    ["an input without a name", [value("", 1)]],
    ["a negative axis", [value("x", 1, [-1])]],
  ])("refuses %s", (_, inputs) => {
    const model = readModel(joinChunks(encodeModel({ ...small, graph: { name: "g", inputs } })));
    expect(code(() => graphSignature(model))).toBe("onnx_signature_invalid");
  });
});
