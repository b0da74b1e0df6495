import { concatBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";

const LEAF = new Uint8Array([0]);

/** SHA-256(0x00 || entry): the leaf hash of a log entry (RFC 6962 section 2.1), 32 bytes. */
export function leafHash(entry: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.sha256(concatBytes(LEAF, entry));
}

/** SHA-256(0x01 || left || right): the hash of an interior node over two of 32 bytes (RFC 6962 section 2.1). */
export function nodeHash(left: Uint8Array, right: Uint8Array, suite: CryptoSuite): Uint8Array {
  const message = new Uint8Array(1 + left.length + right.length);
  message[0] = 1;
  message.set(left, 1);
  message.set(right, 1 + left.length);
  return suite.sha256(message);
}
