import { concatBytes, equalBytes, merkleLeaf, merkleNode, merkleRoot, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";

type Hash = Pick<CryptoSuite, "sha256">;

const TAG = utf8ToBytes("assay/transcript/1\0");

/** Salt of a stream's frames, derived from the receipt's master salt. */
export function transcriptSalt(suite: Hash, master: Uint8Array): Uint8Array {
  return suite.sha256(concatBytes(TAG, master));
}

/** Leaf of one frame: RFC 6962 leaf hash of salt || frame. Frames are the bytes the client got, in order. */
export function transcriptLeaf(suite: Hash, salt: Uint8Array, frame: Uint8Array): Uint8Array {
  return merkleLeaf(suite.sha256, concatBytes(salt, frame));
}

/** Root over all frames of a finished stream. */
export function transcriptRoot(suite: Hash, salt: Uint8Array, frames: readonly Uint8Array[]): Uint8Array {
  return merkleRoot(
    suite.sha256,
    frames.map((frame) => transcriptLeaf(suite, salt, frame)),
  );
}

/**
 * The hashes that let someone who holds only the first `length` frames check them against the root: for every
 * subtree that lies wholly after the prefix, its root, in order from the left.
 */
export function prefixProof(suite: Hash, leaves: readonly Uint8Array[], length: number): Uint8Array[] {
  const proof: Uint8Array[] = [];
  walk(0, leaves.length);
  return proof;

  function walk(from: number, to: number): void {
    if (to <= length || from === to) return;
    if (from >= length) {
      proof.push(merkleRoot(suite.sha256, leaves.slice(from, to)));
      return;
    }
    const middle = from + split(to - from);
    walk(from, middle);
    walk(middle, to);
  }
}

/** Whether `prefix` frames are the first ones of the stream of `count` frames with this root. */
export function verifyPrefix(
  suite: Hash,
  salt: Uint8Array,
  prefix: readonly Uint8Array[],
  count: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!Number.isSafeInteger(count) || prefix.length > count || count < 1) return false;
  const leaves = prefix.map((frame) => transcriptLeaf(suite, salt, frame));
  let used = 0;
  const found = rebuild(0, count);
  return found !== undefined && used === proof.length && equalBytes(found, root);

  function rebuild(from: number, to: number): Uint8Array | undefined {
    if (to <= leaves.length) return merkleRoot(suite.sha256, leaves.slice(from, to));
    if (from >= leaves.length) return proof[used++];
    const middle = from + split(to - from);
    const left = rebuild(from, middle);
    const right = rebuild(middle, to);
    return left && right && merkleNode(suite.sha256, left, right);
  }
}

// The largest power of two below n (RFC 6962 section 2.1).
function split(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}
