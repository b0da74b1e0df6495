import type { Database } from "@assay/driver-postgres";
import type { Network } from "@assay/x402";

/**
 * Forgets what was sent to a chain that is no more: its journal, what was settled for others, and where payments
 * and batches were. For a development
 * chain that was begun anew, while no settler runs. Settled payments stay settled, due ones stay due, and batches are
 * posted to the new chain as they were signed.
 */
export async function forgetChain(database: Database, network: Network, nowMs: number): Promise<void> {
  await database.transaction(async (tx) => {
    for (const table of ["chain_transactions", "facilitator_settlements"])
      await tx.query(`DELETE FROM assay.${table} WHERE network = $1`, [network]);
    await tx.query(
      "UPDATE assay.payments SET block_number = NULL, updated_at_ms = $2 WHERE network = $1 AND state = 'settled'",
      [network, nowMs],
    );
    await tx.query(
      `UPDATE assay.payments SET state = 'due', job_id = NULL, updated_at_ms = $2
       WHERE network = $1 AND state IN ('settling', 'failed')`,
      [network, nowMs],
    );
    await tx.query(
      `UPDATE assay.anchor_batches SET state = 'built', job_id = NULL, tx_hash = NULL, block_number = NULL, error_code = NULL,
         updated_at_ms = $2 WHERE network = $1`,
      [network, nowMs],
    );
  });
}
