import { describe, expect, test } from "vitest";
import type { CheckLimits } from "./check.ts";
import { checkModel } from "./check.ts";
import type { AttributeParts, FunctionParts, GraphParts, ModelParts, NodeParts, TensorParts } from "./encode.ts";
import { encodeModel, encodeTensor } from "./encode.ts";
import { MAX_FINDINGS_PER_CODE } from "./findings.ts";
import { joinChunks, messageField, rewriteGraph, varintField } from "./write.ts";

const relu: NodeParts = { opType: "Relu", inputs: ["x"], outputs: ["y"] };
const base: GraphParts = {
  name: "g",
  nodes: [relu],
  inputs: [{ name: "x", elementType: 1, shape: [2] }],
  outputs: [{ name: "y", elementType: 1, shape: [2] }],
};
const model = (parts: Partial<ModelParts> = {}): Uint8Array =>
  joinChunks(encodeModel({ irVersion: 10, opsets: [["", 21]], graph: base, ...parts }));
const graph = (parts: Partial<GraphParts>): Uint8Array => model({ graph: { ...base, ...parts } });
const weight = (parts: Partial<TensorParts>): Uint8Array =>
  graph({ initializers: [{ name: "w", elementType: 1, dims: [2], raw: new Uint8Array(8), ...parts }] });
const external = (entries: Record<string, string>): Uint8Array =>
  graph({ initializers: [{ name: "w", elementType: 1, dims: [2], external: entries }] });
const files = { externalFiles: new Map([["w.bin", 16]]) };
const node = (opType: string, attributes: AttributeParts[] = [], domain?: string): NodeParts => ({
  opType,
  inputs: ["x"],
  outputs: ["z"],
  attributes,
  ...(domain === undefined ? {} : { domain }),
});
const fn = (name: string, nodes: NodeParts[], parts: Partial<FunctionParts> = {}): FunctionParts => ({
  name,
  domain: "local",
  inputs: ["x"],
  outputs: ["z"],
  nodes,
  opsets: [
    ["", 21],
    ["local", 1],
  ],
  ...parts,
});
const withFunctions = (functions: FunctionParts[], nodes: NodeParts[]): Uint8Array =>
  model({
    opsets: [
      ["", 21],
      ["local", 1],
    ],
    graph: { ...base, nodes: [relu, ...nodes] },
    functions,
  });
const call = (name: string, output = "z", attributes: AttributeParts[] = []): NodeParts => ({
  ...node(name, attributes, "local"),
  outputs: [output],
});
const chain = (count: number): FunctionParts[] =>
  Array.from({ length: count }, (_, i) =>
    fn(`f${i}`, i + 1 < count ? [call(`f${i + 1}`, "a"), call(`f${i + 1}`, "z")] : [node("Relu")]),
  );

function refusals(bytes: Uint8Array, limits?: Partial<CheckLimits>): string[] {
  const report = checkModel(bytes, limits);
  const codes = report.findings.filter((finding) => finding.severity === "refuse").map((finding) => finding.code);
  expect(report.accepted).toBe(codes.length === 0);
  return [...new Set(codes)];
}

describe("checkModel accepts", () => {
  test.each<[string, Uint8Array, Partial<CheckLimits>]>([
    ["a plain graph", model(), {}],
    ["the ONNX domain by its long name", model({ opsets: [["ai.onnx", 26]] }), {}],
    ["raw weights of the declared size", weight({}), {}],
    ["an empty tensor without storage", graph({ initializers: [{ name: "w", elementType: 1, dims: [0, 3] }] }), {}],
    [
      "an initialiser that backs an input",
      graph({ initializers: [{ name: "x", elementType: 1, dims: [2], raw: new Uint8Array(8) }] }),
      {},
    ],
    ["external data inside a file of the model", external({ location: "w.bin", offset: "8", length: "8" }), files],
    ["external data without offset and length", external({ location: "w.bin" }), files],
    ["a function of the model's own", withFunctions([fn("f", [node("Relu")])], [call("f")]), {}],
    ["a cast to float16", graph({ nodes: [relu, node("Cast", [{ name: "to", int: 10 }])] }), {}],
  ])("%s", (_, bytes, limits) => {
    expect(refusals(bytes, limits)).toEqual([]);
  });

  test("and gives the facts", () => {
    const report = checkModel(withFunctions(chain(4), [call("f0")]));
    expect(report.facts).toEqual({
      nodeCount: 9,
      expandedNodeCount: 9,
      functionCount: 4,
      subgraphDepth: 0,
      controlFlow: { loop: 0, scan: 0, if: 0 },
      storedElements: 0,
      externalPaths: [],
    });
  });
});

describe("checkModel refuses", () => {
  const two = (a: Record<string, string>, b: Record<string, string>): Uint8Array =>
    graph({
      initializers: [
        { name: "a", elementType: 1, dims: [2], external: { location: "w.bin", ...a } },
        { name: "b", elementType: 1, dims: [2], external: { location: "w.bin", ...b } },
      ],
    });
  const both = rewriteGraph(weight({}), (field) =>
    field.number === 5
      ? messageField(5, [
          ...encodeTensor({ name: "w", elementType: 1, dims: [2], raw: new Uint8Array(8) }),
          ...messageField(4, [new Uint8Array(8)]),
        ])
      : true,
  );
  const typed = (elementType: number, fieldNumber: number, payload: number): Uint8Array =>
    joinChunks(
      rewriteGraph(weight({}), (field) =>
        field.number === 5
          ? messageField(5, [
              ...encodeTensor({ name: "w", elementType, dims: [2] }),
              ...messageField(fieldNumber, [new Uint8Array(payload)]),
            ])
          : true,
      ),
    );

  test.each<[string, Uint8Array, string, Partial<CheckLimits>?]>([
    ["bytes that are no model", new TextEncoder().encode("hello"), "onnx_malformed"],
    ["a file without a graph", joinChunks(varintField(1, 8)), "onnx_graph_missing"],
    ["more nodes than the reader takes", model(), "onnx_limit_exceeded", { read: { maxNodes: 0 } }],
    ["an IR version of the future", model({ irVersion: 14 }), "ir_version_unsupported"],
    ["an IR version before operator sets", model({ irVersion: 2 }), "ir_version_unsupported"],
    ["an opset of the future", model({ opsets: [["", 27]] }), "opset_unsupported"],
    ["opset zero", model({ opsets: [["", 0]] }), "opset_unsupported"],
    [
      "an ml opset of the future",
      model({
        opsets: [
          ["", 21],
          ["ai.onnx.ml", 6],
        ],
      }),
      "opset_unsupported",
    ],
    [
      "one domain imported twice under two names",
      model({
        opsets: [
          ["", 21],
          ["ai.onnx", 20],
        ],
      }),
      "opset_duplicate",
    ],
    ["a domain used but not imported", graph({ nodes: [relu, node("Scaler", [], "ai.onnx.ml")] }), "opset_missing"],
    [
      "a custom domain",
      model({
        opsets: [
          ["", 21],
          ["evil", 1],
        ],
        graph: { ...base, nodes: [relu, node("Run", [], "evil")] },
      }),
      "domain_refused",
    ],
    [
      "a training domain",
      model({
        opsets: [
          ["", 21],
          ["ai.onnx.preview.training", 1],
        ],
        graph: { ...base, nodes: [relu, node("Adam", [], "ai.onnx.preview.training")] },
      }),
      "domain_refused",
    ],
    [
      "a custom operator in a subgraph",
      graph({
        nodes: [relu, node("If", [{ name: "then_branch", graph: { name: "t", nodes: [node("Run", [], "evil")] } }])],
      }),
      "domain_refused",
    ],
    [
      "a custom operator in a function",
      withFunctions([fn("f", [node("Run", [], "evil")])], [call("f")]),
      "domain_refused",
    ],
    [
      "a function's opset of the future",
      withFunctions([fn("f", [node("Relu")], { opsets: [["", 99]] })], [call("f")]),
      "opset_unsupported",
    ],
    [
      "two initialisers of one name",
      graph({
        initializers: [
          { name: "w", elementType: 1, dims: [0] },
          { name: "w", elementType: 1, dims: [0] },
        ],
      }),
      "duplicate_name",
    ],
    [
      "two outputs of one name",
      graph({ outputs: [...(base.outputs ?? []), ...(base.outputs ?? [])] }),
      "duplicate_name",
    ],
    ["two inputs of one name", graph({ inputs: [...(base.inputs ?? []), ...(base.inputs ?? [])] }), "duplicate_name"],
    ["a node output that is an input", graph({ nodes: [{ ...relu, outputs: ["x"] }] }), "duplicate_name"],
    ["two producers of one value", graph({ nodes: [relu, relu] }), "duplicate_name"],
    ["an initialiser without a name", weight({ name: "" }), "duplicate_name"],
    [
      "two functions of one name",
      withFunctions([fn("f", [node("Relu")]), fn("f", [node("Neg")])], [call("f")]),
      "duplicate_name",
    ],
    ["a negative axis in an input", graph({ inputs: [{ name: "x", elementType: 1, shape: [-3] }] }), "shape_invalid"],
    ["an input of an unknown type", graph({ inputs: [{ name: "x", elementType: 99 }] }), "tensor_type_unknown"],
    ["a weight of an unknown type", weight({ elementType: 99 }), "tensor_type_unknown"],
    ["a weight of no type", weight({ elementType: 0 }), "tensor_type_unknown"],
    ["a negative axis in a weight", weight({ dims: [-1] }), "tensor_shape_invalid"],
    ["an axis beyond exact numbers", weight({ dims: [2 ** 60] }), "tensor_shape_invalid"],
    ["axes whose product overflows", weight({ dims: [2 ** 31, 2 ** 31, 2 ** 31] }), "tensor_too_large"],
    ["one tensor over the limit", weight({}), "tensor_too_large", { maxTensorElements: 1 }],
    ["all tensors over the limit", weight({}), "tensors_too_large", { maxTotalElements: 1 }],
    ["fewer bytes than declared", weight({ raw: new Uint8Array(7) }), "tensor_size_mismatch"],
    ["more bytes than declared", weight({ raw: new Uint8Array(9) }), "tensor_size_mismatch"],
    ["no bytes at all", graph({ initializers: [{ name: "w", elementType: 1, dims: [2] }] }), "tensor_size_mismatch"],
    ["strings as raw bytes", weight({ elementType: 8 }), "tensor_size_mismatch"],
    ["floats in the field of integers", typed(1, 5, 2), "tensor_size_mismatch"],
    ["three integers where two are declared", typed(6, 5, 3), "tensor_size_mismatch"],
    ["a complex number cut in half", typed(14, 4, 8), "tensor_size_mismatch"],
    [
      "a lying tensor in an attribute",
      graph({
        nodes: [
          relu,
          node("Constant", [
            { name: "value", tensor: { name: "", elementType: 1, dims: [9], raw: new Uint8Array(4) } },
          ]),
        ],
      }),
      "tensor_size_mismatch",
    ],
    ["two storages of one tensor", joinChunks(both), "tensor_storage_ambiguous"],
    ["external and raw at once", weight({ external: { location: "w.bin" } }), "tensor_storage_ambiguous"],
    ["an absolute path", external({ location: "/etc/passwd" }), "external_data_path", files],
    ["a path that climbs out", external({ location: "../w.bin" }), "external_data_path", files],
    ["a path that climbs out later", external({ location: "a/../../w.bin" }), "external_data_path", files],
    ["a backslash", external({ location: "..\\w.bin" }), "external_data_path", files],
    ["a drive letter", external({ location: "C:w.bin" }), "external_data_path", files],
    ["an empty path", external({ location: "" }), "external_data_path", files],
    ["no path", external({ offset: "0" }), "external_data_path", files],
    ["a NUL in the path", external({ location: "w.bin\0.txt" }), "external_data_path", files],
    ["a base path", external({ location: "w.bin", basepath: "/" }), "external_data_path", files],
    ["a file that is not there", external({ location: "v.bin" }), "external_data_missing", files],
    ["external data without any files", external({ location: "w.bin" }), "external_data_missing"],
    ["an end past the file", external({ location: "w.bin", offset: "9" }), "external_data_range", files],
    [
      "an offset far past the file",
      external({ location: "w.bin", offset: "9007199254740991" }),
      "external_data_range",
      files,
    ],
    [
      "an offset that overflows",
      external({ location: "w.bin", offset: "18446744073709551615" }),
      "external_data_range",
      files,
    ],
    ["a negative offset", external({ location: "w.bin", offset: "-1" }), "external_data_range", files],
    ["a hexadecimal offset", external({ location: "w.bin", offset: "0x8" }), "external_data_range", files],
    ["an offset with spaces", external({ location: "w.bin", offset: " 8" }), "external_data_range", files],
    ["a length that is not the tensor's", external({ location: "w.bin", length: "4" }), "external_data_range", files],
    ["an unknown key", external({ location: "w.bin", url: "http://x" }), "external_data_malformed", files],
    [
      "external strings",
      graph({ initializers: [{ name: "w", elementType: 8, dims: [2], external: { location: "w.bin" } }] }),
      "external_data_malformed",
      files,
    ],
    ["ranges that overlap", two({ offset: "0" }, { offset: "4" }), "external_data_overlap", files],
    ["one range twice", two({}, {}), "external_data_overlap", files],
    ["a weight of INT4", weight({ elementType: 22, raw: new Uint8Array(1) }), "low_bit_type"],
    ["an input of FLOAT4E2M1", graph({ inputs: [{ name: "x", elementType: 23 }] }), "low_bit_type"],
    ["a cast to UINT4", graph({ nodes: [relu, node("Cast", [{ name: "to", int: 21 }])] }), "low_bit_type"],
    [
      "a cast to INT2 in a subgraph",
      graph({
        nodes: [
          relu,
          node("If", [{ name: "then_branch", graph: { name: "t", nodes: [node("Cast", [{ name: "to", int: 26 }])] } }]),
        ],
      }),
      "low_bit_type",
    ],
    [
      "a quantisation to INT4",
      graph({ nodes: [relu, node("QuantizeLinear", [{ name: "output_dtype", int: 22 }])] }),
      "low_bit_type",
    ],
    [
      "a constant of INT4",
      graph({
        nodes: [
          relu,
          node("Constant", [
            { name: "value", tensor: { name: "", elementType: 22, dims: [2], raw: new Uint8Array(1) } },
          ]),
        ],
      }),
      "low_bit_type",
    ],
    [
      "a cast whose type comes through two functions",
      withFunctions(
        [
          fn("f", [{ ...call("g"), attributes: [{ name: "b", reference: "a" }] }], { attributeNames: ["a"] }),
          fn("g", [node("Cast", [{ name: "to", reference: "b" }])], { attributeNames: ["b"] }),
        ],
        [call("f", "z", [{ name: "a", int: 22 }])],
      ),
      "low_bit_type",
    ],
    [
      "a cast whose type is a function's default",
      withFunctions(
        [fn("f", [node("Cast", [{ name: "to", reference: "a" }])], { attributeDefaults: [{ name: "a", int: 22 }] })],
        [call("f")],
      ),
      "low_bit_type",
    ],
    ["a function that calls itself", withFunctions([fn("f", [call("f")])], [call("f")]), "function_recursive"],
    [
      "functions that call each other",
      withFunctions([fn("f", [call("g")]), fn("g", [call("f")])], [call("f")]),
      "function_recursive",
    ],
    ["functions that double thirty times", withFunctions(chain(30), [call("f0")]), "function_expansion"],
    [
      "a function in the standard domain",
      model({ functions: [fn("Relu", [node("Neg")], { domain: "" })] }),
      "function_shadows_operator",
    ],
  ])("%s", (_, bytes, expected, limits) => {
    expect(refusals(bytes, limits)).toContain(expected);
  });

  test("subgraphs one deeper than the limit", () => {
    let body: GraphParts = { name: "inner" };
    for (let i = 0; i < 3; i++) body = { name: "b", nodes: [node("If", [{ name: "then_branch", graph: body }])] };
    const bytes = graph({ nodes: [relu, ...(body.nodes ?? [])] });
    expect(refusals(bytes, { maxSubgraphDepth: 3 })).toEqual([]);
    expect(refusals(bytes, { maxSubgraphDepth: 2 })).toEqual(["subgraph_too_deep"]);
  });

  test("expansion one node past the limit", () => {
    const bytes = withFunctions(chain(5), [call("f0")]);
    expect(refusals(bytes, { maxExpandedNodes: 17 })).toEqual([]);
    expect(refusals(bytes, { maxExpandedNodes: 16 })).toEqual(["function_expansion"]);
  });

  test("a thousand faults without listing them all", () => {
    const initializers = Array.from({ length: 1000 }, (_, i) => ({ name: `w${i}`, elementType: 1, dims: [2] }));
    const report = checkModel(graph({ initializers }));
    expect(report.accepted).toBe(false);
    expect(report.findings).toHaveLength(MAX_FINDINGS_PER_CODE);
  });

  test("a name cannot forge a line of a log", () => {
    const report = checkModel(weight({ name: `w\nERROR forged ${"x".repeat(500)}`, raw: new Uint8Array(1) }));
    for (const { message } of report.findings) {
      expect(message).not.toContain("\n");
      expect(message.length).toBeLessThan(300);
    }
  });
});

describe("checkModel warns of", () => {
  test.each<[string, Uint8Array, string]>([
    ["control flow", graph({ nodes: [relu, node("Loop", [{ name: "body", graph: { name: "b" } }])] }), "control_flow"],
    [
      "an unused foreign domain",
      model({
        opsets: [
          ["", 21],
          ["org.pytorch.aten", 1],
        ],
      }),
      "domain_unused",
    ],
    ["a legacy opset", model({ opsets: [["", 6]] }), "opset_legacy"],
    [
      "two nodes of one name",
      graph({
        nodes: [
          { ...relu, name: "n" },
          { ...node("Neg"), name: "n" },
        ],
      }),
      "node_name_duplicate",
    ],
    ["training sections", joinChunks([model(), ...messageField(20, [])]), "training_ignored"],
  ])("%s and still accepts", (_, bytes, expected) => {
    const report = checkModel(bytes);
    expect(report.accepted).toBe(true);
    expect(report.findings.map((finding) => finding.code)).toEqual([expected]);
  });
});
