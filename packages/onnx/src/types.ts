import { AssayError } from "@assay/core";

/** Number of `TensorProto.DataType`, as written in the file. */
export type ElementType = number;

/** Names of `TensorProto.DataType` (onnx.proto, IR version 13), by number. */
const ELEMENT_NAMES = [
  "UNDEFINED",
  "FLOAT",
  "UINT8",
  "INT8",
  "UINT16",
  "INT16",
  "INT32",
  "INT64",
  "STRING",
  "BOOL",
  "FLOAT16",
  "DOUBLE",
  "UINT32",
  "UINT64",
  "COMPLEX64",
  "COMPLEX128",
  "BFLOAT16",
  "FLOAT8E4M3FN",
  "FLOAT8E4M3FNUZ",
  "FLOAT8E5M2",
  "FLOAT8E5M2FNUZ",
  "UINT4",
  "INT4",
  "FLOAT4E2M1",
  "FLOAT8E8M0",
  "UINT2",
  "INT2",
] as const;

/** Numbers of `TensorProto.DataType` by name. */
export const ELEMENT_TYPE = Object.fromEntries(ELEMENT_NAMES.map((name, type) => [name, type])) as Readonly<
  Record<(typeof ELEMENT_NAMES)[number], ElementType>
>;
export const { FLOAT, STRING, BFLOAT16 } = ELEMENT_TYPE;

/** Bits of one element by number of the type; 0 where the size varies or the type is undefined. */
const ELEMENT_BITS = [
  0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4, 4, 8, 2, 2,
] as const;

/** Types narrower than a byte. The engines abort the whole process when asked to cast to some of them. */
const LOW_BIT: ReadonlySet<ElementType> = new Set([21, 22, 23, 25, 26]);

/** Datatypes of the Open Inference Protocol that an ONNX tensor can have. */
export type OipDatatype =
  | "BOOL"
  | "UINT8"
  | "UINT16"
  | "UINT32"
  | "UINT64"
  | "INT8"
  | "INT16"
  | "INT32"
  | "INT64"
  | "FP16"
  | "BF16"
  | "FP32"
  | "FP64"
  | "BYTES";

const DATATYPES: ReadonlyMap<ElementType, OipDatatype> = new Map<ElementType, OipDatatype>([
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

/** Name of an element type, for example `FLOAT16`; a number that the schema lacks gives `TYPE_<number>`. */
export function elementTypeName(type: ElementType): string {
  return ELEMENT_NAMES[type] ?? `TYPE_${type}`;
}

/** Bits of one element, 0 for STRING, UNDEFINED and unknown numbers. */
export function elementBits(type: ElementType): number {
  return ELEMENT_BITS[type] ?? 0;
}

export function isKnownElementType(type: ElementType): boolean {
  return type > 0 && type < ELEMENT_NAMES.length;
}

export function isLowBit(type: ElementType): boolean {
  return LOW_BIT.has(type);
}

/**
 * The protocol's datatype of an ONNX element type. Throws `datatype_unsupported`, naming the type, for complex,
 * 8-bit float and narrower-than-a-byte types, which neither the protocol nor the engines' interfaces carry.
 */
export function datatypeOf(type: ElementType, name: string): OipDatatype {
  const datatype = DATATYPES.get(type);
  if (datatype === undefined) throw unsupported(name, elementTypeName(type));
  return datatype;
}

export function unsupported(name: string, type: string): AssayError<"datatype_unsupported"> {
  return new AssayError("datatype_unsupported", `Tensor "${name}" has type ${type}, which cannot be served.`, {
    hints: [`Types that can be served: ${[...DATATYPES.keys()].map(elementTypeName).join(", ")}.`],
  });
}
