import { AssayError } from "@assay/core";
import type { Database } from "@assay/driver-postgres";
import type { TxJournal, TxRecord, TxState } from "@assay/driver-chain";
import type { Address, Network } from "@assay/x402";
import { text } from "./values.ts";

const COLUMNS = `job_id, attempt, network, sender, nonce, encode(tx_hash, 'hex') AS tx_hash, raw, max_fee::text AS max_fee, state,
  block_number, encode(block_hash, 'hex') AS block_hash, gas_used, created_at_ms, updated_at_ms`;

/** Journals list at most this many records of one job or of what is open: each is one attempt. */
const MAX_RECORDS = 10_000;

/** The journal of transactions in PostgreSQL: a row is on disk before its bytes are sent. */
export function createTxJournal(database: Database): TxJournal {
  async function select(condition: string, values: readonly unknown[], limit = MAX_RECORDS): Promise<TxRecord[]> {
    const { rows } = await database.query(
      `SELECT ${COLUMNS} FROM assay.chain_transactions WHERE ${condition} ORDER BY nonce, attempt LIMIT ${limit}`,
      values,
    );
    return rows.map(readRecord);
  }

  return {
    async append(record) {
      const { rowCount } = await database.query(
        `INSERT INTO assay.chain_transactions (job_id, attempt, network, sender, nonce, tx_hash, raw, max_fee, state, block_number,
           block_hash, gas_used, created_at_ms, updated_at_ms)
         VALUES ($1, $2, $3, $4, $5, decode($6, 'hex'), decode($7, 'hex'), $8::numeric, $9, $10, decode($11, 'hex'), $12, $13, $14)
         ON CONFLICT DO NOTHING`,
        [
          record.jobId,
          record.attempt,
          record.network,
          record.sender,
          record.nonce,
          record.hash.slice(2),
          Buffer.from(record.raw).toString("hex"),
          record.maxFee.toString(),
          record.state,
          record.blockNumber ?? null,
          record.blockHash?.slice(2) ?? null,
          record.gasUsed === undefined ? null : record.gasUsed.toString(),
          record.createdAtMs,
          record.updatedAtMs,
        ],
      );
      if (rowCount === 0)
        throw new AssayError("transaction_journal_conflict", `The journal has nonce ${record.nonce} already.`, {
          hints: ["Another process sends with the same key: one key belongs to one settler."],
        });
    },
    async change({ network, sender, nonce, attempt }, change) {
      await database.query(
        `UPDATE assay.chain_transactions SET state = $5, block_number = $6, block_hash = decode($7, 'hex'), gas_used = $8,
           updated_at_ms = $9 WHERE network = $1 AND sender = $2 AND nonce = $3 AND attempt = $4`,
        [
          network,
          sender,
          nonce,
          attempt,
          change.state,
          change.blockNumber ?? null,
          change.blockHash?.slice(2) ?? null,
          change.gasUsed === undefined ? null : change.gasUsed.toString(),
          change.updatedAtMs,
        ],
      );
    },
    ofJob: (network, sender, jobId) => select("network = $1 AND sender = $2 AND job_id = $3", [network, sender, jobId]),
    open: (network, sender) =>
      select("network = $1 AND sender = $2 AND state IN ('signed', 'sent', 'mined')", [network, sender]),
    from: (network, sender, nonce, limit) =>
      select("network = $1 AND sender = $2 AND nonce >= $3", [network, sender, nonce], Math.min(limit, MAX_RECORDS)),
    async lastNonce(network, sender) {
      const { rows } = await database.query(
        "SELECT MAX(nonce) AS nonce FROM assay.chain_transactions WHERE network = $1 AND sender = $2",
        [network, sender],
      );
      const nonce = rows[0]?.["nonce"];
      return nonce === null || nonce === undefined ? undefined : Number(nonce);
    },
  };
}

function readRecord(row: Readonly<Record<string, unknown>>): TxRecord {
  const raw = row["raw"];
  if (!(raw instanceof Uint8Array)) throw new AssayError("database_error", "A transaction's row has no bytes.");
  const [block, blockHash, gas] = [row["block_number"], row["block_hash"], row["gas_used"]];
  return {
    jobId: text(row["job_id"]),
    attempt: Number(row["attempt"]),
    network: text(row["network"]) as Network,
    sender: text(row["sender"]) as Address,
    nonce: Number(row["nonce"]),
    hash: `0x${text(row["tx_hash"])}`,
    raw: new Uint8Array(raw),
    maxFee: BigInt(text(row["max_fee"])),
    state: text(row["state"]) as TxState,
    ...(block === null ? {} : { blockNumber: Number(block) }),
    ...(blockHash === null ? {} : { blockHash: `0x${text(blockHash)}` as const }),
    ...(gas === null ? {} : { gasUsed: BigInt(text(gas)) }),
    createdAtMs: Number(row["created_at_ms"]),
    updatedAtMs: Number(row["updated_at_ms"]),
  };
}
