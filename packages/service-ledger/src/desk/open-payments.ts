import type { DurableReceipt } from "@assay/protocol";
import type { Address, Hex } from "@assay/x402";
import type { ChannelState } from "./channel-state.ts";

/** A payment that this process has taken and that no row says to be charged yet. */
export type OpenEntry = {
  readonly paymentId: Hex;
  readonly payer: Address;
  readonly fingerprint: Uint8Array;
  readonly channel: ChannelState | undefined;
  /** Set once its record is durable: from then on it is charged, whatever the rows say. */
  receipt: DurableReceipt | undefined;
};

/** Payments under way in this process, so that copies of one cost nothing. */
export type OpenPayments = {
  readonly get: (paymentId: Hex) => OpenEntry | undefined;
  readonly add: (entry: OpenEntry) => void;
  /** Forgets an entry, and not another that took its place. */
  readonly remove: (entry: OpenEntry) => void;
  readonly size: () => number;
  /** Forgets those whose receipts lie below `logIndex`: their rows have them. */
  readonly settledBelow: (logIndex: number) => void;
};

export function createOpenPayments(): OpenPayments {
  const entries = new Map<Hex, OpenEntry>();
  return {
    get: (paymentId) => entries.get(paymentId),
    add: (entry) => void entries.set(entry.paymentId, entry),
    remove(entry) {
      if (entries.get(entry.paymentId) === entry) entries.delete(entry.paymentId);
    },
    size: () => entries.size,
    settledBelow(logIndex) {
      for (const entry of entries.values()) {
        if (!entry.receipt || entry.receipt.logIndex >= logIndex) continue;
        entries.delete(entry.paymentId);
        entry.channel?.ingested(entry.paymentId);
      }
    },
  };
}
