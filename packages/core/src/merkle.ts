import { concatBytes } from "./bytes.ts";
import type { CryptoSuite } from "./suite.ts";

type Sha256 = CryptoSuite["sha256"];

const LEAF = new Uint8Array([0]);
const HASH_BYTES = 32;
// A path is a run of these: one buffer for all, since hashing is synchronous and keeps nothing.
const NODE = new Uint8Array(1 + 2 * HASH_BYTES).fill(1, 0, 1);

/** Longest audit path there can be: a tree of 2^63 leaves. */
export const MAX_PATH_LENGTH = 63;

/** SHA-256(0x00 || data), the leaf hash of RFC 6962 section 2.1. */
export function merkleLeaf(sha256: Sha256, data: Uint8Array): Uint8Array {
  return sha256(concatBytes(LEAF, data));
}

/** SHA-256(0x01 || left || right), the interior hash of RFC 6962 section 2.1. */
export function merkleNode(sha256: Sha256, left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length !== HASH_BYTES || right.length !== HASH_BYTES)
    return sha256(concatBytes(NODE.subarray(0, 1), left, right));
  NODE.set(left, 1);
  NODE.set(right, 1 + HASH_BYTES);
  return sha256(NODE);
}

/** Root over 32-byte leaf hashes; of no leaves it is SHA-256 of the empty string. */
export function merkleRoot(sha256: Sha256, leaves: readonly Uint8Array[]): Uint8Array {
  return merkleLevels(sha256, leaves).at(-1)?.[0] ?? sha256(new Uint8Array());
}

/**
 * Every level of the tree, leaves first, root last. A level's odd last node rises unchanged, which gives the
 * same root as RFC 6962's split at the largest power of two.
 */
export function merkleLevels(sha256: Sha256, leaves: readonly Uint8Array[]): (readonly Uint8Array[])[] {
  const levels: (readonly Uint8Array[])[] = [leaves];
  let level = leaves;
  while (level.length > 1) {
    const next: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const left = level[i];
      const right = level[i + 1];
      if (left) next.push(right ? merkleNode(sha256, left, right) : left);
    }
    levels.push(next);
    level = next;
  }
  return levels;
}

/** Audit path of the leaf `index` (RFC 6962 section 2.1.1) read off {@link merkleLevels}, sibling of the leaf first. */
export function merklePath(levels: readonly (readonly Uint8Array[])[], index: number): Uint8Array[] {
  const path: Uint8Array[] = [];
  let at = index;
  for (const level of levels.slice(0, -1)) {
    const sibling = level[at ^ 1];
    if (sibling) path.push(sibling);
    at = Math.floor(at / 2);
  }
  return path;
}

/**
 * The root that `leaf` at `index` of `size` and its audit path lead to, or `undefined` when the path has the
 * wrong length or the position is impossible (RFC 9162 section 2.1.3.2).
 */
export function merkleRootFromPath(
  sha256: Sha256,
  leaf: Uint8Array,
  index: number,
  size: number,
  path: readonly Uint8Array[],
): Uint8Array | undefined {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return undefined;
  let node = index;
  let last = size - 1;
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0 || sibling.length !== 32) return undefined;
    if (node % 2 === 1 || node === last) {
      hash = merkleNode(sha256, sibling, hash);
      // A node that rose unchanged through levels without a sibling has no entry in the path for them.
      while (node % 2 === 0 && node !== 0) {
        node = Math.floor(node / 2);
        last = Math.floor(last / 2);
      }
    } else hash = merkleNode(sha256, hash, sibling);
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 ? hash : undefined;
}
