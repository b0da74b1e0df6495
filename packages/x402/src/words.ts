import { AssayError } from "@assay/core";
import { MAX_UINT256 } from "./limits.ts";
import type { Address } from "./types.ts";

// ABI words: 32 bytes, big-endian. They are written into one array in place, without passing through text.

const LOW_32 = 0xffff_ffffn;

function nibble(code: number): number {
  return code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57;
}

/** Writes an address as a word at `at`, a multiple of 32. */
export function putAddress(out: Uint8Array, at: number, address: Address): void {
  out.fill(0, at, at + 12);
  for (let i = 0; i < 20; i++) {
    out[at + 12 + i] = (nibble(address.charCodeAt(2 + 2 * i)) << 4) | nibble(address.charCodeAt(3 + 2 * i));
  }
}

/** Writes a whole number of 0 to 2^53 - 1 as a word. */
export function putNumber(out: Uint8Array, at: number, value: number): void {
  out.fill(0, at, at + 24);
  put32(out, at + 24, Math.floor(value / 0x1_0000_0000));
  put32(out, at + 28, value >>> 0);
}

/** Writes a `uint256` as a word. Throws `payment_malformed` out of its range. */
export function putUint(out: Uint8Array, at: number, value: bigint): void {
  if (value < 0n || value > MAX_UINT256) {
    throw new AssayError("payment_malformed", "A number of the payment is out of the range of uint256.");
  }
  if (value <= 0x1f_ffff_ffff_ffffn) {
    putNumber(out, at, Number(value));
    return;
  }
  let left = value;
  for (let offset = 28; offset >= 0; offset -= 4) {
    put32(out, at + offset, Number(left & LOW_32));
    left >>= 32n;
  }
}

/** Writes 32 bytes. Throws `payment_malformed` for another length. */
export function putWord(out: Uint8Array, at: number, bytes: Uint8Array): void {
  if (bytes.length !== 32) {
    throw new AssayError("payment_malformed", `A word of the payment has ${bytes.length} bytes, not 32.`);
  }
  out.set(bytes, at);
}

function put32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}
