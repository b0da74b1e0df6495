import { AssayError } from "@assay/core";
import type { SecretStore } from "@assay/protocol";
import type { Database } from "./database.ts";
import { checkHex, checkInteger, checkText } from "./rows.ts";
import { textArray, toSafeInteger } from "./values.ts";

/** Scopes of one token: there are a handful of kinds, and a token that names more is a mistake. */
export const MAX_SCOPES = 64;

export type PostgresSecretStore = SecretStore & {
  /** Deletes the tokens that expired before `nowMs` (Unix milliseconds) and returns how many they were. */
  purgeExpired(nowMs: number): Promise<number>;
};

/**
 * Tokens by the SHA-256 of their text; the text itself is never stored. `token` answers an expired token too, with
 * its `expiresAtMs`: the caller has the clock. A token cannot change its owner: `token_conflict`.
 */
export function createSecretStore(database: Database): PostgresSecretStore {
  return {
    async putToken(token) {
      checkHex("sha256", token.sha256, 64);
      checkText("owner", token.owner);
      checkInteger("expiresAtMs", token.expiresAtMs);
      if (token.scopes.length > MAX_SCOPES)
        throw new AssayError("token_scopes_too_many", `A token has more than ${MAX_SCOPES} scopes.`);
      for (const scope of token.scopes) checkText("scopes", scope);
      const { rows } = await database.query(
        `INSERT INTO assay.tokens AS t (sha256, owner, scopes, expires_at_ms)
         VALUES (decode($1::text, 'hex'), $2, $3::text[], $4)
         ON CONFLICT (sha256) DO UPDATE SET scopes = excluded.scopes, expires_at_ms = excluded.expires_at_ms
         WHERE t.owner = excluded.owner
         RETURNING 1 AS written`,
        [token.sha256, token.owner, textArray(token.scopes), token.expiresAtMs],
      );
      if (rows.length === 0) throw new AssayError("token_conflict", "This token belongs to another owner already.");
    },

    async token(sha256) {
      if (!/^[0-9a-f]{64}$/.test(sha256)) return undefined;
      const { rows } = await database.query(
        "SELECT owner, scopes, expires_at_ms FROM assay.tokens WHERE sha256 = decode($1::text, 'hex')",
        [sha256],
      );
      const row = rows[0];
      if (row === undefined) return undefined;
      const scopes: unknown = row["scopes"];
      if (typeof row["owner"] !== "string" || !Array.isArray(scopes))
        throw new AssayError("database_error", "The database holds a token without an owner or scopes.");
      return { owner: row["owner"], scopes: scopes.map(String), expiresAtMs: toSafeInteger(row["expires_at_ms"]) };
    },

    async revokeToken(sha256) {
      if (!/^[0-9a-f]{64}$/.test(sha256)) return;
      await database.query("DELETE FROM assay.tokens WHERE sha256 = decode($1::text, 'hex')", [sha256]);
    },

    async purgeExpired(nowMs) {
      checkInteger("nowMs", nowMs);
      return (await database.query("DELETE FROM assay.tokens WHERE expires_at_ms < $1", [nowMs])).rowCount;
    },
  };
}
