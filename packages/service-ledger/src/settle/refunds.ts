import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { AssayError } from "@assay/core";
import { batchSettlement } from "@assay/contracts";
import { channelCalls, refundCall } from "@assay/driver-chain";
import type { Call } from "@assay/driver-chain";
import { refundDigest } from "@assay/x402";
import type { ChannelConfig, Hex } from "@assay/x402";
import { decodeEventLog, hexToBytes } from "viem";
import { claimCalls, claimsOf, concludeClaims, noteChannel, readChannel } from "./channel-jobs.ts";
import type { ChannelModules } from "./channel-jobs.ts";
import type { JobHandler } from "./engine.ts";
import { gasLimitFor } from "./gas.ts";
import type { ChainReceipt } from "./ports.ts";
import { channelRows, claimCharges, giveBack, jobRows, jobsOn } from "./rows.ts";
import { voucherOf } from "./voucher.ts";

/** What a refund gave back, and where. */
export type Refunded = { readonly transaction: Hex; readonly amountAtomic: bigint };

/** Most of a channel that a refund can be asked for: the contract gives what is unclaimed when that is less. */
const EVERYTHING = (1n << 128n) - 1n;
/** How long a claim under way on the channel is waited for between looks. */
const BUSY_POLL_MS = 200;

/** How the ids of these jobs begin. */
const REFUND = "refund-";

/** The id of a job that gives back a channel's rest, or `amountAtomic` of it. The id is all that the job knows. */
export function refundJob(channelId: Hex, amountAtomic: bigint | undefined): string {
  return `${REFUND}${channelId}-${amountAtomic ?? "all"}-${randomUUID()}`;
}

/**
 * Gives a channel's payer what was not charged. Everything that was charged is claimed in the same transaction, so that the
 * payer cannot have it back, and its payments belong to the refund's job.
 */
export function createRefundHandler(modules: ChannelModules): JobHandler {
  const { database, chain, sender, authorizer, contracts, suite, now } = modules;

  async function refundOf(channelId: Hex, channel: ChannelConfig, amount: bigint): Promise<Call> {
    if (channel.receiverAuthorizer === sender.address) return refundCall(channel, amount);
    const { refundNonce: nonce } = await readChannel(modules, channelId);
    const digest = refundDigest(suite, contracts.chainId, hexToBytes(channelId), nonce, amount);
    return refundCall(channel, amount, { nonce, signature: await authorizer.signDigest(digest) });
  }

  /**
   * Gives the job everything that was charged and is not claimed yet, and waits for other jobs that have some of it: what
   * is left unclaimed is the payer's to have back.
   */
  async function takeCharges(jobId: string, channelId: Hex): Promise<void> {
    for (;;) {
      await claimCharges(database, jobId, channelId, now());
      const others = await jobsOn(database, channelId, jobId);
      if (others.length === 0) return;
      // Of two refunds that each have charges one lets go of its own, or both would wait for ever.
      if (others.some((other) => other.startsWith(REFUND) && other < jobId)) await giveBack(database, jobId, now());
      await pause(BUSY_POLL_MS);
    }
  }

  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const { channelId, amount } = parseJob(jobId);
      const rows = await channelRows(database, channelId, now());
      const channel = rows.map(voucherOf).find((signed) => signed !== undefined)?.channel;
      if (!channel) throw new AssayError("channel_unknown", "No payment came through this channel.");
      await takeCharges(jobId, channelId);
      const mine = await jobRows(database, jobId, now());
      const claims = await claimsOf(modules, jobId, mine);
      const call = channelCalls([
        ...(await claimCalls(modules, claims)),
        await refundOf(channelId, channel, amount ?? EVERYTHING),
      ]);
      const gasLimit = await gasLimitFor(chain, { from: sender.address, ...call });
      if (gasLimit === undefined) return false;
      await sender.submit({ jobId, ...call, gasLimit });
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
