import { randomUUID } from "node:crypto";
import { AssayError, isAssayError } from "@assay/core";
import { isRevert, togetherCall } from "@assay/driver-chain";
import type { TxOutcome, TxReceipt } from "@assay/driver-chain";
import { fromHex } from "@assay/x402";
import type { EvmSuite } from "@assay/x402";
import { channelJson, claimedUnsettled, diagnose, readChannel } from "./examine.ts";
import { movedElsewhere, refundedIn, settledIn } from "./events.ts";
import { createGatherer } from "./gather.ts";
import type { Gatherer } from "./gather.ts";
import { didMove, fits, hasCode, isGroupable } from "./group.ts";
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

/** One payment that waits to be sent, perhaps with others. */
type Member = {
  readonly asked: Asked;
  readonly sender: PaymentSender;
  /** What it may use by itself. */
  readonly gas: bigint;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
};

export type Settlements = { readonly settle: (asked: Asked) => Promise<Outcome> };

/** What a transaction may need beyond its estimate: the state may have changed until its block. In percent. */
const GAS_MARGIN = 125n;
/** Enough for a payment with the deployment of its payer's account, and for 200 claims. */
const MAX_GAS = 8_000_000n;

/** Payments of one transaction: with 100,000 gas each they stay below {@link MAX_GAS}. */
const MAX_GROUP = 50;
/** How long a payment waits for others that are being examined: some reads of the chain. */
const GATHER_MS = 100;
/** Names of a group's transaction, and of a member's record in it. */
const GROUP = "facilitator group";
const MEMBER = "#";

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
    if (!isGroupable(asked)) {
      const examined = await examine(asked, sender);
      return examined.ok ? beginAlone(asked, sender, examined.gas) : examined;
    }
    const coming = gathererOf(sender).expect();
    let examined: Awaited<ReturnType<typeof examine>>;
    try {
      examined = await examine(asked, sender);
      // Of an account with code nobody knows what it does in a block: it is sent alone.
      if (examined.ok && (await hasCode(asked))) {
        coming.leave();
        return await beginAlone(asked, sender, examined.gas);
      }
    } catch (error) {
      coming.leave();
      throw error;
    }
    if (!examined.ok) {
      coming.leave();
      return examined;
    }
    const { gas } = examined;
    return new Promise((resolve, reject) => coming.arrive({ asked, sender, gas, resolve, reject }));
  };

  const recordOf = (
    { served, plan, caller, digest }: Asked,
    sender: PaymentSender,
    jobId: string,
  ): SettlementRecord => ({
    key: plan.key,
    caller,
    digest,
    network: served.network,
    sender: sender.address,
    jobId,
    createdAtMs: now(),
  });

  const beginAlone = async (asked: Asked, sender: PaymentSender, gas: bigint): Promise<Outcome> => {
    const record = recordOf(asked, sender, `facilitator ${randomUUID()}`);
    const other = await store.claim(record);
    return resume(asked, other ?? record, gas);
  };

  const gatherers = new WeakMap<PaymentSender, Gatherer<Member>>();
  const gathererOf = (sender: PaymentSender): Gatherer<Member> => {
    const known = gatherers.get(sender);
    if (known) return known;
    const made = createGatherer<Member>({
      waitMs: GATHER_MS,
      most: MAX_GROUP,
      fits: (group, member) => fits(group, member, member.asked.served.maxGas ?? MAX_GAS),
      send: sendGroup,
    });
    gatherers.set(sender, made);
    return made;
  };

  /** Sends a group, and lets each of its members hear what becomes of it. Resolves when it is sent. */
  const sendGroup = async (group: readonly Member[]): Promise<void> => {
    const [first] = group;
    if (!first) return;
    const { sender } = first;
    if (group.length === 1) {
      beginAlone(first.asked, sender, first.gas).then(first.resolve, first.reject);
      return;
    }
    const job = `${GROUP} ${randomUUID()}`;
    const mine: Member[] = [];
    for (const [i, member] of group.entries()) {
      try {
        const other = await store.claim(recordOf(member.asked, sender, `${job}${MEMBER}${i}`));
        if (other) resume(member.asked, other).then(member.resolve, member.reject);
        else mine.push(member);
      } catch (error) {
        member.reject(error);
      }
    }
    if (mine.length === 0) return;
    try {
      const { to, data } = togetherCall(
        mine.flatMap(({ asked: { plan } }) =>
          plan.call ? [{ target: plan.call.to, callData: plan.call.data, allowFailure: true }] : [],
        ),
      );
      // Each had its own rehearsal. Of all together a node would tell the gas at which some may fail.
      const gasLimit = mine.reduce((sum, { gas }) => sum + gas, 0n);
      await sender.submit({ jobId: job, to, data: fromHex(data), gasLimit });
    } catch (error) {
      for (const { asked, reject } of mine) forgetUnsent(asked, sender, job).then(() => reject(error), reject);
      return;
    }
    for (const { asked, resolve, reject } of mine)
      outcomeOf(sender, job)
        .then((outcome) => followGroup(asked, sender, outcome))
        .then(resolve, reject);
  };

  /** What a group's transaction did for one of it. What it did not move is tried alone, and hears what it would have heard. */
  const followGroup = async (asked: Asked, sender: PaymentSender, outcome: TxOutcome): Promise<Outcome> => {
    const { state } = outcome;
    const isOver = state === "final" || (state === "mined" && outcome.receipt.ok && options.finality === "mined");
    if (isOver && didMove(asked, outcome.receipt)) return finish(asked, await settledBy(asked, outcome.receipt));
    if (!isOver && state !== "reverted" && state !== "dropped") return pending(asked, outcome.hash);
    const elsewhere = await foundElsewhere(asked);
    if (elsewhere !== undefined) return finish(asked, { transaction: elsewhere });
    await store.drop(asked.plan.key);
    const examined = await examine(asked, sender);
    return examined.ok ? beginAlone(asked, sender, examined.gas) : examined;
  };

  /** Nothing was written down, so nothing will happen: the payment can be tried again. */
  const forgetUnsent = async ({ plan }: Asked, sender: PaymentSender, jobId: string): Promise<void> => {
    if ((await sender.outcome(jobId)) === undefined) await store.drop(plan.key);
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
    const [group, member] = record.jobId.split(MEMBER);
    if (group !== undefined && member !== undefined) {
      if ((await sender.outcome(group)) !== undefined)
        return followGroup(asked, sender, await outcomeOf(sender, group));
      // The group was never sent.
      await store.drop(plan.key);
      return beginWith(asked, sender);
    }
    const { to, data } = plan.call;
    const job = { jobId: record.jobId, to, data: fromHex(data), ...(gas === undefined ? {} : { gasLimit: gas }) };
    try {
      await sender.submit(job);
    } catch (error) {
      await forgetUnsent(asked, sender, record.jobId);
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
    const { plan } = asked;
    const { state } = outcome;
    if (state === "final" || (state === "mined" && outcome.receipt.ok && options.finality === "mined"))
      return finish(asked, await settledBy(asked, outcome.receipt));
    if (state === "reverted" || state === "dropped") {
      const elsewhere = await foundElsewhere(asked);
      if (elsewhere !== undefined) return finish(asked, { transaction: elsewhere });
      await store.drop(plan.key);
      const refusal = refuse(plan.failed.transaction, "The transaction had no effect.", plan.payer);
      return state === "dropped" ? refusal : { ...refusal, transaction: outcome.hash };
    }
    return pending(asked, outcome.hash);
  };

  /** What reverted in a block that may still vanish has no outcome yet either. */
  const pending = ({ plan }: Asked, transaction: string): Outcome => ({
    ...refuse(REASON.pending, "The transaction is not final yet; ask again.", plan.payer),
    transaction,
  });

  /** The transaction of somebody who brought a payment to the chain before us. */
  const foundElsewhere = async ({ served, request }: Asked): Promise<string | undefined> =>
    request.kind === "payment" && request.document.payment.kind === "eip3009"
      ? movedElsewhere(served.chain, request.requirement.asset, request.document.payment)
      : undefined;

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
      const strangers = [...under.values()].filter((one) => one.asked.caller === "").length;
      const most = Math.ceil(options.maxPending / 2);
      if (under.size >= options.maxPending || (asked.caller === "" && strangers >= most))
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
