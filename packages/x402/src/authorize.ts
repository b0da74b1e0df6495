import { AssayError } from "@assay/core";
import {
  ERC3009_DEPOSIT_COLLECTOR,
  EXACT_PERMIT2_PROXY,
  PERMIT2,
  PERMIT2_DEPOSIT_COLLECTOR,
  UPTO_PERMIT2_PROXY,
  ZERO_ADDRESS,
} from "./addresses.ts";
import {
  channelIdOf,
  depositNonce,
  permit2612Digest,
  permitDepositDigest,
  permitExactDigest,
  permitUptoDigest,
  receiveDigest,
  transferDigest,
  voucherDigest,
} from "./digests.ts";
import { MIN_WITHDRAW_DELAY_SECONDS } from "./limits.ts";
import { chainIdOf } from "./networks.ts";
import type { TokenDomain } from "./typed-data.ts";
import type {
  ChannelConfig,
  Eip2612Permit,
  EvmSigner,
  EvmSuite,
  Payment,
  PaymentPayload,
  PaymentRequirements,
  Permit2Authorization,
  Voucher,
} from "./types.ts";

/** What a payer brings to sign a payment. */
export type Authorize = {
  readonly suite: EvmSuite;
  readonly signer: EvmSigner;
  readonly requirement: PaymentRequirements;
  /** 32 random bytes, never used before by this payer. */
  readonly nonce: Uint8Array;
  /** Unix seconds. The payment is good until `maxTimeoutSeconds` later. */
  readonly nowS: number;
  /** The version of the quote. Default 2. */
  readonly version?: 1 | 2;
  /** Of the extension `payment-identifier`. */
  readonly identifier?: string;
};

function domainOf(requirement: PaymentRequirements): TokenDomain {
  const { name, version } = requirement.extra;
  if (name === "" || version === "") {
    throw new AssayError("payment_quote_malformed", "The quote does not say the token's EIP-712 name and version.");
  }
  return { name, version, chainId: chainIdOf(requirement.network), verifyingContract: requirement.asset };
}

function payloadOf(from: Pick<Authorize, "requirement" | "identifier" | "version">, payment: Payment): PaymentPayload {
  const { requirement, identifier, version = 2 } = from;
  const { scheme, network } = requirement;
  return {
    version,
    scheme,
    network,
    payment,
    ...(version === 1 ? {} : { accepted: requirement }),
    ...(identifier === undefined || version === 1 ? {} : { identifier }),
  };
}

function asNumber(bytes: Uint8Array): bigint {
  let out = 0n;
  for (const byte of bytes) out = (out << 8n) | BigInt(byte);
  return out;
}

function deadlineOf(from: Pick<Authorize, "nowS" | "requirement">): bigint {
  return BigInt(from.nowS + from.requirement.maxTimeoutSeconds);
}

/** Seconds by which an authorization begins before now, so that a server whose clock is behind takes it. */
const BEGINS_BEFORE_SECONDS = 600;

/** Signs `exact`: by EIP-3009, or through Permit2 where the requirement says so. */
export async function authorizeExact(from: Authorize, sponsored?: Eip2612Permit): Promise<PaymentPayload> {
  const { suite, signer, requirement } = from;
  if (requirement.extra.assetTransferMethod === "permit2") {
    const permit = permitOf(from, EXACT_PERMIT2_PROXY, BigInt(requirement.amount));
    const witness = { to: requirement.payTo, validAfter: 0n };
    const digest = permitExactDigest(suite, chainIdOf(requirement.network), permit, witness);
    const signature = await signer.signDigest(digest);
    const more = sponsored === undefined ? {} : { sponsored };
    return payloadOf(from, { kind: "permit2", permit, witness, signature, ...more });
  }
  const authorization = {
    from: signer.address,
    to: requirement.payTo,
    value: BigInt(requirement.amount),
    validAfter: BigInt(Math.max(0, from.nowS - BEGINS_BEFORE_SECONDS)),
    validBefore: deadlineOf(from),
    nonce: from.nonce,
  };
  const signature = await signer.signDigest(transferDigest(suite, domainOf(requirement), authorization));
  return payloadOf(from, { kind: "eip3009", authorization, signature });
}

function permitOf(from: Authorize, spender: Permit2Authorization["spender"], amount: bigint): Permit2Authorization {
  return {
    from: from.signer.address,
    token: from.requirement.asset,
    amount,
    spender,
    nonce: asNumber(from.nonce),
    deadline: deadlineOf(from),
  };
}

/** Signs `upto`: at most the requirement's amount, to be settled by its facilitator alone. */
export async function authorizeUpto(from: Authorize, sponsored?: Eip2612Permit): Promise<PaymentPayload> {
  const { suite, signer, requirement } = from;
  const facilitator = requirement.extra.facilitatorAddress;
  if (facilitator === undefined) {
    throw new AssayError("payment_quote_malformed", "The quote does not say who settles upto.");
  }
  const permit = permitOf(from, UPTO_PERMIT2_PROXY, BigInt(requirement.amount));
  const witness = { to: requirement.payTo, facilitator, validAfter: 0n };
  const digest = permitUptoDigest(suite, chainIdOf(requirement.network), permit, witness);
  const signature = await signer.signDigest(digest);
  const more = sponsored === undefined ? {} : { sponsored };
  return payloadOf(from, { kind: "upto", permit, witness, signature, ...more });
}

/**
 * Signs an EIP-2612 permit for Permit2 of exactly `amountAtomic`; `tokenNonce` is the token's next for the payer. Never for
 * more: what is not spent would stay allowed.
 */
export async function authorizePermit2612(
  from: Pick<Authorize, "suite" | "signer" | "requirement" | "nowS">,
  amountAtomic: bigint,
  tokenNonce: bigint,
): Promise<Eip2612Permit> {
  const { suite, signer, requirement } = from;
  const permit = {
    owner: signer.address,
    spender: PERMIT2,
    asset: requirement.asset,
    amount: amountAtomic,
    nonce: tokenNonce,
    deadline: deadlineOf(from),
  };
  const signature = await signer.signDigest(permit2612Digest(suite, domainOf(requirement), permit));
  return { ...permit, signature };
}

/**
 * The channel that a payer uses for a requirement. `salt` is 32 bytes, zero for the one channel that every client of this
 * payer finds without having to remember it; vouchers are signed by `authorizer`, the payer itself by default.
 */
export function channelFor(
  requirement: PaymentRequirements,
  payer: ChannelConfig["payer"],
  salt: Uint8Array = new Uint8Array(32),
  authorizer: ChannelConfig["payerAuthorizer"] = payer,
): ChannelConfig {
  const { receiverAuthorizer, withdrawDelay = MIN_WITHDRAW_DELAY_SECONDS } = requirement.extra;
  if (receiverAuthorizer === undefined || receiverAuthorizer === ZERO_ADDRESS) {
    throw new AssayError("payment_quote_malformed", "The quote does not say who signs for the channel's receiver.");
  }
  return {
    payer,
    payerAuthorizer: authorizer,
    receiver: requirement.payTo,
    receiverAuthorizer,
    token: requirement.asset,
    withdrawDelay,
    salt,
  };
}

/** What a payer brings to sign for a channel; `signer` is the channel's authorizer. */
export type AuthorizeChannel = Omit<Authorize, "nonce"> & {
  readonly channel: ChannelConfig;
  /** What may be claimed in all, this request included. */
  readonly maxClaimable: bigint;
};

async function voucherOf(from: AuthorizeChannel): Promise<Voucher> {
  const { suite, signer, channel, maxClaimable } = from;
  const chainId = chainIdOf(from.requirement.network);
  const channelId = channelIdOf(suite, chainId, channel);
  const signature = await signer.signDigest(voucherDigest(suite, chainId, channelId, maxClaimable));
  return { channelId, maxClaimable, signature };
}

/** Signs a voucher on an open channel. */
export async function authorizeVoucher(from: AuthorizeChannel): Promise<PaymentPayload> {
  const voucher = await voucherOf(from);
  return payloadOf(from, { kind: "voucher", channel: from.channel, voucher });
}

/** Signs a request to have what is left of a channel back: all of it, or `amountAtomic`. */
export async function authorizeRefund(from: AuthorizeChannel, amountAtomic?: bigint): Promise<PaymentPayload> {
  const voucher = await voucherOf(from);
  const amount = amountAtomic === undefined ? {} : { amount: amountAtomic };
  return payloadOf(from, { kind: "refund", channel: from.channel, voucher, ...amount });
}

/**
 * Signs a deposit of `depositAtomic` with the first voucher on it. `payer` signs the deposit; `from.signer` is the channel's
 * authorizer and signs the voucher. `from.nonce` is the deposit's, 32 random bytes.
 */
export async function authorizeDeposit(
  from: AuthorizeChannel & { readonly nonce: Uint8Array; readonly payer: EvmSigner },
  depositAtomic: bigint,
  sponsored?: Eip2612Permit,
): Promise<PaymentPayload> {
  const voucher = await voucherOf(from);
  const by = await depositBy({ ...from, signer: from.payer }, voucher.channelId, depositAtomic, sponsored);
  return payloadOf(from, { kind: "deposit", channel: from.channel, voucher, amount: depositAtomic, by });
}

async function depositBy(
  from: Authorize,
  channelId: Uint8Array,
  amount: bigint,
  sponsored: Eip2612Permit | undefined,
): Promise<Extract<Payment, { kind: "deposit" }>["by"]> {
  const { suite, signer, requirement, nonce } = from;
  if (requirement.extra.assetTransferMethod === "permit2") {
    const permit = permitOf(from, PERMIT2_DEPOSIT_COLLECTOR, amount);
    const digest = permitDepositDigest(suite, chainIdOf(requirement.network), permit, channelId);
    const signature = await signer.signDigest(digest);
    return { kind: "permit2", permit, signature, ...(sponsored === undefined ? {} : { sponsored }) };
  }
  const times = { validAfter: 0n, validBefore: deadlineOf(from) };
  const authorization = {
    ...times,
    from: signer.address,
    to: ERC3009_DEPOSIT_COLLECTOR,
    value: amount,
    nonce: depositNonce(suite, channelId, nonce),
  };
  const signature = await signer.signDigest(receiveDigest(suite, domainOf(requirement), authorization));
  return { kind: "eip3009", ...times, salt: nonce, signature };
}
