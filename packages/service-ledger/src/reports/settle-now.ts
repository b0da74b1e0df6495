import { setTimeout as pause } from "node:timers/promises";
import type { Queryable } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { text } from "../settle/values.ts";

/** What settling at once came to. */
export type SettledNow = {
  /** Payments that waited to be settled. */
  readonly due: number;
  /** Of these, settled before this answer. */
  readonly settled: number;
  readonly transactions: readonly Hex[];
};

/** Payments that one answer speaks of. */
const MAX_DUE = 10_000;
const MAX_TRANSACTIONS = 1_000;
const POLL_MS = 100;

/**
 * Has everything that is due settled now instead of with the next group, and waits for it, at most `timeoutMs`. What could
 * not be settled by then goes on by itself.
 */
export async function settleNow(
  database: Queryable,
  settler: { readonly kick: () => void },
  timeoutMs: number,
): Promise<SettledNow> {
  const due = await database.query(
    `SELECT encode(payment_id, 'hex') AS id FROM assay.payments WHERE state IN ('due', 'settling', 'failed') LIMIT ${MAX_DUE}`,
  );
  const ids = `{${due.rows.map((row) => text(row["id"])).join(",")}}`;
  settler.kick();
  for (const deadline = Date.now() + timeoutMs; ;) {
    const { rows } = await database.query(
      `SELECT state, encode(tx_hash, 'hex') AS tx, COUNT(*) AS count FROM assay.payments
       WHERE payment_id IN (SELECT decode(id, 'hex') FROM unnest($1::text[]) AS id) GROUP BY state, tx_hash`,
      [ids],
    );
    const settled = rows.filter((row) => row["state"] === "settled");
    const open = rows.some((row) => row["state"] === "due" || row["state"] === "settling");
    if (!open || Date.now() >= deadline)
      return {
        due: due.rows.length,
        settled: settled.reduce((sum, row) => sum + Number(row["count"]), 0),
        transactions: settled
          .flatMap((row): readonly Hex[] => (row["tx"] === null ? [] : [`0x${text(row["tx"])}`]))
          .slice(0, MAX_TRANSACTIONS),
      };
    await pause(POLL_MS);
  }
}
