import type { Database } from "@assay/driver-postgres";
import type { Network } from "@assay/x402";

/** What is about one chain, by table. The log keeps its receipts; they were paid on a chain that is gone. */
const TABLES = ["payments", "channels", "chain_transactions", "anchor_batches", "facilitator_settlements"] as const;

/**
 * Forgets everything of a chain that was begun anew, so that nothing of the old one is sent to the new. The ledger's place
 * in the log stays: what was paid before does not become due again.
 */
export async function forgetNetwork(database: Database, network: Network): Promise<void> {
  await database.transaction(async (tx) => {
    for (const table of TABLES) await tx.query(`DELETE FROM assay.${table} WHERE network = $1`, [network]);
  });
}
