/** Immutable bytes by SHA-256. The id of a blob is the lower-case hex of its digest. */
export type BlobStore = {
  /**
   * Stores a stream durably (fsync before it resolves) and returns its id. Throws `blob_too_large` past
   * `maxBytes`, `blob_digest_mismatch` when `expected` differs, `storage_full`, `storage_read_only`.
   */
  put(
    source: AsyncIterable<Uint8Array> | Uint8Array,
    options?: { readonly maxBytes?: number; readonly expected?: string },
  ): Promise<{ readonly sha256: string; readonly sizeBytes: number }>;
  has(sha256: string): Promise<boolean>;
  sizeBytes(sha256: string): Promise<number | undefined>;
  /** Whole content, re-hashed on the way; throws `blob_corrupt` when it no longer matches, `blob_missing`. */
  get(sha256: string): Promise<Uint8Array>;
  /** The bytes, or those from `start` up to but not including `end`. A range cannot be checked against the digest. */
  stream(sha256: string, range?: { readonly start: number; readonly end: number }): AsyncIterable<Uint8Array>;
  /** Copies the blob to `path`, which must not exist, verifying the digest as it copies. */
  materialise(sha256: string, path: string): Promise<void>;
  remove(sha256: string): Promise<void>;
  list(): AsyncIterable<string>;
};
