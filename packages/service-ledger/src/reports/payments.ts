import { AssayError } from "@assay/core";
import type { Queryable } from "@assay/driver-postgres";
import type { Address, Hex } from "@assay/x402";
import { moneyOf } from "./money.ts";
import type { Money, ReportedAsset } from "./money.ts";
import { text } from "../settle/values.ts";

const STATES = ["taken", "due", "settling", "settled", "failed", "dead"] as const;
/** Where a payment stands: `taken` is under way, `dead` waits for a person. */
export type PaymentState = (typeof STATES)[number];

/** One payment as people and programs read it. */
export type PaymentReport = {
  readonly paymentId: Hex;
  readonly state: PaymentState;
  readonly scheme: "exact" | "upto" | "batch-settlement";
  readonly network: string;
  readonly payer: Address;
  readonly payTo: Address;
  /** What is charged; null while it is not known. */
  readonly amount: Money | null;
  /** The most that the payer signed for. */
  readonly cap: Money;
  readonly settlement: "private" | "batch" | "individual" | null;
  readonly receiptId: string | null;
  readonly logIndex: number | null;
  readonly channelId: Hex | null;
  readonly transaction: Hex | null;
  readonly blockNumber: number | null;
  readonly attempts: number;
  readonly error: { readonly code: string; readonly message: string } | null;
  /** Where the log says that it was settled. */
  readonly supplementIndex: number | null;
  readonly takenAtMs: number;
  readonly updatedAtMs: number;
  /** Last second at which the signature can be used, Unix seconds. */
  readonly deadlineS: number;
};

/** Which payments to list, the latest first. */
export type PaymentFilter = {
  readonly state?: PaymentState;
  readonly payer?: Address;
  /** 32 hex digits. */
  readonly receiptId?: string;
  /** 1 to {@link MAX_REPORT_ROWS}. */
  readonly limit?: number;
  /** The `next` of the page before. */
  readonly before?: string;
};

/** Rows of one page. */
export const MAX_REPORT_ROWS = 1_000;
const DEFAULT_REPORT_ROWS = 50;

const COLUMNS = `encode(payment_id, 'hex') AS payment_id, state, scheme, network, payer, pay_to, asset,
  amount_atomic::text AS amount_atomic, cap_atomic::text AS cap_atomic, settlement, encode(receipt_id, 'hex') AS receipt_id,
  log_index, encode(channel_id, 'hex') AS channel_id, encode(tx_hash, 'hex') AS tx_hash, block_number, attempts, error_code,
  error_message, supplement_index, taken_at_ms, updated_at_ms, deadline_s`;

/** A page of payments. Refuses a malformed filter with `report_filter_invalid`. */
export async function listPayments(
  database: Queryable,
  assets: readonly ReportedAsset[],
  filter: PaymentFilter = {},
): Promise<{ readonly payments: readonly PaymentReport[]; readonly next: string | null }> {
  const limit = checkLimit(filter.limit);
  const where: string[] = [];
  const values: unknown[] = [];
  const add = (condition: (place: string) => string, value: unknown): void => {
    values.push(value);
    where.push(condition(`$${values.length}`));
  };
  if (filter.state !== undefined) {
    if (!STATES.includes(filter.state)) throw invalid(`there is no state ${JSON.stringify(filter.state)}`);
    add((place) => `state = ${place}`, filter.state);
  }
  if (filter.payer !== undefined) {
    if (!/^0x[0-9a-fA-F]{40}$/.test(filter.payer)) throw invalid("the payer is not an address");
    add((place) => `payer = ${place}`, filter.payer.toLowerCase());
  }
  if (filter.receiptId !== undefined) {
    if (!/^[0-9a-f]{32}$/.test(filter.receiptId)) throw invalid("the receipt's id is not 32 hex digits");
    add((place) => `receipt_id = decode(${place}, 'hex')`, filter.receiptId);
  }
  if (filter.before !== undefined) {
    const cursor = /^([0-9]{1,16})-([0-9a-f]{64})$/.exec(filter.before);
    if (!cursor) throw invalid("the page's mark is none that a page gave");
    values.push(Number(cursor[1]), cursor[2]);
    where.push(`(taken_at_ms, payment_id) < ($${values.length - 1}::bigint, decode($${values.length}::text, 'hex'))`);
  }
  const { rows } = await database.query(
    `SELECT ${COLUMNS} FROM assay.payments ${where.length === 0 ? "" : `WHERE ${where.join(" AND ")}`}
     ORDER BY taken_at_ms DESC, payment_id DESC LIMIT ${limit + 1}`,
    values,
  );
  const payments = rows.slice(0, limit).map((row) => reportOf(assets, row));
  const last = payments.at(-1);
  return {
    payments,
    next: rows.length > limit && last ? `${last.takenAtMs}-${last.paymentId.slice(2)}` : null,
  };
}

/** One payment by its id (`0x` and 64 hex digits); undefined when there is none. */
export async function showPayment(
  database: Queryable,
  assets: readonly ReportedAsset[],
  paymentId: string,
): Promise<PaymentReport | undefined> {
  if (!/^0x[0-9a-f]{64}$/.test(paymentId)) return undefined;
  const { rows } = await database.query(`SELECT ${COLUMNS} FROM assay.payments WHERE payment_id = decode($1, 'hex')`, [
    paymentId.slice(2),
  ]);
  return rows[0] ? reportOf(assets, rows[0]) : undefined;
}

/** How many payments stand where, with the sums of what is charged, by asset. */
export async function paymentSums(
  database: Queryable,
  assets: readonly ReportedAsset[],
): Promise<readonly { readonly state: PaymentState; readonly count: number; readonly sum: Money }[]> {
  const { rows } = await database.query(
    `SELECT state, asset, COUNT(*) AS count, COALESCE(SUM(amount_atomic), 0)::text AS sum FROM assay.payments
     GROUP BY state, asset ORDER BY state, asset`,
  );
  return rows.map((row) => ({
    state: text(row["state"]) as PaymentState,
    count: Number(row["count"]),
    sum: moneyOf(assets, text(row["asset"]) as Address, BigInt(text(row["sum"]))),
  }));
}

/** Rows of a page: the default, or what was asked for. Refuses what is not 1 to {@link MAX_REPORT_ROWS}. */
export function checkLimit(limit: number | undefined): number {
  if (limit === undefined) return DEFAULT_REPORT_ROWS;
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_REPORT_ROWS)
    throw invalid(`a page has 1 to ${MAX_REPORT_ROWS} rows`);
  return limit;
}

function reportOf(assets: readonly ReportedAsset[], row: Readonly<Record<string, unknown>>): PaymentReport {
  const hex = (name: string): Hex | null => (row[name] === null ? null : `0x${text(row[name])}`);
  const number = (name: string): number | null => (row[name] === null ? null : Number(row[name]));
  const asset = text(row["asset"]) as Address;
  return {
    paymentId: `0x${text(row["payment_id"])}`,
    state: text(row["state"]) as PaymentState,
    scheme: text(row["scheme"]) as PaymentReport["scheme"],
    network: text(row["network"]),
    payer: text(row["payer"]) as Address,
    payTo: text(row["pay_to"]) as Address,
    amount: row["amount_atomic"] === null ? null : moneyOf(assets, asset, BigInt(text(row["amount_atomic"]))),
    cap: moneyOf(assets, asset, BigInt(text(row["cap_atomic"]))),
    settlement: row["settlement"] === null ? null : (text(row["settlement"]) as PaymentReport["settlement"]),
    receiptId: row["receipt_id"] === null ? null : text(row["receipt_id"]),
    logIndex: number("log_index"),
    channelId: hex("channel_id"),
    transaction: hex("tx_hash"),
    blockNumber: number("block_number"),
    attempts: Number(row["attempts"]),
    error:
      row["error_code"] === null ? null : { code: text(row["error_code"]), message: text(row["error_message"] ?? "") },
    supplementIndex: number("supplement_index"),
    takenAtMs: Number(row["taken_at_ms"]),
    updatedAtMs: Number(row["updated_at_ms"]),
    deadlineS: Number(row["deadline_s"]),
  };
}

function invalid(why: string): AssayError<"report_filter_invalid"> {
  return new AssayError("report_filter_invalid", `The list cannot be made: ${why}.`);
}
