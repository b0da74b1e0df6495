/** What one statement answered: rows by column name, and how many rows it touched. */
export type QueryAnswer = {
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly rowCount: number;
};

export type QueryOptions = {
  /** Client-side limit for this statement, instead of the connection's. */
  readonly timeoutMs?: number;
  /**
   * A name that this text alone has, at most 63 bytes: each connection then parses and plans it once. For statements on the
   * way to an answer, where that takes as long as carrying them out.
   */
  readonly plan?: string;
};

/**
 * The seam between the stores and whatever speaks PostgreSQL: a pool, one connection inside a transaction, or
 * PGlite. Arrays are passed as array literals (see `arrays.ts`), because the two clients serialise them differently.
 */
export type Queryable = {
  query(text: string, values?: readonly unknown[], options?: QueryOptions): Promise<QueryAnswer>;
  /** Runs several statements without parameters. */
  exec(sql: string, options?: QueryOptions): Promise<void>;
};

/** How a transaction is begun; `read committed` unless told. */
export type TransactionOptions = {
  readonly isolation?: "read committed" | "repeatable read read only";
};

/**
 * A database that may go away and come back. Every method throws `database_unavailable` while it is away,
 * `database_timeout` when a statement ran past its limit, `database_overloaded` when every connection is busy,
 * `storage_full`, `database_read_only`, and `database_error` for anything else PostgreSQL refuses.
 */
export type Database = Queryable & {
  /** Runs `work` in one transaction; rolled back when `work` throws, whose error is passed on as it is. */
  transaction<T>(work: (tx: Queryable) => Promise<T>, options?: TransactionOptions): Promise<T>;
  /** Whether calls are let through now; false while the circuit is open. */
  available(): boolean;
  /** Ends every connection. Idempotent. */
  close(): Promise<void>;
};
