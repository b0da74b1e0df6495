import type { Deployments } from "@assay/contracts";
import type { Chain } from "@assay/driver-chain";
import type { CheckOutcome } from "@assay/receipts";
import type { EvmSuite } from "@assay/x402";
import type { ChainReads } from "../settle/ports.ts";

/** What the checks are made with. */
export type CheckTools = {
  readonly chain: Chain;
  readonly reads: ChainReads;
  readonly deployments: Deployments;
  readonly suite: EvmSuite;
  readonly searchBlocks: number;
};

/** One row of a verdict. */
export function outcome(
  status: CheckOutcome["status"],
  code: string,
  message: string,
  facts: Readonly<Record<string, string>> = {},
): CheckOutcome {
  return { status, code, message, facts };
}
