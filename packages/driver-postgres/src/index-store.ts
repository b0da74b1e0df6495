import { createHash } from "node:crypto";
import { AssayError } from "@assay/core";
import type { IndexStore, ModelRow, ReceiptFilter, ReceiptRow } from "@assay/protocol";
import type { Database, Queryable } from "./database.ts";
import { writeModels, writeReceipts } from "./index-write.ts";
import {
  MODEL_COLUMNS,
  RECEIPT_COLUMNS,
  checkHex,
  checkInteger,
  checkModelRow,
  checkReceiptRow,
  checkText,
  modelFromRow,
  receiptFromRow,
} from "./rows.ts";
import { toSafeInteger } from "./values.ts";

/** Rows of one batch: keeps one statement's parameters at a few MiB and its transaction short. */
export const MAX_BATCH_ROWS = 10_000;
/** Rows of one answer. */
export const MAX_ANSWER_ROWS = 1_000;
/** Rows hashed per round trip by `fingerprint`: each statement stays far below its time limit. */
const FINGERPRINT_PAGE_ROWS = 5_000;

/** A reset waits for readers to finish, a running `fingerprint` included. */
const RESET_TIMEOUT_MS = 120_000;

const MODEL_FROM = "assay.models m LEFT JOIN assay.model_current c ON c.name = m.name";

/**
 * The receipt and model index in PostgreSQL. `migrateDatabase` must have run. Closing the store leaves the database
 * open: whoever connected it closes it.
 *
 * `index` is fenced in two ways. Indexers take turns on the row that holds the watermark, which only grows; and each
 * `reset` begins a new generation, so that an indexer that read the watermark before it is refused with
 * `index_fenced` and must ask for `watermark()` again, instead of leaving a hole behind.
 */
export function createIndexStore(database: Database): IndexStore {
  let generation: number | undefined;

  async function one(tail: string, values: readonly unknown[]): Promise<ReceiptRow | undefined> {
    return (await many(tail, values))[0];
  }
  async function many(tail: string, values: readonly unknown[]): Promise<readonly ReceiptRow[]> {
    const { rows } = await database.query(`SELECT ${RECEIPT_COLUMNS} FROM assay.receipts ${tail}`, values);
    return rows.map(receiptFromRow);
  }
  async function modelRows(tail: string, values: readonly unknown[]): Promise<readonly ModelRow[]> {
    const { rows } = await database.query(`SELECT ${MODEL_COLUMNS} FROM ${MODEL_FROM} ${tail}`, values);
    return rows.map(modelFromRow);
  }

  return {
    async watermark() {
      const state = await readState(database, "");
      generation = state.generation;
      return state.watermark;
    },

    async index(batch) {
      checkBatch(batch);
      const current = await database.transaction(async (tx) => {
        const state = await readState(tx, "FOR UPDATE");
        if (generation !== undefined && generation !== state.generation) throw fenced();
        await writeReceipts(tx, batch.receipts);
        await writeModels(tx, batch.models);
        await tx.query("UPDATE assay.index_state SET watermark = GREATEST(watermark, $1::bigint)", [batch.watermark]);
        return state.generation;
      });
      generation = current;
    },

    async receipt(receiptId) {
      if (!isHex(receiptId, 32)) return undefined;
      return one("WHERE receipt_id = decode($1::text, 'hex') ORDER BY log_index LIMIT 1", [receiptId]);
    },

    async receiptByDigest(executionDigest) {
      if (!isHex(executionDigest, 64)) return undefined;
      // A supplement repeats the digest that it refers to in some formats; the statement itself comes first.
      return one("WHERE execution_digest = decode($1::text, 'hex') ORDER BY refers_to IS NOT NULL, log_index LIMIT 1", [
        executionDigest,
      ]);
    },

    async receipts(filter) {
      checkFilter(filter);
      const where: string[] = [];
      const values: unknown[] = [];
      const add = (condition: string, value: unknown): void => {
        values.push(value);
        where.push(`${condition} $${values.length}`);
      };
      if (filter.owner !== undefined) add("owner =", filter.owner);
      if (filter.model !== undefined) add("model =", filter.model);
      if (filter.kind !== undefined) add("kind =", filter.kind);
      if (filter.before !== undefined) add("log_index <", filter.before);
      values.push(filter.limit);
      const condition = where.length === 0 ? "" : `WHERE ${where.join(" AND ")}`;
      return many(`${condition} ORDER BY log_index DESC LIMIT $${values.length}`, values);
    },

    async supplements(executionDigest) {
      if (!isHex(executionDigest, 64)) return [];
      return many(`WHERE refers_to = decode($1::text, 'hex') ORDER BY log_index LIMIT ${MAX_ANSWER_ROWS}`, [
        executionDigest,
      ]);
    },

    async model(name, version) {
      if (!isStorable(name)) return undefined;
      if (version === undefined) return (await modelRows("WHERE m.name = $1 AND c.version = m.version", [name]))[0];
      if (!Number.isSafeInteger(version)) return undefined;
      return (await modelRows("WHERE m.name = $1 AND m.version = $2::bigint", [name, version]))[0];
    },

    async models(filter = {}) {
      const limit = filter.limit ?? MAX_ANSWER_ROWS;
      checkLimit(limit);
      const prefix = filter.prefix ?? "";
      if (prefix !== "" && !isStorable(prefix)) return [];
      return modelRows("WHERE c.version = m.version AND starts_with(m.name, $1) ORDER BY m.name LIMIT $2", [
        prefix,
        limit,
      ]);
    },

    async versions(name) {
      if (!isStorable(name)) return [];
      return modelRows(`WHERE m.name = $1 ORDER BY m.version DESC LIMIT ${MAX_ANSWER_ROWS}`, [name]);
    },

    async reset() {
      const next = await database.transaction(async (tx) => {
        const state = await readState(tx, "FOR UPDATE");
        await tx.exec(`SET LOCAL statement_timeout = ${RESET_TIMEOUT_MS}`);
        // TRUNCATE takes no time per row and leaves no dead rows for the rebuild to work around.
        await tx.exec("TRUNCATE assay.receipts, assay.models, assay.model_current", { timeoutMs: RESET_TIMEOUT_MS });
        await tx.query("UPDATE assay.index_state SET watermark = 0, generation = generation + 1");
        return state.generation + 1;
      });
      generation = next;
    },

    fingerprint: () => database.transaction(fingerprint, { isolation: "repeatable read read only" }),

    // Nothing of its own is open.
    close: () => Promise.resolve(),
  };
}

async function readState(on: Queryable, lock: "" | "FOR UPDATE"): Promise<{ watermark: number; generation: number }> {
  const { rows } = await on.query(`SELECT watermark, generation FROM assay.index_state ${lock}`);
  const row = rows[0];
  if (row === undefined) throw new AssayError("database_error", "The row that holds the index's watermark is missing.");
  return { watermark: toSafeInteger(row["watermark"]), generation: toSafeInteger(row["generation"]) };
}

/** SHA-256 over a count-free, line-by-line JSON form of every derived row in key order, and the watermark. */
async function fingerprint(tx: Queryable): Promise<string> {
  // Taken before the snapshot: TRUNCATE empties a table for older snapshots too.
  await tx.exec("LOCK TABLE assay.receipts, assay.models, assay.model_current IN ACCESS SHARE MODE");
  const hash = createHash("sha256").update("assay-index-fingerprint-v1\n");
  const { watermark } = await readState(tx, "");
  hash.update(`watermark ${watermark}\n`);
  for (let after = -1; ;) {
    const { rows } = await tx.query(
      `SELECT ${RECEIPT_COLUMNS} FROM assay.receipts WHERE log_index > $1::bigint ORDER BY log_index LIMIT $2`,
      [after, FINGERPRINT_PAGE_ROWS],
    );
    for (const row of rows.map(receiptFromRow)) {
      hash.update(`receipt ${JSON.stringify(row)}\n`);
      after = row.logIndex;
    }
    if (rows.length < FINGERPRINT_PAGE_ROWS) break;
  }
  for (let name = "", version = -1; ;) {
    const { rows } = await tx.query(
      `SELECT ${MODEL_COLUMNS} FROM ${MODEL_FROM}
       WHERE (m.name, m.version) > ($1::text COLLATE "C", $2::bigint) ORDER BY m.name, m.version LIMIT $3`,
      [name, version, FINGERPRINT_PAGE_ROWS],
    );
    for (const row of rows.map(modelFromRow)) {
      hash.update(`model ${JSON.stringify(row)}\n`);
      ({ name, version } = row);
    }
    if (rows.length < FINGERPRINT_PAGE_ROWS) break;
  }
  return hash.digest("hex");
}

function checkBatch(batch: {
  readonly receipts: readonly ReceiptRow[];
  readonly models: readonly ModelRow[];
  readonly watermark: number;
}): void {
  if (batch.receipts.length + batch.models.length > MAX_BATCH_ROWS)
    throw new AssayError("index_batch_too_large", `A batch has more than ${MAX_BATCH_ROWS} rows.`, {
      hints: ["Split the batch and move the watermark with each part."],
    });
  checkInteger("watermark", batch.watermark);
  for (const row of batch.receipts) checkReceiptRow(row, batch.watermark);
  for (const row of batch.models) checkModelRow(row, batch.watermark);
}

function checkFilter(filter: ReceiptFilter): void {
  checkLimit(filter.limit);
  if (filter.before !== undefined) checkInteger("before", filter.before);
  if (filter.owner !== undefined) checkText("owner", filter.owner);
  if (filter.model !== undefined) checkText("model", filter.model);
  if (filter.kind !== undefined) checkText("kind", filter.kind);
}

function checkLimit(limit: number): void {
  if (Number.isSafeInteger(limit) && limit >= 1 && limit <= MAX_ANSWER_ROWS) return;
  throw new AssayError("index_limit_invalid", `A limit is an integer from 1 to ${MAX_ANSWER_ROWS}.`);
}

/** An id that cannot be one names nothing: an answer, not an error. */
function isHex(value: string, digits: number): boolean {
  try {
    checkHex("id", value, digits);
    return true;
  } catch {
    return false;
  }
}

function isStorable(value: string): boolean {
  try {
    checkText("name", value);
    return true;
  } catch {
    return false;
  }
}

function fenced(): AssayError<"index_fenced"> {
  return new AssayError("index_fenced", "The index was reset after this indexer read its watermark.", {
    hints: ["Read the watermark again and continue from there."],
  });
}
