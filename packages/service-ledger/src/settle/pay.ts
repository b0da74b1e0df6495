import { setTimeout as pause } from "node:timers/promises";
import { exactPermit2Proxy, paymentBatcher, permit2, testUsdc, uptoPermit2Proxy } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import { batchCall, batchResults, deploymentOf, paymentCall } from "@assay/driver-chain";
import type { BatchResult, Call } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import { toHex } from "@assay/x402";
import type { Hex } from "@assay/x402";
import { findElsewhere } from "./elsewhere.ts";
import type { EngineEvent, JobHandler } from "./engine.ts";
import { faultOf } from "./faults.ts";
import { gasLimitFor } from "./gas.ts";
import { directPayment, itemOf } from "./items.ts";
import { EXPIRY_GRACE_S, MAX_ATTEMPTS } from "./limits.ts";
import type { ChainReads, TransactionSender } from "./ports.ts";
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

  const settleCall = (rows: readonly PaymentRow[]): Call => batchCall(contracts.paymentBatcher, rows.map(itemOf));

  /** The payments that would move now, of those given; whole when none would fail. */
  async function movable(rows: readonly PaymentRow[]): Promise<readonly PaymentRow[]> {
    if (rows.length === 0) return [];
    const answer = await chain.call({ from: sender.address, ...settleCall(rows) });
    const moved = answer.ok ? BigInt(answer.data === "0x" ? "0x0" : answer.data) : 0n;
    if (moved === BigInt(rows.length)) return rows;
    if (rows.length === 1) return [];
    const half = rows.length >> 1;
    return [...(await movable(rows.slice(0, half))), ...(await movable(rows.slice(half)))];
  }

  /** Why a payment would not move, from the call that the batcher would make. */
  async function whyNot(row: PaymentRow): Promise<SettleFault> {
    const inner = paymentCall(directPayment(row), row.asset, row.amountAtomic);
    const answer = await chain.call({ from: contracts.paymentBatcher, ...inner });
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
    const accounts = rows.flatMap((row) => deploymentOf(directPayment(row)) ?? []);
    if (accounts.length === 0) return;
    const accountsJob = `${jobId}.accounts`;
    // After a crash there may be other payments left in the job, and so other accounts: what was sent is what counts.
    if ((await sender.outcome(accountsJob)).state === "none") {
      const parts = accounts.map(({ factory, calldata }) => [{ target: factory, callData: toHex(calldata) }]);
      const transaction = await together(chain, sender.address, parts);
      if (!transaction) return;
      await sender.submit({ jobId: accountsJob, ...transaction });
    }
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
        const call = settleCall(kept);
        const gasLimit = await gasLimitFor(chain, { from: sender.address, ...call });
        if (gasLimit !== undefined) {
          await sender.submit({ jobId, ...call, gasLimit });
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
        const results: ReadonlyMap<Hex, BatchResult> = receipt
          ? batchResults(receipt.logs, contracts.paymentBatcher)
          : new Map();
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
