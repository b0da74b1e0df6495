/**
 * One record to append. `entry` is the public leaf (at most 65,535 bytes) and enters the Merkle tree as it is;
 * `claims` is what the leaf's hash envelopes commit to and is kept beside the log for its owner; `opening` is
 * erasable (salts and plaintext, already encrypted if the retention class asks for it).
 */
export type LogRecord = {
  readonly entry: Uint8Array;
  readonly claims: Uint8Array;
  readonly opening: Uint8Array;
};

export type StoredRecord = LogRecord & { readonly index: number; readonly erased: boolean };

/** A signed checkpoint as a C2SP signed note, with the facts parsed from it. */
export type CheckpointNote = {
  readonly origin: string;
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
  /** The whole note: body, blank line, signature lines. */
  readonly note: string;
};

/**
 * Where gateways append. Exactly one fenced sequencer owns the files behind it; a second gateway reaches the
 * same sequencer through another implementation of this type.
 */
export type LogSink = {
  readonly origin: string;
  /**
   * Appends records in order and resolves with their indexes once they are on stable storage (fdatasync).
   * Concurrent calls share one flush. Throws `log_full` (no space), `log_read_only`, `log_fenced` (another
   * sequencer took over), `log_entry_too_large`, `log_overloaded` or `log_closed`; nothing of a call that throws
   * was acknowledged.
   */
  append(records: readonly LogRecord[]): Promise<readonly number[]>;
  /** Number of records on stable storage (>= the latest checkpoint's size). */
  size(): number;
  /** The latest signed checkpoint, or one that covers at least `atLeast` records, waiting at most `timeoutMs`. */
  checkpoint(options?: { atLeast?: number; timeoutMs?: number }): Promise<CheckpointNote>;
  /** Audit path of `index` in the tree of `size` (RFC 6962 section 2.1.1): 32-byte hashes, leaf's sibling first. */
  inclusionProof(index: number, size: number): Promise<readonly Uint8Array[]>;
  /** Consistency proof between two sizes (RFC 6962 section 2.1.2). */
  consistencyProof(oldSize: number, newSize: number): Promise<readonly Uint8Array[]>;
  /** One record, or `undefined` past the end. */
  read(index: number): Promise<StoredRecord | undefined>;
  /** Records from `from` on, in order, at most `limit`. */
  readRange(from: number, limit: number): Promise<readonly StoredRecord[]>;
  /** Overwrites the opening of `index` on disk; the entry and its proofs stay valid. */
  eraseOpening(index: number): Promise<void>;
  /**
   * A resource of the C2SP tlog-tiles read interface: `checkpoint`, `tile/<L>/<N>[.p/<W>]`,
   * `tile/entries/<N>[.p/<W>]`; `undefined` when there is none.
   */
  resource(path: string): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
};
