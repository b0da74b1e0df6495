import { utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Datatype } from "@assay/protocol";
import { BFLOAT16, fromSmallFloat, HALF, toSmallFloat } from "./float-bits.ts";
import { inputError } from "./input-error.ts";

/** Bytes of one element; BYTES elements have their own lengths. */
export const ELEMENT_BYTES: Readonly<Record<Exclude<Datatype, "BYTES">, number>> = {
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
};

const INTEGER_RANGES: Readonly<Partial<Record<Datatype, readonly [bigint, bigint]>>> = {
  UINT8: [0n, 255n],
  UINT16: [0n, 65_535n],
  UINT32: [0n, 4_294_967_295n],
  UINT64: [0n, 18_446_744_073_709_551_615n],
  INT8: [-128n, 127n],
  INT16: [-32_768n, 32_767n],
  INT32: [-2_147_483_648n, 2_147_483_647n],
  INT64: [-9_223_372_036_854_775_808n, 9_223_372_036_854_775_807n],
};

/** Longest decimal text of a 64-bit integer with its sign. */
const MAX_INTEGER_CHARS = 20;

/**
 * JSON values as a tensor's bytes. Integers beyond 2^53 and the non-finite floats are written as strings
 * (`"9007199254740993"`, `"NaN"`, `"Infinity"`, `"-Infinity"`). Throws `input_value` naming the first value that
 * is of a wrong kind or does not fit `datatype`; nothing is cut, wrapped or rounded to an integer.
 */
export function encodeElements(values: readonly JsonValue[], datatype: Datatype, input: string): Uint8Array {
  if (datatype === "BYTES") return joinBytes(values.flatMap((value) => bytesElement(value, input)));
  const size = ELEMENT_BYTES[datatype];
  const bytes = new Uint8Array(values.length * size);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    writeElement(view, index * size, value, datatype, input);
  });
  return bytes;
}

function writeElement(
  view: DataView,
  at: number,
  value: JsonValue,
  datatype: Exclude<Datatype, "BYTES">,
  input: string,
): void {
  if (datatype === "BOOL") {
    if (value !== true && value !== false && value !== 0 && value !== 1) throw wrong(value, datatype, input);
    view.setUint8(at, value === true || value === 1 ? 1 : 0);
    return;
  }
  const range = INTEGER_RANGES[datatype];
  if (range === undefined) {
    writeFloat(view, at, value, datatype, input);
    return;
  }
  const integer = asInteger(value);
  if (integer === undefined || integer < range[0] || integer > range[1]) throw wrong(value, datatype, input);
  const size = ELEMENT_BYTES[datatype];
  if (size === 8) view.setBigUint64(at, BigInt.asUintN(64, integer), true);
  else if (size === 4) view.setUint32(at, Number(BigInt.asUintN(32, integer)), true);
  else if (size === 2) view.setUint16(at, Number(BigInt.asUintN(16, integer)), true);
  else view.setUint8(at, Number(BigInt.asUintN(8, integer)));
}

function writeFloat(view: DataView, at: number, value: JsonValue, datatype: Datatype, input: string): void {
  const number = asFloat(value);
  if (number === undefined) throw wrong(value, datatype, input);
  if (datatype === "FP64") view.setFloat64(at, number, true);
  else if (datatype === "FP32") view.setFloat32(at, number, true);
  else view.setUint16(at, toSmallFloat(number, datatype === "FP16" ? HALF : BFLOAT16), true);
  // A finite number that became an infinity on the way does not fit.
  if (Number.isFinite(number) && !Number.isFinite(readFloat(view, at, datatype))) throw wrong(value, datatype, input);
}

function readFloat(view: DataView, at: number, datatype: Datatype): number {
  if (datatype === "FP64") return view.getFloat64(at, true);
  if (datatype === "FP32") return view.getFloat32(at, true);
  return fromSmallFloat(view.getUint16(at, true), datatype === "FP16" ? HALF : BFLOAT16);
}

function asInteger(value: JsonValue): bigint | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  if (typeof value === "string" && value.length <= MAX_INTEGER_CHARS && /^(0|-?[1-9][0-9]*)$/.test(value))
    return BigInt(value);
  return undefined;
}

function asFloat(value: JsonValue): number | undefined {
  if (typeof value === "number") return value;
  if (value === "NaN") return Number.NaN;
  if (value === "Infinity") return Number.POSITIVE_INFINITY;
  return value === "-Infinity" ? Number.NEGATIVE_INFINITY : undefined;
}

function bytesElement(value: JsonValue, input: string): Uint8Array[] {
  if (typeof value !== "string") throw wrong(value, "BYTES", input);
  return lengthPrefixed(utf8ToBytes(value));
}

/** Any number of parts in one array; spreading millions of them into a call would exhaust the stack. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** One BYTES element: its length as four little-endian bytes, then its bytes. */
export function lengthPrefixed(content: Uint8Array): Uint8Array[] {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, content.length, true);
  return [length, content];
}

function wrong(value: JsonValue, datatype: Datatype, input: string) {
  const shown = JSON.stringify(value)?.slice(0, 40) ?? "nothing";
  const hints: string[] = [];
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value))
    hints.push("Write integers beyond 2^53 as strings, so that no digit is lost.");
  return inputError("input_value", `Input "${input}": ${shown} is not a ${datatype} value.`, hints);
}

/** One element of any datatype, as people and JSON read it. */
export type Element = number | bigint | boolean | string;

/**
 * The elements of a tensor's bytes, in order: `bigint` for the 64-bit integers, text for BYTES. At most `limit`
 * are read. Throws `input_value` when BYTES lengths do not add up.
 */
export function decodeElements(data: Uint8Array, datatype: Datatype, limit = Number.POSITIVE_INFINITY): Element[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const out: Element[] = [];
  if (datatype === "BYTES") {
    for (let at = 0; at < data.length && out.length < limit;) {
      const end = at + 4 <= data.length ? at + 4 + view.getUint32(at, true) : Number.POSITIVE_INFINITY;
      if (end > data.length) throw inputError("input_value", "A BYTES tensor ends inside an element.");
      out.push(new TextDecoder().decode(data.subarray(at + 4, end)));
      at = end;
    }
    return out;
  }
  const size = ELEMENT_BYTES[datatype];
  for (let at = 0; at + size <= data.length && out.length < limit; at += size)
    out.push(readElement(view, at, datatype));
  return out;
}

function readElement(view: DataView, at: number, datatype: Exclude<Datatype, "BYTES">): Element {
  switch (datatype) {
    case "BOOL":
      return view.getUint8(at) !== 0;
    case "UINT8":
      return view.getUint8(at);
    case "UINT16":
      return view.getUint16(at, true);
    case "UINT32":
      return view.getUint32(at, true);
    case "UINT64":
      return view.getBigUint64(at, true);
    case "INT8":
      return view.getInt8(at);
    case "INT16":
      return view.getInt16(at, true);
    case "INT32":
      return view.getInt32(at, true);
    case "INT64":
      return view.getBigInt64(at, true);
    case "FP16":
    case "BF16":
    case "FP32":
    case "FP64":
      return readFloat(view, at, datatype);
  }
}
