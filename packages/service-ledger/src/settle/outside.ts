import { setTimeout as pause } from "node:timers/promises";
import type { Deployments } from "@assay/contracts";
import { isAssayError } from "@assay/core";
import type { Database } from "@assay/driver-postgres";
import { paymentDocument, requirementsToJson } from "@assay/x402";
import type { EvmSuite, Hex } from "@assay/x402";
import { didSettle, findElsewhere } from "./elsewhere.ts";
import type { EngineEvent, JobHandler } from "./engine.ts";
import { EXPIRY_GRACE_S, MAX_ATTEMPTS, OUTSIDE_WAIT_MS } from "./limits.ts";
import type { ChainReads, OutsideResult, SettleOutside } from "./ports.ts";
import { giveBack, jobRows, markFailed, markSettled } from "./rows.ts";
import type { PaymentRow, SettledIn, SettleFault } from "./rows.ts";

export type OutsideModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly contracts: Deployments;
  readonly suite: EvmSuite;
  readonly settleOutside: SettleOutside;
  /** Blocks after which a transaction counts as final, its own included. */
  readonly confirmations: number;
  readonly pollMs: number;
  readonly now: () => number;
  readonly onEvent: (event: EngineEvent) => void;
};

/** Whether somebody else can settle a row: a metered payment names who may, and ours name our batcher. */
export function isOutside(
  { instruction }: PaymentRow,
  { paymentBatcher }: Pick<Deployments, "paymentBatcher">,
): boolean {
  const { payment } = instruction.payload;
  if (payment.kind === "upto") return payment.witness.facilitator !== paymentBatcher;
  return payment.kind === "eip3009" || payment.kind === "permit2";
}

/**
 * Settles fixed and metered payments through somebody else's facilitator. Its word is not enough: a payment is settled when
 * the chain, asked by us, shows the transfer. While the outcome is not known, the same request is sent again.
 */
export function createOutsideHandler(modules: OutsideModules): JobHandler {
  const { database, chain, suite, settleOutside, confirmations, pollMs, now, onEvent } = modules;

  async function settle(row: PaymentRow): Promise<void> {
    // A try before this one may have had an effect that nobody told of.
    const before = row.attempts > 0 ? await findElsewhere(modules, row) : undefined;
    if (before) return markSettled(database, [{ paymentId: row.paymentId, ...before }], now());
    let result: OutsideResult;
    try {
      result = await settleOutside(requestOf(row));
    } catch (error) {
      if (!isAssayError(error) || !error.code.startsWith("facilitator_")) throw error;
      return conclude(row, { code: error.code, message: error.message }, false);
    }
    const { success, transaction, errorReason, errorMessage } = result;
    if (/^0x[0-9a-f]{64}$/i.test(transaction) && (success || errorReason === PENDING)) {
      const found = await findMined(row, transaction.toLowerCase() as Hex);
      if (typeof found === "object") return markSettled(database, [{ paymentId: row.paymentId, ...found }], now());
      return found === "missing"
        ? conclude(row, { code: "transaction_not_found", message: `No block has ${transaction} yet.` }, false)
        : conclude(row, { code: "transaction_mismatch", message: `${transaction} does not move this payment.` }, true);
    }
    const code = errorReason ?? "settlement_refused";
    await conclude(
      row,
      { code, message: errorMessage ?? "The facilitator did not settle it." },
      errorReason !== PENDING,
    );
  }

  /** Where a transaction settled a row, once that is final; what speaks against it otherwise. */
  async function findMined(row: PaymentRow, transaction: Hex): Promise<SettledIn | "missing" | "mismatch"> {
    for (const untilMs = now() + OUTSIDE_WAIT_MS; ;) {
      const receipt = await chain.receipt(transaction);
      if (receipt && receipt.blockNumber + confirmations - 1 <= (await chain.blockNumber()))
        return (await didSettle(modules, row, receipt))
          ? { transaction, blockNumber: receipt.blockNumber }
          : "mismatch";
      if (now() >= untilMs) return "missing";
      await pause(pollMs);
    }
  }

  /** `final`: a try that ended. One of which nothing is known is repeated until the signature's time is over. */
  async function conclude(row: PaymentRow, fault: SettleFault, final: boolean): Promise<void> {
    const elsewhere = await findElsewhere(modules, row);
    if (elsewhere) return markSettled(database, [{ paymentId: row.paymentId, ...elsewhere }], now());
    const expired = row.deadlineS + EXPIRY_GRACE_S < now() / 1000;
    const dead = expired || (final && row.attempts + 1 >= MAX_ATTEMPTS);
    await markFailed(database, row.paymentId, fault, dead, now());
    if (dead) onEvent({ type: "payment_dead", paymentId: row.paymentId, code: fault.code });
  }

  /** What was signed, and the requirement with what is charged of it: the same bytes at every try. */
  function requestOf({ instruction, amountAtomic }: PaymentRow): Parameters<SettleOutside>[0] {
    const { requirement, payload } = instruction;
    const document = paymentDocument(suite, { ...payload, version: 2, accepted: requirement });
    return {
      payload: document,
      requirements: requirementsToJson(suite, { ...requirement, amount: amountAtomic.toString() }),
    };
  }

  return {
    async submit(jobId) {
      for (const row of await jobRows(database, jobId, now())) await settle(row);
      return false;
    },
    apply: (jobId) => giveBack(database, jobId, now()),
  };
}

/** With it a facilitator says that its transaction is under way. */
const PENDING = "settlement_pending";

/** The contract that moved a payment which somebody else settled. */
export function outsideContract({ instruction, asset }: PaymentRow, contracts: Deployments): string {
  const { kind } = instruction.payload.payment;
  if (kind === "upto") return contracts.uptoPermit2Proxy;
  return kind === "permit2" ? contracts.exactPermit2Proxy : asset;
}
