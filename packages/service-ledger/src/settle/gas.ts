import type { Address, Hex } from "@assay/x402";
import { GAS_MARGIN_PERCENT, MAX_BLOCK_SHARE_PERCENT, MAX_GROUP_GAS } from "./limits.ts";
import type { ChainReads } from "./ports.ts";

/**
 * The gas limit for a transaction: its estimate and a margin. Undefined when it would revert, or take more than a
 * transaction may have: {@link MAX_GROUP_GAS}, or {@link MAX_BLOCK_SHARE_PERCENT} percent of a block.
 */
export async function gasLimitFor(
  chain: ChainReads,
  call: { readonly from: Address; readonly to: Address; readonly data: Hex },
): Promise<bigint | undefined> {
  const [estimate, blockLimit] = await Promise.all([chain.estimateGas(call), chain.blockGasLimit()]);
  if (estimate === undefined) return undefined;
  const share = (blockLimit * MAX_BLOCK_SHARE_PERCENT) / 100n;
  const most = share < MAX_GROUP_GAS ? share : MAX_GROUP_GAS;
  if (estimate > most) return undefined;
  const limit = estimate + (estimate * GAS_MARGIN_PERCENT) / 100n;
  return limit < most ? limit : most;
}
