import { bytesToHex, hexToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import { unavailable } from "./transport.ts";

// A node's answers are strangers' words: each is taken apart by one of these, which throw `chain_unavailable` (an answer
// that is not of its form is no answer).

const WORD = 2n ** 256n;

/** A quantity: `0x` and at most 64 hex digits. */
export function quantity(value: JsonValue | undefined, what: string): bigint {
  if (typeof value === "string" && /^0x[0-9a-f]{1,64}$/i.test(value)) return BigInt(value);
  throw malformed(what, "a quantity");
}

/** A quantity that counts: at most 2^53 - 1. */
export function count(value: JsonValue | undefined, what: string): number {
  const number = Number(quantity(value, what));
  if (Number.isSafeInteger(number)) return number;
  throw malformed(what, "a number that can be counted to");
}

/** `0x` and 64 lower-case hex digits. */
export function hash(value: JsonValue | undefined, what: string): Hex {
  if (typeof value === "string" && /^0x[0-9a-f]{64}$/i.test(value)) return value.toLowerCase() as Hex;
  throw malformed(what, "a hash");
}

/** `0x` and 40 lower-case hex digits. */
export function address(value: JsonValue | undefined, what: string): Address {
  if (typeof value === "string" && /^0x[0-9a-f]{40}$/i.test(value)) return value.toLowerCase() as Address;
  throw malformed(what, "an address");
}

export function data(value: JsonValue | undefined, what: string): Uint8Array {
  if (typeof value === "string" && /^0x(?:[0-9a-f]{2})*$/i.test(value)) return hexToBytes(value.slice(2).toLowerCase());
  throw malformed(what, "bytes");
}

export function fields(value: JsonValue | undefined, what: string): { readonly [key: string]: JsonValue } {
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as { readonly [key: string]: JsonValue };
  throw malformed(what, "an object");
}

export function list(value: JsonValue | undefined, what: string): readonly JsonValue[] {
  if (Array.isArray(value)) return value as readonly JsonValue[];
  throw malformed(what, "a list");
}

export function malformed(what: string, expected: string): Error {
  return unavailable(`${what} is not ${expected}`);
}

/** A number as JSON-RPC writes it. */
export function toQuantity(value: bigint | number): Hex {
  return `0x${value.toString(16)}`;
}

export function toHex(bytes: Uint8Array): Hex {
  return `0x${bytesToHex(bytes)}`;
}

/** Bytes of `0x…` in lower or mixed case. */
export function fromHex(text: string): Uint8Array {
  return hexToBytes(text.slice(2).toLowerCase());
}

/** 32 bytes, big-endian. Negative numbers and numbers above 2^256 - 1 are a mistake of the caller. */
export function word(value: bigint | number): Uint8Array {
  const big = BigInt(value);
  if (big < 0n || big >= WORD) throw new RangeError("the number does not fit a word");
  return hexToBytes(big.toString(16).padStart(64, "0"));
}

/** An address, left-padded to 32 bytes. */
export function addressWord(value: string): Uint8Array {
  const out = new Uint8Array(32);
  out.set(fromHex(value), 12);
  return out;
}

/** The big-endian number in 32 bytes at `at`. */
export function wordAt(bytes: Uint8Array, at: number): bigint {
  const part = bytes.subarray(at, at + 32);
  return part.length === 0 ? 0n : BigInt(`0x${bytesToHex(part)}`);
}
