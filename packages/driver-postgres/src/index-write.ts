import type { ModelRow, ReceiptRow } from "@assay/protocol";
import type { Queryable } from "./database.ts";
import { numberArray, textArray, toSafeInteger } from "./values.ts";

/**
 * Inserts receipts in one statement. A log index that is there already stays as it is: its row was derived from the
 * same immutable log entry.
 */
export async function writeReceipts(tx: Queryable, rows: readonly ReceiptRow[]): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(
    `INSERT INTO assay.receipts (log_index, receipt_id, execution_digest, service_digest, kind, owner, visibility,
       grant_sha256, model, manifest_digest, mode, issued_at_ms, refers_to)
     SELECT a, decode(b, 'hex'), decode(c, 'hex'), decode(d, 'hex'), e, f, g, decode(h, 'hex'), i, j, k, l,
       decode(m, 'hex')
     FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
       $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[]) AS t(a, b, c, d, e, f, g, h, i, j, k, l, m)
     ON CONFLICT (log_index) DO NOTHING`,
    [
      numberArray(rows.map((row) => row.logIndex)),
      textArray(rows.map((row) => row.receiptId)),
      textArray(rows.map((row) => row.executionDigest)),
      textArray(rows.map((row) => row.serviceDigest)),
      textArray(rows.map((row) => row.kind)),
      textArray(rows.map((row) => row.owner)),
      textArray(rows.map((row) => row.visibility)),
      textArray(rows.map((row) => row.grantSha256)),
      textArray(rows.map((row) => row.model)),
      textArray(rows.map((row) => row.manifestDigest)),
      textArray(rows.map((row) => row.mode)),
      numberArray(rows.map((row) => row.issuedAtMs)),
      textArray(rows.map((row) => row.refersTo)),
    ],
  );
}

/**
 * Inserts or replaces model versions, and moves the pointer of each name. Of several rows for one version the one
 * with the highest log index counts, whether they come in one batch or in many, so that indexing a stretch of the
 * log twice changes nothing.
 */
export async function writeModels(tx: Queryable, rows: readonly ModelRow[]): Promise<void> {
  if (rows.length === 0) return;
  // Array.sort is stable: of two rows from one log entry the later in the batch counts.
  const ordered = [...rows].sort((a, b) => a.logIndex - b.logIndex);
  await writeVersions(tx, ordered);
  await movePointers(tx, ordered);
}

async function writeVersions(tx: Queryable, ordered: readonly ModelRow[]): Promise<void> {
  // One statement may not touch a row twice, so the last word on each version is picked here.
  const rows = [...new Map(ordered.map((row) => [`${row.version} ${row.name}`, row])).values()];
  await tx.query(
    `INSERT INTO assay.models (name, version, manifest_digest, owner, visibility, status, size_bytes,
       released_at_ms, log_index)
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
       $8::bigint[], $9::bigint[])
     ON CONFLICT (name, version) DO UPDATE SET manifest_digest = excluded.manifest_digest, owner = excluded.owner,
       visibility = excluded.visibility, status = excluded.status, size_bytes = excluded.size_bytes,
       released_at_ms = excluded.released_at_ms, log_index = excluded.log_index
     WHERE excluded.log_index > models.log_index`,
    [
      textArray(rows.map((row) => row.name)),
      numberArray(rows.map((row) => row.version)),
      textArray(rows.map((row) => row.manifestDigest)),
      textArray(rows.map((row) => row.owner)),
      textArray(rows.map((row) => row.visibility)),
      textArray(rows.map((row) => row.status)),
      numberArray(rows.map((row) => row.sizeBytes)),
      numberArray(rows.map((row) => row.releasedAtMs)),
      numberArray(rows.map((row) => row.logIndex)),
    ],
  );
}

type Pointer = { readonly version: number | null; readonly logIndex: number };

/**
 * A pointer follows the log: a row that is `current` takes it, and a later row that says its version no longer is
 * clears it, unless another version took it meanwhile.
 */
async function movePointers(tx: Queryable, ordered: readonly ModelRow[]): Promise<void> {
  const names = [...new Set(ordered.map((row) => row.name))];
  const { rows } = await tx.query(
    "SELECT name, version, log_index FROM assay.model_current WHERE name = ANY($1::text[])",
    [textArray(names)],
  );
  const pointers = new Map<string, Pointer>();
  for (const row of rows)
    pointers.set(String(row["name"]), {
      version: row["version"] === null ? null : toSafeInteger(row["version"]),
      logIndex: toSafeInteger(row["log_index"]),
    });
  const moved = new Map<string, Pointer>();
  for (const row of ordered) {
    const pointer = moved.get(row.name) ?? pointers.get(row.name);
    if (pointer !== undefined && row.logIndex < pointer.logIndex) continue;
    if (row.current) moved.set(row.name, { version: row.version, logIndex: row.logIndex });
    else if (pointer?.version === row.version) moved.set(row.name, { version: null, logIndex: row.logIndex });
  }
  if (moved.size === 0) return;
  const entries = [...moved];
  await tx.query(
    `INSERT INTO assay.model_current (name, version, log_index)
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
     ON CONFLICT (name) DO UPDATE SET version = excluded.version, log_index = excluded.log_index`,
    [
      textArray(entries.map(([name]) => name)),
      textArray(entries.map(([, pointer]) => (pointer.version === null ? null : String(pointer.version)))),
      numberArray(entries.map(([, pointer]) => pointer.logIndex)),
    ],
  );
}
