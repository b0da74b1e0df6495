import type { Abi, Hex } from "viem";
import { decodeErrorResult } from "viem";
import type { SettleFault } from "./rows.ts";

/** Reasons that have a name of their own, by the contract's error; others are `payment_reverted`. */
const CODES: Readonly<Record<string, string>> = {
  ERC20InsufficientBalance: "insufficient_funds",
  ERC20InsufficientAllowance: "permit2_allowance_required",
  AuthorizationUsedOrCanceled: "authorization_used",
  AuthorizationExpired: "authorization_expired",
  AuthorizationTooEarly: "authorization_early",
  InvalidNonce: "authorization_used",
  SignatureExpired: "authorization_expired",
  PaymentTooEarly: "authorization_early",
  ClaimExceedsBalance: "channel_balance_exceeded",
  ClaimExceedsVoucher: "voucher_exceeded",
  InvalidVoucherSignature: "voucher_signature_invalid",
};

/** Why a call reverted, out of what it returned: the name of the error with its values, or the node's own words. */
export function faultOf(abis: readonly Abi[], data: Hex, otherwise: string): SettleFault {
  if (data.length >= 10) {
    try {
      const { errorName, args } = decodeErrorResult({ abi: abis.flat(), data });
      const values = (args ?? []).map(String).join(", ");
      const code =
        CODES[errorName] ?? (/TRANSFER_FROM_FAILED/.test(values) ? "insufficient_funds" : "payment_reverted");
      return { code, message: `${errorName}(${values})` };
    } catch {
      // Whoever wrote that contract did not tell us its errors.
    }
  }
  return {
    code: "payment_reverted",
    message: otherwise === "" ? "The transfer reverted without a reason." : otherwise,
  };
}
