import { AssayError } from "@assay/core";
import { batchSettlement } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Chain } from "@assay/driver-chain";
import { encodeFunctionData, hexToBytes } from "viem";
import type { DeskChain } from "./modules.ts";

/** A chain as the desk asks it; a channel is read in one call. */
export function createDeskChain(chain: Chain, deployments: Pick<Deployments, "batchSettlement">): DeskChain {
  const { abi } = batchSettlement;
  const to = deployments.batchSettlement;
  return {
    payerFacts: (asked) => chain.payerFacts(asked),
    isValidSignature: (account, digest, signature) => chain.isValidSignature(account, digest, signature),
    isValidUndeployed: (account, digest, undeployed) => chain.isValidUndeployed(account, digest, undeployed),
    async channel(channelId) {
      const ask = (functionName: "channels" | "pendingWithdrawals" | "refundNonce", words: number) => ({
        kind: "call" as const,
        to,
        data: hexToBytes(encodeFunctionData({ abi, functionName, args: [channelId] })),
        words,
      });
      const { results } = await chain.read([ask("channels", 2), ask("pendingWithdrawals", 2), ask("refundNonce", 1)]);
      const [channel, withdrawal, refund] = results.map(({ ok, words }) => (ok ? words : undefined));
      if (!channel || !withdrawal || !refund)
        throw new AssayError("chain_rpc_error", `There is no contract of channels at ${to}.`, {
          hints: ["Check the chain's deployments."],
        });
      return {
        balance: channel[0] ?? 0n,
        totalClaimed: channel[1] ?? 0n,
        withdrawAmount: withdrawal[0] ?? 0n,
        withdrawRequestedAt: Number(withdrawal[1] ?? 0n),
        refundNonce: refund[0] ?? 0n,
      };
    },
  };
}
