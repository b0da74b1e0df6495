import { parseJson } from "@assay/core";
import type { Queryable } from "@assay/driver-postgres";
import type { CatalogueStore } from "./catalogue.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";
import type { DiscoveredResource } from "./types.ts";

/** Room for what JSON escapes of an entry that was measured before. */
const MAX_ENTRY_BYTES = 8 * FACILITATOR_LIMITS.maxResourceBytes;

/** A catalogue's entries in PostgreSQL (`assay.facilitator_resources`), shared by all facilitators on it. */
export function createDatabaseCatalogue(
  database: Queryable,
  options: { readonly now: () => number; readonly maxResources?: number },
): CatalogueStore {
  const maxResources = options.maxResources ?? FACILITATOR_LIMITS.maxResources;
  return {
    async get(url) {
      const { rows } = await database.query("SELECT caller, entry FROM assay.facilitator_resources WHERE url = $1", [
        url,
      ]);
      const [row] = rows;
      return row && { by: String(row["caller"]), entry: entryOf(row["entry"]) };
    },
    async put(by, entry) {
      await database.query(
        `INSERT INTO assay.facilitator_resources AS known (url, caller, entry, updated_at_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (url) DO UPDATE SET entry = excluded.entry, updated_at_ms = excluded.updated_at_ms, seq = DEFAULT
         WHERE known.caller = excluded.caller`,
        [entry.resource, by, JSON.stringify(entry), options.now()],
      );
      await database.query(
        `DELETE FROM assay.facilitator_resources WHERE url IN
           (SELECT url FROM assay.facilitator_resources ORDER BY updated_at_ms DESC, seq DESC OFFSET $1)`,
        [maxResources],
      );
    },
    async list(type, offset, limit) {
      // Entries are learned of what is asked over HTTP; other types are the operator's own.
      if (type !== undefined && type !== "http") return { items: [], total: 0 };
      const [page, counted] = await Promise.all([
        database.query(
          `SELECT entry FROM assay.facilitator_resources ORDER BY updated_at_ms DESC, seq DESC OFFSET $1 LIMIT $2`,
          [offset, limit],
        ),
        database.query("SELECT COUNT(*)::int AS total FROM assay.facilitator_resources"),
      ]);
      return { items: page.rows.map((row) => entryOf(row["entry"])), total: Number(counted.rows[0]?.["total"] ?? 0) };
    },
  };
}

/** Written by {@link createDatabaseCatalogue} itself. */
function entryOf(text: unknown): DiscoveredResource {
  return parseJson(String(text), { maxBytes: MAX_ENTRY_BYTES }) as unknown as DiscoveredResource;
}
