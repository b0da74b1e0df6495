import { channelFrom, channelSteps, isRevert, receiverStep } from "@assay/driver-chain";
import type { Call, ChannelOnChain } from "@assay/driver-chain";
import { AssayError } from "@assay/core";
import { depositNonce, fromHex, toHex } from "@assay/x402";
import type { Address, EvmSuite, Payment } from "@assay/x402";
import type { PaymentSender, Plan, ServedChain } from "./plan.ts";
import { REASON, refuse } from "./reasons.ts";
import type { Refusal } from "./reasons.ts";
import type { ParsedRequest } from "./request.ts";
import type { JsonObject } from "./types.ts";

/** A channel's state, and the size of its payer's code in bytes, in one call. Throws what the chain throws. */
export async function readChannel(
  { chain }: ServedChain,
  channelId: Uint8Array,
  payer: Address,
): Promise<{ readonly state: ChannelOnChain; readonly payerCodeBytes: number }> {
  const { results } = await chain.read([...channelSteps(toHex(channelId)), { kind: "code", address: payer }]);
  const state = channelFrom(results);
  if (!state) throw new AssayError("chain_rpc_error", "The chain has no contract of channels.");
  return { state, payerCodeBytes: Number(results.at(-1)?.words[0] ?? 0n) };
}

/** A channel's state as servers read it from a result. */
export function channelJson(channelId: Uint8Array, state: ChannelOnChain): JsonObject {
  return {
    channelId: toHex(channelId),
    balance: String(state.balance),
    totalClaimed: String(state.totalClaimed),
    withdrawRequestedAt: state.withdrawRequestedAt,
    refundNonce: String(state.refundNonce),
  };
}

/** What was claimed for a receiver in a token and not sent yet, atomic units. */
export async function claimedUnsettled({ chain }: ServedChain, receiver: Address, token: Address): Promise<bigint> {
  const { results } = await chain.read([receiverStep(receiver, token)]);
  const [claimed = 0n, settled = 0n] = results[0]?.words ?? [];
  return claimed - settled;
}

/** Whether a call of `sender` would go through now. Throws what the chain throws, but for a revert. */
export async function simulate({ chain }: ServedChain, sender: PaymentSender, call: Call): Promise<boolean> {
  try {
    await chain.call({ from: sender.address, to: call.to, data: fromHex(call.data) });
    return true;
  } catch (error) {
    if (isRevert(error)) return false;
    throw error;
  }
}

/** Why a payment that would not go through would not: balance, allowance or nonce, in that order, or the plan's own reason. */
export async function diagnose(
  suite: EvmSuite,
  { chain }: ServedChain,
  request: ParsedRequest,
  plan: Plan,
): Promise<Refusal> {
  const other = refuse(plan.failed.simulation, "The chain would not execute the payment.", plan.payer);
  if (request.kind !== "payment" || plan.payer === undefined) return other;
  const { payment } = request.document;
  const { asset } = request.requirement;
  const { payer } = plan;
  const query = { payer, asset };
  if (payment.kind === "eip3009") {
    const facts = await chain.payerFacts({ ...query, authorizationNonce: payment.authorization.nonce });
    if (facts.authorizationUsed === true) return refuse(REASON.transferUsed, undefined, payer);
    if ((facts.balance ?? 0n) < payment.authorization.value) return refuse(REASON.transferBalance, undefined, payer);
    return other;
  }
  const permit = permitOf(payment);
  if (permit) {
    const facts = await chain.payerFacts({ ...query, permit2Nonce: permit.nonce });
    const deposit = payment.kind === "deposit";
    if (facts.permit2NonceUsed === true)
      return deposit
        ? refuse(plan.failed.simulation, "The nonce was used.", payer)
        : refuse(REASON.permit2Used, undefined, payer);
    if ((facts.balance ?? 0n) < permit.amount)
      return refuse(deposit ? REASON.depositBalance : REASON.permit2Balance, undefined, payer);
    if ((facts.allowance ?? 0n) < permit.amount && !permit.sponsored)
      return refuse(deposit ? REASON.depositAllowance : REASON.permit2Allowance, undefined, payer);
    return other;
  }
  if (payment.kind === "deposit" && payment.by.kind === "eip3009") {
    const authorizationNonce = depositNonce(suite, payment.voucher.channelId, payment.by.salt);
    const facts = await chain.payerFacts({ ...query, authorizationNonce });
    if (facts.authorizationUsed === true) return refuse(plan.failed.simulation, "The authorization was used.", payer);
    if ((facts.balance ?? 0n) < payment.amount) return refuse(REASON.depositBalance, undefined, payer);
  }
  return other;
}

function permitOf(payment: Payment) {
  if (payment.kind === "permit2" || payment.kind === "upto")
    return { ...payment.permit, sponsored: payment.sponsored !== undefined };
  if (payment.kind === "deposit" && payment.by.kind === "permit2")
    return { ...payment.by.permit, sponsored: payment.by.sponsored !== undefined };
  return undefined;
}

/** Whether a channel's sums allow a voucher: within the balance, above what was claimed (a refund's may equal it). */
export function judgeSums(
  payment: Extract<Payment, { kind: "deposit" | "voucher" | "refund" }>,
  state: ChannelOnChain,
): Refusal | undefined {
  const { payer } = payment.channel;
  const { maxClaimable } = payment.voucher;
  const balance = state.balance + (payment.kind === "deposit" ? payment.amount : 0n);
  if (balance === 0n) return refuse(REASON.channelMissing, undefined, payer);
  if (maxClaimable > balance) return refuse(REASON.aboveBalance, undefined, payer);
  const below = payment.kind === "refund" ? maxClaimable < state.totalClaimed : maxClaimable <= state.totalClaimed;
  return below ? refuse(REASON.belowClaimed, undefined, payer) : undefined;
}
