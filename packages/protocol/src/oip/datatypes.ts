import { AssayError } from "@assay/core";
import type { Datatype, Tensor } from "../tensor.ts";
import type { OipLimits } from "./limits.ts";

/** Bytes of one element; 0 for BYTES, whose elements vary. */
const SIZES: Readonly<Record<Datatype, number>> = {
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

export const DATATYPES = Object.keys(SIZES) as readonly Datatype[];

export function isDatatype(text: string): text is Datatype {
  return Object.hasOwn(SIZES, text);
}

/** Bytes of one element of a datatype; 0 for BYTES. */
export function elementSize(datatype: Datatype): number {
  return SIZES[datatype];
}

/** A name from outside, quoted and cut for a message. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
}

/**
 * Number of elements of a shape; 1 for a scalar. Throws `tensor_shape_invalid` for a size that is not a natural
 * number, `tensor_too_large` past `maxElements` or `maxRank`.
 */
export function elementCount(name: string, shape: readonly number[], limits: OipLimits): number {
  if (shape.length > limits.maxRank) throw tooLarge(name, `more than ${limits.maxRank} axes`);
  let count = 1;
  let empty = false;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new AssayError("tensor_shape_invalid", `Tensor ${quoteName(name)} has an axis of size ${size}.`);
    }
    // A zero does not excuse the other axes: their product is checked as if it were not there.
    if (size === 0) empty = true;
    else count *= size;
    if (count > limits.maxElements) throw tooLarge(name, `more than ${limits.maxElements} elements`);
  }
  return empty ? 0 : count;
}

function tooLarge(name: string, what: string): AssayError<"tensor_too_large"> {
  return new AssayError("tensor_too_large", `Tensor ${quoteName(name)} has ${what}.`);
}

export function sizeMismatch(name: string, what: string): AssayError<"tensor_data_size"> {
  return new AssayError("tensor_data_size", `Tensor ${quoteName(name)} ${what}.`);
}

/**
 * Refuses a tensor whose bytes are not what its shape and datatype say: `tensor_data_size` for another length or
 * BYTES elements that do not fill the data exactly, `tensor_value_range` for a BOOL byte that is neither 0 nor 1.
 */
export function checkTensorBytes(tensor: Tensor, count: number): void {
  const { name, datatype, data } = tensor;
  if (datatype === "BYTES") {
    checkBytesElements(name, data, count);
    return;
  }
  const expected = count * SIZES[datatype];
  if (data.length !== expected) throw sizeMismatch(name, `has ${data.length} bytes where ${expected} are declared`);
  if (datatype !== "BOOL") return;
  for (const byte of data) {
    if (byte > 1) {
      throw new AssayError("tensor_value_range", `Tensor ${quoteName(name)} has a BOOL byte of ${byte}.`, {
        hints: ["A BOOL is one byte, 0 or 1."],
      });
    }
  }
}

function checkBytesElements(name: string, data: Uint8Array, count: number): void {
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 4 > data.length) throw sizeMismatch(name, `ends before element ${i} of ${count}`);
    at += 4 + lengthAt(data, at);
    if (at > data.length) throw sizeMismatch(name, `ends inside element ${i} of ${count}`);
  }
  if (at !== data.length) throw sizeMismatch(name, `has ${data.length - at} bytes after its last element`);
}

function lengthAt(data: Uint8Array, at: number): number {
  return (
    (data[at] ?? 0) + (data[at + 1] ?? 0) * 0x100 + (data[at + 2] ?? 0) * 0x1_0000 + (data[at + 3] ?? 0) * 0x100_0000
  );
}

/** The elements of a BYTES tensor, as views on its data. Throws `tensor_data_size` when they do not fill it exactly. */
export function bytesElements(tensor: Tensor): Uint8Array[] {
  const out: Uint8Array[] = [];
  let at = 0;
  while (at < tensor.data.length) {
    if (at + 4 > tensor.data.length) throw sizeMismatch(tensor.name, "ends inside a length");
    const end = at + 4 + lengthAt(tensor.data, at);
    if (end > tensor.data.length) throw sizeMismatch(tensor.name, "ends inside an element");
    out.push(tensor.data.subarray(at + 4, end));
    at = end;
  }
  return out;
}

/** Data of a BYTES tensor: every element behind its length, 4 bytes little-endian. */
export function packBytesElements(elements: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const element of elements) length += 4 + element.length;
  const out = new Uint8Array(length);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const element of elements) {
    view.setUint32(at, element.length, true);
    out.set(element, at + 4);
    at += 4 + element.length;
  }
  return out;
}

export type TypedData =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/**
 * The tensor's elements as a typed array: a view where the data is aligned, a copy where it is not. BOOL gives
 * bytes, FP16 and BF16 their bits, BYTES its packed form. Tensors are little-endian and so must be the machine:
 * `platform_unsupported` otherwise.
 */
export function typedData(tensor: Tensor): TypedData {
  assertLittleEndian();
  const size = SIZES[tensor.datatype] || 1;
  const aligned = tensor.data.byteOffset % size === 0 ? tensor.data : tensor.data.slice();
  const { buffer, byteOffset } = aligned;
  const length = Math.floor(aligned.length / size);
  switch (tensor.datatype) {
    case "UINT16":
    case "FP16":
    case "BF16":
      return new Uint16Array(buffer, byteOffset, length);
    case "UINT32":
      return new Uint32Array(buffer, byteOffset, length);
    case "UINT64":
      return new BigUint64Array(buffer, byteOffset, length);
    case "INT8":
      return new Int8Array(buffer, byteOffset, length);
    case "INT16":
      return new Int16Array(buffer, byteOffset, length);
    case "INT32":
      return new Int32Array(buffer, byteOffset, length);
    case "INT64":
      return new BigInt64Array(buffer, byteOffset, length);
    case "FP32":
      return new Float32Array(buffer, byteOffset, length);
    case "FP64":
      return new Float64Array(buffer, byteOffset, length);
    default:
      return aligned;
  }
}

const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export function assertLittleEndian(): void {
  if (!LITTLE_ENDIAN) throw new AssayError("platform_unsupported", "Tensors need a little-endian machine.");
}
