import { AssayError, CborWriter, bytesToHex, compareBytes, decodeCbor, encodeCbor, withCborWriter } from "@assay/core";
import type { CborMap, CborValue, JsonValue } from "@assay/core";
import { LIMIT } from "./labels.ts";

/**
 * A closed map on the wire: each claim has an integer (or text) key, a name, a kind and whether it must be there.
 * One table drives the encoder, the decoder, the JSON view and the tables of the specification.
 */
export type Field = {
  readonly key: number | string;
  readonly name: string;
  readonly kind: FieldKind;
  readonly required?: boolean;
};

export type FieldKind =
  | { readonly type: "text"; readonly maxBytes?: number; readonly oneOf?: readonly string[] }
  | { readonly type: "uint" }
  | { readonly type: "int" }
  | { readonly type: "bool" }
  | { readonly type: "bytes"; readonly min: number; readonly max: number }
  | { readonly type: "map"; readonly fields: Table }
  | { readonly type: "list"; readonly of: FieldKind; readonly max: number }
  /** A text-keyed map of texts, integers, booleans, byte strings, lists and maps: room to grow without a new version. */
  | { readonly type: "open" };

export type Table = { readonly sorted: readonly PreparedField[]; readonly byKey: ReadonlyMap<number | string, Field> };
type PreparedField = Field & { readonly encodedKey: Uint8Array };

export type OpenValue = string | number | boolean | Uint8Array | readonly OpenValue[] | OpenMap;
export type OpenMap = { readonly [key: string]: OpenValue };
export type TableValue = OpenValue | readonly TableValue[] | { readonly [name: string]: TableValue | undefined };
export type TableObject = { readonly [name: string]: TableValue | undefined };

/** Prepares a table: keys are encoded and sorted once, not per statement. */
export function table(fields: readonly Field[]): Table {
  const sorted = fields.map((field) => ({ ...field, encodedKey: encodeCbor(field.key) }));
  sorted.sort((a, b) => compareBytes(a.encodedKey, b.encodedKey));
  return { sorted, byKey: new Map(fields.map((field) => [field.key, field])) };
}

/** Writes `object` as the table's deterministic map. Throws `claims_invalid` naming the claim that does not fit. */
export function writeTable(writer: CborWriter, of: Table, object: TableObject): void {
  let size = 0;
  for (const field of of.sorted) {
    if (object[field.name] !== undefined) size++;
    else if (field.required) throw invalid(field.name, "is missing");
  }
  writer.map(size);
  for (const field of of.sorted) {
    const value = object[field.name];
    if (value === undefined) continue;
    writer.raw(field.encodedKey);
    writeKind(writer, field.kind, value, field.name);
  }
}

/** The table's map as bytes. */
export function encodeTable(of: Table, object: TableObject): Uint8Array {
  return withCborWriter((writer) => writeTable(writer, of, object));
}

function writeKind(writer: CborWriter, kind: FieldKind, value: TableValue, name: string): void {
  switch (kind.type) {
    case "map":
      if (!isObject(value)) throw invalid(name, "must be a map");
      return writeTable(writer, kind.fields, value);
    case "list":
      if (!Array.isArray(value) || value.length > kind.max)
        throw invalid(name, `must be a list of at most ${kind.max}`);
      writer.array(value.length);
      for (const item of value as readonly TableValue[]) writeKind(writer, kind.of, item, name);
      return;
    case "open": {
      const known = typeof value === "object" ? remembered.get(value) : undefined;
      return known ? writer.raw(known) : writeOpen(writer, value, name);
    }
    default:
      checkScalar(kind, value as CborValue, name);
      writer.value(value as CborValue);
  }
}

/** Reads bytes as the table's map. Throws `claims_invalid` or `cbor_invalid`; unknown keys are refused. */
export function decodeTable(of: Table, bytes: Uint8Array): TableObject {
  if (bytes.length > LIMIT.claimsBytes) throw invalid("claims", `must be at most ${LIMIT.claimsBytes} bytes`);
  return readTable(of, decodeCbor(bytes, { maxBytes: LIMIT.claimsBytes, maxItems: 50_000 }), "claims");
}

/** Reads a decoded CBOR value as the table's map. */
export function readTable(of: Table, value: CborValue, where: string): TableObject {
  if (!(value instanceof Map)) throw invalid(where, "must be a map");
  const map: CborMap = value;
  for (const key of map.keys()) if (!of.byKey.has(key)) throw invalid(where, `holds the unknown key ${keyText(key)}`);
  const out: { [name: string]: TableValue } = {};
  for (const field of of.sorted) {
    const item = map.get(field.key);
    if (item === undefined) {
      if (field.required) throw invalid(field.name, "is missing");
      continue;
    }
    out[field.name] = readKind(field.kind, item, field.name);
  }
  return out;
}

// A stranger's key may be long or hold control characters, and this sentence is printed.
function keyText(key: number | string): string {
  return typeof key === "number" ? String(key) : JSON.stringify(key.slice(0, 64));
}

function readKind(kind: FieldKind, value: CborValue, name: string): TableValue {
  switch (kind.type) {
    case "map":
      return readTable(kind.fields, value, name);
    case "list":
      if (!Array.isArray(value) || value.length > kind.max)
        throw invalid(name, `must be a list of at most ${kind.max}`);
      return (value as readonly CborValue[]).map((item) => readKind(kind.of, item, name));
    case "open":
      return cborToOpen(value, name, { left: LIMIT.openItems }, 0);
    default:
      checkScalar(kind, value, name);
      return value as TableValue;
  }
}

function checkScalar(
  kind: Exclude<FieldKind, { type: "map" | "list" | "open" }>,
  value: CborValue,
  name: string,
): void {
  switch (kind.type) {
    case "text": {
      const max = kind.maxBytes ?? LIMIT.textBytes;
      // A text takes at most three bytes a unit, so only one near its limit is worth counting.
      if (typeof value !== "string" || (value.length * 3 > max && utf8Length(value) > max))
        throw invalid(name, `must be a text of at most ${max} bytes`);
      if (kind.oneOf && !kind.oneOf.includes(value)) throw invalid(name, `must be one of ${kind.oneOf.join(", ")}`);
      return;
    }
    case "uint":
      if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
        throw invalid(name, "must be an unsigned integer below 2^53");
      return;
    case "int":
      if (typeof value !== "number" || !Number.isSafeInteger(value))
        throw invalid(name, "must be an integer within 2^53");
      return;
    case "bool":
      if (typeof value !== "boolean") throw invalid(name, "must be a boolean");
      return;
    case "bytes":
      if (!(value instanceof Uint8Array) || value.length < kind.min || value.length > kind.max) {
        throw invalid(
          name,
          kind.min === kind.max ? `must be ${kind.min} bytes` : `must be ${kind.min} to ${kind.max} bytes`,
        );
      }
  }
}

/** Bytes of UTF-8 that `text` takes. */
export function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x80) continue;
    length += code < 0x800 ? 1 : 2;
    // A pair of surrogates takes four bytes, which its first unit has already accounted for.
    if (code >= 0xd800 && code <= 0xdbff && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) i++;
  }
  return length;
}

const remembered = new WeakMap<object, Uint8Array>();

/**
 * Encodes an open map once and remembers the bytes under the object itself. For facts that stand unchanged in
 * thousands of statements (a runtime's, for example); the object must not be changed afterwards.
 */
export function rememberOpen<Value extends OpenMap>(value: Value): Value {
  const writer = new CborWriter();
  writer.value(openToCbor(value, "open map", { left: LIMIT.openItems }, 0));
  remembered.set(value, writer.finish());
  return value;
}

/**
 * Writes an open map. Text keys shorter than 24 bytes of ASCII sort by length and then by code: the order of their
 * encodings, found without encoding them.
 */
function writeOpen(writer: CborWriter, value: TableValue, name: string): void {
  if (!isObject(value)) throw invalid(name, "must be a map");
  const keys = Object.keys(value);
  for (const key of keys) {
    const item = value[key];
    const scalar =
      typeof item === "string" || typeof item === "number" || typeof item === "boolean" || item instanceof Uint8Array;
    if (!scalar || !SHORT_ASCII.test(key)) return writer.value(openToCbor(value, name, { left: LIMIT.openItems }, 0));
  }
  if (keys.length > MAX_FLAT_KEYS) return writer.value(openToCbor(value, name, { left: LIMIT.openItems }, 0));
  keys.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  writer.map(keys.length);
  for (const key of keys) {
    writer.text(key);
    writer.value(value[key] as CborValue);
  }
}

const SHORT_ASCII = /^[\x20-\x7e]{1,23}$/;
const MAX_FLAT_KEYS = 64;

const MAX_OPEN_DEPTH = 6;

function openToCbor(value: TableValue, name: string, budget: { left: number }, depth: number): CborValue {
  if (--budget.left < 0 || depth > MAX_OPEN_DEPTH) throw invalid(name, "is too large or too deep");
  if (value instanceof Uint8Array || typeof value !== "object") {
    if (depth === 0) throw invalid(name, "must be a map");
    return value;
  }
  if (Array.isArray(value)) {
    if (depth === 0) throw invalid(name, "must be a map");
    return (value as readonly TableValue[]).map((item) => openToCbor(item, name, budget, depth + 1));
  }
  const map = new Map<string, CborValue>();
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) map.set(key, openToCbor(item, name, budget, depth + 1));
  }
  return map;
}

function cborToOpen(value: CborValue, name: string, budget: { left: number }, depth: number): OpenValue {
  if (--budget.left < 0 || depth > MAX_OPEN_DEPTH) throw invalid(name, "is too large or too deep");
  if (value instanceof Map) {
    const map: CborMap = value;
    const out: { [key: string]: OpenValue } = {};
    for (const [key, item] of map) {
      if (typeof key !== "string") throw invalid(name, "must have texts as keys");
      // A null-prototype write would be lost on "__proto__": define it as data.
      Object.defineProperty(out, key, { value: cborToOpen(item, name, budget, depth + 1), enumerable: true });
    }
    return out;
  }
  if (depth === 0) throw invalid(name, "must be a map");
  if (Array.isArray(value))
    return (value as readonly CborValue[]).map((item) => cborToOpen(item, name, budget, depth + 1));
  if (value === null || (typeof value === "object" && !(value instanceof Uint8Array))) {
    throw invalid(name, "holds a null or a tag");
  }
  if (typeof value === "bigint") throw invalid(name, "holds an integer beyond 2^53");
  return value;
}

function isObject(value: TableValue): value is TableObject {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** The JSON view of a decoded value: byte strings as hexadecimal. */
export function jsonView(value: TableValue | undefined): JsonValue {
  if (value === undefined) return null;
  if (value instanceof Uint8Array) return bytesToHex(value);
  if (typeof value !== "object") return value;
  if (Array.isArray(value)) return (value as readonly TableValue[]).map(jsonView);
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, jsonView(item as TableValue)]),
  );
}

function invalid(name: string, why: string): AssayError<"claims_invalid"> {
  return new AssayError("claims_invalid", `The claim ${name} ${why}.`, {
    hints: ["The tables of docs/spec/receipt.md list every claim with its key and type."],
  });
}
