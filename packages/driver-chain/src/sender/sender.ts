import { setTimeout as delay } from "node:timers/promises";
import { AssayError, equalBytes, isAssayError } from "@assay/core";
import type { Address, EvmSigner, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import type { Block, TxReceipt } from "../rpc/types.ts";
import { raisedFees, suggestFees } from "./fees.ts";
import type { Fees } from "./fees.ts";
import { jobProblem, lower, rehearse } from "./job.ts";
import { refusalOf } from "./refusal.ts";
import { attemptOf, newSlot, slotsOf } from "./slot.ts";
import type { Attempt, Slot } from "./slot.ts";
import { TRANSFER_GAS, isCancel, readTransaction, signTransaction } from "./transaction.ts";
import type { Draft } from "./transaction.ts";
import type { SenderOptions, TxHandle, TxJob, TxJournal, TxOutcome, TxProblem, TxRecord, TxState } from "./types.ts";

const DEFAULT_POLL_MS = 250;
const DEFAULT_STUCK_MS = 30_000;
const DEFAULT_RESEND_MS = 5_000;
const DEFAULT_DROP_MS = 20_000;
const DEFAULT_MAX_FEE = 500_000_000_000n;
/** Largest gas limit of a transaction (EIP-7825). */
const DEFAULT_MAX_GAS = 1n << 24n;
/** Nonces under way at once: common nodes keep 64 of one account, and forget what is above. */
export const MAX_OPEN = 64;
/** Times that one nonce is signed: each raises the price by an eighth, so this is nine-fold. */
export const MAX_ATTEMPTS = 20;
/** Times that a nonce is signed to be used up, after its job was given up. */
export const MAX_CANCELS = 10;
/** Nonces that may have to be sent again after the chain went back. More is another chain: a reset one. */
export const MAX_REVIVED = 256;
/** Looks at the chain before a used nonce without a receipt counts as somebody else's: nodes answer a little apart. */
const MISSES_TO_DROP = 8;
/** Outcomes of finished jobs that are remembered, so that asking costs no look-up. */
const MAX_REMEMBERED = 1_000;

export type SenderParts = {
  readonly chain: Chain;
  readonly signer: EvmSigner;
  readonly journal: TxJournal;
  readonly options?: SenderOptions;
};

export type Sender = {
  readonly address: Address;
  /**
   * Takes up what the journal has under way. Done by the first submit as well. Throws `chain_rewound` when the chain knows
   * less than the journal by more than a reorganisation would explain, and what the chain's methods throw.
   */
  readonly start: () => Promise<void>;
  /**
   * Writes a job down and sends it; from then on it is seen through, across restarts, until it is final. The same job id
   * again gives what is there already. Throws `transaction_reverts` (in the rehearsal), `transaction_unfunded`,
   * `transaction_too_large`, `transaction_queue_full`, `transaction_job_conflict`, `transaction_invalid` and
   * `transaction_fee_above_limit`, all before anything was written down.
   */
  readonly submit: (job: TxJob) => Promise<TxHandle>;
  /** What became of a job; undefined when it was never written down. */
  readonly outcome: (jobId: string) => Promise<TxOutcome | undefined>;
  /** Waits until a job is final, reverted or dropped, or with `until: "mined"` in a block. */
  readonly wait: (
    jobId: string,
    options?: { readonly until?: "mined" | "final"; readonly signal?: AbortSignal },
  ) => Promise<TxOutcome>;
  /** Tries to use up the job's nonce without effect. Whichever is mined first wins; {@link Sender.outcome} tells. */
  readonly cancel: (jobId: string) => Promise<void>;
  readonly status: () => { readonly open: number; readonly nextNonce: number | undefined };
  /** Looks at the chain now. */
  readonly kick: () => void;
  /** Stops looking; what is under way is taken up by the next one. */
  readonly close: () => Promise<void>;
};

/**
 * The one writer of an account's transactions on one chain. Every transaction is in the journal, signed, before a node sees
 * it; all attempts of a job have its nonce, so that at most one can be mined. Two senders of one account must not run at a
 * time.
 */
export function createSender({ chain, signer, journal, options = {} }: SenderParts): Sender {
  const me = signer.address;
  const { network } = chain;
  const nowMs = options.nowMs ?? Date.now;
  const confirmations = options.confirmations ?? 1;
  const feeLimit = options.maxFeePerGas ?? DEFAULT_MAX_FEE;
  const maxGas = options.maxGas ?? DEFAULT_MAX_GAS;
  const pollMs = options.pollMs ?? DEFAULT_POLL_MS;
  const slots = new Map<number, Slot>();
  const byJob = new Map<string, Slot>();
  const remembered = new Map<string, TxOutcome>();
  const submitting = new Map<string, Promise<TxHandle>>();
  const underWay = new Set<Promise<void>>();
  const aborter = new AbortController();
  let next: number | undefined;
  let lastCount = 0;
  let lookedAgainMs = 0;
  let started: Promise<void> | undefined;
  let looping: Promise<void> | undefined;
  let exclusive: Promise<unknown> = Promise.resolve();
  let wake = (): void => undefined;
  let ticks: Array<() => void> = [];

  /** One at a time: what numbers, signs and writes down. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = exclusive.then(work);
    exclusive = mine.catch(() => undefined);
    return mine;
  }

  function keep(slot: Slot): void {
    slots.set(slot.nonce, slot);
    byJob.set(slot.jobId, slot);
  }

  function remember(jobId: string, outcome: TxOutcome): void {
    remembered.set(jobId, outcome);
    for (const oldest of remembered.keys()) {
      if (remembered.size <= MAX_REMEMBERED) break;
      remembered.delete(oldest);
    }
  }

  function report(slot: Slot, problem: TxProblem, message: string): void {
    if (slot.problem === problem) return;
    slot.problem = problem;
    options.onEvent?.({ type: "tx_problem", jobId: slot.jobId, problem, message });
  }

  // ---- taking up

  function start(): Promise<void> {
    if (aborter.signal.aborted) return Promise.reject(closed());
    started ??= inTurn(resume).catch((error: unknown) => {
      started = undefined;
      throw error;
    });
    return started;
  }

  async function resume(): Promise<void> {
    const count = await chain.transactionCount(me);
    const last = await journal.lastNonce(network, me);
    await revive(count, last);
    for (const slot of slotsOf(await journal.open(network, me), me).values()) if (!slots.has(slot.nonce)) keep(slot);
    next = Math.max(count, (last ?? -1) + 1);
    lastCount = count;
    looping ??= loop();
    wake();
  }

  /**
   * Looks again what is under way, now and then, for a job that the journal has open and that nobody follows: a process that
   * was killed may have its last row written by the database when its successor has begun, and a final transaction's block
   * may be gone while nothing else made anyone look.
   */
  function takeUpAgain(): void {
    const at = nowMs();
    if (started === undefined || aborter.signal.aborted) return;
    if (at - lookedAgainMs < (options.resendMs ?? DEFAULT_RESEND_MS)) return;
    lookedAgainMs = at;
    inTurn(resume).catch(ignore);
  }

  /**
   * Everything with a nonce that the chain has not used is under way again, whatever the journal says: the chain went back.
   * Nonces that nothing was written down for are used up.
   */
  async function revive(count: number, last: number | undefined): Promise<void> {
    if (last === undefined || last < count) return;
    if (last - count >= MAX_REVIVED)
      throw new AssayError("chain_rewound", `The chain has forgotten ${last - count + 1} transactions of ${me}.`, {
        hints: [
          "A reorganisation never goes that far: the chain was reset, or it is another one of the same id.",
          "After a reset, what was written down for the old chain has to go as well.",
        ],
      });
    const records = await journal.from(network, me, count, MAX_REVIVED * MAX_ATTEMPTS);
    for (const slot of slotsOf(records, me).values()) {
      if (slots.has(slot.nonce)) continue;
      for (const attempt of slot.attempts)
        if (["final", "reverted", "mined", "replaced"].includes(attempt.record.state)) await note(attempt, "sent");
      remembered.delete(slot.jobId);
      keep(slot);
    }
    for (let nonce = count; nonce <= last; nonce++) {
      if (slots.has(nonce)) continue;
      const slot = newSlot(nonce, `gap:${nonce}`);
      slot.cancelWanted = true;
      keep(slot);
    }
  }

  // ---- the journal

  async function note(attempt: Attempt, state: TxState, receipt?: TxReceipt): Promise<void> {
    const change = {
      state,
      blockNumber: receipt?.blockNumber,
      blockHash: receipt?.blockHash,
      gasUsed: receipt?.gasUsed,
      updatedAtMs: nowMs(),
    };
    await journal.change(attempt.record, change);
    attempt.record = { ...attempt.record, ...change };
  }

  /** Signs an attempt and writes it down. In turn. */
  async function attempt(
    slot: Slot,
    fields: Omit<Draft, "chainId" | "nonce" | "maxFee" | "tip">,
    fees: Fees,
  ): Promise<Attempt> {
    const { to, data, value, gas } = fields;
    const draft: Draft = { chainId: chain.chainId, nonce: slot.nonce, to, data, value, gas, ...fees };
    const { raw, hash } = await signTransaction(signer, draft);
    const at = nowMs();
    const record: TxRecord = {
      jobId: slot.jobId,
      attempt: (slot.attempts.at(-1)?.record.attempt ?? -1) + 1,
      network,
      sender: me,
      nonce: slot.nonce,
      hash,
      raw,
      maxFee: fees.maxFee,
      state: "signed",
      createdAtMs: at,
      updatedAtMs: at,
    };
    try {
      await journal.append(record);
    } catch (error) {
      // The journal may have it although it said no: a lost answer. What it has is what counts.
      const rows = (await journal.from(network, me, slot.nonce, MAX_ATTEMPTS)).filter(
        (row) => row.nonce === slot.nonce && row.jobId === slot.jobId,
      );
      slot.attempts = rows.map((row) => attemptOf(row, me));
      if (!rows.some((row) => row.hash === hash)) throw error;
      const found = slot.attempts.at(-1);
      if (found !== undefined) return found;
    }
    const fresh = { record, draft, cancels: isCancel(draft, me) };
    slot.attempts.push(fresh);
    return fresh;
  }

  // ---- submitting

  async function write(job: TxJob): Promise<TxHandle> {
    await start();
    const known = await existing(job);
    if (known !== undefined) return known;
    const value = job.value ?? 0n;
    const gas = job.gasLimit ?? (await rehearse(chain, me, job));
    if (gas > maxGas)
      throw new AssayError("transaction_too_large", `The transaction takes ${gas} gas, more than ${maxGas}.`, {
        hints: ["Do it in several transactions."],
      });
    const fees = await suggestFees(chain, feeLimit);
    const slot = await inTurn(async () => {
      if (aborter.signal.aborted) throw closed();
      if (slots.size >= MAX_OPEN)
        throw new AssayError("transaction_queue_full", `${slots.size} transactions of ${me} are under way.`, {
          hints: ["Try again when some of them are mined."],
        });
      // A dead process may have had it written after we looked, and the turn before ours found it.
      const late = byJob.get(job.jobId);
      if (late !== undefined && (await existing(job)) !== undefined) return late;
      const nonce = next ?? 0;
      const fresh = newSlot(nonce, job.jobId);
      try {
        await attempt(fresh, { to: lower(job.to), data: job.data, value, gas }, fees);
      } catch (error) {
        // Whether the journal has it is not known: what it has is read again before the next number is given.
        started = undefined;
        throw error;
      }
      next = nonce + 1;
      keep(fresh);
      return fresh;
    });
    const sending = broadcast(slot).finally(() => {
      underWay.delete(sending);
      wake();
    });
    underWay.add(sending);
    return handleOf(slot);
  }

  async function existing(job: TxJob): Promise<TxHandle | undefined> {
    const rows = await journal.ofJob(network, me, job.jobId);
    const first = rows
      .map((row) => ({ row, draft: readTransaction(row.raw) }))
      .find(({ draft }) => !isCancel(draft, me));
    const last = rows.at(-1);
    if (first === undefined || last === undefined) return undefined;
    const { to, data, value } = first.draft;
    if (to !== lower(job.to) || value !== (job.value ?? 0n) || !equalBytes(data, job.data))
      throw new AssayError("transaction_job_conflict", `The job ${job.jobId} was written down for something else.`, {
        hints: ["A job id names one transaction for ever; use another for another."],
      });
    return { jobId: job.jobId, nonce: last.nonce, hash: last.hash };
  }

  // ---- sending

  async function broadcast(slot: Slot): Promise<void> {
    const latest = slot.attempts.at(-1);
    if (latest === undefined) return;
    slot.lastSentMs = nowMs();
    try {
      await chain.sendRaw(latest.record.raw);
      await noteSent(slot, latest);
    } catch (error) {
      const refusal = refusalOf(error);
      const message = error instanceof Error ? error.message : String(error);
      if (refusal === "known") await noteSent(slot, latest).catch(() => undefined);
      else if (refusal === "underpriced") await inTurn(() => raise(slot)).catch(ignore);
      else if (refusal === "unfunded") report(slot, "insufficient_funds", message);
      else if (refusal === "invalid" && !latest.cancels) {
        report(slot, "refused", message);
        slot.cancelWanted = true;
      } else if (refusal === "unknown") report(slot, "refused", message);
      // A used nonce is looked into by the next poll; a node that is away is tried again.
    }
  }

  async function noteSent(slot: Slot, attempt: Attempt): Promise<void> {
    slot.problem = undefined;
    if (attempt.record.state === "signed") await note(attempt, "sent");
  }

  function ignore(cause: unknown): void {
    options.onEvent?.({ type: "tx_poll_failed", cause });
  }

  /** Signs the slot anew at a higher price, and as a cancellation when it is to be one. In turn. */
  async function raise(slot: Slot): Promise<boolean> {
    const latest = slot.attempts.at(-1);
    if (slot.attempts.length >= MAX_ATTEMPTS + MAX_CANCELS) return false;
    if (slot.attempts.length >= MAX_ATTEMPTS && !slot.cancelWanted) {
      // A node may take what no block ever has; the account must not stand still for it.
      report(slot, "refused", "no block took it at any sensible price");
      slot.cancelWanted = true;
    }
    let now: Fees;
    try {
      now = await suggestFees(chain, feeLimit);
    } catch (error) {
      if (!isAssayError(error) || error.code !== "transaction_fee_above_limit") throw error;
      report(slot, "fee_above_limit", error.message);
      return false;
    }
    const fees = latest === undefined ? now : raisedFees(latest.draft, now, feeLimit);
    if (fees === undefined) {
      report(slot, "fee_above_limit", `a higher price would be above ${feeLimit} wei`);
      return false;
    }
    const cancel = { to: me, data: new Uint8Array(), value: 0n, gas: TRANSFER_GAS };
    const fresh = await attempt(slot, slot.cancelWanted || latest === undefined ? cancel : latest.draft, fees);
    slot.lastSentMs = 0;
    slot.lowestSinceMs = undefined;
    options.onEvent?.(
      fresh.cancels && slot.jobId.startsWith("gap:")
        ? { type: "tx_gap_filled", nonce: slot.nonce }
        : { type: "tx_repriced", jobId: slot.jobId, nonce: slot.nonce, attempt: fresh.record.attempt },
    );
    return true;
  }

  // ---- looking

  async function poll(): Promise<void> {
    const [head, count] = await Promise.all([chain.block("latest"), chain.transactionCount(me)]);
    if (head === undefined) return;
    if (count < lastCount) await inTurn(async () => revive(count, await journal.lastNonce(network, me)));
    lastCount = count;
    let isLowest = true;
    for (const slot of [...slots.values()].sort((a, b) => a.nonce - b.nonce)) {
      if (slot.nonce < count) await followMined(slot, head);
      else {
        await followOpen(slot, isLowest);
        isLowest = false;
      }
    }
  }

  async function followMined(slot: Slot, head: Block): Promise<void> {
    const found = await receiptOf(slot);
    if (found === undefined) {
      if (slot.misses++ === 0) slot.missedSinceMs = nowMs();
      const isLong = nowMs() - slot.missedSinceMs >= (options.dropMs ?? DEFAULT_DROP_MS);
      if (isLong && slot.misses >= MISSES_TO_DROP && (await isBuried(slot.nonce, head))) await drop(slot);
      return;
    }
    slot.misses = 0;
    const { attempt, receipt } = found;
    if (attempt.record.state !== "mined" || attempt.record.blockHash !== receipt.blockHash)
      await note(attempt, "mined", receipt);
    slot.mined = found;
    // The receipt may be younger than the head.
    const depth = Math.max(head.number - receipt.blockNumber + 1, 1);
    if (depth < confirmations) return;
    if (confirmations > 1 && (await chain.block(receipt.blockNumber))?.hash !== receipt.blockHash) return;
    await finish(slot, attempt, receipt);
  }

  async function receiptOf(slot: Slot): Promise<Slot["mined"]> {
    for (const attempt of slot.attempts.toReversed()) {
      const receipt = await chain.receipt(attempt.record.hash);
      if (receipt !== undefined) return { attempt, receipt };
    }
    return undefined;
  }

  /** Whether the nonce was used in a block that will not vanish. */
  async function isBuried(nonce: number, head: Block): Promise<boolean> {
    if (confirmations <= 1) return true;
    const at = head.number - confirmations + 1;
    return at >= 0 && (await chain.transactionCount(me, at)) > nonce;
  }

  async function finish(slot: Slot, winner: Attempt, receipt: TxReceipt): Promise<void> {
    // The winner last: until then the slot is under way, also for who reads the journal after a crash.
    for (const other of slot.attempts) if (other !== winner) await note(other, winner.cancels ? "dropped" : "replaced");
    await note(winner, receipt.ok ? "final" : "reverted", receipt);
    forget(slot);
    const { nonce } = slot;
    if (winner.cancels) {
      remember(slot.jobId, { state: "dropped", nonce });
      if (slot.attempts.length > 1) options.onEvent?.({ type: "tx_dropped", jobId: slot.jobId, nonce });
    } else remember(slot.jobId, { state: receipt.ok ? "final" : "reverted", nonce, hash: winner.record.hash, receipt });
  }

  async function drop(slot: Slot): Promise<void> {
    for (const attempt of slot.attempts) await note(attempt, "dropped");
    forget(slot);
    remember(slot.jobId, { state: "dropped", nonce: slot.nonce });
    options.onEvent?.({ type: "tx_dropped", jobId: slot.jobId, nonce: slot.nonce });
  }

  function forget(slot: Slot): void {
    slots.delete(slot.nonce);
    byJob.delete(slot.jobId);
  }

  async function followOpen(slot: Slot, isLowest: boolean): Promise<void> {
    if (slot.mined !== undefined) {
      await note(slot.mined.attempt, "sent");
      slot.mined = undefined;
      slot.lastSentMs = 0;
      options.onEvent?.({ type: "tx_reorganised", jobId: slot.jobId, nonce: slot.nonce });
    }
    slot.misses = 0;
    const latest = slot.attempts.at(-1);
    const now = nowMs();
    // Only the lowest nonce can be stuck by its price; those above it wait for it.
    if (isLowest) slot.lowestSinceMs ??= now;
    const isStuck =
      slot.lowestSinceMs !== undefined && now - slot.lowestSinceMs >= (options.stuckMs ?? DEFAULT_STUCK_MS);
    const isUncancelled = slot.cancelWanted && latest?.cancels !== true;
    if (isUncancelled || latest === undefined || isStuck) await inTurn(() => raise(slot));
    if (now - slot.lastSentMs >= (options.resendMs ?? DEFAULT_RESEND_MS)) await broadcast(slot);
  }

  async function loop(): Promise<void> {
    while (!aborter.signal.aborted) {
      const woken = new Promise<void>((resolve) => (wake = resolve));
      let pause = pollMs;
      if (slots.size > 0)
        try {
          await poll();
        } catch (cause) {
          // Nothing more is accepted until somebody has looked into it.
          if (isAssayError(cause) && cause.code === "chain_rewound") started = undefined;
          options.onEvent?.({ type: "tx_poll_failed", cause });
          pause = Math.max(pollMs, chain.health().retryAfterMs);
        }
      for (const tick of ticks.splice(0)) tick();
      if (aborter.signal.aborted) return;
      if (slots.size === 0) await woken;
      else {
        const timer = new AbortController();
        await Promise.race([woken, delay(pause, undefined, { signal: timer.signal }).catch(() => undefined)]);
        timer.abort();
      }
    }
  }

  function handleOf(slot: Slot): TxHandle {
    const hash = slot.attempts.at(-1)?.record.hash ?? "0x";
    return { jobId: slot.jobId, nonce: slot.nonce, hash };
  }

  async function outcome(jobId: string): Promise<TxOutcome | undefined> {
    const slot = byJob.get(jobId);
    if (slot !== undefined) return openOutcome(slot);
    const finished = remembered.get(jobId);
    if (finished !== undefined) return finished;
    const rows = await journal.ofJob(network, me, jobId);
    const last = rows.at(-1);
    if (last === undefined) return undefined;
    const pending = { state: "pending", nonce: last.nonce, hash: last.hash, attempts: rows.length } as const;
    const winner = rows.find(({ state }) => state === "final" || state === "reverted");
    if (winner === undefined) {
      if (rows.every(({ state }) => state === "dropped")) return { state: "dropped", nonce: last.nonce };
      takeUpAgain();
      return pending;
    }
    if (isCancel(readTransaction(winner.raw), me)) return { state: "dropped", nonce: last.nonce };
    const receipt = await chain.receipt(winner.hash);
    if (receipt === undefined) {
      // The chain went back below it: whoever looks sends it again.
      takeUpAgain();
      return { ...pending, problem: "receipt_missing" };
    }
    const found: TxOutcome = {
      state: receipt.ok ? "final" : "reverted",
      nonce: last.nonce,
      hash: winner.hash,
      receipt,
    };
    remember(jobId, found);
    return found;
  }

  return {
    address: me,
    start,
    submit(job) {
      const problem = jobProblem(job, me);
      if (problem !== undefined)
        return Promise.reject(new AssayError("transaction_invalid", `The job cannot be sent: ${problem}.`));
      const under = submitting.get(job.jobId);
      if (under !== undefined) return under.then(async (handle) => (await existing(job)) ?? handle);
      const mine = write(job).finally(() => submitting.delete(job.jobId));
      submitting.set(job.jobId, mine);
      return mine;
    },
    outcome,
    async wait(jobId, { until = "final", signal } = {}) {
      await start();
      for (;;) {
        signal?.throwIfAborted();
        const ticked = new Promise<void>((resolve) => ticks.push(resolve));
        const found = await outcome(jobId);
        if (found === undefined)
          throw new AssayError("transaction_unknown", `No job ${jobId} was written down.`, {
            hints: ["Submit it first."],
          });
        if (found.state !== "pending" && (found.state !== "mined" || until === "mined")) return found;
        if (aborter.signal.aborted) throw closed();
        // An outcome that only the journal knows is looked at with the poller's own pace.
        const timer = new AbortController();
        await Promise.race([
          ticked,
          delay(pollMs * 4, undefined, {
            signal: AbortSignal.any([timer.signal, ...(signal === undefined ? [] : [signal])]),
          }).catch(() => undefined),
        ]);
        timer.abort();
      }
    },
    async cancel(jobId) {
      await start();
      const slot = byJob.get(jobId);
      if (slot === undefined) return;
      slot.cancelWanted = true;
      wake();
    },
    status: () => ({ open: slots.size, nextNonce: next }),
    kick: () => wake(),
    async close() {
      aborter.abort();
      wake();
      for (const tick of ticks.splice(0)) tick();
      await looping;
      await Promise.all(underWay);
      await exclusive;
    },
  };
}

function openOutcome(slot: Slot): TxOutcome {
  const { nonce, mined } = slot;
  if (mined !== undefined && !mined.attempt.cancels)
    return { state: "mined", nonce, hash: mined.attempt.record.hash, receipt: mined.receipt };
  const hash: Hex = slot.attempts.at(-1)?.record.hash ?? "0x";
  const problem = slot.problem === undefined ? {} : { problem: slot.problem };
  return { state: "pending", nonce, hash, attempts: slot.attempts.length, ...problem };
}

function closed(): AssayError<"sender_closed"> {
  return new AssayError("sender_closed", "The sender was closed.", { hints: ["Its jobs go on with the next one."] });
}
