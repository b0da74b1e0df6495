import { checkDeposit, checkRefund, checkVoucher } from "./check-channel.ts";
import { checkEip3009 } from "./check-eip3009.ts";
import { checkPermit2, checkUpto } from "./check-permit2.ts";
import type { Check } from "./check-context.ts";
import { chainIdOf } from "./networks.ts";
import type { AccountCode } from "./signature.ts";
import type { Address, EvmSuite, PaymentPayload, PaymentRequirements, Scheme } from "./types.ts";
import { refuse } from "./verdict.ts";
import type { Admission, Refusal } from "./verdict.ts";

export type CheckOptions = {
  /** Whether the payer's account has code, as far as is known. Default `unknown`. */
  readonly payerCode?: AccountCode;
  /** Factories that may deploy a payer (ERC-6492), lower case. Default none. */
  readonly factories?: readonly Address[];
  /** Who may settle `upto`, lower case. Default what the requirement names. */
  readonly facilitators?: readonly Address[];
};

const OTHER_SCHEME: Readonly<Record<Scheme, string>> = {
  exact: "invalid_exact_evm_scheme",
  upto: "invalid_upto_evm_scheme",
  "batch-settlement": "invalid_batch_settlement_evm_scheme",
};
const OTHER_NETWORK: Readonly<Record<Scheme, string>> = {
  exact: "invalid_exact_evm_network_mismatch",
  upto: "invalid_upto_evm_network_mismatch",
  "batch-settlement": "invalid_batch_settlement_evm_network_mismatch",
};

/**
 * Whether a payment pays a requirement, as far as can be said without a chain: scheme, network, recipient, asset, amount,
 * times (`nowS`, Unix seconds) and signatures. Balances, allowances and used nonces are the chain's to say, and for payers
 * with code so is the signature: see {@link Admission.questions}. Refusals are values, and their codes are x402's reasons.
 * Cheap checks come first, so that a stranger cannot buy a signature's check with a payment that fails anyway.
 */
export function checkPayment(
  suite: EvmSuite,
  payload: PaymentPayload,
  requirement: PaymentRequirements,
  nowS: number,
  options: CheckOptions = {},
): Admission | Refusal {
  const { payment } = payload;
  if (payload.scheme !== requirement.scheme) {
    return refuse(
      OTHER_SCHEME[requirement.scheme],
      `The payment is by ${payload.scheme}, and ${requirement.scheme} is required.`,
    );
  }
  if (payload.network !== requirement.network) {
    return refuse(
      OTHER_NETWORK[requirement.scheme],
      `The payment is for ${payload.network}, and ${requirement.network} is required.`,
    );
  }
  const { facilitatorAddress } = requirement.extra;
  const check: Check = {
    suite,
    requirement,
    payload,
    chainId: chainIdOf(requirement.network),
    nowS,
    payerCode: options.payerCode ?? "unknown",
    factories: options.factories ?? [],
    facilitators: options.facilitators ?? (facilitatorAddress === undefined ? [] : [facilitatorAddress]),
  };
  switch (payment.kind) {
    case "eip3009":
      return requirement.scheme === "exact" ? checkEip3009(check, payment) : unsupported();
    case "permit2":
      return requirement.scheme === "exact" ? checkPermit2(check, payment) : unsupported();
    case "upto":
      return requirement.scheme === "upto" ? checkUpto(check, payment) : unsupported();
    default:
      if (requirement.scheme !== "batch-settlement") return unsupported();
      if (payment.kind === "deposit") return checkDeposit(check, payment);
      return payment.kind === "voucher" ? checkVoucher(check, payment) : checkRefund(check, payment);
  }
}

function unsupported(): Refusal {
  return refuse("unsupported_payload_type", "The payment's payload is not one of its scheme.");
}
