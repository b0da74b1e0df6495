import { AssayError } from "@assay/core";
import type { JsonObject } from "./types.ts";

/** What came of a settlement that succeeded. */
export type Settled = {
  /** Hash of the transaction; empty when there was nothing to send. */
  readonly transaction: string;
  /** Atomic units. */
  readonly amount?: string;
  readonly extra?: JsonObject;
};

/** A settlement that was begun, and its result once there is one. */
export type SettlementRecord = {
  /** What may happen once: the payment's id, or the digest of a claim. */
  readonly key: string;
  /** Whose it is: nobody else is told its result. */
  readonly caller: string;
  /** SHA-256 of what was asked, hexadecimal: the same payment for another amount is another question. */
  readonly digest: string;
  readonly network: string;
  /** Address of the sender that has the transaction. */
  readonly sender: string;
  /** The sender's name of the transaction: the same job is never sent as two. */
  readonly jobId: string;
  readonly result?: Settled;
  readonly createdAtMs: number;
};

/** Keeps what was begun, so that the same payment is settled once and answered alike. */
export type SettlementStore = {
  /** Puts `record` unless its key is there, and gives what is there in that case. Atomic. */
  readonly claim: (record: SettlementRecord) => Promise<SettlementRecord | undefined>;
  readonly get: (key: string) => Promise<SettlementRecord | undefined>;
  /** Sets the result of a record that is there. */
  readonly finish: (key: string, result: Settled) => Promise<void>;
  /** Forgets a record whose transaction had no effect, so that the payment can be tried again. */
  readonly drop: (key: string) => Promise<void>;
};

/**
 * A store in memory: records are kept for `keepMs`, and of results at most `maxRecords`, the oldest going first. What is
 * still open is forgotten by its age alone. After a restart the chain's own nonces refuse what was settled before.
 */
export function createMemoryStore(options: {
  readonly keepMs: number;
  readonly maxRecords: number;
  readonly now: () => number;
}): SettlementStore & { readonly size: () => number } {
  const open = new Map<string, SettlementRecord>();
  const finished = new Map<string, SettlementRecord>();
  const sweep = (): void => {
    const before = options.now() - options.keepMs;
    for (const [key, { createdAtMs }] of open) {
      if (createdAtMs > before) break;
      open.delete(key);
    }
    for (const [key, { createdAtMs }] of finished) {
      if (createdAtMs > before && open.size + finished.size < options.maxRecords) break;
      finished.delete(key);
    }
  };
  return {
    claim: async (record) => {
      sweep();
      const known = open.get(record.key) ?? finished.get(record.key);
      if (known) return known;
      if (open.size >= options.maxRecords)
        throw new AssayError("facilitator_overloaded", "Too many settlements are under way.");
      open.set(record.key, record);
      return undefined;
    },
    get: async (key) => open.get(key) ?? finished.get(key),
    finish: async (key, result) => {
      const record = open.get(key);
      if (!record) return;
      open.delete(key);
      finished.set(key, { ...record, result });
    },
    drop: async (key) => {
      open.delete(key);
    },
    size: () => open.size + finished.size,
  };
}
