import { createHash } from "node:crypto";
import { AssayError } from "@assay/core";
import { toSafeInteger } from "./values.ts";
import type { Database, Queryable } from "./database.ts";
import { MIGRATIONS } from "./migrations.ts";
import type { Migration } from "./migrations.ts";

/** Key of the advisory lock: the bytes "assaymig", so that no other program holds the same one by accident. */
const LOCK_KEY = "7022083106486970727";
/** A migration may rewrite a large table; a second process waits for the first at most this long. */
const MIGRATION_TIMEOUT_MS = 600_000;

/**
 * Brings the schema `assay` to the newest known version, forward only, all steps in one transaction. Safe to call
 * from many processes at once: an advisory lock lets one work and the others find it done. Returns the versions
 * applied by this call.
 *
 * Throws `database_schema_newer` when the database knows a version that this program does not, and
 * `database_schema_changed` when an applied step is not the step that this program knows under its number.
 */
export async function migrateDatabase(
  database: Database,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<readonly number[]> {
  return database.transaction(async (tx) => {
    await tx.exec(`SET LOCAL statement_timeout = ${MIGRATION_TIMEOUT_MS}`);
    const options = { timeoutMs: MIGRATION_TIMEOUT_MS };
    await tx.query(`SELECT pg_advisory_xact_lock(${LOCK_KEY})`, [], options);
    await tx.exec(`
      CREATE SCHEMA IF NOT EXISTS assay;
      CREATE TABLE IF NOT EXISTS assay.schema_migrations (
        version int PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
      );`);
    const applied = await appliedVersions(tx);
    check(applied, migrations);
    const done: number[] = [];
    for (const migration of migrations) {
      if (applied.has(migration.version)) continue;
      await tx.exec(migration.sql, options);
      await tx.query("INSERT INTO assay.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)", [
        migration.version,
        migration.name,
        checksumOf(migration),
      ]);
      done.push(migration.version);
    }
    return done;
  });
}

/** SHA-256 of a step's SQL, lower-case hex. */
function checksumOf(migration: Migration): string {
  return createHash("sha256").update(migration.sql, "utf8").digest("hex");
}

async function appliedVersions(tx: Queryable): Promise<ReadonlyMap<number, string>> {
  const { rows } = await tx.query("SELECT version, checksum FROM assay.schema_migrations ORDER BY version");
  return new Map(rows.map((row) => [toSafeInteger(row["version"]), String(row["checksum"])]));
}

function check(applied: ReadonlyMap<number, string>, migrations: readonly Migration[]): void {
  const known = new Map(migrations.map((migration) => [migration.version, migration]));
  const newest = Math.max(0, ...known.keys());
  for (const [version, checksum] of applied) {
    const migration = known.get(version);
    if (version > newest)
      throw new AssayError(
        "database_schema_newer",
        `The database has schema version ${version}, and this program knows versions up to ${newest}.`,
        { hints: ["Run the program version that last used this database, or a newer one."] },
      );
    if (migration === undefined || checksumOf(migration) !== checksum)
      throw new AssayError(
        "database_schema_changed",
        `Schema version ${version} of the database is not the one that this program knows.`,
        { hints: ["Empty the schema `assay` and rebuild it from the log, or use the program that created it."] },
      );
  }
}
