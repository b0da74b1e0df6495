import type { Block, TxReceipt } from "../rpc/types.ts";
import { broadcast, raise } from "./broadcast.ts";
import { MISSES_TO_DROP } from "./limits.ts";
import { revive } from "./numbering.ts";
import type { Attempt, Slot } from "./slot.ts";
import { forget, note, remember } from "./state.ts";
import type { State } from "./state.ts";

/** Looks at the chain once, and sees to everything that is under way. */
export async function poll(state: State): Promise<void> {
  const { chain, me, slots } = state;
  const [head, count] = await Promise.all([chain.block("latest"), chain.transactionCount(me)]);
  if (head === undefined) return;
  if (count < state.lastCount) await state.inTurn(() => revive(state, count));
  state.lastCount = count;
  let isLowest = true;
  for (const slot of [...slots.values()].sort((a, b) => a.nonce - b.nonce)) {
    if (slot.nonce < count) await followMined(state, slot, head);
    else {
      await followOpen(state, slot, isLowest);
      isLowest = false;
    }
  }
}

async function followOpen(state: State, slot: Slot, isLowest: boolean): Promise<void> {
  const { settings } = state;
  if (slot.mined !== undefined) {
    await note(state, slot.mined.attempt, "sent");
    slot.mined = undefined;
    slot.lastSentMs = 0;
    state.onEvent({ type: "tx_reorganised", jobId: slot.jobId, nonce: slot.nonce });
  }
  slot.misses = 0;
  const latest = slot.attempts.at(-1);
  const now = settings.nowMs();
  // Only the lowest nonce can be stuck by its price; those above it wait for it.
  if (isLowest) slot.lowestSinceMs ??= now;
  const isStuck = slot.lowestSinceMs !== undefined && now - slot.lowestSinceMs >= settings.stuckMs;
  const isUncancelled = slot.cancelWanted && latest?.cancels !== true;
  if (isUncancelled || latest === undefined || isStuck) await state.inTurn(() => raise(state, slot));
  if (now - slot.lastSentMs >= settings.resendMs) await broadcast(state, slot);
}

async function followMined(state: State, slot: Slot, head: Block): Promise<void> {
  const { chain, settings } = state;
  const { confirmations } = settings;
  const found = await receiptOf(state, slot);
  if (found === undefined) {
    if (slot.misses++ === 0) slot.missedSinceMs = settings.nowMs();
    const isLong = settings.nowMs() - slot.missedSinceMs >= settings.dropMs;
    if (isLong && slot.misses >= MISSES_TO_DROP && (await isBuried(state, slot.nonce, head))) await drop(state, slot);
    return;
  }
  slot.misses = 0;
  const { attempt, receipt } = found;
  if (attempt.record.state !== "mined" || attempt.record.blockHash !== receipt.blockHash)
    await note(state, attempt, "mined", receipt);
  slot.mined = found;
  // The receipt may be younger than the head.
  const depth = Math.max(head.number - receipt.blockNumber + 1, 1);
  if (depth < confirmations) return;
  if (confirmations > 1 && (await chain.block(receipt.blockNumber))?.hash !== receipt.blockHash) return;
  await finish(state, slot, attempt, receipt);
}

async function receiptOf({ chain }: State, slot: Slot): Promise<Slot["mined"]> {
  for (const attempt of slot.attempts.toReversed()) {
    const receipt = await chain.receipt(attempt.record.hash);
    if (receipt !== undefined) return { attempt, receipt };
  }
  return undefined;
}

/** Whether the nonce was used in a block that will not vanish. */
async function isBuried({ chain, me, settings }: State, nonce: number, head: Block): Promise<boolean> {
  const { confirmations } = settings;
  if (confirmations <= 1) return true;
  const at = head.number - confirmations + 1;
  return at >= 0 && (await chain.transactionCount(me, at)) > nonce;
}

async function finish(state: State, slot: Slot, winner: Attempt, receipt: TxReceipt): Promise<void> {
  // The winner last: until then the slot is under way, also for who reads the journal after a crash.
  for (const other of slot.attempts)
    if (other !== winner) await note(state, other, winner.cancels ? "dropped" : "replaced");
  await note(state, winner, receipt.ok ? "final" : "reverted", receipt);
  forget(state, slot);
  const { nonce } = slot;
  if (winner.cancels) {
    remember(state, slot.jobId, { state: "dropped", nonce });
    if (slot.attempts.length > 1) state.onEvent({ type: "tx_dropped", jobId: slot.jobId, nonce });
  } else
    remember(state, slot.jobId, { state: receipt.ok ? "final" : "reverted", nonce, hash: winner.record.hash, receipt });
}

async function drop(state: State, slot: Slot): Promise<void> {
  for (const attempt of slot.attempts) await note(state, attempt, "dropped");
  forget(state, slot);
  remember(state, slot.jobId, { state: "dropped", nonce: slot.nonce });
  state.onEvent({ type: "tx_dropped", jobId: slot.jobId, nonce: slot.nonce });
}
