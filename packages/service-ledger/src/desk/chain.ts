import { AssayError } from "@assay/core";
import type { Deployments } from "@assay/contracts";
import { channelFrom, channelSteps } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import type { DeskChain } from "./modules.ts";

/** A chain as the desk asks it; a channel is read in one call. */
export function createDeskChain(chain: Chain, deployments: Pick<Deployments, "batchSettlement">): DeskChain {
  return {
    payerFacts: (asked) => chain.payerFacts(asked),
    isValidSignature: (account, digest, signature) => chain.isValidSignature(account, digest, signature),
    isValidUndeployed: (account, digest, undeployed) => chain.isValidUndeployed(account, digest, undeployed),
    async channel(channelId) {
      const state = channelFrom((await chain.read(channelSteps(channelId))).results);
      if (state) return state;
      throw new AssayError("chain_rpc_error", `There is no contract of channels at ${deployments.batchSettlement}.`, {
        hints: ["Check the chain's deployments."],
      });
    },
  };
}
