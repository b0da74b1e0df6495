import { AssayError, compareBytes, concatBytes, equalBytes } from "@assay/core";
import type { EvmSuite } from "@assay/x402";

/** What is anchored of one paid receipt. Digests and the payment's id are 32 bytes. */
export type ReceiptLeaf = {
  readonly executionDigest: Uint8Array;
  readonly serviceDigest: Uint8Array;
  readonly paymentId: Uint8Array;
  readonly amountAtomic: bigint;
  readonly logIndex: number;
};

/** A Merkle tree over leaves: their order in it, its root, and a proof for each. */
export type LeafTree = {
  /** 32 bytes; zeros when there are no leaves. */
  readonly root: Uint8Array;
  /** Siblings from the leaf up, for the leaf at `position` of what the tree was made of. */
  readonly proof: (position: number) => readonly Uint8Array[];
};

/** Leaves of one batch: a proof is then 16 hashes, and the blob some 20 MB at most. */
export const MAX_LEAVES = 65_536;

type Keccak = EvmSuite["keccak256"];

/**
 * keccak256(keccak256(abi.encode(executionDigest, serviceDigest, paymentId, amountAtomic, logIndex))). Hashed twice, as
 * OpenZeppelin's StandardMerkleTree does, so that no inner node can pass for a leaf.
 */
export function hashLeaf(keccak256: Keccak, leaf: ReceiptLeaf): Uint8Array {
  const encoded = new Uint8Array(160);
  encoded.set(bytes32(leaf.executionDigest), 0);
  encoded.set(bytes32(leaf.serviceDigest), 32);
  encoded.set(bytes32(leaf.paymentId), 64);
  encoded.set(word(leaf.amountAtomic), 96);
  encoded.set(word(BigInt(leaf.logIndex)), 128);
  return keccak256(keccak256(encoded));
}

/**
 * The tree that OpenZeppelin's StandardMerkleTree makes of the same leaves: leaves sorted by hash, pairs hashed in
 * sorted order. Refuses more than {@link MAX_LEAVES} with `batch_too_large`.
 */
export function buildTree(keccak256: Keccak, leaves: readonly Uint8Array[]): LeafTree {
  const count = leaves.length;
  if (count > MAX_LEAVES)
    throw new AssayError("batch_too_large", `A batch of ${count} receipts is larger than ${MAX_LEAVES}.`);
  if (count === 0) return { root: new Uint8Array(32), proof: () => [] };
  const order = leaves.map((hash, position) => ({ hash, position })).toSorted((a, b) => compareBytes(a.hash, b.hash));
  const nodes = Array.from<Uint8Array>({ length: 2 * count - 1 });
  const places = Array.from<number>({ length: count });
  for (const [i, { hash, position }] of order.entries()) {
    const place = nodes.length - 1 - i;
    nodes[place] = hash;
    places[position] = place;
  }
  const at = (place: number): Uint8Array => nodes[place] ?? new Uint8Array(32);
  for (let i = count - 2; i >= 0; i--) nodes[i] = hashPair(keccak256, at(2 * i + 1), at(2 * i + 2));
  return {
    root: at(0),
    proof(position) {
      let place = places[position];
      if (place === undefined) throw new RangeError("The tree has no such leaf.");
      const path: Uint8Array[] = [];
      for (; place > 0; place = (place - 1) >> 1) path.push(at(place % 2 === 0 ? place - 1 : place + 1));
      return path;
    },
  };
}

/** Whether a leaf's hash is under a root. */
export function provesLeaf(
  keccak256: Keccak,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  let hash = leaf;
  for (const sibling of proof) hash = hashPair(keccak256, hash, sibling);
  return equalBytes(hash, root);
}

function hashPair(keccak256: Keccak, a: Uint8Array, b: Uint8Array): Uint8Array {
  return keccak256(compareBytes(a, b) < 0 ? concatBytes(a, b) : concatBytes(b, a));
}

function bytes32(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 32) throw new TypeError(`A digest of ${bytes.length} bytes cannot be a leaf's.`);
  return bytes;
}

/** 32 bytes, big-endian. */
function word(value: bigint): Uint8Array {
  const bytes = new Uint8Array(32);
  let rest = value;
  for (let i = 31; rest > 0n; i--) {
    if (i < 0) throw new RangeError("A number is longer than a word.");
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}
