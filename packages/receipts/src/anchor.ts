import { base64ToBytes, bytesToHex, equalBytes } from "@assay/core";
import { decodeEntry } from "./entry.ts";
import type { OpenMap, OpenValue } from "./table.ts";
import type { CheckOutcome } from "./verdict.ts";
import type { ReceiptView } from "./view.ts";

/** What a bundle says of where its receipt is anchored (docs/spec/receipt.md section 8.1). Hashes are 32 bytes. */
export type StatedAnchor = {
  readonly network: `eip155:${number}`;
  /** Addresses are `0x` and 40 lower-case hex digits. */
  readonly contract: `0x${string}`;
  readonly entry: {
    readonly submitter: `0x${string}`;
    readonly firstLeaf: number;
    readonly leafCount: number;
    readonly root: Uint8Array;
    readonly logSize: number;
    readonly logRoot: Uint8Array;
    /** SHA-256 of the batch's blob. */
    readonly blob: Uint8Array;
    /** Hash of the submitter's entry before, zeros for its first. */
    readonly prev: Uint8Array;
  };
  readonly leaf: {
    readonly executionDigest: Uint8Array;
    readonly serviceDigest: Uint8Array;
    readonly paymentId: Uint8Array;
    readonly amountAtomic: bigint;
    readonly logIndex: number;
  };
  /** Siblings from the leaf up. */
  readonly proof: readonly Uint8Array[];
  /** The submitter's over the entry's hash, 65 bytes; receipts of before it was kept have none. */
  readonly signature: Uint8Array | undefined;
  /** Where it was posted, when that was known. */
  readonly transaction: `0x${string}` | undefined;
  readonly blockNumber: number | undefined;
};

export const ANCHOR_TYPE = "receipt-anchor/1";
/** Hashes of a proof: twice what the largest batch needs. */
const MAX_PROOF = 32;
const SIGNATURE_BYTES = 65;

/** Reads an anchor out of a bundle; undefined for anything that is not of this type and form: a stranger wrote it. */
export function readAnchor(map: OpenMap): StatedAnchor | undefined {
  if (map["type"] !== ANCHOR_TYPE) return undefined;
  const [network, contract, entry, leaf] = [map["network"], map["contract"], map["entry"], map["leaf"]];
  if (typeof network !== "string" || !/^eip155:[1-9][0-9]{0,14}$/.test(network)) return undefined;
  if (!isAddress(contract) || !isMap(entry) || !isMap(leaf)) return undefined;
  const proof = map["proof"];
  if (!Array.isArray(proof) || proof.length > MAX_PROOF) return undefined;
  const siblings = (proof as readonly OpenValue[]).filter(isHash);
  if (siblings.length !== proof.length) return undefined;
  const read = { entry: readEntry(entry), leaf: readLeaf(leaf) };
  if (!read.entry || !read.leaf) return undefined;
  const { signature, transaction, blockNumber } = map;
  if (signature !== undefined && !(signature instanceof Uint8Array && signature.length === SIGNATURE_BYTES))
    return undefined;
  if (transaction !== undefined && !isTransaction(transaction)) return undefined;
  if (blockNumber !== undefined && !isCount(blockNumber)) return undefined;
  return {
    network: network as StatedAnchor["network"],
    contract,
    entry: read.entry,
    leaf: read.leaf,
    proof: siblings,
    signature,
    transaction,
    blockNumber,
  };
}

/** Whether a receipt says anything of an anchor. */
export function statesAnchor({ bundle, supplements }: ReceiptView): boolean {
  return (bundle.anchors?.length ?? 0) > 0 || supplements.some(({ claims }) => claims.kind === "anchor");
}

/**
 * What of an anchor is not this receipt's, as far as neither a chain nor its hash function is needed: another leaf
 * (`anchor_leaf_mismatch`), or a root of the log that a checkpoint of the bundle contradicts (`anchor_log_conflict`).
 */
export function anchorFault(view: ReceiptView, anchor: StatedAnchor): CheckOutcome | undefined {
  const other = leafFault(view, anchor);
  if (other !== undefined) return fail("anchor_leaf_mismatch", other);
  const { logSize, logRoot } = anchor.entry;
  const conflicts = proofsOf(view).some(({ checkpoint }) => {
    const root = rootAt(view.bundle.checkpoints?.[checkpoint], logSize);
    return root !== undefined && !equalBytes(root, logRoot);
  });
  return conflicts
    ? fail("anchor_log_conflict", "The entry gives the log another root than the bundle's checkpoint.", {
        logSize: String(logSize),
      })
    : undefined;
}

/**
 * What of a receipt's anchors shows itself without a chain and without its hash function: the first fault, else
 * `anchor_unknown` when one is of a kind that is not known here.
 */
export function anchorsFault(view: ReceiptView): CheckOutcome | undefined {
  const found = (view.bundle.anchors ?? []).flatMap((map) => {
    const anchor = readAnchor(map);
    return (anchor ? anchorFault(view, anchor) : UNKNOWN_ANCHOR) ?? [];
  });
  return found.find(({ status }) => status === "fail") ?? found[0];
}

export const UNKNOWN_ANCHOR: CheckOutcome = {
  status: "inconclusive",
  code: "anchor_unknown",
  message: "An anchor is of a kind that is not known here.",
  facts: {},
};

/** What of a leaf is not the receipt's, in a sentence. */
function leafFault(view: ReceiptView, { leaf }: StatedAnchor): string | undefined {
  const { execution, service } = view;
  if (!equalBytes(leaf.executionDigest, execution.statement.digest)) return "The leaf is of another execution.";
  if (!service || !equalBytes(leaf.serviceDigest, service.statement.digest))
    return "The leaf is of another service statement than the bundle's.";
  const payment = service.claims.payment;
  const claimed = payment?.paymentId.toLowerCase() ?? `0x${"0".repeat(64)}`;
  if (`0x${bytesToHex(leaf.paymentId)}` !== claimed) return "The leaf names another payment.";
  if (leaf.amountAtomic.toString() !== (payment?.amountAtomic ?? "0")) return "The leaf names another amount.";
  const proofs = proofsOf(view);
  if (proofs.length > 0 && proofs.every(({ index }) => index !== leaf.logIndex))
    return "The leaf names another place in the log.";
  return undefined;
}

/** The log proofs of the execution: those say where in the log the receipt is, and under which roots. */
function proofsOf({ bundle, execution }: ReceiptView): readonly { index: number; checkpoint: number }[] {
  return (bundle.log ?? []).filter(({ entry }) => {
    try {
      return decodeEntry(entry).some((envelope) => equalBytes(envelope, execution.statement.envelope));
    } catch {
      // The log check says what is wrong with an entry that cannot be read.
      return false;
    }
  });
}

/** The root that a checkpoint states, when it is of that size (C2SP tlog-checkpoint: origin, size, root). */
function rootAt(note: string | undefined, logSize: number): Uint8Array | undefined {
  const [, size, root] = note?.split("\n", 3) ?? [];
  if (size !== String(logSize) || root === undefined) return undefined;
  try {
    return base64ToBytes(root);
  } catch {
    // The log check says what is wrong with a note that cannot be read.
    return undefined;
  }
}

function readEntry(map: OpenMap): StatedAnchor["entry"] | undefined {
  const { submitter, firstLeaf, leafCount, root, logSize, logRoot, blob, prev } = map;
  if (!isAddress(submitter) || !isCount(firstLeaf) || !isCount(leafCount) || !isCount(logSize)) return undefined;
  if (!isHash(root) || !isHash(logRoot) || !isHash(blob) || !isHash(prev)) return undefined;
  return { submitter, firstLeaf, leafCount, root, logSize, logRoot, blob, prev };
}

function readLeaf(map: OpenMap): StatedAnchor["leaf"] | undefined {
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

function isAddress(value: OpenValue | undefined): value is `0x${string}` {
  return typeof value === "string" && /^0x[0-9a-f]{40}$/.test(value);
}

function isTransaction(value: OpenValue): value is `0x${string}` {
  return typeof value === "string" && /^0x[0-9a-f]{64}$/.test(value);
}

function fail(code: string, message: string, facts: Readonly<Record<string, string>> = {}): CheckOutcome {
  return { status: "fail", code, message, facts };
}
