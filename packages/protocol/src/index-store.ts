/** A row of the receipt index: derived from the log, never the source of truth. */
export type ReceiptRow = {
  readonly logIndex: number;
  /** Receipt id, 32 lower-case hex digits (a UUIDv7 without dashes). */
  readonly receiptId: string;
  /** Digest of the execution statement, lower-case hex. */
  readonly executionDigest: string;
  readonly serviceDigest: string | null;
  /** `execution`, `release`, `keyset`, `supplement`. */
  readonly kind: string;
  /** Owner id, or null for an anonymous caller. */
  readonly owner: string | null;
  readonly visibility: "public" | "private";
  /** SHA-256 of the grant that lets its holder read this receipt, lower-case hex. */
  readonly grantSha256: string | null;
  readonly model: string | null;
  readonly manifestDigest: string | null;
  readonly mode: string | null;
  readonly issuedAtMs: number;
  /** For supplements, the digest that it refers to. */
  readonly refersTo: string | null;
};

/** A row of the model index: one released version. */
export type ModelRow = {
  /** `namespace/name`. */
  readonly name: string;
  readonly version: number;
  readonly manifestDigest: string;
  readonly owner: string;
  readonly visibility: "public" | "private";
  readonly status: "released" | "deprecated";
  /** Whether this version is what the bare name resolves to now. */
  readonly current: boolean;
  readonly sizeBytes: number;
  readonly releasedAtMs: number;
  readonly logIndex: number;
};

export type ReceiptFilter = {
  readonly owner?: string;
  readonly model?: string;
  /** `execution`, `release`, `keyset` or `supplement`; default all. */
  readonly kind?: string;
  /** Return rows with a smaller log index than this. */
  readonly before?: number;
  /** At most 1,000. */
  readonly limit: number;
};

/** The derived tables. Throws `database_unavailable` while PostgreSQL is away; nothing else fails with it. */
export type IndexStore = {
  /** Log index up to which everything is indexed (the next index to read). */
  watermark(): Promise<number>;
  /**
   * Inserts rows, which lie below the new watermark, and moves it, in one transaction; idempotent by `logIndex`.
   * Throws `index_fenced` after another process reset the index: ask for the watermark and go on from there.
   */
  index(batch: {
    readonly receipts: readonly ReceiptRow[];
    readonly models: readonly ModelRow[];
    readonly watermark: number;
  }): Promise<void>;
  receipt(receiptId: string): Promise<ReceiptRow | undefined>;
  receiptByDigest(executionDigest: string): Promise<ReceiptRow | undefined>;
  receipts(filter: ReceiptFilter): Promise<readonly ReceiptRow[]>;
  supplements(executionDigest: string): Promise<readonly ReceiptRow[]>;
  model(name: string, version?: number): Promise<ModelRow | undefined>;
  models(filter?: { readonly prefix?: string; readonly limit?: number }): Promise<readonly ModelRow[]>;
  versions(name: string): Promise<readonly ModelRow[]>;
  /** Empties every derived table and sets the watermark to 0, in one transaction. */
  reset(): Promise<void>;
  /** SHA-256 over all derived rows in key order, lower-case hex: equal after a rebuild. */
  fingerprint(): Promise<string>;
  close(): Promise<void>;
};

/** Tokens and challenges: what is neither in the log nor a blob, so a rebuild keeps it. */
export type SecretStore = {
  putToken(token: {
    readonly sha256: string;
    readonly owner: string;
    readonly scopes: readonly string[];
    readonly expiresAtMs: number;
  }): Promise<void>;
  token(
    sha256: string,
  ): Promise<{ readonly owner: string; readonly scopes: readonly string[]; readonly expiresAtMs: number } | undefined>;
  revokeToken(sha256: string): Promise<void>;
};
