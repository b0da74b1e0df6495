import type { OpenMap, OpenValue } from "@assay/receipts";
import type { Address, Hex, Network } from "@assay/x402";
import type { AnchorEntry } from "./entry.ts";
import type { ReceiptLeaf } from "./tree.ts";

/** What a bundle says of where its receipt is anchored. */
export type BundleAnchor = {
  readonly network: Network;
  readonly contract: Address;
  readonly entry: AnchorEntry;
  readonly leaf: ReceiptLeaf;
  /** Siblings from the leaf up, 32 bytes each. */
  readonly proof: readonly Uint8Array[];
  /** Where it was posted, when that was known. */
  readonly transaction: Hex | undefined;
  readonly blockNumber: number | undefined;
};

const TYPE = "receipt-anchor/1";
/** Hashes of a proof: twice what the largest batch needs. */
const MAX_PROOF = 32;

/** The open map of a bundle's `anchors` (docs/spec/receipt.md section 8.1). */
export function anchorMap(anchor: BundleAnchor): OpenMap {
  const { entry, leaf, transaction, blockNumber } = anchor;
  return {
    type: TYPE,
    network: anchor.network,
    contract: anchor.contract,
    entry: { ...entry },
    leaf: {
      executionDigest: leaf.executionDigest,
      serviceDigest: leaf.serviceDigest,
      paymentId: leaf.paymentId,
      amountAtomic: leaf.amountAtomic.toString(),
      logIndex: leaf.logIndex,
    },
    proof: [...anchor.proof],
    ...(transaction === undefined ? {} : { transaction }),
    ...(blockNumber === undefined ? {} : { blockNumber }),
  };
}

/** Reads an anchor out of a bundle; undefined for anything that is not of this type and form: a stranger wrote it. */
export function readAnchorMap(map: OpenMap): BundleAnchor | undefined {
  if (map["type"] !== TYPE) return undefined;
  const [network, contract, entry, leaf] = [map["network"], map["contract"], map["entry"], map["leaf"]];
  if (typeof network !== "string" || !/^eip155:[1-9][0-9]{0,15}$/.test(network)) return undefined;
  if (!isAddress(contract) || !isMap(entry) || !isMap(leaf)) return undefined;
  const proof = map["proof"];
  if (!Array.isArray(proof) || proof.length > MAX_PROOF) return undefined;
  const siblings = (proof as readonly OpenValue[]).filter(isHash);
  if (siblings.length !== proof.length) return undefined;
  const read = { entry: readEntry(entry), leaf: readLeaf(leaf) };
  if (!read.entry || !read.leaf) return undefined;
  const { transaction, blockNumber } = map;
  return {
    network: network as Network,
    contract,
    entry: read.entry,
    leaf: read.leaf,
    proof: siblings,
    transaction:
      typeof transaction === "string" && /^0x[0-9a-f]{64}$/.test(transaction) ? (transaction as Hex) : undefined,
    blockNumber: isCount(blockNumber) ? blockNumber : undefined,
  };
}

function readEntry(map: OpenMap): AnchorEntry | undefined {
  const { submitter, firstLeaf, leafCount, root, logSize, logRoot, blob, prev } = map;
  if (!isAddress(submitter) || !isCount(firstLeaf) || !isCount(leafCount) || !isCount(logSize)) return undefined;
  if (!isHash(root) || !isHash(logRoot) || !isHash(blob) || !isHash(prev)) return undefined;
  return { submitter, firstLeaf, leafCount, root, logSize, logRoot, blob, prev };
}

function readLeaf(map: OpenMap): ReceiptLeaf | undefined {
  const { executionDigest, serviceDigest, paymentId, amountAtomic, logIndex } = map;
  if (!isHash(executionDigest) || !isHash(serviceDigest) || !isHash(paymentId) || !isCount(logIndex)) return undefined;
  if (typeof amountAtomic !== "string" || !/^(?:0|[1-9][0-9]{0,77})$/.test(amountAtomic)) return undefined;
  const amount = BigInt(amountAtomic);
  if (amount >> 256n !== 0n) return undefined;
  return { executionDigest, serviceDigest, paymentId, amountAtomic: amount, logIndex };
}

function isMap(value: OpenValue | undefined): value is OpenMap {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array);
}

function isHash(value: OpenValue | undefined): value is Uint8Array {
  return value instanceof Uint8Array && value.length === 32;
}

function isCount(value: OpenValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isAddress(value: OpenValue | undefined): value is Address {
  return typeof value === "string" && /^0x[0-9a-f]{40}$/.test(value);
}
