import { createHash } from "node:crypto";
import { bytesToHex, equalBytes, isAssayError } from "@assay/core";
import { receiptAnchor } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Queryable } from "@assay/driver-postgres";
import type { OpenMap } from "@assay/receipts";
import type { EvmSuite, Hex, Network } from "@assay/x402";
import { encodeFunctionData } from "viem";
import { anchorMap } from "../anchor/bundle-anchor.ts";
import { entryTuple } from "../anchor/anchor.ts";
import { batchByHash, batchBySeq, batchOf, batchesBefore } from "../anchor/batches.ts";
import type { BatchRow } from "../anchor/batches.ts";
import { batchFault, decodeBatch, entryHash, entryOf, treeOf } from "../anchor/entry.ts";
import type { AnchorBatch } from "../anchor/entry.ts";
import type { ChainReads } from "../settle/ports.ts";
import { text } from "../settle/values.ts";
import { checkLimit } from "./payments.ts";

/** One anchored batch as people and programs read it. */
export type BatchReport = {
  readonly number: number;
  readonly network: Network;
  readonly state: "built" | "posting" | "posted" | "failed";
  /** `individual` batches hold one receipt. */
  readonly kind: "batch" | "individual";
  readonly firstLeaf: number;
  readonly leafCount: number;
  readonly root: Hex;
  readonly logSize: number;
  /** Lower-case hex. */
  readonly logRoot: string;
  readonly blob: string;
  readonly entryHash: Hex;
  readonly prev: Hex;
  readonly submitter: Hex;
  /** Entries of the log from here on, up to but not including `toIndex`. */
  readonly fromIndex: number;
  readonly toIndex: number;
  readonly transaction: Hex | null;
  readonly blockNumber: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAtMs: number;
};

/** What making a batch again found. */
export type BatchVerdict = {
  readonly number: number;
  readonly status: "verified" | "failed" | "inconclusive";
  /** Of the check that decided, or `verified`. */
  readonly code: string;
  readonly checks: readonly BatchCheck[];
};

export type BatchCheck = {
  readonly check: "blob" | "leaves" | "entry" | "previous" | "log" | "chain";
  readonly status: "pass" | "fail" | "inconclusive";
  readonly code: string;
  readonly message: string;
};

/** A page of batches, the latest first. Refuses a malformed filter with `report_filter_invalid`. */
export async function listBatches(
  database: Queryable,
  network: Network,
  filter: { readonly limit?: number; readonly before?: number } = {},
): Promise<{ readonly batches: readonly BatchReport[]; readonly next: number | null }> {
  const limit = checkLimit(filter.limit);
  const rows = await batchesBefore(database, network, filter.before, limit + 1);
  const batches = rows.slice(0, limit).map((row) => reportOf(network, row));
  return { batches, next: rows.length > limit ? (batches.at(-1)?.number ?? null) : null };
}

/** One batch by its number; undefined when there is none. */
export async function showBatch(
  database: Queryable,
  network: Network,
  number: number,
): Promise<BatchReport | undefined> {
  const row = await batchBySeq(database, network, number);
  return row && reportOf(network, row);
}

export type VerifyBatchModules = {
  readonly database: Queryable;
  readonly chain: ChainReads;
  readonly suite: EvmSuite;
  readonly deployments: Deployments;
  /** A blob by its SHA-256, lower-case hex; undefined when it is not here. */
  readonly getBlob: (sha256: string) => Promise<Uint8Array | undefined>;
  /** The log's root at a size, made again from its entries; undefined when that cannot be done here. */
  readonly logRoot?: (size: number) => Promise<Uint8Array | undefined>;
};

/**
 * Makes a batch again from its blob and compares it with what was signed and with the chain: the leaves give the root, blob
 * and root give the entry, the entry names the one before it, its log root is the log's, and the contract has its hash.
 * Undefined when there is no such batch.
 */
export async function verifyBatch(modules: VerifyBatchModules, number: number): Promise<BatchVerdict | undefined> {
  const { database, suite, deployments, getBlob } = modules;
  const row = await batchBySeq(database, deployments.network, number);
  if (!row) return undefined;
  const checks: BatchCheck[] = [];
  const blobHex = bytesToHex(row.entry.blob);
  const blob = await getBlob(blobHex);
  if (!blob) {
    checks.push({ check: "blob", status: "inconclusive", code: "blob_missing", message: "The blob is not here." });
  } else {
    const found = new Uint8Array(createHash("sha256").update(blob).digest());
    const same = equalBytes(found, row.entry.blob);
    checks.push(
      same
        ? { check: "blob", status: "pass", code: "blob_intact", message: "The blob has the digest that was posted." }
        : { check: "blob", status: "fail", code: "blob_corrupt", message: "The blob has another digest." },
    );
    const batch = same ? readBatch(blob, checks) : undefined;
    if (batch) checkEntry(suite, row, batch, found, checks);
  }
  checks.push(await checkPrevious(modules, row), await checkLog(modules, row), await checkChain(modules, row));
  const failed = checks.find(({ status }) => status === "fail");
  const open = checks.find(({ status }) => status === "inconclusive");
  return {
    number,
    status: failed ? "failed" : open ? "inconclusive" : "verified",
    code: (failed ?? open)?.code ?? "verified",
    checks,
  };
}

function readBatch(blob: Uint8Array, checks: BatchCheck[]): AnchorBatch | undefined {
  try {
    return decodeBatch(blob);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    checks.push({ check: "leaves", status: "fail", code: error.code, message: error.message });
    return undefined;
  }
}

function checkEntry(suite: EvmSuite, row: BatchRow, batch: AnchorBatch, blob: Uint8Array, checks: BatchCheck[]): void {
  const fault = batchFault(suite, batch);
  checks.push(
    fault === undefined
      ? { check: "leaves", status: "pass", code: "root_recomputed", message: "The leaves give the root." }
      : { check: "leaves", status: "fail", code: "root_mismatch", message: fault },
  );
  const same = equalBytes(entryHash(suite, batch, entryOf(batch, blob)), row.hash);
  checks.push(
    same
      ? { check: "entry", status: "pass", code: "entry_recomputed", message: "Blob and root give the entry's hash." }
      : { check: "entry", status: "fail", code: "entry_mismatch", message: "The blob gives another entry." },
  );
}

async function checkPrevious({ database }: VerifyBatchModules, row: BatchRow): Promise<BatchCheck> {
  const first = row.entry.prev.every((byte) => byte === 0);
  const before = first ? undefined : await batchByHash(database, row.entry.prev);
  const follows = first
    ? row.seq === 0 && row.entry.firstLeaf === 0
    : before !== undefined &&
      before.seq === row.seq - 1 &&
      before.entry.firstLeaf + before.entry.leafCount === row.entry.firstLeaf &&
      before.entry.logSize <= row.entry.logSize;
  return follows
    ? { check: "previous", status: "pass", code: "previous_linked", message: "It names the batch before it." }
    : {
        check: "previous",
        status: "fail",
        code: "previous_mismatch",
        message: "It does not follow the batch before it.",
      };
}

async function checkLog({ logRoot }: VerifyBatchModules, row: BatchRow): Promise<BatchCheck> {
  const root = await logRoot?.(row.entry.logSize);
  if (!root)
    return {
      check: "log",
      status: "inconclusive",
      code: "log_unchecked",
      message: "The log's root was not made again.",
    };
  return equalBytes(root, row.entry.logRoot)
    ? { check: "log", status: "pass", code: "log_root_recomputed", message: "The log has the root that was anchored." }
    : { check: "log", status: "fail", code: "log_root_mismatch", message: "The log has another root at that size." };
}

async function checkChain({ chain, deployments }: VerifyBatchModules, row: BatchRow): Promise<BatchCheck> {
  try {
    const answer = await chain.call({
      to: deployments.receiptAnchor,
      data: encodeFunctionData({
        abi: receiptAnchor.abi,
        functionName: "postedAt",
        args: [`0x${bytesToHex(row.hash)}`],
      }),
    });
    if (answer.ok && answer.data !== "0x" && BigInt(answer.data) > 0n)
      return { check: "chain", status: "pass", code: "entry_posted", message: "The contract has the entry's hash." };
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return { check: "chain", status: "inconclusive", code: error.code, message: error.message };
  }
  return row.state === "posted"
    ? { check: "chain", status: "fail", code: "entry_not_posted", message: "The contract does not have this entry." }
    : { check: "chain", status: "inconclusive", code: "entry_pending", message: "The entry is not in a block yet." };
}

/**
 * What a bundle's `anchors` says of a receipt: entry, leaf, proof and where it is posted. Undefined while its batch is not
 * made, for receipts whose payment asked for `private`, and when the blob is not here.
 */
export async function anchorProof(
  modules: Pick<VerifyBatchModules, "database" | "suite" | "deployments" | "getBlob">,
  executionDigest: string,
): Promise<OpenMap | undefined> {
  const { database, suite, deployments, getBlob } = modules;
  if (!/^[0-9a-f]{64}$/.test(executionDigest)) return undefined;
  const { rows } = await database.query(
    `SELECT log_index, settlement FROM assay.payments
     WHERE execution_digest = decode($1, 'hex') AND log_index IS NOT NULL LIMIT 1`,
    [executionDigest],
  );
  const payment = rows[0];
  if (!payment) return undefined;
  const mode = text(payment["settlement"]);
  if (mode !== "batch" && mode !== "individual") return undefined;
  const logIndex = Number(payment["log_index"]);
  const row = await batchOf(database, deployments.network, logIndex, mode);
  const blob = row && (await getBlob(bytesToHex(row.entry.blob)));
  if (!row || !blob) return undefined;
  const batch = decodeBatch(blob);
  const position = batch.leaves.findIndex((leaf) => leaf.logIndex === logIndex);
  const leaf = batch.leaves[position];
  if (!leaf) return undefined;
  return anchorMap({
    network: deployments.network,
    contract: deployments.receiptAnchor,
    entry: row.entry,
    leaf,
    proof: treeOf(suite, batch).proof(position),
    signature: row.signature,
    transaction: row.transaction,
    blockNumber: row.blockNumber,
  });
}

function reportOf(network: Network, row: BatchRow): BatchReport {
  const { entry } = row;
  const tuple = entryTuple(entry);
  return {
    number: row.seq,
    network,
    state: row.state,
    kind: row.kind,
    firstLeaf: entry.firstLeaf,
    leafCount: entry.leafCount,
    root: tuple.root,
    logSize: entry.logSize,
    logRoot: bytesToHex(entry.logRoot),
    blob: bytesToHex(entry.blob),
    entryHash: `0x${bytesToHex(row.hash)}`,
    prev: tuple.prev,
    submitter: entry.submitter,
    fromIndex: row.fromIndex,
    toIndex: row.toIndex,
    transaction: row.transaction ?? null,
    blockNumber: row.blockNumber ?? null,
    error:
      row.errorCode === undefined
        ? null
        : { code: row.errorCode, message: "The post was not taken; it is sent again." },
    createdAtMs: row.createdAtMs,
  };
}
