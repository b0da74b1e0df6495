import { isAssayError } from "@assay/core";
import type { Deployments } from "@assay/contracts";
import type { Chain } from "@assay/driver-chain";
import { nativeEvmSuite } from "@assay/driver-chain";
import type { CheckOutcome, ReceiptCheck } from "@assay/receipts";
import type { EvmSuite } from "@assay/x402";
import { chainReads } from "../settle/chain-reads.ts";
import { checkAnchors } from "./anchor-check.ts";
import { checkPayment } from "./payment-check.ts";
import { outcome } from "./tools.ts";
import type { CheckTools } from "./tools.ts";

/** A chain that a verifier chose, and the contracts on it that it trusts. */
export type ChainCheckModules = {
  readonly chain: Chain;
  readonly deployments: Deployments;
  readonly suite?: EvmSuite;
  /** Blocks searched, latest first, for a payment whose settlement the bundle does not name; default 20,000. */
  readonly searchBlocks?: number;
};

const DEFAULT_SEARCH_BLOCKS = 20_000;

/**
 * The checks that need a chain: that the payment a receipt names was settled as it says, and that the receipt is under an
 * anchored root. Neither throws: a node that does not answer makes its row inconclusive.
 */
export function createChainChecks(modules: ChainCheckModules): {
  readonly payment: ReceiptCheck;
  readonly anchor: ReceiptCheck;
} {
  const tools: CheckTools = {
    chain: modules.chain,
    reads: chainReads(modules.chain),
    deployments: modules.deployments,
    suite: modules.suite ?? nativeEvmSuite(),
    searchBlocks: modules.searchBlocks ?? DEFAULT_SEARCH_BLOCKS,
  };
  return {
    payment: (view) => asking(() => checkPayment(tools, view)),
    anchor: (view) => asking(() => checkAnchors(tools.suite, view, tools)),
  };
}

/** The anchor's check as far as it goes without a chain: what holds leaves its row open, what does not fails. */
export function createAnchorCheck(suite: EvmSuite = nativeEvmSuite()): ReceiptCheck {
  return (view) => checkAnchors(suite, view, undefined);
}

async function asking(check: () => Promise<CheckOutcome>): Promise<CheckOutcome> {
  try {
    return await check();
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return outcome("inconclusive", error.code, error.message);
  }
}
