import { hexToBytes } from "@assay/core";
import type { Queryable } from "@assay/driver-postgres";
import type { Address, Hex, Network } from "@assay/x402";
import type { AnchorEntry } from "./entry.ts";
import type { ReceiptLeaf } from "./tree.ts";
import { text } from "../settle/values.ts";

type BatchState = "built" | "posting" | "posted" | "failed";

/** A batch's row: the entry as it was signed, and where it stands. */
export type BatchRow = {
  readonly seq: number;
  readonly kind: "batch" | "individual";
  readonly entry: AnchorEntry;
  readonly hash: Uint8Array;
  readonly signature: Uint8Array;
  readonly fromIndex: number;
  readonly toIndex: number;
  readonly state: BatchState;
  readonly attempts: number;
  readonly jobId: string | undefined;
  readonly transaction: Hex | undefined;
  readonly blockNumber: number | undefined;
  readonly errorCode: string | undefined;
  readonly createdAtMs: number;
};

const COLUMNS = `seq, kind, submitter, first_leaf, leaf_count, encode(root, 'hex') AS root, log_size,
  encode(log_root, 'hex') AS log_root, encode(blob_sha256, 'hex') AS blob, encode(prev, 'hex') AS prev,
  encode(entry_hash, 'hex') AS hash, encode(signature, 'hex') AS signature, from_index, to_index, state, attempts, job_id,
  encode(tx_hash, 'hex') AS tx_hash, block_number, error_code, created_at_ms`;

/** Batches from `from` on in order, at most `limit`. */
export async function batchesFrom(
  database: Queryable,
  network: Network,
  from: number,
  limit: number,
): Promise<readonly BatchRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.anchor_batches WHERE network = $1 AND seq >= $2 ORDER BY seq LIMIT ${limit}`,
    [network, from],
  );
  return rows.map(readBatch);
}

/** Batches below `before`, the latest first. */
export async function batchesBefore(
  database: Queryable,
  network: Network,
  before: number | undefined,
  limit: number,
): Promise<readonly BatchRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.anchor_batches WHERE network = $1 AND ($2::bigint IS NULL OR seq < $2::bigint)
     ORDER BY seq DESC LIMIT ${limit}`,
    [network, before ?? null],
  );
  return rows.map(readBatch);
}

/** One batch, or none. */
export async function batchBySeq(database: Queryable, network: Network, seq: number): Promise<BatchRow | undefined> {
  const [row] = await batchesFrom(database, network, seq, 1);
  return row?.seq === seq ? row : undefined;
}

/** The last batch that was made. */
export async function lastBatch(database: Queryable, network: Network): Promise<BatchRow | undefined> {
  return (await batchesBefore(database, network, undefined, 1))[0];
}

/** The batch whose entry has this hash. */
export async function batchByHash(database: Queryable, hash: Uint8Array): Promise<BatchRow | undefined> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.anchor_batches WHERE entry_hash = decode($1, 'hex')`,
    [Buffer.from(hash).toString("hex")],
  );
  return rows[0] ? readBatch(rows[0]) : undefined;
}

/** Whether a batch was made whose leaves are in this blob, given by its SHA-256 in lower-case hex. */
export async function isBatchBlob(database: Queryable, network: Network, sha256: string): Promise<boolean> {
  const { rows } = await database.query(
    "SELECT 1 FROM assay.anchor_batches WHERE network = $1 AND blob_sha256 = decode($2, 'hex') LIMIT 1",
    [network, sha256],
  );
  return rows.length > 0;
}

/** The batch that holds the receipt at `logIndex`, given how its payment asked to be settled. */
export async function batchOf(
  database: Queryable,
  network: Network,
  logIndex: number,
  kind: "batch" | "individual",
): Promise<BatchRow | undefined> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.anchor_batches
     WHERE network = $1 AND kind = $2 AND from_index <= $3 AND to_index > $3 ORDER BY seq LIMIT 1`,
    [network, kind, logIndex],
  );
  return rows[0] ? readBatch(rows[0]) : undefined;
}

/** Up to where the log has been gathered into batches. */
export async function gatheredUpTo(database: Queryable, network: Network): Promise<number> {
  const { rows } = await database.query(
    "SELECT COALESCE(MAX(to_index), 0) AS upto FROM assay.anchor_batches WHERE network = $1 AND kind = 'batch'",
    [network],
  );
  return Number(rows[0]?.["upto"] ?? 0);
}

/** Leaves of paid receipts that asked for `batch`, in log order, at most `limit`. */
export async function batchLeaves(
  database: Queryable,
  network: Network,
  fromIndex: number,
  toIndex: number,
  limit: number,
): Promise<readonly ReceiptLeaf[]> {
  const { rows } = await database.query(
    `SELECT encode(execution_digest, 'hex') AS execution, encode(service_digest, 'hex') AS service,
       encode(payment_id, 'hex') AS payment, amount_atomic::text AS amount, log_index FROM assay.payments
     WHERE network = $1 AND settlement = 'batch' AND log_index >= $2 AND log_index < $3 AND execution_digest IS NOT NULL
       AND service_digest IS NOT NULL ORDER BY log_index LIMIT ${limit}`,
    [network, fromIndex, toIndex],
  );
  return rows.map((row) => ({
    executionDigest: hexToBytes(text(row["execution"])),
    serviceDigest: hexToBytes(text(row["service"])),
    paymentId: hexToBytes(text(row["payment"])),
    amountAtomic: BigInt(text(row["amount"])),
    logIndex: Number(row["log_index"]),
  }));
}

/** How far the ledger has followed the log. */
export async function followedUpTo(database: Queryable): Promise<number> {
  const { rows } = await database.query("SELECT watermark FROM assay.ledger_state");
  return Number(rows[0]?.["watermark"] ?? 0);
}

/** Writes a batch down, before anything of it leaves the process. */
export async function insertBatch(
  database: Queryable,
  network: Network,
  row: Pick<BatchRow, "seq" | "kind" | "entry" | "hash" | "signature" | "fromIndex" | "toIndex">,
  nowMs: number,
): Promise<void> {
  const { entry } = row;
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  await database.query(
    `INSERT INTO assay.anchor_batches (network, seq, kind, submitter, first_leaf, leaf_count, root, log_size, log_root, blob_sha256,
       prev, entry_hash, signature, from_index, to_index, state, created_at_ms, updated_at_ms)
     VALUES ($1, $2, $3, $4, $5, $6, decode($7, 'hex'), $8, decode($9, 'hex'), decode($10, 'hex'), decode($11, 'hex'),
       decode($12, 'hex'), decode($13, 'hex'), $14, $15, 'built', $16, $16)`,
    [
      network,
      row.seq,
      row.kind,
      entry.submitter,
      entry.firstLeaf,
      entry.leafCount,
      hex(entry.root),
      entry.logSize,
      hex(entry.logRoot),
      hex(entry.blob),
      hex(entry.prev),
      hex(row.hash),
      hex(row.signature),
      row.fromIndex,
      row.toIndex,
      nowMs,
    ],
  );
}

/** Takes away batches from a number on. */
export async function deleteBatches(database: Queryable, network: Network, from: number): Promise<void> {
  await database.query("DELETE FROM assay.anchor_batches WHERE network = $1 AND seq >= $2", [network, from]);
}

/** Notes which job posts a batch. */
export async function markPosting(
  database: Queryable,
  network: Network,
  seq: number,
  jobId: string,
  nowMs: number,
): Promise<void> {
  await database.query(
    `UPDATE assay.anchor_batches SET state = 'posting', job_id = $3, attempts = attempts + 1, error_code = NULL, updated_at_ms = $4
     WHERE network = $1 AND seq = $2`,
    [network, seq, jobId, nowMs],
  );
}

/** Notes where a batch was posted. */
export async function markPosted(
  database: Queryable,
  network: Network,
  seq: number,
  transaction: Hex,
  blockNumber: number,
  nowMs: number,
): Promise<void> {
  await database.query(
    `UPDATE assay.anchor_batches SET state = 'posted', tx_hash = decode($3, 'hex'), block_number = $4, error_code = NULL,
       updated_at_ms = $5 WHERE network = $1 AND seq = $2`,
    [network, seq, transaction.slice(2), blockNumber, nowMs],
  );
}

/** Notes why a batch could not be posted; it is tried again. */
export async function markPostFailed(
  database: Queryable,
  network: Network,
  seq: number,
  code: string,
  nowMs: number,
): Promise<void> {
  await database.query(
    "UPDATE assay.anchor_batches SET state = 'failed', error_code = $3, updated_at_ms = $4 WHERE network = $1 AND seq = $2",
    [network, seq, code, nowMs],
  );
}

function readBatch(row: Readonly<Record<string, unknown>>): BatchRow {
  const bytes = (name: string): Uint8Array => hexToBytes(text(row[name]));
  const number = (name: string): number => Number(row[name]);
  return {
    seq: number("seq"),
    kind: row["kind"] === "individual" ? "individual" : "batch",
    entry: {
      submitter: text(row["submitter"]) as Address,
      firstLeaf: number("first_leaf"),
      leafCount: number("leaf_count"),
      root: bytes("root"),
      logSize: number("log_size"),
      logRoot: bytes("log_root"),
      blob: bytes("blob"),
      prev: bytes("prev"),
    },
    hash: bytes("hash"),
    signature: bytes("signature"),
    fromIndex: number("from_index"),
    toIndex: number("to_index"),
    state: text(row["state"]) as BatchState,
    attempts: number("attempts"),
    jobId: row["job_id"] === null ? undefined : text(row["job_id"]),
    transaction: row["tx_hash"] === null ? undefined : `0x${text(row["tx_hash"])}`,
    blockNumber: row["block_number"] === null ? undefined : number("block_number"),
    errorCode: row["error_code"] === null ? undefined : text(row["error_code"]),
    createdAtMs: number("created_at_ms"),
  };
}
