import { AssayError, bytesToHex, canonicalJson, equalBytes, hexToBytes, parseJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { anchorDomain } from "@assay/contracts";
import type { StatedAnchor } from "@assay/receipts";
import { hashWords, tokenDomain, typedDigest } from "@assay/x402";
import type { Address, EvmSuite } from "@assay/x402";
import { MAX_LEAVES, buildTree, hashLeaf } from "./tree.ts";
import type { LeafTree, ReceiptLeaf } from "./tree.ts";

/** What is posted of a batch, as bundles state it. Hashes are 32 bytes; numbers count from zero. */
export type AnchorEntry = StatedAnchor["entry"];

/** Where an entry is posted: part of what is signed. */
export type AnchorPlace = { readonly chainId: number; readonly contract: Address };

/** Everything of a batch but the hash of these very bytes. */
export type AnchorBatch = Omit<AnchorEntry, "blob"> &
  AnchorPlace & {
    /** Entries of the log from here on, up to but not including `toIndex`, are what the batch was taken from. */
    readonly fromIndex: number;
    readonly toIndex: number;
    readonly leaves: readonly ReceiptLeaf[];
  };

const FORMAT = "assay/anchor-batch/1";
/** A leaf is some 330 bytes of JSON. */
export const MAX_BLOB_BYTES = 400 * MAX_LEAVES + 4_096;

const TYPE = utf8ToBytes(
  "Entry(address submitter,uint64 firstLeaf,uint64 leafCount,bytes32 root,uint64 logSize,bytes32 logRoot,bytes32 blob,bytes32 prev)",
);

/** An entry's hash: its EIP-712 digest, which is what is signed, stored on the chain, and named by the next entry. */
export function entryHash(suite: EvmSuite, place: AnchorPlace, entry: AnchorEntry): Uint8Array {
  const { chainId, contract: verifyingContract } = place;
  const struct = hashWords(
    suite,
    suite.keccak256(TYPE),
    entry.submitter,
    entry.firstLeaf,
    entry.leafCount,
    entry.root,
    entry.logSize,
    entry.logRoot,
    entry.blob,
    entry.prev,
  );
  return typedDigest(suite, tokenDomain(suite, { ...anchorDomain, chainId, verifyingContract }), struct);
}

/** The batch's blob: canonical JSON (RFC 8785), from which anybody makes root and entry again. */
export function encodeBatch(batch: AnchorBatch): Uint8Array {
  return canonicalJson({
    format: FORMAT,
    chainId: batch.chainId,
    contract: batch.contract,
    submitter: batch.submitter,
    firstLeaf: batch.firstLeaf,
    leafCount: batch.leafCount,
    root: bytesToHex(batch.root),
    logSize: batch.logSize,
    logRoot: bytesToHex(batch.logRoot),
    prev: bytesToHex(batch.prev),
    fromIndex: batch.fromIndex,
    toIndex: batch.toIndex,
    leaves: batch.leaves.map((leaf) => ({
      executionDigest: bytesToHex(leaf.executionDigest),
      serviceDigest: bytesToHex(leaf.serviceDigest),
      paymentId: bytesToHex(leaf.paymentId),
      amountAtomic: leaf.amountAtomic.toString(),
      logIndex: leaf.logIndex,
    })),
  });
}

/** Reads a blob. Throws `anchor_blob_invalid` for anything but the one encoding of a batch. */
export function decodeBatch(bytes: Uint8Array): AnchorBatch {
  let value: JsonValue;
  try {
    value = parseJson(bytes, { maxBytes: MAX_BLOB_BYTES, maxDepth: 4 });
  } catch (cause) {
    throw invalid("is not JSON within bounds", cause);
  }
  const fields = object(value);
  if (fields["format"] !== FORMAT) throw invalid("has another format");
  const leaves = fields["leaves"];
  if (!Array.isArray(leaves) || leaves.length > MAX_LEAVES) throw invalid("has no list of leaves, or too long a one");
  const batch: AnchorBatch = {
    chainId: count(fields["chainId"]),
    contract: address(fields["contract"]),
    submitter: address(fields["submitter"]),
    firstLeaf: count(fields["firstLeaf"]),
    leafCount: count(fields["leafCount"]),
    root: hash(fields["root"]),
    logSize: count(fields["logSize"]),
    logRoot: hash(fields["logRoot"]),
    prev: hash(fields["prev"]),
    fromIndex: count(fields["fromIndex"]),
    toIndex: count(fields["toIndex"]),
    leaves: (leaves as readonly JsonValue[]).map((item) => {
      const leaf = object(item);
      return {
        executionDigest: hash(leaf["executionDigest"]),
        serviceDigest: hash(leaf["serviceDigest"]),
        paymentId: hash(leaf["paymentId"]),
        amountAtomic: amount(leaf["amountAtomic"]),
        logIndex: count(leaf["logIndex"]),
      };
    }),
  };
  // Members that are not read, another order or spacing: the bytes would have another digest than those made again.
  if (!equalBytes(encodeBatch(batch), bytes)) throw invalid("is not the canonical form of what it says");
  return batch;
}

/**
 * What makes a batch's statements untrue, in a sentence; undefined when all follow from its leaves. Nothing is posted,
 * and nothing called verified, without this.
 */
export function batchFault(suite: EvmSuite, batch: AnchorBatch): string | undefined {
  if (batch.leafCount !== batch.leaves.length) return "It has another number of leaves than it says.";
  if (batch.leafCount > batch.logSize) return "It has more leaves than the log has entries.";
  let before = -1;
  for (const { logIndex } of batch.leaves) {
    if (logIndex <= before || logIndex < batch.fromIndex || logIndex >= batch.toIndex)
      return "Its leaves are not in the order of the log, or from another part of it.";
    before = logIndex;
  }
  return equalBytes(treeOf(suite, batch).root, batch.root) ? undefined : "Its root is not that of its leaves.";
}

/** The Merkle tree over a batch's leaves. */
export function treeOf(suite: EvmSuite, { leaves }: Pick<AnchorBatch, "leaves">): LeafTree {
  return buildTree(
    suite.keccak256,
    leaves.map((leaf) => hashLeaf(suite.keccak256, leaf)),
  );
}

/** The entry of a batch whose blob has the given digest. */
export function entryOf(batch: AnchorBatch, blob: Uint8Array): AnchorEntry {
  const { submitter, firstLeaf, leafCount, root, logSize, logRoot, prev } = batch;
  return { submitter, firstLeaf, leafCount, root, logSize, logRoot, blob, prev };
}

type Fields = { readonly [key: string]: JsonValue };

function object(value: JsonValue): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid("has no object where one belongs");
  return value as Fields;
}

function count(value: JsonValue | undefined): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw invalid("has no count where one belongs");
  return value;
}

function hash(value: JsonValue | undefined): Uint8Array {
  if (typeof value !== "string" || !/^[0-9a-f]{64}$/.test(value)) throw invalid("has no hash where one belongs");
  return hexToBytes(value);
}

function address(value: JsonValue | undefined): Address {
  if (typeof value !== "string" || !/^0x[0-9a-f]{40}$/.test(value)) throw invalid("has no address where one belongs");
  return value as Address;
}

function amount(value: JsonValue | undefined): bigint {
  if (typeof value !== "string" || !/^(?:0|[1-9][0-9]{0,77})$/.test(value) || BigInt(value) >> 256n !== 0n)
    throw invalid("has no amount where one belongs");
  return BigInt(value);
}

function invalid(why: string, cause?: unknown): AssayError<"anchor_blob_invalid"> {
  return new AssayError("anchor_blob_invalid", `The blob of an anchored batch ${why}.`, {
    hints: ["The chain has the blob's SHA-256; look for the right bytes elsewhere."],
    ...(cause === undefined ? {} : { cause }),
  });
}
