import { concatBytes, utf8ToBytes } from "@assay/core";
import { keccak_256 } from "@noble/hashes/sha3.js";

/** First four bytes of the hash of a function's signature (`balanceOf(address)`). */
export function selector(signature: string): Uint8Array {
  return keccak_256(utf8ToBytes(signature)).slice(0, 4);
}

/** Call data of a function whose parameters are all words. */
export function calldata(selected: Uint8Array, ...words: readonly Uint8Array[]): Uint8Array {
  return concatBytes(selected, ...words);
}

/** ABI encoding of `bytes` at the end of the parameters: length, content, padding to a word. */
export function tailBytes(content: Uint8Array): Uint8Array {
  const out = new Uint8Array(32 + Math.ceil(content.length / 32) * 32);
  new DataView(out.buffer).setUint32(28, content.length);
  out.set(content, 32);
  return out;
}
