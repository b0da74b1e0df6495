import { AssayError, equalBytes } from "@assay/core";
import type { Fees } from "./fees.ts";
import { suggestFees } from "./fees.ts";
import { lower, rehearse } from "./job.ts";
import { MAX_OPEN, MAX_REVIVED, MAX_SIGNED } from "./limits.ts";
import { attemptOf, newSlot, slotsOf } from "./slot.ts";
import type { Attempt, Slot } from "./slot.ts";
import { closed, keep, note } from "./state.ts";
import type { State } from "./state.ts";
import { isCancel, readTransaction, signTransaction } from "./transaction.ts";
import type { Draft } from "./transaction.ts";
import type { TxHandle, TxJob, TxRecord } from "./types.ts";

// Numbers are given out here, one at a time, and each transaction is in the journal before anybody else sees it.

/**
 * Reads what is under way, and from which number on transactions are new. In turn. Throws `chain_rewound` as
 * {@link revive} does, and what the journal and the chain throw.
 */
export async function resume(state: State): Promise<void> {
  const { chain, journal, me, network, slots } = state;
  const count = await chain.transactionCount(me);
  await revive(state, count);
  for (const slot of slotsOf(await journal.open(network, me), me).values())
    if (!slots.has(slot.nonce)) keep(state, slot);
  state.next = Math.max(count, ((await journal.lastNonce(network, me)) ?? -1) + 1);
  state.lastCount = count;
  state.stale = false;
  state.wake();
}

/**
 * Looks again what is under way, now and then, for a job that the journal has open and that nobody follows: a process that
 * was killed may have its last row written by the database when its successor has begun, and a final transaction's block
 * may be gone while nothing else made anyone look.
 */
export function takeUpAgain(state: State): void {
  const at = state.settings.nowMs();
  if (state.stale || state.closing.aborted) return;
  if (at - state.lookedAgainMs < state.settings.resendMs) return;
  state.lookedAgainMs = at;
  state.inTurn(() => resume(state)).catch((cause: unknown) => state.onEvent({ type: "tx_poll_failed", cause }));
}

/**
 * Everything with a nonce that the chain has not used is under way again, whatever the journal says: the chain went back.
 * Nonces that nothing was written down for are used up.
 */
export async function revive(state: State, count: number): Promise<void> {
  const { journal, me, network, slots, remembered } = state;
  const last = await journal.lastNonce(network, me);
  if (last === undefined || last < count) return;
  if (last - count >= MAX_REVIVED)
    throw new AssayError("chain_rewound", `The chain has forgotten ${last - count + 1} transactions of ${me}.`, {
      hints: [
        "A reorganisation never goes that far: the chain was reset, or it is another one of the same id.",
        "After a reset, what was written down for the old chain has to go as well.",
      ],
    });
  const records = await journal.from(network, me, count, MAX_REVIVED * MAX_SIGNED);
  for (const slot of slotsOf(records, me).values()) {
    if (slots.has(slot.nonce)) continue;
    for (const attempt of slot.attempts)
      if (["final", "reverted", "mined", "replaced"].includes(attempt.record.state)) await note(state, attempt, "sent");
    remembered.delete(slot.jobId);
    keep(state, slot);
  }
  for (let nonce = count; nonce <= last; nonce++) {
    if (slots.has(nonce)) continue;
    const slot = newSlot(nonce, `gap:${nonce}`);
    slot.cancelWanted = true;
    keep(state, slot);
  }
}

/** Writes a job down under the next number, unless it was before. */
export async function write(state: State, job: TxJob): Promise<{ readonly handle: TxHandle; readonly fresh?: Slot }> {
  const { chain, me, settings, slots } = state;
  const known = await existing(state, job);
  if (known !== undefined) return { handle: known };
  const value = job.value ?? 0n;
  const gas = job.gasLimit ?? (await rehearse(chain, me, job));
  if (gas > settings.maxGas)
    throw new AssayError("transaction_too_large", `The transaction takes ${gas} gas, more than ${settings.maxGas}.`, {
      hints: ["Do it in several transactions."],
    });
  const fees = await suggestFees(chain, settings.maxFeePerGas);
  const fresh = await state.inTurn(async () => {
    if (state.closing.aborted) throw closed();
    // Whoever wrote before could not say whether the journal has it: the number may be taken.
    if (state.stale) await resume(state);
    if (slots.size >= MAX_OPEN)
      throw new AssayError("transaction_queue_full", `${slots.size} transactions of ${me} are under way.`, {
        hints: ["Try again when some of them are mined."],
      });
    // A dead process may have had it written after we looked, and the turn before ours found it.
    const late = state.byJob.get(job.jobId);
    if (late !== undefined && (await existing(state, job)) !== undefined) return late;
    const slot = newSlot(state.next ?? 0, job.jobId);
    try {
      await writeAttempt(state, slot, { to: lower(job.to), data: job.data, value, gas }, fees);
    } catch (error) {
      state.stale = true;
      throw error;
    }
    state.next = slot.nonce + 1;
    keep(state, slot);
    return slot;
  });
  return { handle: handleOf(fresh), fresh };
}

function handleOf(slot: Slot): TxHandle {
  return { jobId: slot.jobId, nonce: slot.nonce, hash: slot.attempts.at(-1)?.record.hash ?? "0x" };
}

/** What was written down for a job. Throws `transaction_job_conflict` when that was something else. */
export async function existing({ journal, me, network }: State, job: TxJob): Promise<TxHandle | undefined> {
  const rows = await journal.ofJob(network, me, job.jobId);
  const first = rows.map((row) => ({ row, draft: readTransaction(row.raw) })).find(({ draft }) => !isCancel(draft, me));
  const last = rows.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const { to, data, value } = first.draft;
  if (to !== lower(job.to) || value !== (job.value ?? 0n) || !equalBytes(data, job.data))
    throw new AssayError("transaction_job_conflict", `The job ${job.jobId} was written down for something else.`, {
      hints: ["A job id names one transaction for ever; use another for another."],
    });
  return { jobId: job.jobId, nonce: last.nonce, hash: last.hash };
}

/** Signs an attempt and writes it down: from then on it may be sent. In turn. */
export async function writeAttempt(
  { chain, signer, journal, me, network, settings }: State,
  slot: Slot,
  fields: Omit<Draft, "chainId" | "nonce" | "maxFee" | "tip">,
  fees: Fees,
): Promise<Attempt> {
  const { to, data, value, gas } = fields;
  const draft: Draft = { chainId: chain.chainId, nonce: slot.nonce, to, data, value, gas, ...fees };
  const { raw, hash } = await signTransaction(signer, draft);
  const at = settings.nowMs();
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
    const rows = (await journal.from(network, me, slot.nonce, MAX_SIGNED)).filter(
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
