import type { Database, Queryable } from "./database.ts";
import { toDatabaseError } from "./errors.ts";

type PgliteAnswer = { readonly rows: unknown[]; readonly affectedRows?: number };
type PgliteQueryable = {
  query(text: string, values?: unknown[]): Promise<PgliteAnswer>;
  exec(sql: string): Promise<unknown>;
};

/** The part of `PGlite` (of `@electric-sql/pglite`) that is used, so that this package needs it in tests alone. */
export type PgliteLike = PgliteQueryable & {
  transaction<T>(work: (tx: PgliteQueryable) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

/**
 * A {@link Database} in this process, for tests and for hosts that cannot start a binary. PGlite never calls fsync
 * and takes no lock on its directory: rows may be lost with the power, and a second process destroys them.
 */
export function databaseFromPglite(lite: PgliteLike): Database {
  let closing: Promise<void> | undefined;
  const root = onPglite(lite);
  return {
    query: (text, values) => root.query(text, values),
    exec: (sql) => root.exec(sql),
    transaction: (work, options) =>
      lite.transaction(async (tx) => {
        const isolation = options?.isolation ?? "read committed";
        if (isolation !== "read committed") await tx.exec(`SET TRANSACTION ISOLATION LEVEL ${isolation}`);
        return work(onPglite(tx));
      }),
    available: () => closing === undefined,
    close() {
      closing ??= lite.close();
      return closing;
    },
  };
}

function onPglite(lite: PgliteQueryable): Queryable {
  return {
    async query(text, values) {
      const answer = await mapped(() => lite.query(text, [...(values ?? [])]));
      return {
        rows: answer.rows as readonly Record<string, unknown>[],
        rowCount: answer.affectedRows ?? answer.rows.length,
      };
    },
    async exec(sql) {
      await mapped(() => lite.exec(sql));
    },
  };
}

async function mapped<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toDatabaseError(error);
  }
}
