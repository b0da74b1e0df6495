import type { Datatype } from "@assay/protocol";
import { encodeByteStrings, decodeByteStrings } from "../byte-strings.ts";
import { ELEMENT_BYTES, engineTypeOf } from "../datatypes.ts";

/** The engines' common tensor, as far as it is used here. */
export type EngineTensor = {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: ArrayBufferView | readonly string[];
};

/** Constructor of {@link EngineTensor}; both engines bring the same class. */
export type EngineTensorClass = new (type: never, data: never, dims: readonly number[]) => EngineTensor;

type ArrayClass = new (buffer: ArrayBuffer, offset: number, length: number) => ArrayBufferView;

const ARRAYS: Readonly<Record<Exclude<Datatype, "BYTES" | "BF16">, ArrayClass>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  // Half precision as its bits, see `loadEngine`.
  FP16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

/** The engine's tensor for protocol bytes. `data` must be 8-byte aligned, which frames guarantee. */
export function toEngine(
  Tensor: EngineTensorClass,
  datatype: Datatype,
  shape: readonly number[],
  data: Uint8Array,
): EngineTensor {
  const type = engineTypeOf(datatype) as never;
  if (datatype === "BYTES") return new Tensor(type, decodeByteStrings(data) as never, shape);
  const bytes = datatype === "BF16" ? widenBf16(data) : data;
  const kind = datatype === "BF16" ? "FP32" : datatype;
  const length = bytes.byteLength / ELEMENT_BYTES[kind];
  const array = new ARRAYS[kind](bytes.buffer as ArrayBuffer, bytes.byteOffset, length);
  return new Tensor(type, array as never, shape);
}

/** Protocol bytes of an engine's tensor, with every NaN written as the one quiet NaN of its type. */
export function fromEngine(datatype: Datatype, tensor: EngineTensor): Uint8Array {
  if (!ArrayBuffer.isView(tensor.data)) return encodeByteStrings(tensor.data);
  const bytes = new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  if (datatype === "BF16") return canonicalNaN("BF16", narrowBf16(bytes));
  return canonicalNaN(datatype, bytes);
}

/**
 * Writes NaNs with one bit pattern, in place where the bytes are aligned. Their payload and sign are what
 * WebAssembly leaves to the machine (core specification, section "NaN propagation"), and a receipt hashes bits.
 */
export function canonicalNaN(datatype: Datatype, bytes: Uint8Array): Uint8Array {
  const size = ELEMENT_BYTES[datatype];
  if (datatype !== "FP16" && datatype !== "BF16" && datatype !== "FP32" && datatype !== "FP64") return bytes;
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const length = aligned.byteLength / size;
  if (datatype === "FP32") {
    const values = new Float32Array(aligned.buffer, aligned.byteOffset, length);
    let words: Uint32Array | undefined;
    for (let i = 0; i < length; i++) {
      const value = values[i];
      if (value === value) continue;
      words ??= new Uint32Array(aligned.buffer, aligned.byteOffset, length);
      words[i] = 0x7fc0_0000;
    }
  } else if (datatype === "FP64") {
    const values = new Float64Array(aligned.buffer, aligned.byteOffset, length);
    const words = new BigUint64Array(aligned.buffer, aligned.byteOffset, length);
    for (let i = 0; i < length; i++) if (Number.isNaN(values[i])) words[i] = 0x7ff8_0000_0000_0000n;
  } else {
    const infinity = datatype === "FP16" ? 0x7c00 : 0x7f80;
    const quiet = datatype === "FP16" ? 0x7e00 : 0x7fc0;
    const words = new Uint16Array(aligned.buffer, aligned.byteOffset, length);
    for (let i = 0; i < length; i++) if (((words[i] ?? 0) & 0x7fff) > infinity) words[i] = quiet;
  }
  return aligned;
}

/** FP32 bytes of BF16 bytes: exact, since BF16 is the upper half of FP32. */
export function widenBf16(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length * 2);
  for (let i = 0; i + 1 < data.length; i += 2) {
    out[2 * i + 2] = data[i] ?? 0;
    out[2 * i + 3] = data[i + 1] ?? 0;
  }
  return out;
}

/** BF16 bytes of FP32 bytes that came out of a cast from BF16, so that dropping the lower half loses nothing. */
export function narrowBf16(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length / 2);
  for (let i = 0; i + 1 < out.length; i += 2) {
    out[i] = data[2 * i + 2] ?? 0;
    out[i + 1] = data[2 * i + 3] ?? 0;
  }
  return out;
}
