import { AssayError, equalBytes, merkleRootFromPath } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { nodeHash } from "./leaf.ts";
import { assertSize, isSize } from "./size.ts";
import { emptyRoot, HASH_BYTES, joinSubtrees, subtreesOf } from "./tree.ts";
import type { HashReader, TreeNode } from "./tree.ts";

/** Longest proof anything here reads: the C2SP formats allow 63 hashes, enough for a tree of 2^63 entries. */
export const MAX_PROOF_HASHES = 63;

type Range = readonly [start: number, end: number];

// The largest power of two below the width of a range of at least two entries: RFC 6962's split.
function split(width: number): number {
  let k = 1;
  while (k * 2 < width) k *= 2;
  return k;
}

async function readRanges(ranges: readonly Range[], read: HashReader, suite: CryptoSuite): Promise<Uint8Array[]> {
  const groups = ranges.map(([start, end]) => subtreesOf(start, end));
  const wanted: TreeNode[] = groups.flat();
  const hashes = wanted.length === 0 ? [] : await read(wanted);
  let at = 0;
  return groups.map((group) => joinSubtrees(suite, hashes.slice(at, (at += group.length))));
}

/**
 * Audit path of entry `index` in the tree of the first `size` entries, 32-byte hashes, the leaf's sibling first
 * (RFC 6962 section 2.1.1). Throws `tlog_range` unless `index < size`.
 */
export async function inclusionProof(
  index: number,
  size: number,
  read: HashReader,
  suite: CryptoSuite,
): Promise<Uint8Array[]> {
  assertSize(size, "tree size");
  assertSize(index, "entry index");
  if (index >= size) throw new AssayError("tlog_range", `Entry ${index} is not in a tree of ${size} entries.`);
  const ranges: Range[] = [];
  let start = 0;
  let end = size;
  while (end - start > 1) {
    const middle = start + split(end - start);
    if (index < middle) {
      ranges.push([middle, end]);
      end = middle;
    } else {
      ranges.push([start, middle]);
      start = middle;
    }
  }
  return readRanges(ranges.reverse(), read, suite);
}

/**
 * Proof that the tree of `newSize` entries begins with the tree of `oldSize` (RFC 6962 section 2.1.2). Empty
 * when the sizes are equal or the old tree is empty. Throws `tlog_range` when `oldSize > newSize`.
 */
export async function consistencyProof(
  oldSize: number,
  newSize: number,
  read: HashReader,
  suite: CryptoSuite,
): Promise<Uint8Array[]> {
  assertSize(oldSize, "old tree size");
  assertSize(newSize, "new tree size");
  if (oldSize > newSize) {
    throw new AssayError("tlog_range", `A tree of ${newSize} entries cannot begin with one of ${oldSize}.`);
  }
  if (oldSize === 0 || oldSize === newSize) return [];
  const ranges: Range[] = [];
  let start = 0;
  let end = newSize;
  while (end !== oldSize) {
    const middle = start + split(end - start);
    if (oldSize <= middle) {
      ranges.push([middle, end]);
      end = middle;
    } else {
      ranges.push([start, middle]);
      start = middle;
    }
  }
  // The old tree itself is known to the verifier, unless it is only the right part of what is left.
  if (start !== 0) ranges.push([start, end]);
  return readRanges(ranges.reverse(), read, suite);
}

/**
 * The root that a leaf hash and its audit path lead to (RFC 9162 section 2.1.3.2), or `undefined` when no tree
 * has such a position or the path has another length than that position needs. Compare it with a signed root.
 */
export function expectedRoot(
  index: number,
  size: number,
  leafHash: Uint8Array,
  path: readonly Uint8Array[],
  suite: CryptoSuite,
): Uint8Array | undefined {
  if (leafHash.length !== HASH_BYTES || path.length > MAX_PROOF_HASHES) return undefined;
  return merkleRootFromPath((...parts) => suite.sha256(...parts), leafHash, index, size, path);
}

/** Whether `path` proves that `leafHash` is entry `index` of the tree of `size` entries with root `root`. */
export function verifyInclusion(
  index: number,
  size: number,
  leafHash: Uint8Array,
  path: readonly Uint8Array[],
  root: Uint8Array,
  suite: CryptoSuite,
): boolean {
  const expected = expectedRoot(index, size, leafHash, path, suite);
  return expected !== undefined && equalBytes(expected, root);
}

/** Both ends of a consistency check: the number of entries and the 32-byte root. */
export type TreeHead = { readonly size: number; readonly root: Uint8Array };

/**
 * Whether `proof` shows that the newer tree begins with the older one (RFC 9162 section 2.1.4.2). Two heads of
 * the same size agree only with equal roots and an empty proof; an empty older tree agrees with every tree, also
 * with an empty proof, but only if its own root is the root of the empty tree.
 */
export function verifyConsistency(
  older: TreeHead,
  newer: TreeHead,
  proof: readonly Uint8Array[],
  suite: CryptoSuite,
): boolean {
  if (!isSize(older.size) || !isSize(newer.size) || older.size > newer.size) return false;
  if (older.root.length !== HASH_BYTES || newer.root.length !== HASH_BYTES) return false;
  if (proof.length > MAX_PROOF_HASHES || proof.some((hash) => hash.length !== HASH_BYTES)) return false;
  if (newer.size === 0 && !equalBytes(newer.root, emptyRoot(suite))) return false;
  if (older.size === newer.size) return proof.length === 0 && equalBytes(older.root, newer.root);
  if (older.size === 0) return proof.length === 0 && equalBytes(older.root, emptyRoot(suite));

  let node = older.size - 1;
  let last = newer.size - 1;
  while (node % 2 === 1) {
    node = (node - 1) / 2;
    last = Math.floor(last / 2);
  }
  // An old size that is a power of two is a node of the new tree, so its root starts the walk and is not sent.
  const rest = node === 0 ? proof : proof.slice(1);
  const start = node === 0 ? older.root : proof[0];
  if (!start) return false;
  let oldRoot = start;
  let newRoot = start;
  for (const hash of rest) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      oldRoot = nodeHash(hash, oldRoot, suite);
      newRoot = nodeHash(hash, newRoot, suite);
      while (node % 2 === 0 && node !== 0) {
        node /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      newRoot = nodeHash(newRoot, hash, suite);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equalBytes(oldRoot, older.root) && equalBytes(newRoot, newer.root);
}
