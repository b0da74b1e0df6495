import type { PaymentPayload, PaymentRequirements } from "./types.ts";
import { refuse } from "./verdict.ts";
import type { Refusal } from "./verdict.ts";

/** How well a payment fits a requirement of its scheme and network. */
function fit(payload: PaymentPayload, requirement: PaymentRequirements): number {
  const { accepted, payment } = payload;
  if (accepted === undefined) {
    // A v1 payment does not say its asset or price, only whom it pays how much, and that by EIP-3009.
    if (payment.kind !== "eip3009" || requirement.extra.assetTransferMethod === "permit2") return -1;
    return (
      (payment.authorization.value === BigInt(requirement.amount) ? 2 : 0) +
      (payment.authorization.to === requirement.payTo ? 1 : 0)
    );
  }
  if (accepted.asset !== requirement.asset) return -1;
  const method = (of: PaymentRequirements): string => of.extra.assetTransferMethod ?? "eip3009";
  return (
    (method(accepted) === method(requirement) ? 4 : 0) +
    (accepted.amount === requirement.amount ? 2 : 0) +
    (accepted.payTo === requirement.payTo ? 1 : 0)
  );
}

/**
 * The requirement that a payment is for: the closest of those offered with its scheme, network and asset. Whether the
 * payment pays it is for the check to say, with a reason: what the payment repeats of the quote is not believed. Refused
 * with `invalid_scheme`, `invalid_network` or `invalid_payment_requirements` when none is offered with these.
 */
export function matchRequirement(
  payload: PaymentPayload,
  offered: readonly PaymentRequirements[],
): { readonly ok: true; readonly requirement: PaymentRequirements } | Refusal {
  const ofNetwork = offered.filter(({ network }) => network === payload.network);
  if (ofNetwork.length === 0) {
    return refuse("invalid_network", `The payment is for ${payload.network}, which is not offered.`);
  }
  const ofScheme = ofNetwork.filter(({ scheme }) => scheme === payload.scheme);
  if (ofScheme.length === 0) {
    return refuse("invalid_scheme", `The payment is by ${payload.scheme}, which is not offered on ${payload.network}.`);
  }
  let best: PaymentRequirements | undefined;
  let bestFit = -1;
  for (const requirement of ofScheme) {
    const fits = fit(payload, requirement);
    if (fits > bestFit) {
      best = requirement;
      bestFit = fits;
    }
  }
  if (best !== undefined) return { ok: true, requirement: best };
  return refuse("invalid_payment_requirements", "The payment is in an asset that is not offered for it.");
}
