import type { Hex } from "@assay/x402";
import { takeUpAgain } from "./numbering.ts";
import type { Slot } from "./slot.ts";
import { remember } from "./state.ts";
import type { State } from "./state.ts";
import { isCancel, readTransaction } from "./transaction.ts";
import type { TxOutcome } from "./types.ts";

/** What became of a job, of what is under way, remembered or in the journal; undefined when it was never written down. */
export async function outcomeOf(state: State, jobId: string): Promise<TxOutcome | undefined> {
  const { chain, journal, me, network, byJob, remembered } = state;
  const slot = byJob.get(jobId);
  if (slot !== undefined) return openOutcome(slot);
  const finished = remembered.get(jobId);
  if (finished !== undefined) return finished;
  const rows = await journal.ofJob(network, me, jobId);
  const last = rows.at(-1);
  if (last === undefined) return undefined;
  const pending = { state: "pending", nonce: last.nonce, hash: last.hash, attempts: rows.length } as const;
  const winner = rows.find((row) => row.state === "final" || row.state === "reverted");
  if (winner === undefined) {
    if (rows.every((row) => row.state === "dropped")) return { state: "dropped", nonce: last.nonce };
    takeUpAgain(state);
    return pending;
  }
  if (isCancel(readTransaction(winner.raw), me)) return { state: "dropped", nonce: last.nonce };
  const receipt = await chain.receipt(winner.hash);
  if (receipt === undefined) {
    // The chain went back below it: whoever looks sends it again.
    takeUpAgain(state);
    return { ...pending, problem: "receipt_missing" };
  }
  const found: TxOutcome = {
    state: receipt.ok ? "final" : "reverted",
    nonce: last.nonce,
    hash: winner.hash,
    receipt,
  };
  remember(state, jobId, found);
  return found;
}

function openOutcome(slot: Slot): TxOutcome {
  const { nonce, mined } = slot;
  if (mined !== undefined && !mined.attempt.cancels)
    return { state: "mined", nonce, hash: mined.attempt.record.hash, receipt: mined.receipt };
  const hash: Hex = slot.attempts.at(-1)?.record.hash ?? "0x";
  const problem = slot.problem === undefined ? {} : { problem: slot.problem };
  return { state: "pending", nonce, hash, attempts: slot.attempts.length, ...problem };
}
