/**
 * A writer for the few parts of an ONNX model that the engine's own probe models need. Field numbers are those of
 * `onnx.proto`; protobuf's wire format is varints and length-prefixed bytes.
 */
export type OnnxTensor = {
  readonly name: string;
  readonly type: number;
  readonly dims: readonly number[];
  readonly raw: Uint8Array;
  /** Where the data is instead, for a tensor kept in another file. */
  readonly external?: Readonly<Record<string, string>>;
};
type OnnxAttribute =
  | { readonly name: string; readonly int: number }
  | { readonly name: string; readonly float: number }
  | { readonly name: string; readonly ints: readonly number[] }
  | { readonly name: string; readonly tensor: OnnxTensor }
  | { readonly name: string; readonly graph: OnnxGraph };
type OnnxNode = {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: readonly OnnxAttribute[];
};
type OnnxPort = {
  readonly name: string;
  readonly type: number;
  /** A name is a symbolic axis, an empty name one without any. */
  readonly shape: readonly (number | string)[];
};
export type OnnxGraph = {
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
  readonly initializers?: readonly OnnxTensor[];
};

/** Numbers of `TensorProto.DataType`. */
export const ONNX_TYPE = {
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  STRING: 8,
  BOOL: 9,
  FLOAT16: 10,
  DOUBLE: 11,
  UINT32: 12,
  UINT64: 13,
  BFLOAT16: 16,
  INT4: 22,
} as const;

/** A model file of one graph. */
export function encodeOnnx(graph: OnnxGraph, opset = 17, irVersion = 8): Uint8Array {
  const opsetImport = Buffer.concat([bytesField(1, Buffer.alloc(0)), intField(2, opset)]);
  return Buffer.concat([intField(1, irVersion), bytesField(7, encodeGraph(graph)), bytesField(8, opsetImport)]);
}

/** A float32 tensor. */
export function floats(name: string, dims: readonly number[], values: readonly number[]): OnnxTensor {
  return { name, type: ONNX_TYPE.FLOAT, dims, raw: new Uint8Array(Float32Array.from(values).buffer) };
}

/** An int64 tensor. */
export function longs(name: string, dims: readonly number[], values: readonly number[]): OnnxTensor {
  return { name, type: ONNX_TYPE.INT64, dims, raw: new Uint8Array(BigInt64Array.from(values, BigInt).buffer) };
}

function encodeGraph({ nodes, inputs, outputs, initializers = [] }: OnnxGraph): Buffer {
  return Buffer.concat([
    ...nodes.map((node, index) => bytesField(1, encodeNode(node, index))),
    textField(2, "g"),
    ...initializers.map((tensor) => bytesField(5, encodeTensor(tensor))),
    ...inputs.map((port) => bytesField(11, encodePort(port))),
    ...outputs.map((port) => bytesField(12, encodePort(port))),
  ]);
}

function encodeNode({ op, inputs, outputs, attributes = [] }: OnnxNode, index: number): Buffer {
  return Buffer.concat([
    ...inputs.map((name) => textField(1, name)),
    ...outputs.map((name) => textField(2, name)),
    textField(3, `n${index}`),
    textField(4, op),
    ...attributes.map((attribute) => bytesField(5, encodeAttribute(attribute))),
  ]);
}

function encodeAttribute(attribute: OnnxAttribute): Buffer {
  const name = textField(1, attribute.name);
  if ("int" in attribute) return Buffer.concat([name, intField(3, attribute.int), intField(20, 2)]);
  if ("float" in attribute) {
    const value = Buffer.alloc(4);
    value.writeFloatLE(attribute.float);
    return Buffer.concat([name, Buffer.from([0x15]), value, intField(20, 1)]);
  }
  if ("ints" in attribute) {
    return Buffer.concat([name, ...attribute.ints.map((value) => intField(8, value)), intField(20, 7)]);
  }
  if ("tensor" in attribute)
    return Buffer.concat([name, bytesField(5, encodeTensor(attribute.tensor)), intField(20, 4)]);
  return Buffer.concat([name, bytesField(6, encodeGraph(attribute.graph)), intField(20, 5)]);
}

function encodeTensor({ name, type, dims, raw, external }: OnnxTensor): Buffer {
  const data =
    external === undefined
      ? [bytesField(9, raw)]
      : [
          ...Object.entries(external).map(([key, value]) =>
            bytesField(13, Buffer.concat([textField(1, key), textField(2, value)])),
          ),
          intField(14, 1),
        ];
  return Buffer.concat([...dims.map((size) => intField(1, size)), intField(2, type), textField(8, name), ...data]);
}

function encodePort({ name, type, shape }: OnnxPort): Buffer {
  const axes = shape.map((size) =>
    bytesField(1, typeof size === "number" ? intField(1, size) : size === "" ? Buffer.alloc(0) : textField(2, size)),
  );
  const tensor = Buffer.concat([intField(1, type), bytesField(2, Buffer.concat(axes))]);
  return Buffer.concat([textField(1, name), bytesField(2, bytesField(1, tensor))]);
}

function varint(value: number | bigint): Buffer {
  const out: number[] = [];
  let left = BigInt.asUintN(64, BigInt(value));
  while (left > 0x7fn) {
    out.push(Number(left & 0x7fn) | 0x80);
    left >>= 7n;
  }
  out.push(Number(left));
  return Buffer.from(out);
}

function intField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function bytesField(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);
}

function textField(field: number, value: string): Buffer {
  return bytesField(field, Buffer.from(value, "utf8"));
}
