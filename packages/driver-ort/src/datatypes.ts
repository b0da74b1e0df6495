import type { Datatype } from "@assay/protocol";

/** Names that the engine's JavaScript tensors use. */
export type EngineType =
  | "bool"
  | "uint8"
  | "uint16"
  | "uint32"
  | "uint64"
  | "int8"
  | "int16"
  | "int32"
  | "int64"
  | "float16"
  | "float32"
  | "float64"
  | "string";

/** Bytes per element; BYTES elements carry their own length. */
export const ELEMENT_BYTES: Readonly<Record<Datatype, number>> = {
  BOOL: 1,
  UINT8: 1,
  UINT16: 2,
  UINT32: 4,
  UINT64: 8,
  INT8: 1,
  INT16: 2,
  INT32: 4,
  INT64: 8,
  FP16: 2,
  BF16: 2,
  FP32: 4,
  FP64: 8,
  BYTES: 0,
};

const FROM_ENGINE: Readonly<Record<EngineType, Datatype>> = {
  bool: "BOOL",
  uint8: "UINT8",
  uint16: "UINT16",
  uint32: "UINT32",
  uint64: "UINT64",
  int8: "INT8",
  int16: "INT16",
  int32: "INT32",
  int64: "INT64",
  float16: "FP16",
  float32: "FP32",
  float64: "FP64",
  string: "BYTES",
};

/** The protocol's name of an engine type, or `undefined` for one that no tensor here can carry. */
export function datatypeOf(type: string): Datatype | undefined {
  return Object.hasOwn(FROM_ENGINE, type) ? FROM_ENGINE[type as EngineType] : undefined;
}

/** The engine's name for `datatype`; BF16 travels as float32 behind a boundary cast. */
export function engineTypeOf(datatype: Datatype): EngineType {
  if (datatype === "BF16") return "float32";
  for (const [type, name] of Object.entries(FROM_ENGINE)) if (name === datatype) return type as EngineType;
  throw new TypeError(`no engine type for ${datatype}`);
}

/** Whether `text` names a datatype. */
export function isDatatype(text: string): text is Datatype {
  return Object.hasOwn(ELEMENT_BYTES, text);
}

/** Product of `shape`; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}
