import type { Address } from "@assay/x402";
import type { TxReceipt } from "../rpc/types.ts";
import { isCancel, readTransaction } from "./transaction.ts";
import type { Draft } from "./transaction.ts";
import type { TxProblem, TxRecord } from "./types.ts";

/** One signed transaction of a slot. */
export type Attempt = { record: TxRecord; readonly draft: Draft; readonly cancels: boolean };

/** A nonce that is not final yet, and what was signed for it. */
export type Slot = {
  readonly nonce: number;
  readonly jobId: string;
  attempts: Attempt[];
  /** The nonce is to be used up without effect: its job cannot be sent, or was given up before. */
  cancelWanted: boolean;
  lastSentMs: number;
  /** Since when nothing but this slot keeps its nonce from being mined; again from its last attempt on. */
  lowestSinceMs: number | undefined;
  /** Looks at the chain that found the nonce used, but by none of the attempts. */
  misses: number;
  /** When the first of them was. */
  missedSinceMs: number;
  mined: { readonly attempt: Attempt; readonly receipt: TxReceipt } | undefined;
  problem: TxProblem | undefined;
};

export function attemptOf(record: TxRecord, sender: Address): Attempt {
  const draft = readTransaction(record.raw);
  return { record, draft, cancels: isCancel(draft, sender) };
}

export function newSlot(nonce: number, jobId: string): Slot {
  return {
    nonce,
    jobId,
    attempts: [],
    cancelWanted: false,
    lastSentMs: 0,
    misses: 0,
    missedSinceMs: 0,
    lowestSinceMs: undefined,
    mined: undefined,
    problem: undefined,
  };
}

/** Slots of journal records, by nonce. */
export function slotsOf(records: readonly TxRecord[], sender: Address): Map<number, Slot> {
  const slots = new Map<number, Slot>();
  for (const record of records) {
    const slot = slots.get(record.nonce) ?? newSlot(record.nonce, record.jobId);
    if (slot.attempts.some((one) => one.record.attempt === record.attempt)) continue;
    slot.attempts.push(attemptOf(record, sender));
    slots.set(record.nonce, slot);
  }
  for (const slot of slots.values()) {
    slot.attempts.sort((a, b) => a.record.attempt - b.record.attempt);
    // Whoever gave the job up was told so: it must not come back.
    const gaveUp = slot.attempts.some(({ cancels }) => cancels);
    slot.cancelWanted = gaveUp || slot.attempts.every(({ record }) => record.state === "dropped");
  }
  return slots;
}
