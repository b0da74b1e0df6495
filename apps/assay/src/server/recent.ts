/** Receipts found by their ids before the index has them: many seconds of full load. */
const MAX_RECENT = 20_000;

/** The latest receipts by their ids, so that whoever just got one can ask for it. */
export function recentReceipts(): {
  readonly get: (receiptId: string) => number | undefined;
  readonly add: (receiptId: string, logIndex: number) => void;
} {
  const indexes = new Map<string, number>();
  const ids: string[] = [];
  let at = 0;
  return {
    get: (receiptId) => indexes.get(receiptId),
    add(receiptId, logIndex) {
      // A ring of ids, because a Map asked for its oldest key walks over everything deleted before it.
      const oldest = ids[at];
      if (oldest !== undefined) indexes.delete(oldest);
      ids[at] = receiptId;
      at = (at + 1) % MAX_RECENT;
      indexes.set(receiptId, logIndex);
    },
  };
}
