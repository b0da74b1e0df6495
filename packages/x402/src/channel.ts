import { AssayError } from "@assay/core";
import { toHex } from "./hex.ts";
import type { ChannelStateWire, RequirementExtra, Voucher } from "./types.ts";
import { refuse } from "./verdict.ts";
import type { Refusal } from "./verdict.ts";

/**
 * A receiver's account of one channel, amounts in atomic units. What always holds: `charged + reserved <= signed`, so that
 * whatever is charged can be claimed with the voucher that is kept, and `signed <= balance` unless the payer withdrew.
 */
export type ChannelAccount = {
  /** What lies in the channel on the chain, claimed or not, deposits that were taken but are not mined yet included. */
  readonly balance: bigint;
  /** What of it was claimed on the chain. */
  readonly totalClaimed: bigint;
  /** What the payer has asked to withdraw, and may after the channel's delay. */
  readonly withdrawing: bigint;
  /** Unix seconds; 0 when nothing is being withdrawn. */
  readonly withdrawRequestedAt: number;
  readonly refundNonce: bigint;
  /** What was charged for answers, in all. */
  readonly charged: bigint;
  /** What requests in flight may still be charged, in all. */
  readonly reserved: bigint;
  /** The highest voucher, and its signature; nothing was signed when it is 0. */
  readonly signed: bigint;
  readonly signature: Uint8Array;
};

/** An account of a channel that was just seen on the chain, with nothing charged beyond what was claimed there. */
export function openAccount(
  chain: Pick<ChannelAccount, "balance" | "totalClaimed"> &
    Partial<Pick<ChannelAccount, "withdrawing" | "withdrawRequestedAt" | "refundNonce">>,
): ChannelAccount {
  return {
    withdrawing: 0n,
    withdrawRequestedAt: 0,
    refundNonce: 0n,
    ...chain,
    charged: chain.totalClaimed,
    reserved: 0n,
    signed: chain.totalClaimed,
    signature: new Uint8Array(),
  };
}

/** Whether a voucher pays for a request. A refused one may be worth another look (`wait`) once requests in flight end. */
export type VoucherVerdict =
  | {
      readonly ok: true;
      readonly account: ChannelAccount;
      /** The voucher to keep with the request: it covers all that was admitted until then, this request included. */
      readonly cover: Pick<Voucher, "maxClaimable" | "signature">;
    }
  | (Refusal & { readonly wait: boolean });

function no(code: string, message: string, wait = false): Refusal & { readonly wait: boolean } {
  return { ...refuse(code, message), wait };
}

/** What may still be promised: the balance without what is on its way out. */
function available(account: ChannelAccount): bigint {
  return account.balance - account.withdrawing;
}

/**
 * Admits a voucher, whose signature was checked, for a request of at most `amountAtomic`: what was charged, what requests in
 * flight may be charged, and this must be promised, by it or by a higher one that overtook it on the way. The amount is then
 * reserved, to be charged or given back with {@link applyCharge}. Whoever keeps `cover` with what becomes of the request can
 * claim every charge, also when the request that brought the higher voucher is given back. `wait` says that the voucher
 * would do if requests in flight were charged nothing.
 */
export function admitVoucher(
  account: ChannelAccount,
  voucher: Pick<Voucher, "maxClaimable" | "signature">,
  amountAtomic: bigint,
): VoucherVerdict {
  const { maxClaimable, signature } = voucher;
  if (amountAtomic < 0n) throw new AssayError("payment_malformed", "A request is not charged less than nothing.");
  if (account.balance === 0n) return no("invalid_batch_settlement_evm_channel_not_found", "The channel holds nothing.");
  const least = account.charged + account.reserved + amountAtomic;
  const higher = maxClaimable > account.signed;
  const signed = higher ? { maxClaimable, signature } : { maxClaimable: account.signed, signature: account.signature };
  const promised = signed.maxClaimable;
  if (promised <= account.totalClaimed && amountAtomic > 0n) {
    return no(
      "invalid_batch_settlement_evm_cumulative_below_claimed",
      `The voucher promises ${maxClaimable}, and ${account.totalClaimed} is claimed.`,
    );
  }
  // After a withdrawal the channel may hold less than was promised before.
  const asked = promised >= least && least > maxClaimable ? least : maxClaimable;
  if (asked > available(account)) {
    return no(
      "invalid_batch_settlement_evm_cumulative_exceeds_balance",
      `${asked} is promised, and the channel holds ${available(account)} that stay in it.`,
    );
  }
  if (promised < least) {
    return no(
      "invalid_batch_settlement_evm_cumulative_amount_mismatch",
      `The voucher promises ${maxClaimable}, and ${least} is to be promised.`,
      account.reserved > 0n && promised >= account.charged + amountAtomic,
    );
  }
  return {
    ok: true,
    account: {
      ...account,
      reserved: account.reserved + amountAtomic,
      signed: promised,
      signature: signed.signature,
    },
    cover: maxClaimable >= least ? { maxClaimable, signature } : signed,
  };
}

/**
 * Ends a request: of the `reservedAtomic` that its voucher was admitted for, `chargedAtomic` is charged (0 when the work
 * failed) and the rest is free again. Throws `payment_overcharged` when more would be charged than was reserved.
 */
export function applyCharge(account: ChannelAccount, reservedAtomic: bigint, chargedAtomic: bigint): ChannelAccount {
  if (chargedAtomic < 0n || chargedAtomic > reservedAtomic || reservedAtomic > account.reserved) {
    throw new AssayError(
      "payment_overcharged",
      `${chargedAtomic} cannot be charged where ${reservedAtomic} of ${account.reserved} in flight was reserved.`,
    );
  }
  return {
    ...account,
    reserved: account.reserved - reservedAtomic,
    charged: account.charged + chargedAtomic,
  };
}

/** Adds a deposit that was taken, before it is mined. */
export function applyDeposit(account: ChannelAccount, amountAtomic: bigint): ChannelAccount {
  return { ...account, balance: account.balance + amountAtomic };
}

/** Takes over what the chain says; what was claimed there counts as charged. */
export function applyChain(
  account: ChannelAccount,
  chain: Pick<ChannelAccount, "balance" | "totalClaimed" | "withdrawing" | "withdrawRequestedAt" | "refundNonce">,
): ChannelAccount {
  const { balance, totalClaimed, withdrawing, withdrawRequestedAt, refundNonce } = chain;
  const charged = totalClaimed > account.charged ? totalClaimed : account.charged;
  return { ...account, balance, totalClaimed, withdrawing, withdrawRequestedAt, refundNonce, charged };
}

/**
 * The claim that brings in all that was charged: `totalClaimed` for the contract, under the voucher that is kept. Undefined
 * when there is nothing to bring in. It never exceeds the voucher, nor the balance.
 */
export function claimable(
  account: ChannelAccount,
): { readonly totalClaimed: bigint; readonly maxClaimable: bigint; readonly signature: Uint8Array } | undefined {
  let total = account.charged;
  if (total > account.signed) total = account.signed;
  if (total > account.balance) total = account.balance;
  if (total <= account.totalClaimed) return undefined;
  return { totalClaimed: total, maxClaimable: account.signed, signature: account.signature };
}

/** What a server says of a channel, in settlements and corrective 402s. */
export function channelStateOf(account: ChannelAccount, channelId: Uint8Array): ChannelStateWire {
  return {
    channelId: toHex(channelId),
    balance: account.balance.toString(),
    totalClaimed: account.totalClaimed.toString(),
    withdrawRequestedAt: account.withdrawRequestedAt,
    refundNonce: account.refundNonce.toString(),
    chargedCumulativeAmount: account.charged.toString(),
  };
}

/**
 * What a corrective 402 adds to its requirement's `extra`, so that a payer that lost count signs the right voucher: the
 * channel's state, and the last voucher as proof that the payer itself promised as much. Requests in flight count as
 * charged here: a voucher for this and one request of `amountAtomic` more is admitted at once, whatever they will cost. It
 * is also higher than every voucher before it, because the same one twice would be the same payment twice.
 */
export function resyncFor(
  account: ChannelAccount,
  channelId: Uint8Array,
  amountAtomic = 0n,
): Pick<RequirementExtra, "channelState" | "voucherState"> {
  const committed = account.charged + account.reserved;
  const fresh = amountAtomic > 0n ? account.signed + 1n - amountAtomic : 0n;
  const base = fresh > committed ? fresh : committed;
  // Without a voucher for as much there is no proof, and a payer asks the chain when none is shown.
  const proof =
    account.signature.length === 0 || account.signed < base
      ? {}
      : { voucherState: { signedMaxClaimable: account.signed.toString(), signature: toHex(account.signature) } };
  return {
    channelState: { ...channelStateOf(account, channelId), chargedCumulativeAmount: base.toString() },
    ...proof,
  };
}

/** A refund that is due: what is claimed first, and what is given back. */
export type RefundVerdict =
  | {
      readonly ok: true;
      readonly amountAtomic: bigint;
      readonly refundNonce: bigint;
      readonly claim?: { readonly totalClaimed: bigint; readonly maxClaimable: bigint; readonly signature: Uint8Array };
    }
  | (Refusal & { readonly wait: boolean });

/**
 * Judges a payer's request to have its balance back, all of it or `amountAtomic`. Its voucher, whose signature was checked,
 * shows that it is the payer who asks; what was charged stays and is claimed with it. Refused while requests are in flight
 * (`wait`), below what was charged, and when nothing is left. More than is left is all that is left.
 */
export function judgeRefund(
  account: ChannelAccount,
  voucher: Pick<Voucher, "maxClaimable" | "signature">,
  amountAtomic?: bigint,
): RefundVerdict {
  if (account.balance === 0n) return no("invalid_batch_settlement_evm_channel_not_found", "The channel holds nothing.");
  if (account.reserved > 0n)
    return no("invalid_batch_settlement_evm_channel_busy", "Requests are in flight on the channel.", true);
  if (voucher.maxClaimable < account.charged) {
    return no(
      "invalid_batch_settlement_evm_cumulative_amount_mismatch",
      `The voucher promises ${voucher.maxClaimable}, and ${account.charged} was charged.`,
    );
  }
  if (voucher.maxClaimable > account.balance) {
    return no(
      "invalid_batch_settlement_evm_cumulative_exceeds_balance",
      "The voucher promises more than the channel holds.",
    );
  }
  if (amountAtomic !== undefined && amountAtomic <= 0n) {
    return no("invalid_batch_settlement_evm_refund_amount_invalid", "A refund is of more than nothing.");
  }
  const left = account.balance - account.charged;
  if (left <= 0n)
    return no("invalid_batch_settlement_evm_refund_no_balance", "All that the channel holds was charged.");
  const claim = claimable(account);
  return {
    ok: true,
    amountAtomic: amountAtomic === undefined || amountAtomic > left ? left : amountAtomic,
    refundNonce: account.refundNonce,
    ...(claim === undefined ? {} : { claim }),
  };
}

/** The account after a refund was mined. */
export function applyRefund(account: ChannelAccount, amountAtomic: bigint): ChannelAccount {
  return { ...account, balance: account.balance - amountAtomic, refundNonce: account.refundNonce + 1n };
}

/**
 * Whether a deposit may open a channel: at least what the requirement asks of a first one. Later ones may be of any size.
 */
export function judgeDeposit(
  account: ChannelAccount | undefined,
  depositAtomic: bigint,
  extra: Pick<RequirementExtra, "minDeposit">,
): Refusal | undefined {
  const first = account === undefined || account.balance === 0n;
  if (!first || extra.minDeposit === undefined || depositAtomic >= BigInt(extra.minDeposit)) return undefined;
  return refuse(
    "invalid_batch_settlement_evm_deposit_below_min_deposit",
    `The first deposit is ${depositAtomic}, and at least ${extra.minDeposit} is asked.`,
  );
}
