import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Queryable } from "@assay/driver-postgres";
import type { Settled, SettlementRecord, SettlementStore } from "./store.ts";
import type { JsonObject } from "./types.ts";

const COLUMNS = "key, caller, digest, network, sender, job_id, result, created_at_ms";
/** Rows that one settlement takes away at most, so that none of them waits for a long clean-up. */
const SWEPT = 100;
/** A result is a hash, an amount and a channel's state. */
const MAX_RESULT_BYTES = 16 * 1024;

/**
 * A store in PostgreSQL (`assay.facilitator_settlements`), shared by all facilitators on it: results outlive a restart, and
 * what was under way is taken up by the next request for it. Rows older than `keepMs` are taken away: what they were about
 * has expired, and the chain refuses it.
 */
export function createDatabaseStore(
  database: Queryable,
  options: { readonly keepMs: number; readonly now: () => number },
): SettlementStore {
  const get = async (key: string): Promise<SettlementRecord | undefined> => {
    const { rows } = await database.query(
      `SELECT ${COLUMNS} FROM assay.facilitator_settlements WHERE key = $1 AND created_at_ms > $2`,
      [key, options.now() - options.keepMs],
    );
    const [row] = rows;
    return row && recordOf(row);
  };
  return {
    get,
    claim: async (record) => {
      await database.query(
        `DELETE FROM assay.facilitator_settlements WHERE key IN (
           SELECT key FROM assay.facilitator_settlements WHERE created_at_ms <= $1 ORDER BY created_at_ms LIMIT ${SWEPT}
           FOR UPDATE SKIP LOCKED) OR (key = $2 AND created_at_ms <= $1)`,
        [options.now() - options.keepMs, record.key],
      );
      // The row that is there, whoever put it: an update that changes nothing answers it in the same statement.
      const { rows } = await database.query(
        `INSERT INTO assay.facilitator_settlements AS known (key, caller, digest, network, sender, job_id, created_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key) DO UPDATE SET key = known.key RETURNING ${COLUMNS}`,
        [record.key, record.caller, record.digest, record.network, record.sender, record.jobId, record.createdAtMs],
      );
      const there = rows[0] && recordOf(rows[0]);
      return there?.jobId === record.jobId ? undefined : there;
    },
    finish: async (key, result) => {
      await database.query("UPDATE assay.facilitator_settlements SET result = $2 WHERE key = $1", [
        key,
        JSON.stringify(result),
      ]);
    },
    drop: async (key) => {
      await database.query("DELETE FROM assay.facilitator_settlements WHERE key = $1 AND result IS NULL", [key]);
    },
  };
}

function recordOf(row: Readonly<Record<string, unknown>>): SettlementRecord {
  const { key, caller, digest, network, sender, job_id: jobId, result, created_at_ms: createdAtMs } = row;
  return {
    key: String(key),
    caller: String(caller),
    digest: String(digest),
    network: String(network),
    sender: String(sender),
    jobId: String(jobId),
    createdAtMs: Number(createdAtMs),
    ...(typeof result === "string" ? { result: resultOf(parseJson(result, { maxBytes: MAX_RESULT_BYTES })) } : {}),
  };
}

/** Written by {@link createDatabaseStore} itself; what has another form is a fault of the table. */
function resultOf(value: JsonValue): Settled {
  const { transaction, amount, extra } = value as JsonObject;
  if (typeof transaction !== "string") throw new Error("A settlement's row has no transaction.");
  return {
    transaction,
    ...(typeof amount === "string" ? { amount } : {}),
    ...(typeof extra === "object" && extra !== null ? { extra: extra as JsonObject } : {}),
  };
}
