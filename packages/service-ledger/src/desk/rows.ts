import { hexToBytes } from "@assay/core";
import type { Database } from "@assay/driver-postgres";
import type { ChannelConfig, Hex, Network, PaymentRequirements, Scheme, Voucher } from "@assay/x402";
import { DENY_MS, EXPIRED_GRACE_S, STATEMENT_TIMEOUT_MS } from "./limits.ts";
import type { ChannelFacts } from "./modules.ts";
import { decodeInstruction } from "../instruction.ts";
import type { Instruction, SettlementMode } from "../instruction.ts";

const BOUNDED = { timeoutMs: STATEMENT_TIMEOUT_MS } as const;
/** Statements that every paid call waits for. */
const CLAIM_PAYMENT = { ...BOUNDED, plan: "assay_claim_payment" } as const;
const CLAIM_VOUCHER = { ...BOUNDED, plan: "assay_claim_voucher" } as const;

/** A payment that is to be nobody else's. */
export type Claim = {
  readonly paymentId: Hex;
  readonly network: Network;
  readonly scheme: Scheme;
  readonly payer: string;
  readonly asset: string;
  readonly payTo: string;
  readonly capAtomic: bigint;
  readonly fingerprint: Uint8Array;
  readonly idempotencyKey: string | undefined;
  readonly takenBy: string;
  readonly takenAtMs: number;
  readonly deadlineS: number;
  readonly settlement: SettlementMode;
};

/** What a payer owes when a claim of it is made, that claim aside; atomic units of the claim's asset. */
export type Standing = {
  /** What is still to leave the payer's account. */
  readonly unsettled: bigint;
  /** Of that, what is to leave it through Permit2. */
  readonly unsettledPermit2: bigint;
  /** What the gateway would lose if none of it arrived. */
  readonly risked: bigint;
  /** A payment of this payer that could not be settled lately. */
  readonly failed: Hex | undefined;
};

/** A payment that was taken before. */
export type KnownPayment = {
  readonly paymentId: Hex;
  readonly payer: string;
  readonly fingerprint: Uint8Array;
  readonly takenBy: string;
  readonly receipt: { readonly receiptId: string; readonly logIndex: number } | undefined;
};

const OPEN = "('taken', 'due', 'settling', 'failed')";
/**
 * Claims a payment in one round trip that does not wait for the disk: a crash that takes the row leaves no receipt either.
 * Undefined when the payment, or the payer's idempotency key, is known already. `authorized` says that the token has
 * EIP-3009, so that only `upto` goes through Permit2.
 */
export async function claimPayment(
  database: Database,
  claim: Claim,
  authorized: boolean,
): Promise<Standing | undefined> {
  const { rows } = await database.query(
    `SELECT unsettled::text, unsettled_permit2::text, risked::text, encode(failed, 'hex') AS failed
     FROM assay.take_payment(decode($1, 'hex'), $2, $3, $4, $5, $6, $7::numeric, decode($8, 'hex'), $9, $10, $11::bigint,
       $12::bigint, $13, $14::bigint, $15::boolean)`,
    [
      claim.paymentId.slice(2),
      claim.network,
      claim.scheme,
      claim.payer,
      claim.asset,
      claim.payTo,
      claim.capAtomic.toString(),
      hex(claim.fingerprint),
      claim.idempotencyKey ?? null,
      claim.takenBy,
      claim.takenAtMs,
      claim.deadlineS,
      claim.settlement,
      claim.takenAtMs - DENY_MS,
      authorized,
    ],
    CLAIM_PAYMENT,
  );
  return rows[0] && standingFrom(rows[0]);
}

/** What a payer owes beside a payment, which need not be claimed. */
export async function payerStanding(
  database: Database,
  claim: Pick<Claim, "paymentId" | "payer" | "asset" | "network" | "takenAtMs">,
  authorized: boolean,
): Promise<Standing> {
  const { rows } = await database.query(
    `SELECT unsettled::text, unsettled_permit2::text, risked::text, encode(failed, 'hex') AS failed
     FROM assay.payer_standing(decode($1, 'hex'), $2, $3, $4, $5::bigint, $6::boolean)`,
    [claim.paymentId.slice(2), claim.network, claim.payer, claim.asset, claim.takenAtMs - DENY_MS, authorized],
    BOUNDED,
  );
  return standingFrom(rows[0] ?? {});
}

/** The payment of an id, and the one that a payer gave an idempotency key, if there are any. */
export async function knownPayments(
  database: Database,
  paymentId: Hex,
  payer: string | undefined,
  key: string | undefined,
): Promise<readonly KnownPayment[]> {
  const { rows } = await database.query(
    `SELECT encode(payment_id, 'hex') AS payment_id, payer, encode(fingerprint, 'hex') AS fingerprint, taken_by, state,
       encode(receipt_id, 'hex') AS receipt_id, log_index
     FROM assay.payments WHERE payment_id = decode($1, 'hex') OR (payer = $2 AND idempotency_key = $3) LIMIT 2`,
    [paymentId.slice(2), payer ?? null, key ?? null],
    BOUNDED,
  );
  return rows.map((row) => ({
    paymentId: `0x${text(row["payment_id"])}`,
    payer: text(row["payer"]),
    fingerprint: hexToBytes(text(row["fingerprint"])),
    takenBy: text(row["taken_by"]),
    receipt:
      row["state"] === "taken" ? undefined : { receiptId: text(row["receipt_id"]), logIndex: Number(row["log_index"]) },
  }));
}

/** What a charged payment was settled by, to check a copy of it against; undefined when it is not charged. */
export async function chargedInstruction(database: Database, paymentId: Hex): Promise<Instruction | undefined> {
  const { rows } = await database.query(
    "SELECT instruction FROM assay.payments WHERE payment_id = decode($1, 'hex') AND state <> 'taken'",
    [paymentId.slice(2)],
    BOUNDED,
  );
  const bytes = rows[0]?.["instruction"];
  return bytes instanceof Uint8Array ? decodeInstruction(bytes) : undefined;
}

/** Takes a claim back. Nothing that has a receipt is touched. */
export async function releaseClaim(database: Database, paymentId: Hex, takenBy: string): Promise<void> {
  await database.query(
    `DELETE FROM assay.payments USING set_config('synchronous_commit', 'off', true) AS relaxed(setting)
     WHERE relaxed.setting = 'off' AND payment_id = decode($1, 'hex') AND state = 'taken' AND taken_by = $2`,
    [paymentId.slice(2), takenBy],
    BOUNDED,
  );
}

/** A voucher's claim: what its channel is asked for. */
export type VoucherClaim = Claim & {
  readonly channelId: Uint8Array;
  readonly maxClaimable: bigint;
  /** The most that the channel's payer is known here to have signed for. */
  readonly signedMax: bigint;
  /** What comes into the channel with it, and the id of what that spends. */
  readonly deposit: { readonly amountAtomic: bigint; readonly id: Uint8Array } | undefined;
};

const OUTCOMES = ["taken", "known", "deposited", "low", "balance", "missing"] as const;

/** What became of a voucher's claim, and the channel as it stood. */
export type VoucherOutcome = {
  readonly outcome: (typeof OUTCOMES)[number];
  readonly charged: bigint;
  readonly reserved: bigint;
  readonly balance: bigint;
  /** Payments on the channel whose receipts are not in the rows yet. */
  readonly underWay: number;
  /** The highest voucher that the channel's row has; undefined when it has none. */
  readonly signed: Pick<Voucher, "maxClaimable" | "signature"> | undefined;
  readonly row: ChannelHistory;
};

/**
 * Claims a voucher. `own` are payments on the channel whose receipts are durable here and not yet in the rows, with what
 * they were charged.
 */
export async function claimVoucher(
  database: Database,
  claim: VoucherClaim,
  own: readonly { readonly paymentId: Hex; readonly amountAtomic: bigint }[],
): Promise<VoucherOutcome> {
  const { rows } = await database.query(
    `SELECT t.outcome, t.charged::text, t.reserved::text, t.balance::text, t.under_way, t.signed_max::text,
       encode(t.signature, 'hex') AS signature, c.total_claimed::text, c.withdraw_requested_at, c.refund_nonce::text
     FROM assay.take_voucher(decode($1, 'hex'), decode($2, 'hex'), $3, $4, $5, $6, $7::numeric, $8::numeric, $9::numeric,
       $10::numeric, decode($11, 'hex'), decode($12, 'hex'), $13, $14, $15::bigint, $16::bigint, $17,
       ARRAY(SELECT decode(id, 'hex') FROM unnest($18::text[]) AS id), $19::numeric[]) AS t
     LEFT JOIN assay.channels c ON c.channel_id = decode($2, 'hex')`,
    [
      claim.paymentId.slice(2),
      hex(claim.channelId),
      claim.network,
      claim.payer,
      claim.asset,
      claim.payTo,
      claim.capAtomic.toString(),
      claim.maxClaimable.toString(),
      claim.signedMax.toString(),
      claim.deposit?.amountAtomic.toString() ?? null,
      claim.deposit ? hex(claim.deposit.id) : null,
      hex(claim.fingerprint),
      claim.idempotencyKey ?? null,
      claim.takenBy,
      claim.takenAtMs,
      claim.deadlineS,
      claim.settlement,
      `{${own.map(({ paymentId }) => paymentId.slice(2)).join(",")}}`,
      `{${own.map(({ amountAtomic }) => amountAtomic).join(",")}}`,
    ],
    CLAIM_VOUCHER,
  );
  const row = rows[0] ?? {};
  const outcome = OUTCOMES.find((name) => name === row["outcome"]);
  return {
    outcome: outcome ?? "missing",
    charged: numeric(row["charged"]),
    reserved: numeric(row["reserved"]),
    balance: numeric(row["balance"]),
    underWay: Number(row["under_way"]),
    signed:
      typeof row["signature"] === "string"
        ? { maxClaimable: numeric(row["signed_max"]), signature: hexToBytes(row["signature"]) }
        : undefined,
    row: historyFrom(row),
  };
}

/** What the chain said of a channel's past, as its row has it. */
export type ChannelHistory = {
  readonly totalClaimed: bigint;
  readonly withdrawRequestedAt: number;
  readonly refundNonce: bigint;
};

/** A channel as its row has it. */
export type ChannelRow = ChannelHistory & {
  readonly balance: bigint;
  readonly charged: bigint;
  readonly signedMax: bigint;
  readonly signature: Uint8Array | undefined;
};

export async function readChannel(database: Database, channelId: Uint8Array): Promise<ChannelRow | undefined> {
  const { rows } = await database.query(
    `SELECT balance::text, total_claimed::text, charged::text, signed_max::text, encode(signature, 'hex') AS signature,
       withdraw_requested_at, refund_nonce::text
     FROM assay.channels WHERE channel_id = decode($1, 'hex')`,
    [hex(channelId)],
    BOUNDED,
  );
  const row = rows[0];
  if (!row) return undefined;
  return {
    ...historyFrom(row),
    balance: numeric(row["balance"]),
    charged: numeric(row["charged"]),
    signedMax: numeric(row["signed_max"]),
    signature: typeof row["signature"] === "string" ? hexToBytes(row["signature"]) : undefined,
  };
}

/** Opens a channel's row, unless there is one. */
export async function openChannel(
  database: Database,
  network: Network,
  channelId: Uint8Array,
  config: ChannelConfig,
  nowMs: number,
): Promise<void> {
  await database.query(
    `INSERT INTO assay.channels (channel_id, network, payer, token, receiver, config, updated_at_ms)
     VALUES (decode($1, 'hex'), $2, $3, $4, $5, $6::jsonb, $7::bigint) ON CONFLICT DO NOTHING`,
    [hex(channelId), network, config.payer, config.token, config.receiver, configJson(config), nowMs],
    BOUNDED,
  );
}

/**
 * Writes down what the chain says of a channel. A deposit that is under way is in the balance already and not on the
 * chain yet: until it is settled the larger of both counts. What the payer wants back is not there to be promised.
 */
export async function observeChannel(
  database: Database,
  channelId: Uint8Array,
  facts: ChannelFacts,
  nowMs: number,
): Promise<void> {
  await database.query(
    `UPDATE assay.channels c SET balance = CASE WHEN EXISTS (SELECT 1 FROM assay.payments p
         WHERE p.channel_id = c.channel_id AND p.deposit_atomic IS NOT NULL AND p.state IN ${OPEN})
       THEN GREATEST(c.balance, $2::numeric) ELSE $2::numeric END,
       total_claimed = $3::numeric, withdraw_requested_at = $4::bigint, refund_nonce = $5::numeric,
       observed_at_ms = $6::bigint, updated_at_ms = $6::bigint
     WHERE c.channel_id = decode($1, 'hex')`,
    [
      hex(channelId),
      (facts.balance - facts.withdrawAmount).toString(),
      facts.totalClaimed.toString(),
      facts.withdrawRequestedAt,
      facts.refundNonce.toString(),
      nowMs,
    ],
    BOUNDED,
  );
}

/** A channel's configuration as its row has it. */
export function configJson(config: ChannelConfig): string {
  return JSON.stringify({ ...config, salt: `0x${hex(config.salt)}` });
}

/** The voucher in a payment for a channel. */
export function voucherOf(
  instruction: Pick<Instruction, "payload">,
):
  | { readonly channel: ChannelConfig; readonly voucher: Voucher; readonly depositAtomic: bigint | undefined }
  | undefined {
  const { payment } = instruction.payload;
  if (payment.kind === "voucher")
    return { channel: payment.channel, voucher: payment.voucher, depositAtomic: undefined };
  if (payment.kind === "deposit")
    return { channel: payment.channel, voucher: payment.voucher, depositAtomic: payment.amount };
  return undefined;
}

/** A requirement without what a corrective 402 adds to it. */
export function plainRequirement(requirement: PaymentRequirements): PaymentRequirements {
  const { channelState: _state, voucherState: _voucher, ...extra } = requirement.extra;
  return { ...requirement, extra };
}

function historyFrom(row: Readonly<Record<string, unknown>>): ChannelHistory {
  return {
    totalClaimed: numeric(row["total_claimed"]),
    withdrawRequestedAt: Number(row["withdraw_requested_at"] ?? 0),
    refundNonce: numeric(row["refund_nonce"]),
  };
}

function standingFrom(row: Readonly<Record<string, unknown>>): Standing {
  const failed = row["failed"];
  return {
    unsettled: BigInt(text(row["unsettled"])),
    unsettledPermit2: BigInt(text(row["unsettled_permit2"])),
    risked: BigInt(text(row["risked"])),
    failed: typeof failed === "string" ? `0x${failed}` : undefined,
  };
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

function numeric(value: unknown): bigint {
  return typeof value === "string" ? BigInt(value) : 0n;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/**
 * Frees what earlier processes of a gateway left claimed. To be called once the rows are up to the log: a claim that is
 * still one then has no receipt.
 */
export async function releaseLeft(database: Database, gateway: string, takenBy: string): Promise<number> {
  const { rowCount } = await database.query(
    "DELETE FROM assay.payments WHERE state = 'taken' AND split_part(taken_by, '/', 1) = $1 AND taken_by <> $2",
    [gateway, takenBy],
    BOUNDED,
  );
  return rowCount;
}

/** Claims of other gateways whose signatures ended long ago: whoever made them is gone. Unix milliseconds. */
export async function releaseExpired(database: Database, nowMs: number, takenBy: string): Promise<number> {
  const { rowCount } = await database.query(
    "DELETE FROM assay.payments WHERE state = 'taken' AND deadline_s < $1::bigint AND taken_by <> $2",
    [Math.floor(nowMs / 1000) - EXPIRED_GRACE_S, takenBy],
    BOUNDED,
  );
  return rowCount;
}

/** Whether a deposit into a channel is under way, in any gateway. */
export async function isDepositTaken(database: Database, channelId: Uint8Array): Promise<boolean> {
  const { rows } = await database.query(
    `SELECT 1 FROM assay.payments
     WHERE channel_id = decode($1, 'hex') AND state = 'taken' AND deposit_atomic IS NOT NULL LIMIT 1`,
    [hex(channelId)],
    BOUNDED,
  );
  return rows.length > 0;
}

/** Caps of what is under way on a channel, in all gateways. */
export async function reservedOn(database: Database, channelId: Uint8Array): Promise<bigint> {
  const { rows } = await database.query(
    `SELECT COALESCE(SUM(cap_atomic), 0)::text AS reserved FROM assay.payments
     WHERE channel_id = decode($1, 'hex') AND state = 'taken'`,
    [hex(channelId)],
    BOUNDED,
  );
  return numeric(rows[0]?.["reserved"]);
}

/** Takes an amount out of what a channel may promise, until the chain is asked again. */
export async function lowerBalance(
  database: Database,
  channelId: Uint8Array,
  amountAtomic: bigint,
  nowMs: number,
): Promise<void> {
  await database.query(
    `UPDATE assay.channels SET balance = GREATEST(balance - $2::numeric, 0), observed_at_ms = 0, updated_at_ms = $3::bigint
     WHERE channel_id = decode($1, 'hex')`,
    [hex(channelId), amountAtomic.toString(), nowMs],
    BOUNDED,
  );
}
