import type { Database, Queryable } from "@assay/driver-postgres";
import type { ReceiptRow } from "@assay/protocol";
import type { EvmSuite, Hex } from "@assay/x402";
import { depositIdOf } from "@assay/x402";
import { decodeInstruction } from "../instruction.ts";
import type { Instruction } from "../instruction.ts";
import type { DeskEvent } from "./modules.ts";
import { configJson, hex, voucherOf } from "./rows.ts";

/** A record of the log, as far as the ledger reads it. */
export type PaidRecord = {
  readonly logIndex: number;
  readonly row: Pick<ReceiptRow, "receiptId" | "executionDigest" | "serviceDigest" | "issuedAtMs">;
  /** The instruction beside its receipt; absent in records that nobody paid for. */
  readonly payment?: Uint8Array;
};

/** One paid record, read. */
type Due = { readonly record: PaidRecord; readonly instruction: Instruction; readonly bytes: Uint8Array };

/** Whether this process may move the rows from `from` on; another may have done so meanwhile. */
export class WatermarkMoved extends Error {}

/**
 * Makes payments of the log due, those of records `from` up to `to`, in one transaction with the watermark. Rows that
 * are due already stay as they are, so that doing it twice changes nothing. Gives the ids that became due. Throws
 * {@link WatermarkMoved} when the rows stand elsewhere in the log.
 */
export async function ingestRecords(
  database: Database,
  suite: EvmSuite,
  records: readonly PaidRecord[],
  range: { readonly from: number; readonly to: number },
  onEvent: (event: DeskEvent) => void,
): Promise<readonly Hex[]> {
  const due = readAll(records, onEvent);
  return database.transaction(async (tx) => {
    // Rows and watermark come back together from the log when a crash takes them, so that nobody waits for the disk: the
    // next voucher of a channel stands behind this transaction's lock.
    const { rowCount } = await tx.query(
      `UPDATE assay.ledger_state SET watermark = $2 FROM set_config('synchronous_commit', 'off', true) AS relaxed(setting)
       WHERE relaxed.setting = 'off' AND watermark = $1`,
      [range.from, range.to],
    );
    if (rowCount !== 1) throw new WatermarkMoved();
    if (due.length === 0) return [];
    const written = new Set(await writeDue(tx, suite, due));
    const fresh = due.filter(({ instruction }) => written.has(instruction.paymentId));
    await reportDoubled(tx, due, written, onEvent);
    // Last, because claims on these channels wait from here on.
    await writeChannels(tx, fresh);
    return fresh.map(({ instruction }) => instruction.paymentId);
  });
}

function readAll(records: readonly PaidRecord[], onEvent: (event: DeskEvent) => void): readonly Due[] {
  const due = new Map<Hex, Due>();
  for (const record of records) {
    if (!record.payment) continue;
    try {
      const instruction = decodeInstruction(record.payment);
      // The first receipt of a payment is the one that is charged.
      if (due.has(instruction.paymentId))
        onEvent({ type: "doubled", paymentId: instruction.paymentId, logIndex: record.logIndex });
      else due.set(instruction.paymentId, { record, instruction, bytes: record.payment });
    } catch (error) {
      // One damaged instruction must not keep all that come after it from being settled.
      onEvent({ type: "unreadable", logIndex: record.logIndex, error });
    }
  }
  return [...due.values()];
}

const texts = (values: readonly string[]): string =>
  `{${values.map((value) => `"${value.replace(/["\\]/g, "\\$&")}"`).join(",")}}`;
const optional = (values: readonly (string | undefined)[]): string =>
  `{${values.map((value) => (value === undefined ? "NULL" : `"${value.replace(/["\\]/g, "\\$&")}"`)).join(",")}}`;

async function writeDue(tx: Queryable, suite: EvmSuite, due: readonly Due[]): Promise<readonly Hex[]> {
  const of = (pick: (due: Due) => string): string => texts(due.map(pick));
  const maybe = (pick: (due: Due) => string | undefined): string => optional(due.map(pick));
  const { rows } = await tx.query(
    `INSERT INTO assay.payments AS p (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint,
       idempotency_key, taken_by, taken_at_ms, deadline_s, amount_atomic, settlement, channel_id, receipt_id, log_index,
       execution_digest, service_digest, instruction, deposit_atomic, deposit_id, updated_at_ms)
     SELECT decode(a, 'hex'), b, c, d, e, f, g::numeric, 'due', decode(h, 'hex'),
       -- A key that another payment of the same payer has is that one's: rows of the log are never refused.
       CASE WHEN EXISTS (SELECT 1 FROM assay.payments k WHERE k.payer = d AND k.idempotency_key = i
         AND k.payment_id <> decode(a, 'hex')) THEN NULL ELSE i END,
       j, k::bigint, l::bigint, m::numeric, n, decode(o, 'hex'), decode(q, 'hex'), r::bigint, decode(s, 'hex'),
       decode(t, 'hex'), decode(u, 'hex'), v::numeric,
       CASE WHEN EXISTS (SELECT 1 FROM assay.payments k WHERE k.deposit_id = decode(w, 'hex')
         AND k.payment_id <> decode(a, 'hex')) THEN NULL ELSE decode(w, 'hex') END, x::bigint
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
       $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
       $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[])
       AS rows(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, q, r, s, t, u, v, w, x)
     ON CONFLICT (payment_id) DO UPDATE SET state = 'due', network = excluded.network, scheme = excluded.scheme,
       payer = excluded.payer, asset = excluded.asset, pay_to = excluded.pay_to, cap_atomic = excluded.cap_atomic,
       fingerprint = excluded.fingerprint, idempotency_key = excluded.idempotency_key, taken_by = excluded.taken_by,
       taken_at_ms = excluded.taken_at_ms, deadline_s = excluded.deadline_s, amount_atomic = excluded.amount_atomic,
       settlement = excluded.settlement, channel_id = excluded.channel_id, receipt_id = excluded.receipt_id,
       log_index = excluded.log_index, execution_digest = excluded.execution_digest,
       service_digest = excluded.service_digest, instruction = excluded.instruction,
       deposit_atomic = excluded.deposit_atomic, deposit_id = excluded.deposit_id, updated_at_ms = excluded.updated_at_ms
     WHERE p.state = 'taken'
     RETURNING encode(payment_id, 'hex') AS payment_id`,
    [
      of(({ instruction }) => instruction.paymentId.slice(2)),
      of(({ instruction }) => instruction.network),
      of(({ instruction }) => instruction.scheme),
      of(({ instruction }) => instruction.payer),
      of(({ instruction }) => instruction.asset),
      of(({ instruction }) => instruction.payTo),
      of(({ instruction }) => instruction.capAtomic.toString()),
      of(({ instruction }) => hex(instruction.fingerprint)),
      optional(uniqueKeys(due)),
      of(({ instruction }) => instruction.takenBy),
      of(({ instruction }) => instruction.takenAtMs.toString()),
      of(({ instruction }) => instruction.deadlineS.toString()),
      of(({ instruction }) => instruction.amountAtomic.toString()),
      of(({ instruction }) => instruction.settlement),
      maybe(({ instruction }) => instruction.channelId && hex(instruction.channelId)),
      of(({ record }) => record.row.receiptId),
      of(({ record }) => record.logIndex.toString()),
      of(({ record }) => record.row.executionDigest),
      maybe(({ record }) => record.row.serviceDigest ?? undefined),
      of(({ bytes }) => hex(bytes)),
      maybe(({ instruction }) => voucherOf(instruction)?.depositAtomic?.toString()),
      maybe(({ instruction: { payload } }) =>
        payload.payment.kind === "deposit" ? hex(depositIdOf(suite, payload, payload.payment)) : undefined,
      ),
      of(({ record }) => record.row.issuedAtMs.toString()),
    ],
  );
  return rows.map((row): Hex => `0x${String(row["payment_id"])}`);
}

/** Keys of a batch, each payer's only once: one statement must not write the same key twice. */
function uniqueKeys(due: readonly Due[]): readonly (string | undefined)[] {
  const seen = new Set<string>();
  return due.map(({ instruction: { payer, idempotencyKey } }) => {
    if (idempotencyKey === undefined || seen.has(`${payer} ${idempotencyKey}`)) return undefined;
    seen.add(`${payer} ${idempotencyKey}`);
    return idempotencyKey;
  });
}

type ChannelSum = {
  readonly instruction: Instruction;
  readonly config: string;
  readonly receiver: string;
  charged: bigint;
  deposited: bigint;
  signedMax: bigint;
  signature: string;
  updatedAtMs: number;
};

/** Adds what became due to its channels: what was charged, what is deposited, and the highest voucher. */
async function writeChannels(tx: Queryable, due: readonly Due[]): Promise<void> {
  const sums = new Map<string, ChannelSum>();
  for (const { instruction, record } of due) {
    const signed = voucherOf(instruction);
    if (!signed) continue;
    const { channel, voucher, depositAtomic } = signed;
    const id = hex(voucher.channelId);
    const sum = sums.get(id) ?? {
      instruction,
      config: configJson(channel),
      receiver: channel.receiver,
      charged: 0n,
      deposited: 0n,
      signedMax: 0n,
      signature: "",
      updatedAtMs: 0,
    };
    sum.charged += instruction.amountAtomic;
    sum.deposited += depositAtomic ?? 0n;
    if (voucher.maxClaimable > sum.signedMax) {
      sum.signedMax = voucher.maxClaimable;
      sum.signature = hex(voucher.signature);
    }
    sum.updatedAtMs = Math.max(sum.updatedAtMs, record.row.issuedAtMs);
    sums.set(id, sum);
  }
  if (sums.size === 0) return;
  // In one order everywhere, so that two writers never hold each other's channels.
  const entries = [...sums].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const of = (pick: (sum: ChannelSum) => string): string => texts(entries.map(([, sum]) => pick(sum)));
  await tx.query(
    `INSERT INTO assay.channels AS c (channel_id, network, payer, token, receiver, config, charged, balance, signed_max,
       signature, updated_at_ms)
     SELECT decode(a, 'hex'), b, d, e, f, g::jsonb, h::numeric, i::numeric, j::numeric, decode(k, 'hex'), l::bigint
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
       $9::text[], $10::text[], $11::text[]) AS rows(a, b, d, e, f, g, h, i, j, k, l)
     ON CONFLICT (channel_id) DO UPDATE SET charged = c.charged + excluded.charged, balance = c.balance + excluded.balance,
       signature = CASE WHEN excluded.signed_max > c.signed_max THEN excluded.signature ELSE c.signature END,
       signed_max = GREATEST(c.signed_max, excluded.signed_max),
       updated_at_ms = GREATEST(c.updated_at_ms, excluded.updated_at_ms)`,
    [
      texts(entries.map(([id]) => id)),
      of(({ instruction }) => instruction.network),
      of(({ instruction }) => instruction.payer),
      of(({ instruction }) => instruction.asset),
      of(({ receiver }) => receiver),
      of(({ config }) => config),
      of(({ charged }) => charged.toString()),
      of(({ deposited }) => deposited.toString()),
      of(({ signedMax }) => signedMax.toString()),
      of(({ signature }) => signature),
      of(({ updatedAtMs }) => updatedAtMs.toString()),
    ],
  );
}

/** Tells of payments that an earlier record charged: rows that were not written and belong to another place in the log. */
async function reportDoubled(
  tx: Queryable,
  due: readonly Due[],
  written: ReadonlySet<Hex>,
  onEvent: (event: DeskEvent) => void,
): Promise<void> {
  const rest = due.filter(({ instruction }) => !written.has(instruction.paymentId));
  if (rest.length === 0) return;
  const { rows } = await tx.query(
    `SELECT encode(payment_id, 'hex') AS payment_id, log_index FROM assay.payments
     WHERE payment_id IN (SELECT decode(id, 'hex') FROM unnest($1::text[]) AS id)`,
    [texts(rest.map(({ instruction }) => instruction.paymentId.slice(2)))],
  );
  const places = new Map(rows.map((row) => [`0x${String(row["payment_id"])}`, Number(row["log_index"])]));
  for (const { instruction, record } of rest)
    if (places.get(instruction.paymentId) !== record.logIndex)
      onEvent({ type: "doubled", paymentId: instruction.paymentId, logIndex: record.logIndex });
}
