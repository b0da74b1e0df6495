import { AssayError } from "@assay/core";
import type { TxJournal, TxKey, TxRecord } from "./types.ts";

/** A journal that lives as long as the process: for tests, and for tools that send one transaction and wait for it. */
export function memoryJournal(): TxJournal & { readonly records: () => readonly TxRecord[] } {
  const rows = new Map<string, TxRecord>();
  const keyOf = (key: TxKey): string => `${key.network} ${key.sender} ${key.nonce} ${key.attempt}`;
  const select = (network: string, sender: string, wanted: (record: TxRecord) => boolean): readonly TxRecord[] =>
    [...rows.values()]
      .filter((record) => record.network === network && record.sender === sender && wanted(record))
      .sort((a, b) => a.nonce - b.nonce || a.attempt - b.attempt);
  return {
    append(record) {
      if (rows.has(keyOf(record)))
        return Promise.reject(
          new AssayError("transaction_journal_conflict", `The journal has nonce ${record.nonce} already.`),
        );
      rows.set(keyOf(record), record);
      return Promise.resolve();
    },
    change(key, change) {
      const found = rows.get(keyOf(key));
      if (found !== undefined)
        rows.set(keyOf(key), { ...found, blockNumber: undefined, blockHash: undefined, gasUsed: undefined, ...change });
      return Promise.resolve();
    },
    ofJob: (network, sender, jobId) => Promise.resolve(select(network, sender, (record) => record.jobId === jobId)),
    open: (network, sender) =>
      Promise.resolve(select(network, sender, ({ state }) => ["signed", "sent", "mined"].includes(state))),
    from: (network, sender, nonce, limit) =>
      Promise.resolve(select(network, sender, (record) => record.nonce >= nonce).slice(0, limit)),
    lastNonce: (network, sender) => Promise.resolve(select(network, sender, () => true).at(-1)?.nonce),
    records: () => [...rows.values()],
  };
}
