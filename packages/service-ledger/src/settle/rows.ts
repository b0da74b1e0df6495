import { AssayError, bytesToHex } from "@assay/core";
import type { Database, Queryable } from "@assay/driver-postgres";
import type { Address, Hex, Network, Scheme } from "@assay/x402";
import { decodeInstruction } from "../instruction.ts";
import type { Instruction } from "../instruction.ts";
import { FIRST_RETRY_MS, LONGEST_RETRY_MS, MAX_DUE_ROWS, MAX_ERROR_BYTES } from "./limits.ts";
import { text } from "./values.ts";

/** A payment that has a receipt: its row and what it is settled by. */
export type PaymentRow = {
  readonly paymentId: Hex;
  readonly network: Network;
  readonly scheme: Scheme;
  readonly payer: Address;
  readonly asset: Address;
  readonly payTo: Address;
  readonly amountAtomic: bigint;
  readonly state: "due" | "settling" | "settled" | "failed" | "dead";
  readonly deadlineS: number;
  readonly settlement: "private" | "batch" | "individual";
  readonly channelId: Hex | undefined;
  readonly receiptId: string;
  readonly logIndex: number;
  /** Lower-case hex, 64 digits. */
  readonly executionDigest: string;
  readonly serviceDigest: string;
  readonly attempts: number;
  readonly jobId: string | undefined;
  readonly transaction: Hex | undefined;
  readonly blockNumber: number | undefined;
  /** When the row came into its state. */
  readonly updatedAtMs: number;
  readonly instruction: Instruction;
};

/** Why a payment was not settled. */
export type SettleFault = { readonly code: string; readonly message: string };

/** Where a payment was settled. */
export type SettledIn = { readonly transaction: Hex; readonly blockNumber: number };

const COLUMNS = `encode(payment_id, 'hex') AS payment_id, network, scheme, payer, asset, pay_to,
  amount_atomic::text AS amount_atomic, state, deadline_s, settlement, encode(channel_id, 'hex') AS channel_id,
  encode(receipt_id, 'hex') AS receipt_id, log_index, encode(execution_digest, 'hex') AS execution_digest,
  encode(service_digest, 'hex') AS service_digest, attempts, job_id, encode(tx_hash, 'hex') AS tx_hash, block_number,
  updated_at_ms, instruction`;

/** Whether a failed payment's wait is over at $2, in SQL: the wait doubles with each try. */
const RETRY_DUE = `updated_at_ms + LEAST(${LONGEST_RETRY_MS}, ${FIRST_RETRY_MS} * power(2, LEAST(attempts, 30) - 1)) <= $2`;
const OPEN = `(state = 'due' OR (state = 'failed' AND ${RETRY_DUE}))`;

/** Payments of `network` that wait to be settled, earliest deadline first. `nowMs` decides which failed ones wait no more. */
export async function dueRows(
  database: Queryable,
  network: Network,
  nowMs: number,
  limit = MAX_DUE_ROWS,
): Promise<readonly PaymentRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments WHERE network = $1 AND ${OPEN} ORDER BY deadline_s, log_index LIMIT ${limit}`,
    [network, nowMs],
  );
  return readRows(database, rows, nowMs);
}

/**
 * Gives payments to a job, those that still wait; the others belong to another job by now. Returns how many it got. A
 * job that gets the same ones again keeps them.
 */
export async function claimForJob(
  database: Queryable,
  jobId: string,
  paymentIds: readonly Hex[],
  nowMs: number,
): Promise<number> {
  const { rowCount } = await database.query(
    `UPDATE assay.payments SET state = 'settling', job_id = $1, updated_at_ms = $2
     WHERE payment_id IN (SELECT decode(id, 'hex') FROM unnest($3::text[]) AS id) AND ${OPEN}`,
    [jobId, nowMs, hexArray(paymentIds)],
  );
  return rowCount;
}

/** The payments that a job has under way. */
export async function jobRows(database: Queryable, jobId: string, nowMs: number): Promise<readonly PaymentRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments WHERE job_id = $1 AND state = 'settling' ORDER BY deadline_s, log_index`,
    [jobId],
  );
  return readRows(database, rows, nowMs);
}

/** The latest payments of a channel that have receipts. */
export async function channelRows(database: Queryable, channelId: Hex, nowMs: number): Promise<readonly PaymentRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments WHERE channel_id = decode($1, 'hex') AND state <> 'taken'
     ORDER BY log_index DESC LIMIT ${MAX_DUE_ROWS}`,
    [channelId.slice(2)],
  );
  return readRows(database, rows, nowMs);
}

/** Jobs that have payments under way. */
export async function openJobs(database: Queryable, network: Network): Promise<readonly string[]> {
  const { rows } = await database.query(
    "SELECT DISTINCT job_id FROM assay.payments WHERE network = $1 AND state = 'settling' AND job_id IS NOT NULL LIMIT 1000",
    [network],
  );
  return rows.map((row) => text(row["job_id"]));
}

/** Every charge on a channel that is settled or belongs to `jobId`, summed: what the job may claim in all. */
export async function claimableOf(database: Queryable, channelId: Hex, jobId: string): Promise<bigint> {
  const { rows } = await database.query(
    `SELECT COALESCE(SUM(amount_atomic), 0)::text AS total FROM assay.payments
     WHERE channel_id = decode($1, 'hex') AND (state = 'settled' OR (state = 'settling' AND job_id = $2))`,
    [channelId.slice(2), jobId],
  );
  return BigInt(text(rows[0]?.["total"] ?? "0"));
}

/** Channels, of those asked for, that some job has payments of under way. */
export async function channelsUnderWay(database: Queryable, channels: readonly Hex[]): Promise<ReadonlySet<Hex>> {
  if (channels.length === 0) return new Set();
  const { rows } = await database.query(
    `SELECT DISTINCT encode(channel_id, 'hex') AS channel_id FROM assay.payments
     WHERE state = 'settling' AND channel_id IN (SELECT decode(id, 'hex') FROM unnest($1::text[]) AS id)`,
    [hexArray(channels)],
  );
  return new Set(rows.map((row): Hex => `0x${text(row["channel_id"])}`));
}

/** Gives every open charge on a channel to a job, those too that wait for their next try. */
export async function claimCharges(database: Queryable, jobId: string, channelId: Hex, nowMs: number): Promise<void> {
  await database.query(
    `UPDATE assay.payments SET state = 'settling', job_id = $1, updated_at_ms = $2
     WHERE channel_id = decode($3, 'hex') AND state IN ('due', 'failed')`,
    [jobId, nowMs, channelId.slice(2)],
  );
}

/** Jobs other than `except` that have payments of a channel under way. */
export async function jobsOn(database: Queryable, channelId: Hex, except: string): Promise<readonly string[]> {
  const { rows } = await database.query(
    `SELECT DISTINCT job_id FROM assay.payments
     WHERE state = 'settling' AND channel_id = decode($1, 'hex') AND job_id <> $2`,
    [channelId.slice(2), except],
  );
  return rows.map((row) => text(row["job_id"]));
}

/**
 * Puts payments down as settled where they were. One that a chain took back and settled again elsewhere needs another
 * supplement; one that came back as it was keeps its own.
 */
export async function markSettled(
  database: Queryable,
  settled: readonly (SettledIn & { readonly paymentId: Hex })[],
  nowMs: number,
): Promise<void> {
  if (settled.length === 0) return;
  await database.query(
    `UPDATE assay.payments AS p SET state = 'settled', tx_hash = decode(s.tx, 'hex'), block_number = s.block, error_code = NULL,
       error_message = NULL, updated_at_ms = $1,
       supplement_index = CASE WHEN p.tx_hash = decode(s.tx, 'hex') AND p.block_number = s.block THEN p.supplement_index END
     FROM unnest($2::text[], $3::text[], $4::bigint[]) AS s(id, tx, block)
     WHERE p.payment_id = decode(s.id, 'hex') AND p.state IN ('due', 'settling', 'failed', 'dead')`,
    [
      nowMs,
      hexArray(settled.map(({ paymentId }) => paymentId)),
      hexArray(settled.map(({ transaction }) => transaction)),
      `{${settled.map(({ blockNumber }) => blockNumber).join(",")}}`,
    ],
  );
}

/** Payments of nothing need no transaction. */
export async function markFree(database: Queryable, paymentIds: readonly Hex[], nowMs: number): Promise<void> {
  if (paymentIds.length === 0) return;
  await database.query(
    `UPDATE assay.payments SET state = 'settled', updated_at_ms = $1
     WHERE payment_id IN (SELECT decode(id, 'hex') FROM unnest($2::text[]) AS id) AND amount_atomic = 0
       AND state IN ('due', 'failed', 'settling')`,
    [nowMs, hexArray(paymentIds)],
  );
}

/** Puts a payment down as failed, to be tried again after its wait, or as dead, to be looked at by a person. */
export async function markFailed(
  database: Queryable,
  paymentId: Hex,
  fault: SettleFault,
  dead: boolean,
  nowMs: number,
): Promise<void> {
  await database.query(
    `UPDATE assay.payments SET state = $2, attempts = attempts + 1, error_code = $3, error_message = $4, job_id = NULL,
       updated_at_ms = $5
     WHERE payment_id = decode($1, 'hex') AND state IN ('due', 'settling', 'failed')`,
    [paymentId.slice(2), dead ? "dead" : "failed", fault.code, clip(fault.message), nowMs],
  );
}

/** Gives a job's payments back: it did nothing for them, and they wait for another. */
export async function giveBack(
  database: Queryable,
  jobId: string,
  nowMs: number,
  paymentIds?: readonly Hex[],
): Promise<void> {
  await database.query(
    `UPDATE assay.payments SET state = 'due', job_id = NULL, updated_at_ms = $2
     WHERE job_id = $1 AND state = 'settling'
       AND ($3::text[] IS NULL OR payment_id IN (SELECT decode(id, 'hex') FROM unnest($3::text[]) AS id))`,
    [jobId, nowMs, paymentIds === undefined ? null : hexArray(paymentIds)],
  );
}

/** Puts settled payments back to due: the block that they were settled in is not on the chain any more. */
export async function markUnsettled(database: Queryable, paymentIds: readonly Hex[], nowMs: number): Promise<number> {
  if (paymentIds.length === 0) return 0;
  const { rowCount } = await database.query(
    `UPDATE assay.payments SET state = 'due', job_id = NULL, updated_at_ms = $1
     WHERE state = 'settled' AND payment_id IN (SELECT decode(id, 'hex') FROM unnest($2::text[]) AS id)`,
    [nowMs, hexArray(paymentIds)],
  );
  return rowCount;
}

/** Gives a dead or failed payment another round of tries; false when it is neither. */
export async function revive(database: Queryable, paymentId: Hex, nowMs: number): Promise<boolean> {
  const { rowCount } = await database.query(
    `UPDATE assay.payments SET state = 'due', attempts = 0, error_code = NULL, error_message = NULL, job_id = NULL,
       updated_at_ms = $2
     WHERE payment_id = decode($1, 'hex') AND state IN ('failed', 'dead')`,
    [paymentId.slice(2), nowMs],
  );
  return rowCount > 0;
}

/** The transactions that settled payments from block `from` on, newest first, at most `limit`. */
export async function settledTransactions(
  database: Queryable,
  network: Network,
  from: number,
  limit: number,
): Promise<readonly SettledIn[]> {
  const { rows } = await database.query(
    `SELECT encode(tx_hash, 'hex') AS tx_hash, MAX(block_number) AS block_number FROM assay.payments
     WHERE network = $1 AND state = 'settled' AND tx_hash IS NOT NULL AND block_number >= $2
     GROUP BY tx_hash ORDER BY MAX(block_number) DESC LIMIT ${limit}`,
    [network, from],
  );
  return rows.map((row) => ({ transaction: `0x${text(row["tx_hash"])}`, blockNumber: Number(row["block_number"]) }));
}

/** Payments that one transaction settled. */
export async function settledBy(database: Queryable, transaction: Hex): Promise<readonly Hex[]> {
  const { rows } = await database.query(
    "SELECT encode(payment_id, 'hex') AS payment_id FROM assay.payments WHERE tx_hash = decode($1, 'hex') AND state = 'settled'",
    [transaction.slice(2)],
  );
  return rows.map((row): Hex => `0x${text(row["payment_id"])}`);
}

/** Settled payments whose settlement no supplement names yet, oldest first. */
export async function unsupplementedRows(
  database: Queryable,
  limit: number,
  nowMs: number,
): Promise<readonly PaymentRow[]> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments WHERE state = 'settled' AND supplement_index IS NULL AND tx_hash IS NOT NULL
     ORDER BY updated_at_ms LIMIT ${limit}`,
  );
  return readRows(database, rows, nowMs);
}

/** One payment, or none. */
export async function rowById(database: Database, paymentId: Hex, nowMs: number): Promise<PaymentRow | undefined> {
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments WHERE payment_id = decode($1, 'hex') AND state <> 'taken'`,
    [paymentId.slice(2)],
  );
  return (await readRows(database, rows, nowMs))[0];
}

/** A PostgreSQL literal of hex texts, without `0x`. */
export function hexArray(values: readonly Hex[]): string {
  return `{${values.map((value) => value.slice(2)).join(",")}}`;
}

/** Rows whose instruction is damaged are made dead: no later reading would make it whole. */
async function readRows(
  database: Queryable,
  rows: readonly Readonly<Record<string, unknown>>[],
  nowMs: number,
): Promise<readonly PaymentRow[]> {
  const read: PaymentRow[] = [];
  for (const row of rows) {
    try {
      read.push(readRow(row));
    } catch (error) {
      const message = error instanceof Error ? error.message : "The row cannot be read.";
      await markFailed(database, `0x${text(row["payment_id"])}`, { code: "instruction_invalid", message }, true, nowMs);
    }
  }
  return read;
}

function readRow(row: Readonly<Record<string, unknown>>): PaymentRow {
  const instruction = row["instruction"];
  if (!(instruction instanceof Uint8Array))
    throw new AssayError("instruction_invalid", "A payment has a receipt and no instruction.");
  const decoded = decodeInstruction(new Uint8Array(instruction));
  const column = (name: string): string => {
    const value = row[name];
    if (typeof value !== "string") throw new AssayError("instruction_invalid", `A payment's row has no ${name}.`);
    return value;
  };
  const optional = (name: string): Hex | undefined => (row[name] === null ? undefined : `0x${column(name)}`);
  const block = row["block_number"];
  return {
    paymentId: `0x${column("payment_id")}`,
    // The row is an index of what the log keeps; whom to pay how much is read from the log's own bytes.
    network: decoded.network,
    scheme: decoded.scheme,
    payer: decoded.payer,
    asset: decoded.asset,
    payTo: decoded.payTo,
    amountAtomic: decoded.amountAtomic,
    state: column("state") as PaymentRow["state"],
    deadlineS: Number(row["deadline_s"]),
    settlement: decoded.settlement,
    channelId: decoded.channelId ? `0x${bytesToHex(decoded.channelId)}` : undefined,
    receiptId: column("receipt_id"),
    logIndex: Number(row["log_index"]),
    executionDigest: column("execution_digest"),
    serviceDigest: column("service_digest"),
    attempts: Number(row["attempts"]),
    jobId: row["job_id"] === null ? undefined : column("job_id"),
    transaction: optional("tx_hash"),
    blockNumber: block === null ? undefined : Number(block),
    updatedAtMs: Number(row["updated_at_ms"]),
    instruction: decoded,
  };
}

/** A sentence of at most {@link MAX_ERROR_BYTES} characters, without what PostgreSQL cannot store. */
function clip(message: string): string {
  return message.replace(/[\0\p{Surrogate}]/gu, "").slice(0, MAX_ERROR_BYTES);
}
