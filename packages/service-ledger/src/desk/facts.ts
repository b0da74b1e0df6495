import { isAssayError } from "@assay/core";
import type { TokenInfo } from "@assay/contracts";
import { depositNonce, sponsoredOf } from "@assay/x402";
import type { EvmSuite, Payment } from "@assay/x402";
import { FACTS_TIMEOUT_MS } from "./limits.ts";
import type { DeskChain, FactsFound } from "./modules.ts";
import type { Standing } from "./rows.ts";

/** Why the chain, or what the payer owes already, speaks against a payment. */
export type Doubt = { readonly code: string; readonly message: string; readonly later?: true };

/** What the chain says of a payment's payer, or that it says nothing. */
export type Facts = FactsFound | { readonly silent: unknown };

/** Asks the chain. Whatever is wrong with the chain, the answer is that it was silent: limits decide then. */
export async function askFacts(
  suite: EvmSuite,
  chain: DeskChain | undefined,
  payment: Payment,
  payer: `0x${string}`,
  token: TokenInfo,
): Promise<Facts> {
  if (!chain) return { silent: undefined };
  const sponsored = sponsoredOf(payment);
  return bounded(
    chain.payerFacts({
      payer,
      asset: token.address,
      ...nonceOf(suite, payment),
      ...(sponsored ? { permitNonce: true } : {}),
    }),
  );
}

/** What a chain answered in time; whatever else became of the question is silence. */
export async function bounded<T extends object>(question: Promise<T>): Promise<T | { readonly silent: unknown }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<{ readonly silent: unknown }>((resolve) => {
    timer = setTimeout(() => resolve({ silent: undefined }), FACTS_TIMEOUT_MS);
  });
  try {
    return await Promise.race([question, late]);
  } catch (error) {
    if (isAssayError(error) && error.code.startsWith("chain_")) return { silent: error };
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function nonceOf(
  suite: EvmSuite,
  payment: Payment,
): { readonly authorizationNonce?: Uint8Array; readonly permit2Nonce?: bigint } {
  switch (payment.kind) {
    case "eip3009":
      return { authorizationNonce: payment.authorization.nonce };
    case "permit2":
    case "upto":
      return { permit2Nonce: payment.permit.nonce };
    case "deposit":
      return payment.by.kind === "permit2"
        ? { permit2Nonce: payment.by.permit.nonce }
        : { authorizationNonce: depositNonce(suite, payment.voucher.channelId, payment.by.salt) };
    default:
      return {};
  }
}

/** What is to leave the payer's account by a payment, and how. */
export type Leaving = {
  readonly amountAtomic: bigint;
  readonly by: "eip3009" | "permit2";
  /** Prefix of the reasons that clients of the scheme know. */
  readonly channel: boolean;
  readonly sponsoredNonce: bigint | undefined;
};

export function leavingOf(payment: Payment, amountAtomic: bigint): Leaving {
  const sponsoredNonce = sponsoredOf(payment)?.nonce;
  if (payment.kind === "deposit")
    return { amountAtomic: payment.amount, by: payment.by.kind, channel: true, sponsoredNonce };
  return { amountAtomic, by: payment.kind === "eip3009" ? "eip3009" : "permit2", channel: false, sponsoredNonce };
}

/**
 * What speaks against a payment: its nonce, the balance and the allowance on chain, less what the same payer owes
 * already (`standing`, that payment aside). Says also whether a sponsored approval is needed at all.
 */
export function doubtOf(
  found: FactsFound,
  standing: Standing,
  leaving: Leaving,
): Doubt | { readonly sponsorNeeded: boolean } {
  const { amountAtomic, by, channel } = leaving;
  if (found.balance === undefined)
    return { code: "payment_unavailable", message: "The token of this price is not on its chain.", later: true };
  if (found.authorizationUsed === true)
    return {
      code: channel ? "invalid_batch_settlement_evm_deposit_simulation_failed" : "invalid_exact_evm_nonce_already_used",
      message: "The authorization was used or cancelled on the chain.",
    };
  if (found.permit2NonceUsed === true)
    return { code: "permit2_invalid_nonce", message: "The permit's nonce was used on the chain." };
  if (found.balance - standing.unsettled < amountAtomic)
    return {
      code: channel
        ? "invalid_batch_settlement_evm_insufficient_balance"
        : by === "eip3009"
          ? "invalid_exact_evm_insufficient_balance"
          : "permit2_insufficient_balance",
      message: `The payer has ${found.balance} of the token's smallest units, and owes ${standing.unsettled} of them already; ${amountAtomic} are to be paid.`,
    };
  if (by === "eip3009") return { sponsorNeeded: false };
  const allowance = found.allowance ?? 0n;
  if (allowance - standing.unsettledPermit2 >= amountAtomic) return { sponsorNeeded: false };
  if (leaving.sponsoredNonce === undefined)
    return {
      code: channel ? "invalid_batch_settlement_evm_permit2_allowance_required" : "permit2_allowance_required",
      message: `Permit2 may move ${allowance} of the payer's tokens, of which ${standing.unsettledPermit2} are spoken for; approve it for ${amountAtomic} more, or sign the EIP-2612 permit that is offered.`,
    };
  // A sponsored permit replaces the allowance: what is still to be moved by the one before it would be stranded.
  if (standing.unsettledPermit2 > 0n)
    return {
      code: "sponsored_payment_pending",
      message:
        "An earlier payment of this payer through Permit2 is being settled; a sponsored one has to come after it.",
      later: true,
    };
  if (found.permitNonce !== leaving.sponsoredNonce)
    return {
      code: "eip2612_nonce_mismatch",
      message: `The EIP-2612 permit has nonce ${leaving.sponsoredNonce}, and the token's next is ${found.permitNonce ?? "not known"}.`,
    };
  return { sponsorNeeded: true };
}
