import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { nodeHash } from "./leaf.ts";
import { assertSize } from "./size.ts";

/** Bytes of every hash in the tree: SHA-256. */
export const HASH_BYTES = 32;

/**
 * A complete subtree: the Merkle tree hash of the entries `index * 2^level` up to, but not including,
 * `(index + 1) * 2^level`. Level 0 holds the leaf hashes.
 */
export type TreeNode = { readonly level: number; readonly index: number };

/** Where hashes of complete subtrees come from: tiles on disk, tiles over HTTP, an array in a test. */
export type HashReader = (nodes: readonly TreeNode[]) => Promise<readonly Uint8Array[]>;

/** The root of the tree without entries: SHA-256 of the empty string (RFC 6962 section 2.1). */
export function emptyRoot(suite: CryptoSuite): Uint8Array {
  return suite.sha256(new Uint8Array());
}

/**
 * The complete subtrees that make up `[start, end)`, from left to right, where `start` is a multiple of the
 * largest power of two not above `end - start`, as every range in RFC 6962's recursion is.
 */
export function subtreesOf(start: number, end: number): TreeNode[] {
  const nodes: TreeNode[] = [];
  let at = start;
  let width = 1;
  let level = 0;
  while (width * 2 <= end - start) {
    width *= 2;
    level++;
  }
  for (; at < end; width /= 2, level--) {
    if (at + width > end) continue;
    nodes.push({ level, index: at / width });
    at += width;
  }
  return nodes;
}

/** The hash over neighbouring complete subtrees of falling size: they are joined from the right. */
export function joinSubtrees(suite: CryptoSuite, hashes: readonly Uint8Array[]): Uint8Array {
  let root = hashes.at(-1);
  if (!root) return emptyRoot(suite);
  for (let i = hashes.length - 2; i >= 0; i--) {
    const left = hashes[i];
    if (left) root = nodeHash(left, root, suite);
  }
  return root;
}

/** Root of the first `size` entries, from the hashes of complete subtrees. */
export async function rootAt(size: number, read: HashReader, suite: CryptoSuite): Promise<Uint8Array> {
  assertSize(size, "tree size");
  return joinSubtrees(suite, await read(subtreesOf(0, size)));
}

/** Called once for each complete subtree as it comes to be, leaves included. */
export type NodeListener = (level: number, index: number, hash: Uint8Array) => void;

/**
 * A tree that remembers only its right edge: at most 53 hashes whatever its size. `append` costs one hash per
 * entry on average; `root` costs one per hash of the edge.
 */
export type CompactTree = {
  size(): number;
  /** Adds a leaf hash (32 bytes) and tells `listener` every complete subtree that it finishes. */
  append(leafHash: Uint8Array, listener?: NodeListener): void;
  root(): Uint8Array;
  /** Hashes of {@link subtreesOf}`(0, size)`: what {@link createCompactTree} starts again from. */
  edge(): readonly Uint8Array[];
};

/**
 * A compact tree of `size` entries whose right edge is `edge`. Throws `tlog_range` for an impossible size and
 * `tlog_edge` when the edge does not have one hash per one bit of `size`.
 */
export function createCompactTree(suite: CryptoSuite, size = 0, edge: readonly Uint8Array[] = []): CompactTree {
  assertSize(size, "tree size");
  const nodes = subtreesOf(0, size);
  if (nodes.length !== edge.length || edge.some((hash) => hash.length !== HASH_BYTES)) {
    throw new AssayError(
      "tlog_edge",
      `The right edge has ${edge.length} hashes, not the ${nodes.length} of size ${size}.`,
    );
  }
  // peaks[level] is the complete subtree of 2^level entries on the edge, where the size has that bit.
  const peaks: (Uint8Array | undefined)[] = [];
  for (const [i, node] of nodes.entries()) peaks[node.level] = edge[i];
  let count = size;
  const present = (): Uint8Array[] => peaks.filter((hash) => hash !== undefined).reverse();
  return {
    size: () => count,
    append(leafHash, listener) {
      let hash = leafHash;
      let index = count;
      let level = 0;
      listener?.(0, index, hash);
      for (let left = peaks[0]; left; left = peaks[level]) {
        hash = nodeHash(left, hash, suite);
        peaks[level++] = undefined;
        index = (index - 1) / 2;
        listener?.(level, index, hash);
      }
      peaks[level] = hash;
      count++;
    },
    root: () => joinSubtrees(suite, present()),
    edge: present,
  };
}
