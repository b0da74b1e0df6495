import { setTimeout as pause } from "node:timers/promises";
import { exactPermit2Proxy, paymentBatcher, permit2, testUsdc, uptoPermit2Proxy } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Database } from "@assay/driver-postgres";
import type { Address, Hex } from "@assay/x402";
import { decodeEventLog, encodeFunctionData } from "viem";
import { findElsewhere } from "./elsewhere.ts";
import type { EngineEvent, JobHandler } from "./engine.ts";
import { faultOf } from "./faults.ts";
import { gasLimitFor } from "./gas.ts";
import { accountOf, batchItem } from "./items.ts";
import type { BatchItem } from "./items.ts";
import { EXPIRY_GRACE_S, MAX_ATTEMPTS } from "./limits.ts";
import type { ChainReads, ChainReceipt, TransactionSender } from "./ports.ts";
import { together } from "./together.ts";
import { giveBack, jobRows, markFailed, markSettled } from "./rows.ts";
import type { PaymentRow, SettleFault } from "./rows.ts";

export type PayModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly sender: TransactionSender;
  readonly contracts: Deployments;
  readonly now: () => number;
  readonly onEvent: (event: EngineEvent) => void;
};

const ABIS = [paymentBatcher.abi, exactPermit2Proxy.abi, uptoPermit2Proxy.abi, permit2.abi, testUsdc.abi];

/**
 * Settles fixed and metered payments, many in one transaction of the batcher. What would fail is found by simulating and
 * left out; what fails all the same is read from the transaction's events. A payment whose authorization somebody else
 * used for the same transfer is settled like any other.
 */
export function createPayHandler(modules: PayModules): JobHandler {
  const { database, chain, sender, contracts, now, onEvent } = modules;

  function settleData(items: readonly BatchItem[]): Hex {
    return encodeFunctionData({ abi: paymentBatcher.abi, functionName: "settle", args: [items] });
  }

  /** The payments that would move now, of those given; whole when none would fail. */
  async function movable(rows: readonly PaymentRow[]): Promise<readonly PaymentRow[]> {
    if (rows.length === 0) return [];
    const answer = await chain.call({
      from: sender.address,
      to: contracts.paymentBatcher,
      data: settleData(rows.map(batchItem)),
    });
    const moved = answer.ok ? BigInt(answer.data === "0x" ? "0x0" : answer.data) : 0n;
    if (moved === BigInt(rows.length)) return rows;
    if (rows.length === 1) return [];
    const half = rows.length >> 1;
    return [...(await movable(rows.slice(0, half))), ...(await movable(rows.slice(half)))];
  }

  /** Why a payment would not move, from the call that the batcher would make. */
  async function whyNot(row: PaymentRow): Promise<SettleFault> {
    const item = batchItem(row);
    const answer = await chain.call({ from: contracts.paymentBatcher, ...innerCall(contracts, item) });
    return answer.ok
      ? { code: "payment_reverted", message: "The payment moves alone and not among others." }
      : faultOf(ABIS, answer.data, answer.message);
  }

  /** A payment that did not move by us: moved by somebody else, to be tried again, or dead. */
  async function conclude(row: PaymentRow, fault: SettleFault): Promise<void> {
    const elsewhere = await findElsewhere({ database, chain, contracts }, row);
    if (elsewhere) return markSettled(database, [{ paymentId: row.paymentId, ...elsewhere }], now());
    const expired = row.deadlineS + EXPIRY_GRACE_S < now() / 1000;
    const dead = expired || row.attempts + 1 >= MAX_ATTEMPTS;
    await markFailed(database, row.paymentId, fault, dead, now());
    if (dead) onEvent({ type: "payment_dead", paymentId: row.paymentId, code: fault.code });
  }

  /** Makes the accounts that payers' signatures describe and that are not there yet, in a transaction of its own. */
  async function makeAccounts(jobId: string, rows: readonly PaymentRow[]): Promise<void> {
    const accounts = rows.flatMap((row) => accountOf(row) ?? []);
    if (accounts.length === 0) return;
    const accountsJob = `${jobId}.accounts`;
    const parts = accounts.map(({ factory, data }) => [{ target: factory, callData: data }]);
    const transaction = await together(chain, sender.address, contracts.multicall3, parts);
    if (!transaction) return;
    await sender.submit({ jobId: accountsJob, ...transaction });
    while ((await sender.outcome(accountsJob)).state === "pending") await pause(ACCOUNT_POLL_MS);
  }

  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const rows = await jobRows(database, jobId, now());
      await makeAccounts(jobId, rows);
      let kept = rows;
      // Payments that move one by one may not move together: of one payer's, all but what its balance covers are dropped.
      for (let tries = 0; ; tries++) {
        const now_ = await movable(kept);
        if (now_.length === kept.length) break;
        const moving = new Set(now_);
        for (const row of kept) if (!moving.has(row)) await conclude(row, await whyNot(row));
        kept = now_;
        if (tries >= MAX_SIEVES) break;
      }
      while (kept.length > 0) {
        const data = settleData(kept.map(batchItem));
        const call = { from: sender.address, to: contracts.paymentBatcher, data };
        const gasLimit = await gasLimitFor(chain, call);
        if (gasLimit !== undefined) {
          await sender.submit({ jobId, to: call.to, data, gasLimit });
          return true;
        }
        // Too much for one transaction: the later half waits for the next.
        const later = kept.slice(Math.max(1, kept.length >> 1));
        if (later.length === 0) {
          for (const row of kept)
            await conclude(row, { code: "gas_limit_exceeded", message: "It takes too much gas." });
          return false;
        }
        await giveBack(
          database,
          jobId,
          now(),
          later.map(({ paymentId }) => paymentId),
        );
        kept = kept.slice(0, kept.length - later.length);
      }
      return false;
    },

    async apply(jobId, outcome) {
      const rows = await jobRows(database, jobId, now());
      if (rows.length === 0) return;
      if (outcome.state === "final" || outcome.state === "mined") {
        const receipt = await chain.receipt(outcome.transaction);
        const results = receipt ? resultsOf(receipt, contracts.paymentBatcher) : new Map<Hex, PaymentResult>();
        const settled = rows.filter(({ paymentId }) => results.get(paymentId)?.ok === true);
        await markSettled(
          database,
          settled.map(({ paymentId }) => ({
            paymentId,
            transaction: outcome.transaction,
            blockNumber: receipt?.blockNumber ?? outcome.blockNumber,
          })),
          now(),
        );
        for (const row of rows) {
          const result = results.get(row.paymentId);
          if (result?.ok === false) await conclude(row, faultOf(ABIS, result.reason, ""));
        }
      } else if (outcome.state === "reverted") {
        for (const row of rows)
          await conclude(row, {
            code: "transaction_reverted",
            message: `Transaction ${outcome.transaction} reverted.`,
          });
      }
      // What the transaction did not speak of waits for another job.
      await giveBack(database, jobId, now());
    },
  };
}

/** How often payments that would fail are sorted out before the transaction's own isolation has to do. */
const MAX_SIEVES = 2;
const ACCOUNT_POLL_MS = 200;

type PaymentResult = { readonly ok: boolean; readonly reason: Hex };

/** What a transaction of the batcher did, by payment id. */
function resultsOf(receipt: ChainReceipt, batcher: Address): ReadonlyMap<Hex, PaymentResult> {
  const results = new Map<Hex, PaymentResult>();
  for (const log of receipt.logs) {
    if (log.address !== batcher || log.topics.length !== 4) continue;
    const [signature, ...indexed] = log.topics;
    if (signature === undefined) continue;
    try {
      const { eventName, args } = decodeEventLog({
        abi: paymentBatcher.abi,
        data: log.data,
        topics: [signature, ...indexed],
      });
      if (eventName === "PaymentSettled") results.set(args.paymentId, { ok: args.ok, reason: args.reason });
    } catch {
      // A log of the batcher that is no event of ours says nothing about payments.
    }
  }
  return results;
}

/** The call that the batcher makes for an item, for asking what it would say. */
function innerCall(contracts: Deployments, item: BatchItem): { readonly to: Address; readonly data: Hex } {
  const { payer, payTo, amount, permitted, validAfter, deadline, nonce, signature, token } = item;
  if (item.kind === 0) {
    return {
      to: token,
      data: encodeFunctionData({
        abi: testUsdc.abi,
        functionName: "transferWithAuthorization",
        args: [payer, payTo, amount, validAfter, deadline, nonce, signature],
      }),
    };
  }
  const permit = { permitted: { token, amount: permitted }, nonce: BigInt(nonce), deadline };
  if (item.kind === 1) {
    return {
      to: contracts.exactPermit2Proxy,
      data: encodeFunctionData({
        abi: exactPermit2Proxy.abi,
        functionName: "settle",
        args: [permit, payer, { to: payTo, validAfter }, signature],
      }),
    };
  }
  return {
    to: contracts.uptoPermit2Proxy,
    data: encodeFunctionData({
      abi: uptoPermit2Proxy.abi,
      functionName: "settle",
      args: [permit, amount, payer, { to: payTo, facilitator: contracts.paymentBatcher, validAfter }, signature],
    }),
  };
}
