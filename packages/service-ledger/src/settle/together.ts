import { togetherCall } from "@assay/driver-chain";
import type { Call } from "@assay/driver-chain";
import type { Address, Hex } from "@assay/x402";
import { gasLimitFor } from "./gas.ts";
import type { ChainReads } from "./ports.ts";

/** A call of a contract, by whoever. */
export type AnyCall = { readonly target: Address; readonly callData: Hex };

/**
 * One transaction of Multicall3 for parts that are each some calls in a row, those left out that would revert now; undefined
 * when none would do. No call in it may fail: with failures allowed, a node's estimate is the gas at which they all do.
 */
export async function together(
  chain: ChainReads,
  from: Address,
  parts: readonly (readonly AnyCall[])[],
): Promise<(Call & { readonly gasLimit: bigint }) | undefined> {
  const good: AnyCall[] = [];
  for (const part of parts) {
    const answer = await chain.call({ from, ...encode(part) });
    if (answer.ok) good.push(...part);
  }
  if (good.length === 0) return undefined;
  const call = encode(good);
  const gasLimit = await gasLimitFor(chain, { from, ...call });
  return gasLimit === undefined ? undefined : { ...call, gasLimit };
}

function encode(calls: readonly AnyCall[]): Call {
  return togetherCall(calls.map((call) => ({ ...call, allowFailure: false })));
}
