import { isRevert, rpcFault } from "@assay/driver-chain";
import type { Chain, TxLog } from "@assay/driver-chain";
import { hexToBytes, toHex } from "viem";
import type { ChainLog, ChainReads } from "./ports.ts";

/** The reads that settling needs, of a chain. */
export function chainReads(chain: Chain): ChainReads {
  return {
    blockNumber: () => chain.blockNumber(),
    blockHash: async (number) => (await chain.block(number))?.hash,
    async blockGasLimit() {
      const block = await chain.block("latest");
      return block?.gasLimit ?? 0n;
    },
    async call({ from, to, data }) {
      try {
        return { ok: true, data: toHex(await chain.call({ ...(from ? { from } : {}), to, data: hexToBytes(data) })) };
      } catch (error) {
        if (!isRevert(error)) throw error;
        const fault = rpcFault(error);
        return { ok: false, data: fault?.revertData ?? "0x", message: fault?.rpcMessage ?? "" };
      }
    },
    async estimateGas({ from, to, data }) {
      try {
        return await chain.estimateGas({ from, to, data: hexToBytes(data) });
      } catch (error) {
        if (!isRevert(error)) throw error;
        return undefined;
      }
    },
    read: async (steps) => (await chain.read(steps)).results,
    async logs(filter) {
      const logs = await chain.logs(filter);
      return logs.map(logOf);
    },
    async receipt(transaction) {
      const receipt = await chain.receipt(transaction);
      if (!receipt) return undefined;
      return {
        transaction: receipt.transactionHash,
        blockNumber: receipt.blockNumber,
        ok: receipt.ok,
        from: receipt.from,
        to: receipt.to,
        gasUsed: receipt.gasUsed,
        logs: receipt.logs.map(logOf),
      };
    },
  };
}

function logOf({ transactionHash, data, ...log }: TxLog): ChainLog {
  return { ...log, data: toHex(data), transaction: transactionHash };
}
