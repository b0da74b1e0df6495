import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { AssayError } from "@assay/core";
import { batchSettlement } from "@assay/contracts";
import { refundDigest } from "@assay/x402";
import type { ChannelConfig, Hex } from "@assay/x402";
import { decodeEventLog, encodeFunctionData, hexToBytes, toHex } from "viem";
import { claimCalls, claimsOf, concludeClaims, noteChannel, readChannel } from "./channel-jobs.ts";
import type { ChannelModules } from "./channel-jobs.ts";
import type { JobHandler } from "./engine.ts";
import { gasLimitFor } from "./gas.ts";
import type { ChainReceipt } from "./ports.ts";
import { channelRows, channelsUnderWay, claimForJob, giveBack, jobRows } from "./rows.ts";
import { channelTuple, voucherOf } from "./voucher.ts";

/** What a refund gave back, and where. */
export type Refunded = { readonly transaction: Hex; readonly amountAtomic: bigint };

/** Most of a channel that a refund can be asked for: the contract gives what is unclaimed when that is less. */
const EVERYTHING = (1n << 128n) - 1n;
/** How long a claim under way on the channel is waited for between looks. */
const BUSY_POLL_MS = 200;

/** The id of a job that gives back a channel's rest, or `amountAtomic` of it. The id is all that the job knows. */
export function refundJob(channelId: Hex, amountAtomic: bigint | undefined): string {
  return `refund-${channelId}-${amountAtomic ?? "all"}-${randomUUID()}`;
}

/**
 * Gives a channel's payer what was not charged. Everything that was charged is claimed in the same transaction, so that the
 * payer cannot have it back, and its payments belong to the refund's job.
 */
export function createRefundHandler(modules: ChannelModules): JobHandler {
  const { database, chain, sender, authorizer, contracts, suite, now } = modules;
  const to = contracts.batchSettlement;

  async function refundData(channelId: Hex, channel: ChannelConfig, amount: bigint): Promise<Hex> {
    const { abi } = batchSettlement;
    const config = channelTuple(channel);
    if (channel.receiverAuthorizer === sender.address)
      return encodeFunctionData({ abi, functionName: "refund", args: [config, amount] });
    const { refundNonce } = await readChannel(modules, channelId);
    const digest = refundDigest(suite, contracts.chainId, hexToBytes(channelId), refundNonce, amount);
    const signature = toHex(await authorizer.signDigest(digest));
    return encodeFunctionData({
      abi,
      functionName: "refundWithSignature",
      args: [config, amount, refundNonce, signature],
    });
  }

  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const { channelId, amount } = parseJob(jobId);
      const rows = await channelRows(database, channelId, now());
      const channel = rows.map(voucherOf).find((signed) => signed !== undefined)?.channel;
      if (!channel) throw new AssayError("channel_unknown", "No payment came through this channel.");
      const due = rows.filter(({ state }) => state === "due" || state === "failed");
      await claimForJob(
        database,
        jobId,
        due.map(({ paymentId }) => paymentId),
        now(),
      );
      while ((await channelsUnderWay(database, [channelId], jobId)).size > 0) await pause(BUSY_POLL_MS);
      const mine = await jobRows(database, jobId, now());
      const claims = await claimsOf(modules, jobId, mine);
      const data = encodeFunctionData({
        abi: batchSettlement.abi,
        functionName: "multicall",
        args: [[...(await claimCalls(modules, claims)), await refundData(channelId, channel, amount ?? EVERYTHING)]],
      });
      const gasLimit = await gasLimitFor(chain, { from: sender.address, to, data });
      if (gasLimit === undefined) return false;
      await sender.submit({ jobId, to, data, gasLimit });
      return true;
    },
    async apply(jobId, outcome) {
      const { channelId } = parseJob(jobId);
      await concludeClaims(modules, jobId, outcome);
      await giveBack(database, jobId, now());
      await noteChannel(modules, channelId, await readChannel(modules, channelId));
    },
  };
}

/** What a refund's transaction gave back. */
export function refundedIn(receipt: ChainReceipt, contract: Hex): bigint {
  for (const log of receipt.logs) {
    const [signature, ...indexed] = log.topics;
    if (log.address !== contract || signature === undefined) continue;
    try {
      const event = decodeEventLog({ abi: batchSettlement.abi, data: log.data, topics: [signature, ...indexed] });
      if (event.eventName === "Refunded") return event.args.amount;
    } catch {
      // Another contract's event.
    }
  }
  return 0n;
}

function parseJob(jobId: string): { readonly channelId: Hex; readonly amount: bigint | undefined } {
  const match = /^refund-(0x[0-9a-f]{64})-(all|[0-9]{1,39})-/.exec(jobId);
  if (!match) throw new TypeError(`${jobId} is no refund.`);
  return { channelId: match[1] as Hex, amount: match[2] === "all" ? undefined : BigInt(match[2] ?? "0") };
}
