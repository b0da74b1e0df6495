import canonicalize from "canonicalize";
import { bytesToUtf8, utf8ToBytes } from "./bytes.ts";
import { AssayError } from "./error.ts";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export type JsonLimits = {
  /** Longest text, bytes of UTF-8. Default 4 MiB. */
  readonly maxBytes?: number;
  /** Deepest nesting of arrays and objects. Default 64. */
  readonly maxDepth?: number;
};

const DEFAULT_MAX_BYTES = 4 * 1024 * 1024;
const DEFAULT_MAX_DEPTH = 64;

/** Canonical JSON (RFC 8785) of `value` as UTF-8 bytes. Throws `json_unencodable` for NaN or an infinity. */
export function canonicalJson(value: JsonValue): Uint8Array {
  try {
    const text = canonicalize(value);
    if (text !== undefined) return utf8ToBytes(text);
  } catch (cause) {
    throw new AssayError("json_unencodable", "The value has no JSON form.", { cause });
  }
  throw new AssayError("json_unencodable", "The value has no JSON form.");
}

/**
 * A JSON text from outside, within limits. Throws `json_invalid` naming what is wrong. Depth is measured before
 * parsing, so a hostile nesting never reaches the engine's own recursion.
 */
export function parseJson(text: string | Uint8Array, limits: JsonLimits = {}): JsonValue {
  const maxBytes = limits.maxBytes ?? DEFAULT_MAX_BYTES;
  const maxDepth = limits.maxDepth ?? DEFAULT_MAX_DEPTH;
  if (text.length > maxBytes) throw invalid(`it is longer than ${maxBytes} bytes`);
  let decoded: string;
  try {
    decoded = typeof text === "string" ? text : bytesToUtf8(text);
  } catch (cause) {
    throw invalid("it is not UTF-8", cause);
  }
  const depth = deepest(decoded);
  if (depth > maxDepth) throw invalid(`it nests ${depth} deep, more than ${maxDepth}`);
  try {
    // The one place where text becomes JSON values: bounded above, typed below.
    // oxlint-disable-next-line no-restricted-properties
    return JSON.parse(decoded) as JsonValue;
  } catch (cause) {
    throw invalid("its syntax is wrong", cause);
  }
}

function deepest(text: string): number {
  let depth = 0;
  let most = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (quoted) {
      if (code === 0x5c) i++;
      else if (code === 0x22) quoted = false;
    } else if (code === 0x22) quoted = true;
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > most) most = depth;
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return most;
}

function invalid(why: string, cause?: unknown): AssayError<"json_invalid"> {
  return new AssayError(
    "json_invalid",
    `The text is not acceptable JSON: ${why}.`,
    cause === undefined ? {} : { cause },
  );
}
