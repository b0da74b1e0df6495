import { createHash } from "node:crypto";
import { AssayError, bytesToHex, equalBytes } from "@assay/core";
import { receiptAnchor } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Database } from "@assay/driver-postgres";
import type { EvmSigner, EvmSuite, Hex } from "@assay/x402";
import { encodeEventTopics, encodeFunctionData, hexToBytes, toHex } from "viem";
import { plainTopics, searchBack } from "../settle/search.ts";
import type { ChainReads, TransactionSender } from "../settle/ports.ts";
import type { SettledIn } from "../settle/rows.ts";
import {
  batchByHash,
  batchLeaves,
  batchesFrom,
  followedUpTo,
  gatheredUpTo,
  insertBatch,
  lastBatch,
  markPostFailed,
  markPosted,
  markPosting,
} from "./batches.ts";
import type { BatchRow } from "./batches.ts";
import { batchFault, decodeBatch, encodeBatch, entryHash, entryOf, treeOf } from "./entry.ts";
import type { AnchorBatch, AnchorEntry, AnchorPlace } from "./entry.ts";
import { recoverBatches } from "./recover.ts";
import type { RecoverModules } from "./recover.ts";
import { MAX_LEAVES } from "./tree.ts";
import type { ReceiptLeaf } from "./tree.ts";

/** A checkpoint of the log: how many entries, and the root over them (32 bytes). */
export type LogCheckpoint = { readonly size: number; readonly root: Uint8Array };

export type AnchorModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly sender: TransactionSender;
  readonly signer: EvmSigner;
  readonly suite: EvmSuite;
  readonly deployments: Deployments;
  /** Stores a blob durably; its id is its SHA-256. */
  readonly putBlob: (bytes: Uint8Array) => Promise<void>;
  /** A stored blob by its SHA-256, lower-case hex. Without it lost batches are not put back. */
  readonly getBlob?: RecoverModules["getBlob"];
  /** A signed checkpoint of at least so many entries. */
  readonly checkpoint: (atLeast: number) => Promise<LogCheckpoint>;
  readonly now: () => number;
  readonly onEvent: (event: AnchorEvent) => void;
};

export type AnchorEvent =
  | { readonly type: "batch_built"; readonly seq: number; readonly leaves: number }
  | { readonly type: "batch_posted"; readonly seq: number; readonly transaction: Hex }
  | { readonly type: "batch_failed"; readonly seq: number; readonly code: string }
  /** Batches that the chain has and the database had lost were put back. */
  | { readonly type: "anchor_recovered"; readonly batches: number }
  /** The chain has an entry of our submitter that this database does not know, and none that it could be put back from. Nothing is posted any more. */
  | { readonly type: "anchor_diverged"; readonly head: Hex };

export type AnchorOptions = {
  /** How long the first receipt waits for its batch, milliseconds. */
  readonly everyMs: number;
  /** Receipts that are enough for a batch. */
  readonly leaves: number;
};

/** What the answer of an `individual` call names before its batch is in a block. */
export type PreparedAnchor = {
  readonly transaction: Hex;
  /** SHA-256 of the stored blob, 32 bytes. */
  readonly blob: Uint8Array;
  readonly batch: number;
};

export type Anchor = {
  /** Makes a batch when there is enough or it is time, and sees to those that are on their way. */
  readonly turn: () => Promise<void>;
  /** Makes a batch of one receipt: its blob is stored and its transaction signed, written down and sent. No block is waited for. */
  readonly prepareIndividual: (leaf: ReceiptLeaf) => Promise<PreparedAnchor>;
  /** Makes a batch of whatever there is, now. */
  readonly flush: () => Promise<void>;
};

/**
 * Gas of a post: its calldata, an ecrecover and three slots, measured below 100,000. It is fixed, because a post that is
 * simulated before the one ahead of it is mined reverts.
 */
const POST_GAS = 160_000n;
/** A log without paid receipts is anchored all the same, this often at most, milliseconds. */
const CHECKPOINT_EVERY_MS = 3_600_000;
/** Batches looked at in one turn. */
const MAX_PENDING = 256;
/** How often lost batches are looked for while they are not found, milliseconds. */
const RECOVER_EVERY_MS = 60_000;
/** Posts of one submitter on their way at once: each reverts unless all before it are mined first. */
const MAX_AHEAD = 32;

/** Gathers paid receipts into batches and anchors their roots, in a chain of entries that nobody can fork unseen. */
export function createAnchor(modules: AnchorModules, options: AnchorOptions): Anchor {
  const { database, chain, sender, signer, suite, deployments, putBlob, checkpoint, now, onEvent } = modules;
  const { network } = deployments;
  const place: AnchorPlace = { chainId: deployments.chainId, contract: deployments.receiptAnchor };
  let queue: Promise<unknown> = Promise.resolve();
  let diverged: { readonly head: Hex; readonly atMs: number } | undefined;

  /** One at a time: each entry names the one before it. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work);
    queue = result.catch(() => undefined);
    return result;
  }

  async function build(
    kind: BatchRow["kind"],
    leaves: readonly ReceiptLeaf[],
    fromIndex: number,
    toIndex: number,
    atLeast: number,
  ): Promise<BatchRow> {
    const last = await lastBatch(database, network);
    const { size, root: logRoot } = await checkpoint(Math.max(atLeast, last?.entry.logSize ?? 0, leaves.length));
    const bare = {
      ...place,
      submitter: signer.address,
      firstLeaf: last ? last.entry.firstLeaf + last.entry.leafCount : 0,
      leafCount: leaves.length,
      logSize: size,
      logRoot,
      prev: last?.hash ?? new Uint8Array(32),
      fromIndex,
      toIndex,
      leaves,
    };
    const batch: AnchorBatch = { ...bare, root: treeOf(suite, bare).root };
    const blob = encodeBatch(batch);
    const entry = entryOf(batch, sha256(blob));
    await putBlob(blob);
    checkOwn(suite, place, entry, blob);
    const hash = entryHash(suite, place, entry);
    const row = {
      seq: last ? last.seq + 1 : 0,
      kind,
      entry,
      hash,
      signature: await signer.signDigest(hash),
      fromIndex,
      toIndex,
    };
    // Before anything signed leaves this process: an entry that is signed once is never made differently.
    await insertBatch(database, network, row, now());
    onEvent({ type: "batch_built", seq: row.seq, leaves: leaves.length });
    return {
      ...row,
      state: "built",
      attempts: 0,
      jobId: undefined,
      transaction: undefined,
      blockNumber: undefined,
      errorCode: undefined,
      createdAtMs: now(),
    };
  }

  async function post(row: BatchRow): Promise<Hex> {
    const jobId = `anchor-${network}-${row.seq}-${row.attempts + 1}`;
    await markPosting(database, network, row.seq, jobId, now());
    return sender.submit({ jobId, to: place.contract, data: postData(row), gasLimit: POST_GAS });
  }

  /**
   * The number of the last batch that the chain has, -1 for none; undefined when it is not known here. Asked before anything
   * is signed: an entry beside one that was forgotten contradicts it, and costs the bond once somebody sees it.
   */
  async function standing(): Promise<number | undefined> {
    const head = await readHead();
    if (head === ZERO) return -1;
    const known = await batchByHash(database, hexToBytes(head));
    if (known) {
      diverged = undefined;
      return known.seq;
    }
    // Looking takes a while, and what is missing is not there a second later.
    if (diverged?.head === head && now() - diverged.atMs < RECOVER_EVERY_MS) return undefined;
    const { getBlob } = modules;
    const batches = getBlob
      ? await recoverBatches({ database, chain, signer, suite, network, place, getBlob, now }, head)
      : 0;
    if (batches > 0) {
      onEvent({ type: "anchor_recovered", batches });
      diverged = undefined;
      return (await batchByHash(database, hexToBytes(head)))?.seq;
    }
    if (diverged?.head !== head) onEvent({ type: "anchor_diverged", head });
    diverged = { head, atMs: now() };
    return undefined;
  }

  /** Posts what is built, looks what became of what was posted, and posts again what a chain took back. */
  async function advance(settledUpTo: number): Promise<void> {
    for (const row of await unposted(settledUpTo)) {
      const outcome = row.jobId === undefined ? undefined : await sender.outcome(row.jobId);
      if (row.seq <= settledUpTo) {
        // Perhaps by another attempt than the last: a chain that went back may have got the one before again.
        const mined = outcome && "transaction" in outcome && outcome.state !== "reverted" ? outcome : await locate(row);
        if (!mined) continue;
        await markPosted(database, network, row.seq, mined.transaction, mined.blockNumber, now());
        onEvent({ type: "batch_posted", seq: row.seq, transaction: mined.transaction });
        continue;
      }
      if (row.seq > settledUpTo + MAX_AHEAD) return;
      if (outcome?.state === "pending") continue;
      if (outcome?.state === "reverted") {
        await markPostFailed(database, network, row.seq, "transaction_reverted", now());
        onEvent({ type: "batch_failed", seq: row.seq, code: "transaction_reverted" });
        // Those behind it fail with it; each is sent again when its turn comes.
        if (!(await wouldBeTaken(row))) return;
      }
      // Mined since the head was read; or it was, and its block is gone.
      if (outcome && "transaction" in outcome && outcome.state !== "reverted") {
        if (await chain.receipt(outcome.transaction)) return;
      }
      await post(row);
    }
  }

  /** Where the chain has an entry. */
  async function locate(row: BatchRow): Promise<SettledIn | undefined> {
    const topics = encodeEventTopics({
      abi: receiptAnchor.abi,
      eventName: "Anchored",
      args: { entryHash: toHex(row.hash) },
    });
    return searchBack(await chain.blockNumber(), async (fromBlock, toBlock) => {
      const [log] = await chain.logs({ address: place.contract, topics: plainTopics(topics), fromBlock, toBlock });
      return log;
    });
  }

  async function wouldBeTaken(row: BatchRow): Promise<boolean> {
    return (await chain.call({ from: sender.address, to: place.contract, data: postData(row) })).ok;
  }

  async function unposted(settledUpTo: number): Promise<readonly BatchRow[]> {
    const { rows } = await database.query(
      `SELECT MIN(seq) AS seq FROM assay.anchor_batches WHERE network = $1 AND (state <> 'posted' OR seq > $2)`,
      [network, settledUpTo],
    );
    const first = rows[0]?.["seq"];
    if (first === null || first === undefined) return [];
    const found = await batchesFrom(database, network, Number(first), MAX_PENDING);
    return found.filter(({ state, seq }) => state !== "posted" || seq > settledUpTo);
  }

  async function readHead(): Promise<Hex> {
    const answer = await chain.call({
      to: place.contract,
      data: encodeFunctionData({ abi: receiptAnchor.abi, functionName: "head", args: [signer.address] }),
    });
    if (!answer.ok || answer.data.length !== 66)
      throw new AssayError("chain_unavailable", "There is no anchor contract where one was deployed.");
    return answer.data;
  }

  async function gather(force: boolean): Promise<void> {
    // One after the other, on one connection: side by side they would keep three for this alone, each a process of the server.
    const fromIndex = await gatheredUpTo(database, network);
    const toIndex = await followedUpTo(database);
    if (toIndex <= fromIndex) return;
    const last = await lastBatch(database, network);
    const leaves = await batchLeaves(database, network, fromIndex, toIndex, MAX_LEAVES);
    const waitedMs = now() - (last?.createdAtMs ?? 0);
    const due =
      leaves.length >= options.leaves ||
      (leaves.length > 0 && (force || waitedMs >= options.everyMs)) ||
      (leaves.length === 0 && waitedMs >= CHECKPOINT_EVERY_MS);
    if (!due) return;
    const end = leaves.length === MAX_LEAVES ? (leaves.at(-1)?.logIndex ?? 0) + 1 : toIndex;
    await build("batch", leaves, fromIndex, end, end);
  }

  async function work(force: boolean): Promise<void> {
    const settledUpTo = await standing();
    if (settledUpTo === undefined) return;
    await gather(force);
    await advance(settledUpTo);
  }

  return {
    turn: () => inTurn(() => work(false)),
    flush: () => inTurn(() => work(true)),
    prepareIndividual: (leaf) =>
      inTurn(async () => {
        if ((await standing()) === undefined)
          throw new AssayError("anchor_diverged", "The chain has an entry of this submitter that is not known here.", {
            hints: ["One key anchors for one ledger; use another submitter key."],
          });
        const row = await build("individual", [leaf], leaf.logIndex, leaf.logIndex + 1, 0);
        return { transaction: await post(row), blob: row.entry.blob, batch: row.seq };
      }),
  };
}

const ZERO: Hex = `0x${"0".repeat(64)}`;

/** What is about to be signed must follow from the bytes that were stored, and from them alone. */
function checkOwn(suite: EvmSuite, place: AnchorPlace, entry: AnchorEntry, blob: Uint8Array): void {
  const again = decodeBatch(blob);
  const fault = batchFault(suite, again);
  const same = equalBytes(entryHash(suite, place, entry), entryHash(suite, again, entryOf(again, sha256(blob))));
  if (fault === undefined && same) return;
  throw new AssayError("anchor_blob_invalid", `A batch was not posted: ${fault ?? "its blob gives another entry."}`);
}

/** The call that posts a batch. */
function postData({ entry, signature }: BatchRow): Hex {
  return encodeFunctionData({
    abi: receiptAnchor.abi,
    functionName: "post",
    args: [entryTuple(entry), toHex(signature)],
  });
}

/** An entry as the contract's struct has it. */
export function entryTuple(entry: AnchorEntry) {
  return {
    submitter: entry.submitter,
    firstLeaf: BigInt(entry.firstLeaf),
    leafCount: BigInt(entry.leafCount),
    root: `0x${bytesToHex(entry.root)}`,
    logSize: BigInt(entry.logSize),
    logRoot: `0x${bytesToHex(entry.logRoot)}`,
    blob: `0x${bytesToHex(entry.blob)}`,
    prev: `0x${bytesToHex(entry.prev)}`,
  } as const;
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}
