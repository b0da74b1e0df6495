import { AssayError, isAssayError } from "@assay/core";
import type { Chain } from "../rpc/chain.ts";
import { quantity } from "../rpc/values.ts";

export type Fees = { readonly maxFee: bigint; readonly tip: bigint };

/** The tip where a node does not suggest one: what wallets commonly offer. */
const DEFAULT_TIP = 1_000_000_000n;
/** Room for the base fee to grow: it can double in six full blocks. */
const BASE_FEE_ROOM = 2n;

/** What a transaction should offer now. Throws `transaction_fee_above_limit` when the base fee alone is above it. */
export async function suggestFees(chain: Chain, limit: bigint): Promise<Fees> {
  const [block, tip] = await Promise.all([chain.block("latest"), suggestTip(chain)]);
  const base = block?.baseFeePerGas ?? 0n;
  if (base > limit)
    throw new AssayError("transaction_fee_above_limit", `The chain asks ${base} wei for gas, above the limit.`, {
      hints: [`The limit is ${limit} wei; it is tried again when the price falls.`],
    });
  const bounded = tip < limit ? tip : limit;
  const wanted = base * BASE_FEE_ROOM + bounded;
  return { maxFee: wanted < limit ? wanted : limit, tip: bounded };
}

/**
 * Fees that replace an earlier attempt: nodes want an eighth more of both (10 % by most, 12.5 % by some). Undefined when
 * that is above the limit.
 */
export function raisedFees(before: Fees, now: Fees, limit: bigint): Fees | undefined {
  const raise = (fee: bigint): bigint => fee + fee / 8n + 1n;
  const maxFee = most(raise(before.maxFee), now.maxFee);
  const tip = most(raise(before.tip), now.tip);
  return maxFee > limit ? undefined : { maxFee, tip: tip < maxFee ? tip : maxFee };
}

async function suggestTip(chain: Chain): Promise<bigint> {
  try {
    return quantity(await chain.request("eth_maxPriorityFeePerGas", []), "the tip");
  } catch (error) {
    if (isAssayError(error) && error.code === "chain_rpc_error") return DEFAULT_TIP;
    throw error;
  }
}

function most(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
