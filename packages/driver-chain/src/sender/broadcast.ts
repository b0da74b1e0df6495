import { isAssayError } from "@assay/core";
import { raisedFees, suggestFees } from "./fees.ts";
import type { Fees } from "./fees.ts";
import { MAX_ATTEMPTS, MAX_SIGNED } from "./limits.ts";
import { writeAttempt } from "./numbering.ts";
import { refusalOf } from "./refusal.ts";
import type { Attempt, Slot } from "./slot.ts";
import { note, report } from "./state.ts";
import type { State } from "./state.ts";
import { TRANSFER_GAS } from "./transaction.ts";

/** Gives a slot's latest attempt to the node. What the node says of it is never the last word: the chain is. */
export async function broadcast(state: State, slot: Slot): Promise<void> {
  const { chain, settings } = state;
  const latest = slot.attempts.at(-1);
  if (latest === undefined) return;
  slot.lastSentMs = settings.nowMs();
  try {
    await chain.sendRaw(latest.record.raw);
    await noteSent(state, slot, latest);
  } catch (error) {
    const refusal = refusalOf(error);
    const message = error instanceof Error ? error.message : String(error);
    if (refusal === "known") await noteSent(state, slot, latest).catch(() => undefined);
    else if (refusal === "underpriced")
      await state
        .inTurn(() => raise(state, slot))
        .catch((cause: unknown) => state.onEvent({ type: "tx_poll_failed", cause }));
    else if (refusal === "unfunded") report(state, slot, "insufficient_funds", message);
    else if (refusal === "invalid" && !latest.cancels) {
      report(state, slot, "refused", message);
      slot.cancelWanted = true;
    } else if (refusal === "unknown") report(state, slot, "refused", message);
    // A used nonce is looked into by the next poll; a node that is away is tried again.
  }
}

async function noteSent(state: State, slot: Slot, attempt: Attempt): Promise<void> {
  slot.problem = undefined;
  if (attempt.record.state === "signed") await note(state, attempt, "sent");
}

/** Signs the slot anew at a higher price, and as a cancellation when it is to be one. In turn. */
export async function raise(state: State, slot: Slot): Promise<boolean> {
  const { chain, me, settings } = state;
  const feeLimit = settings.maxFeePerGas;
  const latest = slot.attempts.at(-1);
  if (slot.attempts.length >= MAX_SIGNED) return false;
  if (slot.attempts.length >= MAX_ATTEMPTS && !slot.cancelWanted) {
    // A node may take what no block ever has; the account must not stand still for it.
    report(state, slot, "refused", "no block took it at any sensible price");
    slot.cancelWanted = true;
  }
  let now: Fees;
  try {
    now = await suggestFees(chain, feeLimit);
  } catch (error) {
    if (!isAssayError(error) || error.code !== "transaction_fee_above_limit") throw error;
    report(state, slot, "fee_above_limit", error.message);
    return false;
  }
  const fees = latest === undefined ? now : raisedFees(latest.draft, now, feeLimit);
  if (fees === undefined) {
    report(state, slot, "fee_above_limit", `a higher price would be above ${feeLimit} wei`);
    return false;
  }
  const cancel = { to: me, data: new Uint8Array(), value: 0n, gas: TRANSFER_GAS };
  const fresh = await writeAttempt(
    state,
    slot,
    slot.cancelWanted || latest === undefined ? cancel : latest.draft,
    fees,
  );
  slot.lastSentMs = 0;
  slot.lowestSinceMs = undefined;
  state.onEvent(
    fresh.cancels && slot.jobId.startsWith("gap:")
      ? { type: "tx_gap_filled", nonce: slot.nonce }
      : { type: "tx_repriced", jobId: slot.jobId, nonce: slot.nonce, attempt: fresh.record.attempt },
  );
  return true;
}
