import type { Address, Hex, Network } from "@assay/x402";
import { clientError } from "../errors.ts";
import { BUCKET_MS, HOUR_MS, MAX_SPENDS } from "./limits.ts";
import type { PayState, PayStore, Spend } from "./state.ts";

/** What is about to be signed for. */
type Reservation = {
  readonly id: string;
  readonly host: string;
  readonly network: Network;
  readonly asset: Address;
  readonly payee: Address;
  readonly amountAtomic: bigint;
  /** The channel that pays it. */
  readonly channelId?: Hex;
  /** Until when the signature can be used. */
  readonly untilMs: number;
};

/** What a payer spent, and what is signed for and may still be taken. */
export type SpendLedger = {
  /**
   * Keeps a reservation after `judge` let it pass, in one step, so that no two calls spend the same rest of a limit. What
   * `judge` throws refuses it. Throws `spend_ledger_full`.
   */
  readonly reserve: (reservation: Reservation, judge: (state: PayState) => void) => Promise<void>;
  /** It cost this much, and nothing more can be taken. */
  readonly settle: (id: string, amountAtomic: bigint) => Promise<void>;
  /** Nothing can be taken for it. */
  readonly release: (id: string) => Promise<void>;
  readonly spends: () => Promise<readonly Spend[]>;
};

/** A ledger over what is remembered. */
export function createSpendLedger(store: PayStore, now: () => number): SpendLedger {
  return {
    reserve: (reservation, judge) =>
      store.update((state) => {
        prune(state, now());
        judge(state);
        if (state.spends.length >= MAX_SPENDS) {
          throw clientError("spend_ledger_full", `${MAX_SPENDS} payments of the last hour are remembered already.`, {
            hints: ["Wait until some of them are an hour old, or pay fewer payees from one wallet."],
          });
        }
        const { amountAtomic, untilMs, ...rest } = reservation;
        state.spends.push({
          ...rest,
          amount: amountAtomic.toString(),
          atMs: now(),
          count: 1,
          openUntilMs: untilMs,
        });
      }),
    settle: (id, amountAtomic) =>
      store.update((state) => {
        const at = state.spends.findIndex((spend) => spend.id === id);
        const spend = state.spends[at];
        if (!spend) return;
        state.spends.splice(at, 1);
        addClosed(state, { ...spend, amount: amountAtomic.toString() });
      }),
    release: (id) =>
      store.update((state) => {
        state.spends = state.spends.filter((spend) => spend.id !== id);
      }),
    spends: () =>
      store.update((state) => {
        prune(state, now());
        return [...state.spends];
      }),
  };
}

/** What is over by itself: spends of more than an hour ago whose signatures nobody can use any more. */
export function prune(state: PayState, nowMs: number): void {
  state.spends = state.spends.filter(({ atMs, openUntilMs = 0 }) => atMs > nowMs - HOUR_MS || openUntilMs > nowMs);
  state.unresolved = state.unresolved.filter(({ untilMs }) => untilMs > nowMs);
}

// Kept together by the minute that it began in, under the later time of the two: what counts an hour counts a little longer.
function addClosed(state: PayState, closed: Spend): void {
  const spend: Spend = { ...closed };
  delete spend.openUntilMs;
  const same = state.spends.find(
    (other) =>
      other.openUntilMs === undefined &&
      Math.floor(other.atMs / BUCKET_MS) === Math.floor(spend.atMs / BUCKET_MS) &&
      other.host === spend.host &&
      other.network === spend.network &&
      other.asset === spend.asset &&
      other.payee === spend.payee &&
      other.channelId === spend.channelId,
  );
  if (!same) {
    state.spends.push(spend);
    return;
  }
  same.amount = (BigInt(same.amount) + BigInt(spend.amount)).toString();
  same.count += spend.count;
  same.atMs = Math.max(same.atMs, spend.atMs);
}
