import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { fromHex } from "./hex.ts";
import { MAX_UINT256 } from "./limits.ts";
import type { Address } from "./types.ts";

// Members of documents that strangers wrote. Every reader takes the path of what it reads, so that a refusal names it.

export type JsonObject = { readonly [key: string]: JsonValue };

const ADDRESS = /^0x[0-9a-fA-F]{40}$/;
const DECIMAL = /^[0-9]{1,78}$/;
const HEX = /^0x(?:[0-9a-fA-F]{2})*$/;

/** A refusal of a payment's document: `payment_malformed`. */
export function malformed(path: string, wanted: string): AssayError<"payment_malformed"> {
  return new AssayError("payment_malformed", `The payment's ${path} is not ${wanted}.`);
}

export function readObject(value: JsonValue | undefined, path: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw malformed(path, "an object");
}

export function readText(value: JsonValue | undefined, path: string, maxChars: number): string {
  if (typeof value === "string" && value.length <= maxChars) return value;
  throw malformed(path, `a text of at most ${maxChars} characters`);
}

/** An address in lower case. Its checksum (EIP-55) is not looked at: clients send either spelling. */
export function readAddress(value: JsonValue | undefined, path: string): Address {
  if (typeof value === "string" && ADDRESS.test(value)) return value.toLowerCase() as Address;
  throw malformed(path, "an address");
}

/** A whole number of 0 to `max`: decimal text, or a JSON number that is exact. */
export function readUint(value: JsonValue | undefined, path: string, max = MAX_UINT256): bigint {
  let out: bigint | undefined;
  if (typeof value === "string") {
    // Amounts and times are short, and a short text is exact as a number.
    if (value.length <= 15 && DECIMAL.test(value)) out = BigInt(Number(value));
    else if (DECIMAL.test(value)) out = BigInt(value);
  } else if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) out = BigInt(value);
  if (out !== undefined && out <= max) return out;
  throw malformed(path, "a whole number in range, written in decimal digits");
}

/** A whole number of 0 to `max` as a number. */
export function readInteger(value: JsonValue | undefined, path: string, max: number): number {
  return Number(readUint(value, path, BigInt(max)));
}

/** `length` bytes, written as `0x` and digits. */
export function readFixed(value: JsonValue | undefined, path: string, length: number): Uint8Array {
  if (typeof value === "string" && value.length === 2 + 2 * length && HEX.test(value)) return fromHex(value);
  throw malformed(path, `${length} bytes in hexadecimal`);
}

/** At most `maxLength` bytes, written as `0x` and digits. */
export function readBytes(value: JsonValue | undefined, path: string, maxLength: number): Uint8Array {
  if (typeof value === "string" && value.length <= 2 + 2 * maxLength && HEX.test(value)) return fromHex(value);
  throw malformed(path, `at most ${maxLength} bytes in hexadecimal`);
}
