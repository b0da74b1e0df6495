import { allocateBytes, bytesToUtf8, compareBytes, utf8ToBytes } from "./bytes.ts";
import { AssayError } from "./error.ts";

/**
 * The values our formats are made of. Floating-point numbers are absent on purpose: a signed figure is an
 * integer in a named unit. Integers decode to `number` when safe and to `bigint` otherwise.
 */
export type CborValue =
  | number
  | bigint
  | string
  | Uint8Array
  | boolean
  | null
  | readonly CborValue[]
  | CborMap
  | CborTag;
export type CborMap = ReadonlyMap<number | string, CborValue>;
/** A tagged item (RFC 8949 section 3.4), for example tag 18 around a COSE_Sign1. */
export class CborTag {
  readonly tag: number;
  readonly value: CborValue;
  constructor(tag: number, value: CborValue) {
    this.tag = tag;
    this.value = value;
  }
}

/** Limits of {@link decodeCbor}: what a hostile input can make the decoder do. */
export type CborLimits = {
  /** Longest input, bytes. */
  readonly maxBytes?: number;
  /** Deepest nesting of arrays, maps and tags. */
  readonly maxDepth?: number;
  /** Most items in all, which bounds memory whatever the nesting. */
  readonly maxItems?: number;
};

const DEFAULT_LIMITS = { maxBytes: 16 * 1024 * 1024, maxDepth: 16, maxItems: 1_000_000 } as const;
const MAX_UINT64 = (1n << 64n) - 1n;
const TWO_32 = 0x1_0000_0000;

/**
 * Deterministic CBOR of `value` (RFC 8949 section 4.2.1): shortest heads, definite lengths, map keys in
 * bytewise order of their encodings. Throws `cbor_unencodable` for a fraction, an integer beyond 64 bits or a
 * duplicate key.
 */
export function encodeCbor(value: CborValue): Uint8Array {
  return withCborWriter((writer) => writer.value(value));
}

// Encoding is synchronous, so a few writers serve everybody; nested use takes the next one.
const writers: CborWriter[] = [];
let writersInUse = 0;
/** A writer that held more than this is not kept for the next user, bytes. */
const MAX_KEPT_BYTES = 64 * 1024;

/** What `write` wrote, as bytes of their own, without a buffer of its own for each call. */
export function withCborWriter(write: (writer: CborWriter) => void): Uint8Array {
  const writer = (writers[writersInUse] ??= new CborWriter());
  writersInUse++;
  try {
    writer.reset();
    write(writer);
    return writer.finish();
  } finally {
    writersInUse--;
    if (writer.capacity() > MAX_KEPT_BYTES) writers.length = writersInUse;
  }
}

/** A growing buffer with one method per kind of item, for encoders that know their shape and order. */
export class CborWriter {
  #buffer = new Uint8Array(512);
  #at = 0;

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    grown.set(this.#buffer.subarray(0, this.#at));
    this.#buffer = grown;
  }

  #head(major: number, value: number | bigint): void {
    this.#reserve(9);
    const buffer = this.#buffer;
    const top = major << 5;
    if (value < 24) buffer[this.#at++] = top | Number(value);
    else if (value < 0x100) {
      buffer[this.#at++] = top | 24;
      buffer[this.#at++] = Number(value);
    } else if (value < 0x10000) {
      const n = Number(value);
      buffer[this.#at++] = top | 25;
      buffer[this.#at++] = n >> 8;
      buffer[this.#at++] = n & 0xff;
    } else if (value < TWO_32) {
      buffer[this.#at++] = top | 26;
      this.#word(Number(value));
    } else {
      buffer[this.#at++] = top | 27;
      const high = typeof value === "bigint" ? Number(value >> 32n) : Math.floor(value / TWO_32);
      const low = typeof value === "bigint" ? Number(value & 0xffffffffn) : value % TWO_32;
      this.#word(high);
      this.#word(low);
    }
  }

  #word(n: number): void {
    const buffer = this.#buffer;
    buffer[this.#at++] = (n >>> 24) & 0xff;
    buffer[this.#at++] = (n >>> 16) & 0xff;
    buffer[this.#at++] = (n >>> 8) & 0xff;
    buffer[this.#at++] = n & 0xff;
  }

  int(value: number | bigint): void {
    if (typeof value === "number" && !Number.isSafeInteger(value))
      throw unencodable("a number that is not a safe integer");
    if (value >= 0) {
      if (value > MAX_UINT64) throw unencodable("an integer beyond 64 bits");
      this.#head(0, value);
    } else {
      const rest = typeof value === "bigint" ? -1n - value : -1 - value;
      if (rest > MAX_UINT64) throw unencodable("an integer beyond 64 bits");
      this.#head(1, rest);
    }
  }

  bytes(value: Uint8Array): void {
    this.#head(2, value.length);
    this.raw(value);
  }

  text(value: string): void {
    const length = value.length;
    // Claim texts are nearly always short ASCII, which needs no intermediate array.
    if (length < 256) {
      let ascii = true;
      for (let i = 0; i < length && ascii; i++) ascii = value.charCodeAt(i) < 0x80;
      if (ascii) {
        this.#head(3, length);
        this.#reserve(length);
        for (let i = 0; i < length; i++) this.#buffer[this.#at++] = value.charCodeAt(i);
        return;
      }
    }
    const encoded = utf8ToBytes(value);
    this.#head(3, encoded.length);
    this.raw(encoded);
  }

  array(length: number): void {
    this.#head(4, length);
  }

  map(size: number): void {
    this.#head(5, size);
  }

  tag(tag: number): void {
    this.#head(6, tag);
  }

  /** Bytes that are already encoded. */
  raw(encoded: Uint8Array): void {
    this.#reserve(encoded.length);
    this.#buffer.set(encoded, this.#at);
    this.#at += encoded.length;
  }

  value(value: CborValue): void {
    if (typeof value === "number" || typeof value === "bigint") return this.int(value);
    if (typeof value === "string") return this.text(value);
    if (value instanceof Uint8Array) return this.bytes(value);
    if (value === null || typeof value === "boolean") {
      this.#reserve(1);
      this.#buffer[this.#at++] = value === null ? 0xf6 : value ? 0xf5 : 0xf4;
      return;
    }
    if (value instanceof CborTag) {
      this.tag(value.tag);
      return this.value(value.value);
    }
    if (isArray(value)) {
      this.array(value.length);
      for (const item of value) this.value(item);
      return;
    }
    this.map(value.size);
    if (value.size < 2) {
      for (const [key, item] of value) {
        this.value(key);
        this.value(item);
      }
      return;
    }
    const entries = [...value].map(([key, item]) => ({ key: encodeCbor(key), item }));
    entries.sort((a, b) => compareBytes(a.key, b.key));
    for (const { key, item } of entries) {
      this.raw(key);
      this.value(item);
    }
  }

  /** The encoded bytes, in an array of their own. */
  finish(): Uint8Array {
    const out = allocateBytes(this.#at);
    out.set(this.#at === this.#buffer.length ? this.#buffer : this.#buffer.subarray(0, this.#at));
    return out;
  }

  /** Bytes that fit without growing. */
  capacity(): number {
    return this.#buffer.length;
  }

  /** Forgets what was written, so that a hot path can reuse the buffer. */
  reset(): void {
    this.#at = 0;
  }
}

function isArray(value: readonly CborValue[] | CborMap): value is readonly CborValue[] {
  return Array.isArray(value);
}

/**
 * The one value that `bytes` deterministically encodes. Everything else is refused with `cbor_invalid`:
 * non-shortest heads, indefinite lengths, unsorted or duplicate keys, floats, undefined, unassigned simple
 * values, malformed UTF-8, trailing bytes, and whatever crosses a limit. Byte strings are views on `bytes`.
 */
export function decodeCbor(bytes: Uint8Array, limits: CborLimits = {}): CborValue {
  const maxBytes = limits.maxBytes ?? DEFAULT_LIMITS.maxBytes;
  if (bytes.length > maxBytes) throw invalid(`it is ${bytes.length} bytes long, more than ${maxBytes}`);
  const reader = new Reader(
    bytes,
    limits.maxDepth ?? DEFAULT_LIMITS.maxDepth,
    limits.maxItems ?? DEFAULT_LIMITS.maxItems,
  );
  const value = reader.item(0);
  if (reader.at !== bytes.length) throw invalid(`${bytes.length - reader.at} bytes follow the value`);
  return value;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #maxDepth: number;
  #itemsLeft: number;
  at = 0;

  constructor(bytes: Uint8Array, maxDepth: number, maxItems: number) {
    this.#bytes = bytes;
    this.#maxDepth = maxDepth;
    this.#itemsLeft = maxItems;
  }

  #byte(): number {
    const byte = this.#bytes[this.at++];
    if (byte === undefined) throw invalid("it ends in the middle of an item");
    return byte;
  }

  #word(): number {
    return this.#byte() * 0x1000000 + ((this.#byte() << 16) | (this.#byte() << 8) | this.#byte());
  }

  #argument(info: number): number | bigint {
    if (info < 24) return info;
    if (info === 24) {
      const n = this.#byte();
      if (n < 24) throw invalid("an integer is not in its shortest form");
      return n;
    }
    if (info === 25) {
      const n = (this.#byte() << 8) | this.#byte();
      if (n < 0x100) throw invalid("an integer is not in its shortest form");
      return n;
    }
    if (info === 26) {
      const n = this.#word();
      if (n < 0x10000) throw invalid("an integer is not in its shortest form");
      return n;
    }
    if (info === 27) {
      const high = this.#word();
      const low = this.#word();
      if (high === 0) throw invalid("an integer is not in its shortest form");
      return high < 0x200000 ? high * TWO_32 + low : (BigInt(high) << 32n) | BigInt(low);
    }
    throw invalid("a length is indefinite or reserved");
  }

  #length(info: number, least: number): number {
    const length = this.#argument(info);
    // Each promised element takes at least `least` bytes, so a lying length is refused before it allocates.
    if (typeof length !== "number" || length * least > this.#bytes.length - this.at) {
      throw invalid("a length promises more than there is");
    }
    return length;
  }

  item(depth: number): CborValue {
    if (depth > this.#maxDepth) throw invalid(`it nests deeper than ${this.#maxDepth}`);
    if (--this.#itemsLeft < 0) throw invalid("it holds more items than the limit");
    const first = this.#byte();
    const info = first & 31;
    switch (first >> 5) {
      case 0:
        return this.#argument(info);
      case 1: {
        const n = this.#argument(info);
        if (typeof n === "bigint") return -1n - n;
        return n === Number.MAX_SAFE_INTEGER ? -1n - BigInt(n) : -1 - n;
      }
      case 2: {
        const length = this.#length(info, 1);
        this.at += length;
        return this.#bytes.subarray(this.at - length, this.at);
      }
      case 3:
        return this.#text(this.#length(info, 1));
      case 4: {
        const length = this.#length(info, 1);
        const items: CborValue[] = [];
        for (let i = 0; i < length; i++) items.push(this.item(depth + 1));
        return items;
      }
      case 5:
        return this.#map(this.#length(info, 2), depth);
      case 6: {
        const tag = this.#argument(info);
        if (typeof tag !== "number") throw invalid("a tag number is beyond 2^53");
        return new CborTag(tag, this.item(depth + 1));
      }
      default:
        if (info === 20) return false;
        if (info === 21) return true;
        if (info === 22) return null;
        throw invalid("it holds a float, undefined or an unassigned simple value");
    }
  }

  #text(length: number): string {
    const start = this.at;
    this.at += length;
    try {
      return bytesToUtf8(this.#bytes, start, this.at);
    } catch (cause) {
      throw invalid("a text is not well-formed UTF-8", cause);
    }
  }

  /** Whether the bytes from `a` to `aEnd` come before those from `b` to `bEnd`. Neither encoding begins the other. */
  #ascending(a: number, aEnd: number, b: number, bEnd: number): boolean {
    const bytes = this.#bytes;
    const length = Math.min(aEnd - a, bEnd - b);
    for (let i = 0; i < length; i++) {
      const difference = (bytes[a + i] ?? 0) - (bytes[b + i] ?? 0);
      if (difference !== 0) return difference < 0;
    }
    return aEnd - a < bEnd - b;
  }

  #map(size: number, depth: number): CborMap {
    const map = new Map<number | string, CborValue>();
    let lastStart = 0;
    let lastEnd = 0;
    for (let i = 0; i < size; i++) {
      const start = this.at;
      const key = this.item(depth + 1);
      const end = this.at;
      if (typeof key !== "number" && typeof key !== "string")
        throw invalid("a map key is neither an integer nor a text");
      if (i > 0 && !this.#ascending(lastStart, lastEnd, start, end)) {
        throw invalid("map keys are not in ascending order, each once");
      }
      lastStart = start;
      lastEnd = end;
      map.set(key, this.item(depth + 1));
    }
    return map;
  }
}

function invalid(why: string, cause?: unknown): AssayError<"cbor_invalid"> {
  return new AssayError("cbor_invalid", `The bytes are not deterministic CBOR: ${why}.`, {
    hints: ["Encode by RFC 8949 section 4.2.1, without floating-point numbers."],
    ...(cause === undefined ? {} : { cause }),
  });
}

function unencodable(what: string): AssayError<"cbor_unencodable"> {
  return new AssayError("cbor_unencodable", `The value holds ${what}, which has no encoding here.`);
}
