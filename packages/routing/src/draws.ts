import type { CryptoSuite } from "@assay/core";
import { concatBytes, utf8ToBytes } from "@assay/core";

/** A whole number from 0 up to but not including `below`, each as likely. */
export type Draw = (below: number) => number;

const SEED_TAG = utf8ToBytes("assay/route-seed/1\0");

/**
 * The seed of one decision: SHA-256("assay/route-seed/1" NUL || receipt id || root of the last checkpoint). Whoever has
 * the receipt and the log can make it again, and whoever runs the gateway cannot choose it once the root is published.
 */
export function routeSeed(
  suite: Pick<CryptoSuite, "sha256">,
  receiptId: Uint8Array,
  checkpointRoot: Uint8Array,
): Uint8Array {
  return suite.sha256(concatBytes(SEED_TAG, receiptId, checkpointRoot));
}

/**
 * Draws out of a seed: the n-th is the first six bytes, big-endian, of SHA-256(seed || n as one byte), modulo `below`.
 * With `below` under a thousand the bias is under 2^-38.
 */
export function seededDraw(suite: Pick<CryptoSuite, "sha256">, seed: Uint8Array): Draw {
  let count = 0;
  return (below) => {
    const hash = suite.sha256(seed, new Uint8Array([count++ & 0xff]));
    let value = 0;
    for (let i = 0; i < 6; i++) value = value * 256 + (hash[i] ?? 0);
    return value % below;
  };
}
