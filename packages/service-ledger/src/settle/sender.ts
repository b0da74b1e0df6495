import type { Sender } from "@assay/driver-chain";
import { hexToBytes } from "viem";
import type { TransactionSender } from "./ports.ts";

/** A chain's sender as jobs see it: a transaction is `final`, `reverted` or `dropped` once, and `pending` until then. */
export function transactionSender(sender: Sender): TransactionSender {
  return {
    address: sender.address,
    async submit({ jobId, to, data, gasLimit }) {
      return (await sender.submit({ jobId, to, data: hexToBytes(data), gasLimit })).hash;
    },
    async outcome(jobId) {
      const outcome = await sender.outcome(jobId);
      switch (outcome?.state) {
        case undefined:
          return { state: "none" };
        case "pending":
        case "dropped":
          return { state: outcome.state };
        case "mined":
        case "final":
        case "reverted": {
          const { hash, receipt, state } = outcome;
          return { state, transaction: hash, blockNumber: receipt.blockNumber };
        }
      }
    },
  };
}
