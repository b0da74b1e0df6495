import { EXACT_PERMIT2_PROXY, PERMIT2, UPTO_PERMIT2_PROXY } from "./addresses.ts";
import type { Check } from "./check-context.ts";
import { permit2612Digest, permitExactDigest, permitUptoDigest } from "./digests.ts";
import { EXPIRY_SLACK_SECONDS } from "./limits.ts";
import { paymentIdOf } from "./party.ts";
import { isSignedBy, judgeSigner } from "./signature.ts";
import type { Address, Eip2612Permit, Payment, Permit2Authorization } from "./types.ts";
import { combine, refuse, seconds } from "./verdict.ts";
import type { Admission, Refusal } from "./verdict.ts";

/** `exact` through Permit2: recipient and amount are fixed by the signature. */
export function checkPermit2(check: Check, payment: Extract<Payment, { kind: "permit2" }>): Admission | Refusal {
  const { suite, requirement, chainId } = check;
  if (requirement.extra.assetTransferMethod !== "permit2") {
    return refuse("unsupported_payload_type", "The token is paid by EIP-3009 and not through Permit2.");
  }
  const terms = checkTerms(check, payment.permit, payment.witness, EXACT_PERMIT2_PROXY);
  if (terms !== undefined) return terms;
  return checkSigned(check, payment, () => permitExactDigest(suite, chainId, payment.permit, payment.witness));
}

/** `upto`: the facilitator in the witness settles any amount up to the permitted one. */
export function checkUpto(check: Check, payment: Extract<Payment, { kind: "upto" }>): Admission | Refusal {
  const { suite, chainId } = check;
  const { facilitator } = payment.witness;
  const terms = checkTerms(check, payment.permit, payment.witness, UPTO_PERMIT2_PROXY, () =>
    check.facilitators.includes(facilitator)
      ? undefined
      : refuse("upto_facilitator_mismatch", `${facilitator} does not settle here, and the payment names it.`),
  );
  if (terms !== undefined) return terms;
  return checkSigned(check, payment, () => permitUptoDigest(suite, chainId, payment.permit, payment.witness));
}

function checkTerms(
  check: Check,
  permit: Permit2Authorization,
  witness: { readonly to: Address; readonly validAfter: bigint },
  spender: Address,
  more: () => Refusal | undefined = () => undefined,
): Refusal | undefined {
  const { requirement, nowS } = check;
  if (permit.spender !== spender) {
    return refuse("invalid_permit2_spender", `The permit is for ${permit.spender}, and ${spender} settles the scheme.`);
  }
  if (witness.to !== requirement.payTo) {
    return refuse(
      "invalid_permit2_recipient_mismatch",
      `The permit pays ${witness.to}, and ${requirement.payTo} is to be paid.`,
    );
  }
  const refused = more();
  if (refused !== undefined) return refused;
  if (permit.deadline < BigInt(nowS + EXPIRY_SLACK_SECONDS)) {
    return refuse("permit2_deadline_expired", "The permit has expired, or will before a block can settle it.");
  }
  if (witness.validAfter > BigInt(nowS)) return refuse("permit2_not_yet_valid", "The permit is not valid yet.");
  if (permit.amount !== BigInt(requirement.amount)) {
    return refuse("permit2_amount_mismatch", `The permit is of ${permit.amount}, and ${requirement.amount} is asked.`);
  }
  if (permit.token !== requirement.asset) {
    return refuse("permit2_token_mismatch", `The permit is of ${permit.token}, and ${requirement.asset} is asked.`);
  }
  return undefined;
}

function checkSigned(
  check: Check,
  payment: Extract<Payment, { kind: "permit2" | "upto" }>,
  digest: () => Uint8Array,
): Admission | Refusal {
  const { suite, requirement } = check;
  const { permit, sponsored } = payment;
  if (sponsored !== undefined) {
    const refused = checkSponsored(check, sponsored, permit.from, permit.amount, "permit2_2612_amount_mismatch");
    if (refused !== undefined) return refused;
  }
  // Permit2 asks an owner's code, or its key: an account that is not deployed can give it no allowance to move.
  const verdict = judgeSigner(
    suite,
    { account: permit.from, digest: digest(), signature: payment.signature },
    { code: check.payerCode, deployable: false, factories: [] },
  );
  if (verdict.signer === "refused") {
    return refuse("invalid_permit2_signature", `The permit is not signed by ${permit.from}.`);
  }
  return {
    ok: true,
    payer: permit.from,
    asset: requirement.asset,
    paymentId: paymentIdOf(suite, check.payload, requirement),
    amountAtomic: permit.amount,
    deadlineS: seconds(permit.deadline),
    ...combine(verdict),
  };
}

/**
 * An EIP-2612 permit that comes with a payment: of the payer, for Permit2, of exactly the amount that Permit2 is to move
 * (a greater one would leave an allowance behind), in time, and signed by the payer's key.
 */
export function checkSponsored(
  check: Check,
  sponsored: Eip2612Permit,
  payer: Address,
  amount: bigint,
  amountCode: string,
): Refusal | undefined {
  const { suite, requirement, chainId, nowS } = check;
  if (sponsored.owner !== payer) {
    return refuse("eip2612_from_mismatch", `The EIP-2612 permit is of ${sponsored.owner}, and ${payer} pays.`);
  }
  if (sponsored.asset !== requirement.asset) {
    return refuse(
      "eip2612_asset_mismatch",
      `The EIP-2612 permit is of ${sponsored.asset}, and ${requirement.asset} is asked.`,
    );
  }
  if (sponsored.spender !== PERMIT2) {
    return refuse(
      "eip2612_spender_not_permit2",
      `The EIP-2612 permit is for ${sponsored.spender} and not for Permit2.`,
    );
  }
  if (sponsored.deadline < BigInt(nowS + EXPIRY_SLACK_SECONDS)) {
    return refuse("eip2612_deadline_expired", "The EIP-2612 permit has expired, or will before a block can take it.");
  }
  if (sponsored.amount !== amount) {
    return refuse(amountCode, `The EIP-2612 permit is of ${sponsored.amount}, and ${amount} is to be moved.`);
  }
  const { name, version } = requirement.extra;
  const digest = permit2612Digest(suite, { name, version, chainId, verifyingContract: requirement.asset }, sponsored);
  return isSignedBy(suite, payer, digest, sponsored.signature)
    ? undefined
    : refuse("invalid_eip2612_signature", `The EIP-2612 permit is not signed by ${payer}.`);
}
