import { createHash } from "node:crypto";
import { equalBytes } from "@assay/core";
import { receiptAnchor } from "@assay/contracts";
import type { Database, Queryable } from "@assay/driver-postgres";
import type { Address, EvmSigner, EvmSuite, Hex, Network } from "@assay/x402";
import { decodeEventLog, decodeFunctionData, encodeEventTopics, hexToBytes, parseTransaction, toHex } from "viem";
import type { ChainLog, ChainReads } from "../settle/ports.ts";
import type { SettledIn } from "../settle/rows.ts";
import { plainTopics, searchBack } from "../settle/search.ts";
import { text } from "../settle/values.ts";
import { batchByHash, batchesFrom, deleteBatches, followedUpTo, insertBatch, markPosted } from "./batches.ts";
import { batchFault, decodeBatch, entryHash, entryOf } from "./entry.ts";
import type { AnchorBatch, AnchorEntry, AnchorPlace } from "./entry.ts";

export type RecoverModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly signer: EvmSigner;
  readonly suite: EvmSuite;
  readonly network: Network;
  readonly place: AnchorPlace;
  /** A stored blob by its SHA-256, lower-case hex; undefined when it is not there. */
  readonly getBlob: (sha256: string) => Promise<Uint8Array | undefined>;
  readonly now: () => number;
};

/** Blocks that are searched back for entries: a month of two-second blocks. */
const MAX_BLOCKS = 1_300_000;
/** Entries that are put back at once; a batch a minute for two months. */
const MAX_ENTRIES = 100_000;
/** Transactions of the journal in which entries are looked for that no block has. */
const MAX_UNPOSTED = 1_000;

type Found = { readonly entry: AnchorEntry; readonly hash: Hex; readonly posted: SettledIn | undefined };

/**
 * Puts batches back that the chain has and the database lost: entries are read from the contract's events, from `head` back
 * to one that is known, and what they were made of from their blobs. Nothing is taken that does not agree: each entry has
 * the hash that the contract told, each blob the digest and the root of its entry, and each leaf is a payment of this ledger.
 * Entries that were signed and sent, and are in no block, are taken from the journal, so that none is signed differently.
 * Answers how many were put back; zero when something is missing or does not agree, and then nothing is changed.
 */
export async function recoverBatches(modules: RecoverModules, head: Hex): Promise<number> {
  const { database, suite, place, network, signer, getBlob, now } = modules;
  const posted = await entriesFrom(modules, head);
  const [first] = posted;
  if (!first) return 0;
  const base = isZero(first.entry.prev) ? undefined : await batchByHash(database, first.entry.prev);
  const entries = [...posted, ...(await unpostedAfter(modules, head))];
  const made: { readonly found: Found; readonly batch: AnchorBatch }[] = [];
  for (const found of entries) {
    const blob = await getBlob(Buffer.from(found.entry.blob).toString("hex"));
    const batch = blob && readBlob(suite, place, blob, found);
    if (!batch || !(await arePayments(database, network, batch))) return 0;
    made.push({ found, batch });
  }
  const from = base ? base.seq + 1 : 0;
  const there = await batchesFrom(database, network, from, MAX_ENTRIES);
  const wanted = new Set(entries.map(({ hash }) => hash));
  // What was given to a node, and is in nobody's chain of entries, would contradict what is put in its place.
  if (there.some(({ hash, attempts }) => attempts > 0 && !wanted.has(toHex(hash)))) return 0;
  await database.transaction(async (tx) => {
    await deleteBatches(tx, network, from);
    for (const [i, { found, batch }] of made.entries()) {
      const { entry, posted: at } = found;
      const hash = hexToBytes(found.hash);
      const seq = from + i;
      const kind = await kindOf(tx, batch);
      const { fromIndex, toIndex } = batch;
      // The same bytes are signed again: the same entry, and no other.
      const row = { seq, kind, entry, hash, signature: await signer.signDigest(hash), fromIndex, toIndex };
      await insertBatch(tx, network, row, now());
      if (at) await markPosted(tx, network, seq, at.transaction, at.blockNumber, now());
    }
  });
  return made.length;
}

/** Entries of the submitter from the one after what is known up to `head`, oldest first; none when they do not join. */
async function entriesFrom(
  { database, chain, signer, suite, place }: RecoverModules,
  head: Hex,
): Promise<readonly Found[]> {
  const byHash = new Map<Hex, Found>();
  let wanted = head;
  const list: Found[] = [];
  const topics = plainTopics(
    encodeEventTopics({ abi: receiptAnchor.abi, eventName: "Anchored", args: { submitter: signer.address } }),
  );
  let joined = false;
  await searchBack(
    await chain.blockNumber(),
    async (fromBlock, toBlock) => {
      const logs = await chain.logs({ address: place.contract, topics, fromBlock, toBlock });
      for (const log of logs) {
        const found = entryIn(log, signer.address);
        if (found && toHex(entryHash(suite, place, found.entry)) === found.hash) byHash.set(found.hash, found);
      }
      for (;;) {
        const found = byHash.get(wanted);
        if (!found || list.length >= MAX_ENTRIES) return undefined;
        list.unshift(found);
        const { prev } = found.entry;
        joined = isZero(prev) || (await batchByHash(database, prev)) !== undefined;
        if (joined) return true;
        wanted = toHex(prev);
      }
    },
    MAX_BLOCKS,
  );
  return joined ? list : [];
}

function entryIn(log: ChainLog, submitter: Address): Found | undefined {
  const [signature, ...indexed] = log.topics;
  if (signature === undefined) return undefined;
  try {
    const { eventName, args } = decodeEventLog({
      abi: receiptAnchor.abi,
      data: log.data,
      topics: [signature, ...indexed],
    });
    if (eventName !== "Anchored") return undefined;
    const { transaction, blockNumber } = log;
    return { hash: args.entryHash, entry: entryFrom({ ...args, submitter }), posted: { transaction, blockNumber } };
  } catch {
    // Another event.
    return undefined;
  }
}

/** Entries that follow `head` in the journal: they were signed and sent, and the chain does not have them. */
async function unpostedAfter(
  { database, network, signer, suite, place }: RecoverModules,
  head: Hex,
): Promise<readonly Found[]> {
  const { rows } = await database.query(
    `SELECT raw FROM assay.chain_transactions WHERE network = $1 AND sender = $2 AND job_id LIKE 'anchor-%'
     ORDER BY nonce DESC, attempt DESC LIMIT ${MAX_UNPOSTED}`,
    [network, signer.address],
  );
  const byPrev = new Map<Hex, Found>();
  for (const { raw } of rows) {
    const entry = raw instanceof Uint8Array ? sentEntry(new Uint8Array(raw)) : undefined;
    if (entry) byPrev.set(toHex(entry.prev), { entry, hash: toHex(entryHash(suite, place, entry)), posted: undefined });
  }
  const list: Found[] = [];
  for (let next = byPrev.get(head); next && list.length < MAX_UNPOSTED; next = byPrev.get(next.hash)) list.push(next);
  return list;
}

/** The entry that a signed transaction posts. */
function sentEntry(raw: Uint8Array): AnchorEntry | undefined {
  try {
    const { data } = parseTransaction(toHex(raw));
    if (data === undefined) return undefined;
    const call = decodeFunctionData({ abi: receiptAnchor.abi, data });
    return call.functionName === "post" ? entryFrom(call.args[0]) : undefined;
  } catch {
    // What used up a number.
    return undefined;
  }
}

function entryFrom(fields: {
  readonly submitter: Hex;
  readonly firstLeaf: bigint;
  readonly leafCount: bigint;
  readonly root: Hex;
  readonly logSize: bigint;
  readonly logRoot: Hex;
  readonly blob: Hex;
  readonly prev: Hex;
}): AnchorEntry {
  return {
    submitter: fields.submitter.toLowerCase() as Address,
    firstLeaf: Number(fields.firstLeaf),
    leafCount: Number(fields.leafCount),
    root: hexToBytes(fields.root),
    logSize: Number(fields.logSize),
    logRoot: hexToBytes(fields.logRoot),
    blob: hexToBytes(fields.blob),
    prev: hexToBytes(fields.prev),
  };
}

/** The batch in a blob, when the entry follows from it and from nothing else. */
function readBlob(suite: EvmSuite, place: AnchorPlace, blob: Uint8Array, found: Found): AnchorBatch | undefined {
  const digest = new Uint8Array(createHash("sha256").update(blob).digest());
  if (!equalBytes(digest, found.entry.blob)) return undefined;
  try {
    const batch = decodeBatch(blob);
    const isSame = toHex(entryHash(suite, place, entryOf(batch, digest))) === found.hash;
    return isSame && batchFault(suite, batch) === undefined ? batch : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether every leaf of a batch is a payment of this ledger, as the log has it. A batch of one receipt alone is taken: it
 * is posted before its receipt is durable, so the log need not have it.
 */
async function arePayments(database: Queryable, network: Network, batch: AnchorBatch): Promise<boolean> {
  if (isOfOne(batch)) return true;
  if ((await followedUpTo(database)) < batch.toIndex) return false;
  const { rows } = await database.query(
    `SELECT log_index, encode(execution_digest, 'hex') AS execution, encode(service_digest, 'hex') AS service,
       encode(payment_id, 'hex') AS payment, amount_atomic::text AS amount FROM assay.payments
     WHERE network = $1 AND log_index >= $2 AND log_index < $3`,
    [network, batch.fromIndex, batch.toIndex],
  );
  const known = new Set(
    rows.map((row) =>
      ["log_index", "execution", "service", "payment", "amount"].map((name) => textOf(row[name])).join(),
    ),
  );
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  return batch.leaves.every((leaf) =>
    known.has(
      [
        leaf.logIndex,
        hex(leaf.executionDigest),
        hex(leaf.serviceDigest),
        hex(leaf.paymentId),
        leaf.amountAtomic.toString(),
      ].join(),
    ),
  );
}

function textOf(value: unknown): string {
  return value === null || value === undefined ? "" : text(value);
}

/** Whether a batch was made of one entry of the log. */
function isOfOne({ leaves, fromIndex, toIndex }: AnchorBatch): boolean {
  return leaves.length === 1 && toIndex === fromIndex + 1;
}

/** How the receipts of a batch asked to be settled: one that asked for a batch of its own has one. */
async function kindOf(tx: Queryable, batch: AnchorBatch): Promise<"batch" | "individual"> {
  const [only] = batch.leaves;
  if (!isOfOne(batch) || !only) return "batch";
  const { rows } = await tx.query("SELECT settlement FROM assay.payments WHERE payment_id = $1", [
    Buffer.from(only.paymentId),
  ]);
  return rows[0]?.["settlement"] === "batch" ? "batch" : "individual";
}

function isZero(hash: Uint8Array): boolean {
  return hash.every((byte) => byte === 0);
}
