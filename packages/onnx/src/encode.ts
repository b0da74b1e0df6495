import type { Dimension } from "./model.ts";
import type { ElementType } from "./types.ts";
import { ELEMENT_TYPE, FLOAT } from "./types.ts";
import type { Chunks } from "./write.ts";
import { floatField, joinChunks, messageField, stringField, varintField } from "./write.ts";

// Encoders for small models and for nodes spliced into existing ones. Each gives the payload of one message, to be
// put under its field number with messageField; numbers are those of onnx.proto.

export type TensorParts = {
  readonly name: string;
  readonly elementType: ElementType;
  readonly dims: readonly number[];
  /** Little-endian elements, stored as `raw_data`. */
  readonly raw?: Uint8Array;
  /** Entries of `external_data`; makes the tensor external. */
  readonly external?: Readonly<Record<string, string>>;
};

export type AttributeParts = { readonly name: string } & (
  | { readonly int: number | bigint }
  | { readonly float: number }
  | { readonly ints: readonly number[] }
  | { readonly text: string }
  | { readonly tensor: TensorParts }
  | { readonly graph: GraphParts }
  /** Inside a function body: takes the value of the function's attribute of this name, an integer. */
  | { readonly reference: string }
);

export type NodeParts = {
  readonly opType: string;
  readonly inputs?: readonly string[];
  readonly outputs?: readonly string[];
  readonly name?: string;
  readonly domain?: string;
  readonly attributes?: readonly AttributeParts[];
};

export type ValueParts = {
  readonly name: string;
  readonly elementType: ElementType;
  /** `null` or absent leaves the rank undeclared. */
  readonly shape?: readonly Dimension[] | null;
};

export type GraphParts = {
  /** `g` unless given: the format wants every graph to have a name. */
  readonly name?: string;
  readonly nodes?: readonly NodeParts[];
  readonly initializers?: readonly TensorParts[];
  readonly inputs?: readonly ValueParts[];
  readonly outputs?: readonly ValueParts[];
};

export type FunctionParts = {
  readonly name: string;
  readonly domain: string;
  readonly inputs?: readonly string[];
  readonly outputs?: readonly string[];
  readonly attributeNames?: readonly string[];
  readonly attributeDefaults?: readonly AttributeParts[];
  readonly nodes: readonly NodeParts[];
  readonly opsets: readonly (readonly [domain: string, version: number])[];
};

export type ModelParts = {
  readonly irVersion: number;
  readonly opsets: readonly (readonly [domain: string, version: number])[];
  readonly graph: GraphParts;
  readonly functions?: readonly FunctionParts[];
  readonly producerName?: string;
};

/** A model file of one graph that uses the standard operators of `opset` and no functions. */
export function encodeModelFile(graph: GraphParts, opset = 17, irVersion = 8): Uint8Array {
  return joinChunks(encodeModel({ irVersion, opsets: [["", opset]], graph }));
}

/** A float32 tensor: `values` in row-major order, as many as `dims` say. */
export function floatTensor(name: string, dims: readonly number[], values: readonly number[]): TensorParts {
  return { name, elementType: FLOAT, dims, raw: new Uint8Array(Float32Array.from(values).buffer) };
}

/** An int64 tensor: `values` in row-major order, as many as `dims` say. */
export function int64Tensor(name: string, dims: readonly number[], values: readonly number[]): TensorParts {
  const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { name, elementType: ELEMENT_TYPE.INT64, dims, raw };
}

/** Payload of a ModelProto. */
export function encodeModel(model: ModelParts): Chunks {
  return [
    ...varintField(1, model.irVersion),
    ...(model.producerName === undefined ? [] : stringField(2, model.producerName)),
    ...messageField(7, encodeGraph(model.graph)),
    ...model.opsets.flatMap((opset) => messageField(8, encodeOpset(opset))),
    ...(model.functions ?? []).flatMap((fn) => messageField(25, encodeFunction(fn))),
  ];
}

/** Payload of a GraphProto. */
export function encodeGraph(graph: GraphParts): Chunks {
  return [
    ...(graph.nodes ?? []).flatMap((node) => messageField(1, encodeNode(node))),
    ...stringField(2, graph.name ?? "g"),
    ...(graph.initializers ?? []).flatMap((tensor) => messageField(5, encodeTensor(tensor))),
    ...(graph.inputs ?? []).flatMap((value) => messageField(11, encodeValueInfo(value))),
    ...(graph.outputs ?? []).flatMap((value) => messageField(12, encodeValueInfo(value))),
  ];
}

/** Payload of a NodeProto. */
export function encodeNode(node: NodeParts): Chunks {
  return [
    ...(node.inputs ?? []).flatMap((name) => stringField(1, name)),
    ...(node.outputs ?? []).flatMap((name) => stringField(2, name)),
    ...(node.name === undefined ? [] : stringField(3, node.name)),
    ...stringField(4, node.opType),
    ...(node.attributes ?? []).flatMap((attribute) => messageField(5, encodeAttribute(attribute))),
    ...(node.domain === undefined ? [] : stringField(7, node.domain)),
  ];
}

/** Payload of an AttributeProto. */
export function encodeAttribute(attribute: AttributeParts): Chunks {
  const name = stringField(1, attribute.name);
  if ("int" in attribute) return [...name, ...varintField(3, attribute.int), ...varintField(20, 2)];
  if ("float" in attribute) return [...name, ...floatField(2, attribute.float), ...varintField(20, 1)];
  if ("ints" in attribute)
    return [...name, ...attribute.ints.flatMap((value) => varintField(8, value)), ...varintField(20, 7)];
  if ("text" in attribute) return [...name, ...stringField(4, attribute.text), ...varintField(20, 3)];
  if ("tensor" in attribute)
    return [...name, ...messageField(5, encodeTensor(attribute.tensor)), ...varintField(20, 4)];
  if ("graph" in attribute) return [...name, ...messageField(6, encodeGraph(attribute.graph)), ...varintField(20, 5)];
  return [...name, ...varintField(20, 2), ...stringField(21, attribute.reference)];
}

/** Payload of a TensorProto. */
export function encodeTensor(tensor: TensorParts): Chunks {
  return [
    ...tensor.dims.flatMap((dim) => varintField(1, dim)),
    ...varintField(2, tensor.elementType),
    ...stringField(8, tensor.name),
    ...(tensor.raw === undefined ? [] : messageField(9, [tensor.raw])),
    ...Object.entries(tensor.external ?? {}).flatMap(([key, value]) =>
      messageField(13, [...stringField(1, key), ...stringField(2, value)]),
    ),
    ...(tensor.external === undefined ? [] : varintField(14, 1)),
  ];
}

/** Payload of a ValueInfoProto whose type is a tensor. */
export function encodeValueInfo(value: ValueParts): Chunks {
  const shape = (value.shape ?? []).flatMap((dimension) =>
    messageField(
      1,
      dimension === null ? [] : typeof dimension === "string" ? stringField(2, dimension) : varintField(1, dimension),
    ),
  );
  const tensor = [
    ...varintField(1, value.elementType),
    ...(value.shape === undefined || value.shape === null ? [] : messageField(2, shape)),
  ];
  return [...stringField(1, value.name), ...messageField(2, messageField(1, tensor))];
}

function encodeFunction(fn: FunctionParts): Chunks {
  return [
    ...stringField(1, fn.name),
    ...(fn.inputs ?? []).flatMap((name) => stringField(4, name)),
    ...(fn.outputs ?? []).flatMap((name) => stringField(5, name)),
    ...(fn.attributeNames ?? []).flatMap((name) => stringField(6, name)),
    ...fn.nodes.flatMap((node) => messageField(7, encodeNode(node))),
    ...fn.opsets.flatMap((opset) => messageField(9, encodeOpset(opset))),
    ...stringField(10, fn.domain),
    ...(fn.attributeDefaults ?? []).flatMap((attribute) => messageField(11, encodeAttribute(attribute))),
  ];
}

function encodeOpset([domain, version]: readonly [string, number]): Chunks {
  return [...stringField(1, domain), ...varintField(2, version)];
}
