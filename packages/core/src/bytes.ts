import { AssayError } from "./error.ts";

const HEX = "0123456789abcdef";
const B64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const B64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const hexPairs: string[] = Array.from({ length: 256 }, (_, i) => HEX.charAt(i >> 4) + HEX.charAt(i & 15));

function lookup(alphabet: string): Int16Array {
  const table = new Int16Array(128).fill(-1);
  for (let i = 0; i < alphabet.length; i++) table[alphabet.charCodeAt(i)] = i;
  return table;
}
const fromB64 = lookup(B64);
const fromB64Url = lookup(B64URL);
const fromHex = lookup(HEX);

/** Lower-case hexadecimal of `bytes`. */
export function bytesToHex(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += hexPairs[byte];
  return out;
}

/** Bytes of a lower-case, even-length hexadecimal string. Throws `invalid_encoding` for anything else. */
export function hexToBytes(hex: string): Uint8Array {
  if (hex.length % 2 !== 0) throw invalid("hexadecimal", "an even number of digits");
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++) {
    const high = digit(fromHex, hex.charCodeAt(2 * i));
    const low = digit(fromHex, hex.charCodeAt(2 * i + 1));
    if (high < 0 || low < 0) throw invalid("hexadecimal", "digits 0-9 and a-f only");
    out[i] = (high << 4) | low;
  }
  return out;
}

/** Standard base64 with padding (RFC 4648 section 4). */
export function bytesToBase64(bytes: Uint8Array): string {
  return encode64(bytes, B64, true);
}

/** URL-safe base64 without padding (RFC 4648 section 5). */
export function bytesToBase64Url(bytes: Uint8Array): string {
  return encode64(bytes, B64URL, false);
}

/**
 * Bytes of padded standard base64. Refuses white space, missing padding and non-zero trailing bits with
 * `invalid_encoding`, so that every byte string has exactly one spelling.
 */
export function base64ToBytes(text: string): Uint8Array {
  if (text.length % 4 !== 0) throw invalid("base64", "padding to a multiple of four characters");
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return decode64(text, text.length - padding, fromB64, "base64");
}

/** Bytes of unpadded URL-safe base64; as strict as {@link base64ToBytes}. */
export function base64UrlToBytes(text: string): Uint8Array {
  if (text.length % 4 === 1) throw invalid("base64url", "a length that some byte string encodes to");
  return decode64(text, text.length, fromB64Url, "base64url");
}

function encode64(bytes: Uint8Array, alphabet: string, pad: boolean): string {
  let out = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const word = ((bytes[i] ?? 0) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    out += alphabet.charAt(word >> 18) + alphabet.charAt((word >> 12) & 63);
    if (left > 1) out += alphabet.charAt((word >> 6) & 63);
    else if (pad) out += "=";
    if (left > 2) out += alphabet.charAt(word & 63);
    else if (pad) out += "=";
  }
  return out;
}

function decode64(text: string, length: number, table: Int16Array, what: string): Uint8Array {
  const out = new Uint8Array(Math.floor((length * 3) / 4));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < length; i++) {
    const value = digit(table, text.charCodeAt(i));
    if (value < 0) throw invalid(what, "characters of its alphabet only");
    bits = ((bits << 6) | value) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out[at++] = (bits >> held) & 0xff;
    }
  }
  if ((bits & ((1 << held) - 1)) !== 0) throw invalid(what, "zero bits after the last byte");
  return out;
}

function digit(table: Int16Array, code: number): number {
  return code < 128 ? (table[code] ?? -1) : -1;
}

function invalid(what: string, expected: string): AssayError<"invalid_encoding"> {
  return new AssayError("invalid_encoding", `The text is not ${what}.`, { hints: [`${what} has ${expected}.`] });
}

// V8 keeps typed arrays up to 64 bytes in its heap and gives each larger one memory of its own, which costs more than
// filling it. Middle sizes are therefore cut from slabs, as Node's own Buffer pool does; no byte is handed out twice.
const SLAB_BYTES = 64 * 1024;
const LEAST_SLABBED = 65;
const MOST_SLABBED = 4096;
let slab = new Uint8Array();
let slabUsed = 0;

/** A zeroed array of `length` bytes. It may share its `buffer` with others: views only, never transfer it. */
export function allocateBytes(length: number): Uint8Array {
  if (length < LEAST_SLABBED || length > MOST_SLABBED) return new Uint8Array(length);
  if (slabUsed + length > slab.length) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  const out = slab.subarray(slabUsed, slabUsed + length);
  // The next one begins at a multiple of eight, as a fresh array would.
  slabUsed += (length + 7) & ~7;
  return out;
}

/** One array holding all of `parts` in order. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = allocateBytes(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Whether two byte strings are equal. Not constant-time: for public values only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Bytewise lexicographic order: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** UTF-8 of `text`; a lone surrogate becomes U+FFFD, as in the Encoding standard. */
export function utf8ToBytes(text: string): Uint8Array {
  const ascii = new Uint8Array(text.length);
  let start = 0;
  for (; start < text.length; start++) {
    const code = text.charCodeAt(start);
    if (code >= 0x80) break;
    ascii[start] = code;
  }
  if (start === text.length) return ascii;
  const out = new Uint8Array(start + (text.length - start) * 3);
  out.set(ascii.subarray(0, start));
  let at = start;
  for (let i = start; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code < 0x80) {
      out[at++] = code;
      continue;
    }
    if (code >= 0xd800 && code <= 0xdfff) {
      const next = text.charCodeAt(i + 1);
      if (code <= 0xdbff && next >= 0xdc00 && next <= 0xdfff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (next - 0xdc00);
        i++;
      } else code = 0xfffd;
    }
    if (code < 0x800) out[at++] = 0xc0 | (code >> 6);
    else {
      if (code < 0x10000) out[at++] = 0xe0 | (code >> 12);
      else {
        out[at++] = 0xf0 | (code >> 18);
        out[at++] = 0x80 | ((code >> 12) & 63);
      }
      out[at++] = 0x80 | ((code >> 6) & 63);
    }
    out[at++] = 0x80 | (code & 63);
  }
  return out.slice(0, at);
}

/**
 * Text of strict UTF-8, of all of `bytes` or of `from` (inclusive) to `to`: overlong forms, surrogates, values above
 * U+10FFFF and truncation are refused with `invalid_encoding` (RFC 3629 section 3).
 */
export function bytesToUtf8(bytes: Uint8Array, from = 0, to = bytes.length): string {
  let out = "";
  let i = from;
  while (i < to) {
    // Nearly all text here is ASCII, and eight characters at a time halve the pieces the string is joined from.
    if (i + 8 <= to) {
      const a = bytes[i] ?? 0;
      const b = bytes[i + 1] ?? 0;
      const c = bytes[i + 2] ?? 0;
      const d = bytes[i + 3] ?? 0;
      const e = bytes[i + 4] ?? 0;
      const f = bytes[i + 5] ?? 0;
      const g = bytes[i + 6] ?? 0;
      const h = bytes[i + 7] ?? 0;
      if ((a | b | c | d | e | f | g | h) < 0x80) {
        out += String.fromCharCode(a, b, c, d, e, f, g, h);
        i += 8;
        continue;
      }
    }
    const first = bytes[i++] ?? 0;
    if (first < 0x80) {
      out += String.fromCharCode(first);
      continue;
    }
    const extra = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || i + extra > to) throw invalid("UTF-8", "well-formed sequences");
    let code = first & (extra === 3 ? 7 : extra === 2 ? 15 : 31);
    for (let k = 0; k < extra; k++) {
      const next = bytes[i++] ?? 0;
      if ((next & 0xc0) !== 0x80) throw invalid("UTF-8", "continuation bytes after a lead byte");
      code = (code << 6) | (next & 63);
    }
    const least = extra === 3 ? 0x10000 : extra === 2 ? 0x800 : 0x80;
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      throw invalid("UTF-8", "shortest forms of scalar values");
    }
    out += String.fromCodePoint(code);
  }
  return out;
}
