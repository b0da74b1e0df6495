import { bytesToHex, hexToBytes } from "@assay/core";
import type { Address, EvmSuite, Hex } from "./types.ts";

/** `0x` and lower-case digits. */
export function toHex(bytes: Uint8Array): Hex {
  return `0x${bytesToHex(bytes)}`;
}

/** Bytes of `0x` and an even number of digits of either case. Throws `invalid_encoding`. */
export function fromHex(hex: string): Uint8Array {
  return hexToBytes(hex.startsWith("0x") ? hex.slice(2).toLowerCase() : "?");
}

/** Checksummed spellings that are kept: the same few contracts and payees stand in every quote. */
const MAX_KEPT_SPELLINGS = 4096;
const spellings = new Map<Address, string>();

/** The EIP-55 spelling of an address, which is how addresses are written on the wire. */
export function checksumAddress(suite: EvmSuite, address: Address): Address {
  const kept = spellings.get(address);
  if (kept !== undefined) return kept as Address;
  const digits = address.slice(2);
  const ascii = new Uint8Array(digits.length);
  for (let i = 0; i < digits.length; i++) ascii[i] = digits.charCodeAt(i);
  const hash = suite.keccak256(ascii);
  let out = "0x";
  for (let i = 0; i < digits.length; i++) {
    const nibble = ((hash[i >> 1] ?? 0) >> (i % 2 === 0 ? 4 : 0)) & 15;
    out += nibble >= 8 ? digits.charAt(i).toUpperCase() : digits.charAt(i);
  }
  if (spellings.size >= MAX_KEPT_SPELLINGS) spellings.clear();
  spellings.set(address, out);
  return out as Address;
}

/** The last 20 bytes of the hash of an uncompressed public key without its prefix (64 bytes): its account's address. */
export function addressOfKey(suite: EvmSuite, publicKey: Uint8Array): Address {
  return toHex(suite.keccak256(publicKey).subarray(12));
}
