import { AssayError, bytesToUtf8 } from "@assay/core";
import type { ReadLimits } from "./limits.ts";

/** Wire types of the protobuf encoding that ONNX uses; groups (3 and 4) are refused. */
export const VARINT = 0;
const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/** What one read of a model may still spend. */
export type Budget = { readonly limits: ReadLimits; fields: number; nodes: number };

/**
 * One field of a message, valid only during the visit that received it. `from` to `to` is the payload (without tag
 * and length), `start` where the tag begins. For a varint the payload is the varint's own bytes.
 */
export type Field = { number: number; wire: number; start: number; from: number; to: number };

export function malformed(what: string): AssayError<"onnx_malformed"> {
  return new AssayError("onnx_malformed", `The bytes are not an ONNX model: ${what}.`);
}

export function limitExceeded(limit: keyof ReadLimits, most: number): AssayError<"onnx_limit_exceeded"> {
  return new AssayError("onnx_limit_exceeded", `The model exceeds the limit ${limit} of ${most}.`, {
    hints: [`The caller may raise ${limit} if the model is trusted.`],
  });
}

/**
 * Visits every field of the message in `bytes[from, to)`. The same `Field` object is reused between visits, so that
 * a file of millions of fields costs no allocation. Throws `onnx_malformed` for anything that is not a message.
 */
export function eachField(
  bytes: Uint8Array,
  from: number,
  to: number,
  budget: Budget,
  depth: number,
  visit: (field: Field) => void,
): void {
  if (depth > budget.limits.maxDepth) throw limitExceeded("maxDepth", budget.limits.maxDepth);
  const field: Field = { number: 0, wire: 0, start: from, from, to: from };
  let at = from;
  while (at < to) {
    if (++budget.fields > budget.limits.maxFields) throw limitExceeded("maxFields", budget.limits.maxFields);
    field.start = at;
    const tagEnd = varintEnd(bytes, at, to);
    const tag = varintNumber(bytes, at, tagEnd);
    at = tagEnd;
    field.wire = tag & 7;
    field.number = Math.floor(tag / 8);
    if (field.number < 1 || field.number > 0x1fff_ffff) throw malformed("a field number is out of range");
    switch (field.wire) {
      case VARINT:
        field.from = at;
        at = varintEnd(bytes, at, to);
        break;
      case FIXED64:
        field.from = at;
        at += 8;
        break;
      case FIXED32:
        field.from = at;
        at += 4;
        break;
      case BYTES: {
        const lengthEnd = varintEnd(bytes, at, to);
        field.from = lengthEnd;
        at = lengthEnd + varintNumber(bytes, at, lengthEnd);
        break;
      }
      default:
        throw malformed(`a field has wire type ${field.wire}`);
    }
    if (at > to) throw malformed("a field is longer than its message");
    field.to = at;
    visit(field);
  }
}

/** Where the varint at `at` ends: at most ten bytes (protobuf encoding, "Base 128 Varints"). */
function varintEnd(bytes: Uint8Array, at: number, to: number): number {
  const most = Math.min(to, at + 10);
  for (let i = at; i < most; i++) if ((bytes[i] ?? 0) < 0x80) return i + 1;
  throw malformed("a varint does not end");
}

/** The varint as a number; only for tags, lengths and enumerations, which are refused above 2^53. */
function varintNumber(bytes: Uint8Array, from: number, to: number): number {
  let value = 0;
  let scale = 1;
  for (let i = from; i < to; i++) {
    value += ((bytes[i] ?? 0) & 0x7f) * scale;
    scale *= 128;
  }
  if (value > Number.MAX_SAFE_INTEGER) throw malformed("a length or tag is out of range");
  return value;
}

/** An int64 varint, two's complement. Throws `onnx_malformed` when bits beyond the 64th are set. */
export function readInt64(bytes: Uint8Array, field: Field): bigint {
  expectWire(field, VARINT);
  return BigInt.asIntN(64, readVarint64(bytes, field.from, field.to));
}

function readVarint64(bytes: Uint8Array, from: number, to: number): bigint {
  if (to - from === 10 && (bytes[to - 1] ?? 0) > 1) throw malformed("a varint is longer than 64 bits");
  if (to - from <= 7) return BigInt(varintNumber(bytes, from, to));
  let value = 0n;
  for (let i = to - 1; i >= from; i--) value = (value << 7n) | BigInt((bytes[i] ?? 0) & 0x7f);
  return value;
}

/** An int64 as a number: exact in the safe range, and only approximate (so still recognisably unsafe) outside. */
export function readNumber(bytes: Uint8Array, field: Field): number {
  return Number(readInt64(bytes, field));
}

/** A 32-bit enumeration or version; a value outside int32 is refused rather than truncated as C++ does. */
export function readInt32(bytes: Uint8Array, field: Field): number {
  const value = readNumber(bytes, field);
  if (value < -2_147_483_648 || value > 2_147_483_647) throw malformed(`field ${field.number} exceeds 32 bits`);
  return value;
}

export function readFloat32(bytes: Uint8Array, field: Field): number {
  expectWire(field, FIXED32);
  return new DataView(bytes.buffer, bytes.byteOffset + field.from, 4).getFloat32(0, true);
}

/** Strict UTF-8 of at most `maxNameBytes` or `maxTextBytes`. */
export function readString(
  bytes: Uint8Array,
  field: Field,
  budget: Budget,
  limit: "maxNameBytes" | "maxTextBytes" = "maxNameBytes",
): string {
  expectWire(field, BYTES);
  const most = budget.limits[limit];
  if (field.to - field.from > most) throw limitExceeded(limit, most);
  try {
    return bytesToUtf8(bytes.subarray(field.from, field.to));
  } catch {
    throw malformed(`field ${field.number} is not UTF-8`);
  }
}

/** Calls `visit` for each int64 of a repeated field, in packed or unpacked form. */
export function eachInt64(bytes: Uint8Array, field: Field, budget: Budget, visit: (value: number) => void): void {
  if (field.wire === VARINT) return visit(readNumber(bytes, field));
  expectWire(field, BYTES);
  let at = field.from;
  while (at < field.to) {
    if (++budget.fields > budget.limits.maxFields) throw limitExceeded("maxFields", budget.limits.maxFields);
    const end = varintEnd(bytes, at, field.to);
    visit(Number(BigInt.asIntN(64, readVarint64(bytes, at, end))));
    at = end;
  }
}

/** How many varints a repeated field holds, without decoding them. */
export function countVarints(bytes: Uint8Array, field: Field): number {
  if (field.wire === VARINT) return 1;
  expectWire(field, BYTES);
  if (field.to > field.from && (bytes[field.to - 1] ?? 0) >= 0x80) throw malformed("a varint does not end");
  let count = 0;
  let run = 0;
  for (let i = field.from; i < field.to; i++) {
    run++;
    if ((bytes[i] ?? 0) >= 0x80) continue;
    if (run > 10) throw malformed("a varint does not end");
    count++;
    run = 0;
  }
  return count;
}

/** How many fixed-size elements a repeated field holds. */
export function countFixed(field: Field, size: 4 | 8): number {
  if (field.wire === (size === 4 ? FIXED32 : FIXED64)) return 1;
  expectWire(field, BYTES);
  const length = field.to - field.from;
  if (length % size !== 0) throw malformed(`field ${field.number} is not a whole number of elements`);
  return length / size;
}

/** Refuses a known field whose wire type is not the schema's: parsers would each read it differently. */
export function expectWire(field: Field, wire: number): void {
  if (field.wire !== wire) throw malformed(`field ${field.number} has wire type ${field.wire}, not ${wire}`);
}

/**
 * A set of singular fields already seen in one message. Protobuf lets a repeated singular field override or merge,
 * which parsers do differently, so a second occurrence is refused.
 */
export function onlyOnce(): (field: Field) => void {
  let seen = 0;
  return (field) => {
    const bit = 1 << (field.number & 31);
    if ((seen & bit) !== 0) throw malformed(`field ${field.number} occurs twice in one message`);
    seen |= bit;
  };
}
