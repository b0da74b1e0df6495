import { depositNonce, noncePaymentId, permit2PaymentId, voucherPaymentId } from "./digests.ts";
import { chainIdOf } from "./networks.ts";
import type { EvmSuite, Payment, PaymentParty, PaymentPayload, PaymentRequirements } from "./types.ts";
import { BATCH_SETTLEMENT } from "./addresses.ts";
import { MAX_UINT256 } from "./limits.ts";
import { hashWords } from "./typed-data.ts";

/** Who says to pay with what: nothing of it is checked yet. The asset is the requirement's, never the payment's. */
export function paymentParty(payment: Payment, requirement: Pick<PaymentRequirements, "asset">): PaymentParty {
  const { asset } = requirement;
  switch (payment.kind) {
    case "eip3009":
      return { payer: payment.authorization.from, asset };
    case "permit2":
    case "upto":
      return { payer: payment.permit.from, asset };
    default:
      return { payer: payment.channel.payer, asset };
  }
}

/**
 * A payment's id, 32 bytes: the hash of what it spends once. EIP-3009 spends a nonce of the token, Permit2 one of its own,
 * a channel the signed voucher. A refund carries a voucher that may have paid before, so the amount that it asks for is
 * hashed with it (2^256 - 1 when it asks for everything).
 */
export function paymentIdOf(
  suite: EvmSuite,
  payload: Pick<PaymentPayload, "network" | "payment">,
  requirement: Pick<PaymentRequirements, "asset">,
): Uint8Array {
  const { payment } = payload;
  const chainId = chainIdOf(payload.network);
  switch (payment.kind) {
    case "eip3009": {
      const { from, nonce } = payment.authorization;
      return noncePaymentId(suite, chainId, requirement.asset, from, nonce);
    }
    case "permit2":
    case "upto":
      return permit2PaymentId(suite, chainId, payment.permit.from, payment.permit.nonce);
    case "refund": {
      const { channelId, maxClaimable, signature } = payment.voucher;
      const signed = suite.keccak256(signature);
      const amount = payment.amount ?? MAX_UINT256;
      return hashWords(suite, chainId, BATCH_SETTLEMENT, channelId, maxClaimable, signed, amount);
    }
    default:
      return voucherPaymentId(suite, chainId, payment.voucher);
  }
}

/** The id of what a deposit spends once: its nonce at the token or at Permit2. Its voucher's is {@link paymentIdOf}. */
export function depositIdOf(
  suite: EvmSuite,
  payload: Pick<PaymentPayload, "network">,
  deposit: Extract<Payment, { kind: "deposit" }>,
): Uint8Array {
  const chainId = chainIdOf(payload.network);
  const { by, channel } = deposit;
  if (by.kind === "permit2") return permit2PaymentId(suite, chainId, by.permit.from, by.permit.nonce);
  const nonce = depositNonce(suite, deposit.voucher.channelId, by.salt);
  return noncePaymentId(suite, chainId, channel.token, channel.payer, nonce);
}
