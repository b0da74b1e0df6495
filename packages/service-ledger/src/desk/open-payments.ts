import type { DurableReceipt } from "@assay/protocol";
import type { Address, Hex, PaymentRequirements } from "@assay/x402";
import type { ChannelState } from "./channel-state.ts";
import { MAX_COPIES_PER_PAYMENT, MAX_COPIES_WAITING } from "./limits.ts";

/** A payment that this process has taken and that no row says to be charged yet. */
export type OpenEntry = {
  readonly paymentId: Hex;
  readonly payer: Address;
  readonly fingerprint: Uint8Array;
  /** What it was checked against, and when: a copy is checked against the same, whatever is quoted by then. */
  readonly requirement: PaymentRequirements;
  readonly takenAtMs: number;
  readonly channel: ChannelState | undefined;
  /** Set once its record is durable: from then on it is charged, whatever the rows say. */
  receipt: DurableReceipt | undefined;
};

/** Payments under way in this process, so that copies of one cost nothing. */
export type OpenPayments = {
  readonly get: (paymentId: Hex) => OpenEntry | undefined;
  readonly add: (entry: OpenEntry) => void;
  /** Says that an entry is charged; whoever waits for it goes on. */
  readonly durable: (entry: OpenEntry, receipt: DurableReceipt) => void;
  /** Forgets an entry, and not another that took its place; whoever waits for it goes on. */
  readonly remove: (entry: OpenEntry) => void;
  readonly size: () => number;
  /** Forgets those whose receipts lie below `logIndex`: their rows have them. */
  readonly settledBelow: (logIndex: number) => void;
  /**
   * Waits until an entry is charged or given back. False when that takes longer than `ms`, when too many wait already, and
   * once nobody is to wait any more. Rejects with the reason of `signal` when that aborts.
   */
  readonly ended: (entry: OpenEntry, ms: number, signal: AbortSignal) => Promise<boolean>;
  /** Copies that wait. */
  readonly waiting: () => number;
  /** Sends away who waits, and whoever comes to. */
  readonly close: () => void;
};

export function createOpenPayments(): OpenPayments {
  const entries = new Map<Hex, OpenEntry>();
  const over = new WeakSet<OpenEntry>();
  const waiters = new Map<OpenEntry, Set<(ended: boolean) => void>>();
  let waiting = 0;
  let closed = false;
  const wake = (entry: OpenEntry): void => {
    over.add(entry);
    for (const resolve of waiters.get(entry) ?? []) resolve(true);
  };
  return {
    get: (paymentId) => entries.get(paymentId),
    add: (entry) => void entries.set(entry.paymentId, entry),
    durable(entry, receipt) {
      entry.receipt = receipt;
      wake(entry);
    },
    remove(entry) {
      if (entries.get(entry.paymentId) === entry) entries.delete(entry.paymentId);
      wake(entry);
    },
    size: () => entries.size,
    settledBelow(logIndex) {
      for (const entry of entries.values()) {
        if (!entry.receipt || entry.receipt.logIndex >= logIndex) continue;
        entries.delete(entry.paymentId);
        entry.channel?.ingested(entry.paymentId);
      }
    },
    async ended(entry, ms, signal) {
      signal.throwIfAborted();
      if (over.has(entry)) return true;
      const beside = waiters.get(entry) ?? new Set();
      if (closed || ms <= 0 || waiting >= MAX_COPIES_WAITING || beside.size >= MAX_COPIES_PER_PAYMENT) return false;
      let timer: NodeJS.Timeout | undefined;
      let leave = (): void => undefined;
      let end: (ended: boolean) => void = () => undefined;
      waiting++;
      waiters.set(entry, beside);
      try {
        return await new Promise<boolean>((resolve, reject) => {
          end = resolve;
          leave = () => reject(signal.reason as Error);
          timer = setTimeout(resolve, ms, false);
          signal.addEventListener("abort", leave, { once: true });
          beside.add(end);
        });
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", leave);
        waiting--;
        beside.delete(end);
        if (beside.size === 0) waiters.delete(entry);
      }
    },
    waiting: () => waiting,
    close() {
      closed = true;
      for (const all of waiters.values()) for (const resolve of all) resolve(false);
    },
  };
}
