import { randomUUID } from "node:crypto";
import { AssayError, isAssayError } from "@assay/core";
import { isRevert } from "@assay/driver-chain";
import type { TxOutcome, TxReceipt } from "@assay/driver-chain";
import { fromHex } from "@assay/x402";
import type { EvmSuite } from "@assay/x402";
import { channelJson, claimedUnsettled, diagnose, readChannel } from "./examine.ts";
import { movedElsewhere, refundedIn, settledIn } from "./events.ts";
import { judgePayment } from "./judge.ts";
import { sendersFor } from "./plan.ts";
import type { PaymentSender, Plan, ServedChain } from "./plan.ts";
import { REASON, refuse } from "./reasons.ts";
import type { Refusal } from "./reasons.ts";
import type { ParsedRequest } from "./request.ts";
import type { Settled, SettlementRecord, SettlementStore } from "./store.ts";

type Asked = {
  readonly served: ServedChain;
  readonly request: ParsedRequest;
  readonly plan: Plan;
  /** Empty for whoever has no token. */
  readonly caller: string;
  readonly digest: string;
  readonly nowS: number;
};
/** `replayed`: this was settled by a request before. A refusal with a transaction was sent, and reverted or is pending. */
type Outcome =
  | (Settled & { readonly ok: true; readonly replayed: boolean })
  | (Refusal & { readonly transaction?: string });

export type Settlements = { readonly settle: (asked: Asked) => Promise<Outcome> };

/** What a transaction may need beyond its estimate: the state may have changed until its block. In percent. */
const GAS_MARGIN = 125n;
/** Enough for a payment with the deployment of its payer's account, and for 200 claims. */
const MAX_GAS = 8_000_000n;

/** Settles each payment once, and tells whoever asks again what came of it. */
export function createSettlements(options: {
  readonly suite: EvmSuite;
  readonly store: SettlementStore;
  readonly now: () => number;
  readonly waitMs: number;
  readonly maxPending: number;
  readonly finality: "mined" | "final";
}): Settlements {
  const { suite, store, now } = options;
  const under = new Map<string, { readonly asked: Asked; readonly outcome: Promise<Outcome> }>();

  /** Settlements that each sender has to do with here: it takes so many transactions at once and no more. */
  const load = new WeakMap<PaymentSender, number>();
  const leastBusy = (senders: readonly PaymentSender[]): PaymentSender | undefined =>
    senders.toSorted((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0))[0];
  const withLoad = async (sender: PaymentSender, work: () => Promise<Outcome>): Promise<Outcome> => {
    load.set(sender, (load.get(sender) ?? 0) + 1);
    try {
      return await work();
    } finally {
      load.set(sender, (load.get(sender) ?? 0) - 1);
    }
  };

  /** Why the chain or the clock forbid what is asked; the gas that it may use otherwise. */
  const examine = async (
    asked: Asked,
    sender: PaymentSender,
  ): Promise<Refusal | { readonly ok: true; readonly gas: bigint }> => {
    const { served, request, plan } = asked;
    if (request.kind === "payment") {
      const judged = await judgePayment(suite, served, request, asked.nowS);
      if (!judged.ok) return judged;
    }
    // The contract sends nothing without a word when there is nothing to send.
    if (request.kind === "sweep" && (await claimedUnsettled(served, request.receiver, request.token)) === 0n)
      return refuse(REASON.nothing, "Nothing was claimed for this receiver that it does not have.");
    if (!plan.call) return { ok: true, gas: 0n };
    const { to, data } = plan.call;
    let needed: bigint;
    try {
      needed = await served.chain.estimateGas({ from: sender.address, to, data: fromHex(data) });
    } catch (error) {
      if (!isRevert(error)) throw error;
      return diagnose(suite, served, request, plan);
    }
    const gas = (needed * GAS_MARGIN) / 100n;
    if (gas <= (served.maxGas ?? MAX_GAS)) return { ok: true, gas };
    return refuse(plan.failed.simulation, `It would take ${needed} gas, more than is spent here.`, plan.payer);
  };

  const begin = async (asked: Asked): Promise<Outcome> => {
    const { served, request, plan } = asked;
    const known = await store.get(plan.key);
    if (known) return resume(asked, known);
    const sender = leastBusy(sendersFor(served, request));
    if (!sender) return refuse(REASON.facilitator, "Nobody here may settle this payment.", plan.payer);
    return withLoad(sender, () => beginWith(asked, sender));
  };

  const beginWith = async (asked: Asked, sender: PaymentSender): Promise<Outcome> => {
    const { served, plan, caller, digest } = asked;
    const examined = await examine(asked, sender);
    if (!examined.ok) return examined;
    const record: SettlementRecord = {
      key: plan.key,
      caller,
      digest,
      network: served.network,
      sender: sender.address,
      jobId: `facilitator ${randomUUID()}`,
      createdAtMs: now(),
    };
    const other = await store.claim(record);
    return resume(asked, other ?? record, examined.gas);
  };

  /** Brings a record that is there to its end, or as far as the wait allows. */
  const resume = async (asked: Asked, record: SettlementRecord, gas?: bigint): Promise<Outcome> => {
    const { served, request, plan } = asked;
    if (record.caller !== asked.caller || record.digest !== asked.digest)
      return refuse(usedReason(request, plan), "This payment was settled already, for something else.", plan.payer);
    if (record.result) return { ok: true, ...record.result, replayed: true };
    if (!plan.call) return finish(asked, { transaction: "", amount: "0" });
    const sender = served.senders.find(({ address }) => address === record.sender);
    if (!sender) return refuse(REASON.pending, "Its transaction was sent by an account that is not here.", plan.payer);
    const { to, data } = plan.call;
    const job = { jobId: record.jobId, to, data: fromHex(data), ...(gas === undefined ? {} : { gasLimit: gas }) };
    try {
      await sender.submit(job);
    } catch (error) {
      // Nothing was written down, so nothing will happen: the payment can be tried again.
      if ((await sender.outcome(record.jobId)) === undefined) await store.drop(plan.key);
      if (isAssayError(error) && error.code === "transaction_reverts") return diagnose(suite, served, request, plan);
      throw error;
    }
    return follow(asked, await outcomeOf(sender, record.jobId));
  };

  /** The outcome, as far as it is known when the wait is over. */
  const outcomeOf = async (sender: PaymentSender, jobId: string): Promise<TxOutcome> => {
    const patience = AbortSignal.timeout(options.waitMs);
    try {
      return await sender.wait(jobId, { until: options.finality, signal: patience });
    } catch (error) {
      const known = patience.aborted ? await sender.outcome(jobId) : undefined;
      if (known) return known;
      throw error;
    }
  };

  const follow = async (asked: Asked, outcome: TxOutcome): Promise<Outcome> => {
    const { served, request, plan } = asked;
    const { state } = outcome;
    if (state === "final" || (state === "mined" && outcome.receipt.ok && options.finality === "mined"))
      return finish(asked, await settledBy(asked, outcome.receipt));
    if (state === "reverted" || state === "dropped") {
      const elsewhere =
        request.kind === "payment" && request.document.payment.kind === "eip3009"
          ? await movedElsewhere(served.chain, request.requirement.asset, request.document.payment)
          : undefined;
      if (elsewhere !== undefined) return finish(asked, { transaction: elsewhere });
      await store.drop(plan.key);
      const refusal = refuse(plan.failed.transaction, "The transaction had no effect.", plan.payer);
      return state === "dropped" ? refusal : { ...refusal, transaction: outcome.hash };
    }
    // What reverted in a block that may still vanish has no outcome yet either.
    const pending = refuse(REASON.pending, "The transaction is not final yet; ask again.", plan.payer);
    return { ...pending, transaction: outcome.hash };
  };

  /** What a receipt says was settled. Reads of the chain that fail leave the settlement open, to be asked again. */
  const settledBy = async ({ served, request, plan }: Asked, receipt: TxReceipt): Promise<Settled> => {
    const transaction = receipt.transactionHash;
    if (request.kind === "sweep")
      return { transaction, amount: String(settledIn(receipt, request.receiver, request.token)) };
    if (plan.channelId && plan.payer !== undefined) {
      const { state } = await readChannel(served, plan.channelId, plan.payer);
      const amount = request.kind === "refund" ? refundedIn(receipt, plan.channelId) : plan.amountAtomic;
      return {
        transaction,
        ...(amount === undefined ? {} : { amount: String(amount) }),
        extra: { channelState: channelJson(plan.channelId, state) },
      };
    }
    return { transaction, ...(plan.amountAtomic === undefined ? {} : { amount: String(plan.amountAtomic) }) };
  };

  /** Keeps a result; a sweep may happen any number of times, and is forgotten. */
  const finish = async ({ request, plan }: Asked, settled: Settled): Promise<Outcome> => {
    await (request.kind === "sweep" ? store.drop(plan.key) : store.finish(plan.key, settled));
    return { ok: true, ...settled, replayed: false };
  };
  return {
    settle: async (asked) => {
      const { key } = asked.plan;
      const other = under.get(key);
      if (other) {
        if (other.asked.caller !== asked.caller || other.asked.digest !== asked.digest)
          return refuse(usedReason(asked.request, asked.plan), "This payment is being settled for something else.");
        const outcome = await other.outcome;
        return outcome.ok ? { ...outcome, replayed: true } : outcome;
      }
      if (under.size >= options.maxPending)
        throw new AssayError("facilitator_overloaded", "Too many settlements are under way.");
      const outcome = begin(asked);
      under.set(key, { asked, outcome });
      try {
        return await outcome;
      } finally {
        under.delete(key);
      }
    },
  };
}

/** What x402 calls a payment whose nonce is gone. */
function usedReason(request: ParsedRequest, plan: Plan): string {
  if (request.kind !== "payment") return plan.failed.simulation;
  const { kind } = request.document.payment;
  if (kind === "eip3009") return REASON.transferUsed;
  return kind === "permit2" || kind === "upto" ? REASON.permit2Used : plan.failed.simulation;
}
