import { ZERO_ADDRESS } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { clientError } from "../errors.ts";
import { MAX_APPROVAL } from "./limits.ts";
import { word } from "./rpc.ts";

/**
 * Calldata of `approve(spender, amount)`, for a transaction to the token's contract. It allows exactly `amountAtomic`, zero
 * to take an approval back. Throws `parameter_invalid` for an amount that tokens read as "without a limit" (2^96 - 1 and
 * up), and for nobody as spender.
 */
export function approvalData(spender: Address, amountAtomic: bigint): Hex {
  if (amountAtomic < 0n || amountAtomic > MAX_APPROVAL) {
    throw clientError("parameter_invalid", "An approval is of an amount, never without a limit.", {
      hints: ["Approve what is going to be spent; it can be approved again."],
    });
  }
  if (!/^0x[0-9a-f]{40}$/.test(spender) || spender === ZERO_ADDRESS)
    throw clientError("parameter_invalid", "An approval names whom it is for.");
  return `0x095ea7b3${word(spender)}${word(amountAtomic)}`;
}
