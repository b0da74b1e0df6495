import type { Check } from "./check-context.ts";
import { transferDigest } from "./digests.ts";
import { EXPIRY_SLACK_SECONDS } from "./limits.ts";
import { paymentIdOf } from "./party.ts";
import { judgeSigner } from "./signature.ts";
import type { Payment } from "./types.ts";
import { combine, refuse, seconds } from "./verdict.ts";
import type { Admission, Refusal } from "./verdict.ts";

/** `exact` by EIP-3009: the token itself moves the value, and anyone may bring it the authorization. */
export function checkEip3009(check: Check, payment: Extract<Payment, { kind: "eip3009" }>): Admission | Refusal {
  const { suite, requirement, nowS } = check;
  const { authorization } = payment;
  const { name, version, assetTransferMethod } = requirement.extra;
  if (assetTransferMethod === "permit2") {
    return refuse("unsupported_payload_type", "The token is paid through Permit2 and not by EIP-3009.");
  }
  if (name === "" || version === "") {
    return refuse(
      "invalid_exact_evm_missing_eip712_domain",
      "The requirement does not say the token's EIP-712 domain.",
    );
  }
  if (authorization.to !== requirement.payTo) {
    return refuse(
      "invalid_exact_evm_recipient_mismatch",
      `The authorization pays ${authorization.to}, and ${requirement.payTo} is to be paid.`,
    );
  }
  if (authorization.validBefore < BigInt(nowS + EXPIRY_SLACK_SECONDS)) {
    return refuse(
      "invalid_exact_evm_payload_authorization_valid_before",
      "The authorization has expired, or will before a block can settle it.",
    );
  }
  if (authorization.validAfter > BigInt(nowS)) {
    return refuse("invalid_exact_evm_payload_authorization_valid_after", "The authorization is not valid yet.");
  }
  if (authorization.value !== BigInt(requirement.amount)) {
    return refuse(
      "invalid_exact_evm_payload_authorization_value_mismatch",
      `The authorization is of ${authorization.value}, and ${requirement.amount} is the price.`,
    );
  }
  const digest = transferDigest(
    suite,
    { name, version, chainId: check.chainId, verifyingContract: requirement.asset },
    authorization,
  );
  const verdict = judgeSigner(
    suite,
    { account: authorization.from, digest, signature: payment.signature },
    { code: check.payerCode, deployable: true, factories: check.factories },
  );
  if (verdict.signer === "refused") {
    return verdict.why === "factory"
      ? refuse("eip6492_factory_not_allowed", "The payer's account would be deployed by a factory that is not allowed.")
      : refuse("invalid_exact_evm_signature", `The authorization is not signed by ${authorization.from}.`);
  }
  return {
    ok: true,
    payer: authorization.from,
    asset: requirement.asset,
    paymentId: paymentIdOf(suite, check.payload, requirement),
    amountAtomic: authorization.value,
    deadlineS: seconds(authorization.validBefore),
    ...combine(verdict),
  };
}
