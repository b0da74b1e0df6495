import { multicall3 } from "@assay/contracts";
import type { Address, Hex } from "@assay/x402";
import { encodeFunctionData } from "viem";
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
  contract: Address,
  parts: readonly (readonly AnyCall[])[],
): Promise<{ readonly to: Address; readonly data: Hex; readonly gasLimit: bigint } | undefined> {
  const good: AnyCall[] = [];
  for (const part of parts) {
    const answer = await chain.call({ from, to: contract, data: encode(part) });
    if (answer.ok) good.push(...part);
  }
  if (good.length === 0) return undefined;
  const data = encode(good);
  const gasLimit = await gasLimitFor(chain, { from, to: contract, data });
  return gasLimit === undefined ? undefined : { to: contract, data, gasLimit };
}

function encode(calls: readonly AnyCall[]): Hex {
  return encodeFunctionData({
    abi: multicall3.abi,
    functionName: "aggregate3",
    args: [calls.map((call) => ({ ...call, allowFailure: false }))],
  });
}
