import { AssayError, concatBytes, isAssayError, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { DurableReceipt, LogRecord, LogSink, ReceiptRow } from "@assay/protocol";
import { encodeClaims, encodeEntry } from "@assay/receipts";
import type { ChainHead, Issuer, ReleaseClaims, ServiceClaims, Statement, SupplementClaims } from "@assay/receipts";
import { decodeRecord } from "./decode-record.ts";
import type { DecodedRecord } from "./decode-record.ts";
import { encodeSidecar } from "./sidecar.ts";

/**
 * A payment that becomes true with a record. Told exactly once what became of it, also when that is known only after the
 * record's own promise was rejected because a log elsewhere did not answer.
 */
export type RecordedPayment = {
  /** For the record's sidecar. */
  readonly instruction: Uint8Array;
  readonly durable: (receipt: DurableReceipt) => void;
  /** There is no record and there will be none. */
  readonly lost: () => void;
};

/** An execution that waits for its signatures and its place in the log. */
export type ExecutionDraft = {
  readonly receiptId: Uint8Array;
  readonly subject: string;
  readonly issuedAtMs: number;
  /** Deterministic CBOR of the execution claims. */
  readonly claims: Uint8Array;
  /** The service claims, once the execution's digest is known. */
  readonly service: (executionDigest: Uint8Array) => ServiceClaims;
  /** Their deterministic CBOR, from whoever has encoded them before; what `service` gives is encoded without it. */
  readonly serviceBytes?: (executionDigest: Uint8Array) => {
    readonly claims: Uint8Array;
    readonly issuedAtMs: number;
  };
  /** What the index shall know without decoding again. */
  readonly model: string | null;
  readonly manifestDigest: string | null;
  readonly mode: string | null;
  readonly owner?: string;
  readonly grantSha256: Uint8Array;
  /** Encrypted opening, empty when nothing is kept. */
  readonly opening: Uint8Array;
  /** The execution's statement, when a remote node signed it for itself. */
  readonly envelope?: Uint8Array;
  readonly payment?: RecordedPayment;
};

/** An execution that a remote node signed. */
export type SignedDraft = ExecutionDraft & { readonly envelope: Uint8Array };

export type Recorded = {
  readonly logIndex: number;
  readonly execution: Statement;
  readonly service: Statement;
};

/** A gateway statement of its own: a release or a supplement. */
export type GatewayDraft = {
  readonly subject: string;
  readonly issuedAtMs: number;
  readonly owner?: string;
  readonly visibility: "public" | "private";
  /** Of a supplement that stands for a paid service: its payment, its answer as the vault sealed it, and its grant. */
  readonly payment?: RecordedPayment;
  readonly opening?: Uint8Array;
  readonly grantSha256?: Uint8Array;
} & (
  | { readonly kind: "release"; readonly claims: ReleaseClaims }
  | { readonly kind: "supplement"; readonly claims: SupplementClaims }
);

/** The two parties' issuers of this moment; replaced before their keysets end. */
export type Issuers = { readonly node: Issuer; readonly gateway: Issuer };

export type RecorderModules = {
  readonly log: LogSink;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly issuers: Issuers;
  /** Makes the next pair when {@link RecorderOptions.rotateAtMs} is reached; chains go on where they are. */
  readonly rotate: (heads: { readonly node: ChainHead; readonly gateway: ChainHead }) => Promise<Issuers>;
  readonly now: () => number;
  /** Told of every durable record, in log order. */
  readonly onRecorded: (decoded: readonly DecodedRecord[], next: number) => void;
  /**
   * Checks what a remote node signed: its keyset is one of an admitted node, the signature holds, and the claims are
   * about what this draft says. Throws `node_statement_invalid`. Without it no remote statement is taken.
   */
  readonly verifySigned?: (draft: SignedDraft) => Promise<Statement>;
  /** Whether the log has this position of an issuer's chain. */
  readonly isLogged?: (issuer: string, seq: number) => boolean;
};

export type RecorderOptions = {
  /** Bytes of claims and openings flushed together at most; one draft may be larger. */
  readonly maxBatchBytes?: number;
  /** Bytes of claims and openings that may wait; beyond it callers get `receipts_overloaded`. */
  readonly maxPendingBytes?: number;
  /** Statements signed and flushed together at most. A Merkle path of 256 leaves is 8 hashes. */
  readonly maxBatch?: number;
  /** Drafts that may wait; beyond it callers get `receipts_overloaded`. */
  readonly maxPending?: number;
  /**
   * How long a batch may wait for company once the one before it had some, milliseconds. A lone receipt never waits;
   * under load one signature, one flush and one insert then serve many.
   */
  readonly lingerMs?: number;
  /** How long before its end a keyset is replaced, milliseconds. */
  readonly rotateBeforeMs?: number;
  /** How often a log elsewhere is asked again what became of records that it did not answer for, milliseconds. */
  readonly retryUnknownMs?: number;
};

/**
 * Signs what happened and puts it into the log, in batches: while one batch is being flushed the next gathers, so
 * a lone receipt costs two signatures and one flush, and a thousand cost hardly more. A caller is answered
 * only when its record is on stable storage. When an append fails, both chains go back to the last durable
 * statement: what was signed never left the process, so no number is lost or used twice.
 *
 * A log elsewhere can also be silent: then nobody knows whether the records are in it. Their callers are told so, but
 * the chains stay, and the same records are sent again, which is idempotent, until the log says what became of them.
 * Meanwhile nothing else is taken.
 */
export type Recorder = {
  /** Drafts with an envelope go the way of {@link Recorder.recordSigned}. */
  readonly record: (draft: ExecutionDraft) => Promise<Recorded>;
  /**
   * Records what a remote node signed, with the gateway's own statement. Throws `node_statement_invalid`,
   * `node_statement_logged` when the log has this position of the node's chain, and `node_statement_pending` while the
   * same statement is on its way.
   */
  readonly recordSigned: (draft: SignedDraft) => Promise<Recorded>;
  /** Logs a keyset of another party, already checked. */
  readonly logKeyset: (keyset: {
    readonly envelope: Uint8Array;
    readonly document: Uint8Array;
  }) => Promise<{ readonly logIndex: number }>;
  readonly state: (draft: GatewayDraft) => Promise<{ readonly logIndex: number; readonly statement: Statement }>;
  /** Logs the keysets of the current issuers; to be awaited before the first draft. */
  readonly begin: () => Promise<void>;
  readonly pending: () => number;
  /** Waits until every accepted draft is durable, then refuses new ones. */
  readonly drain: () => Promise<void>;
};

type Job =
  | {
      readonly kind: "keyset";
      readonly record: LogRecord;
      readonly done: (result: { readonly logIndex: number }) => void;
      readonly failed: (error: unknown) => void;
    }
  | {
      readonly kind: "execution";
      readonly draft: ExecutionDraft;
      /** What a remote node signed; without it the local node signs. */
      readonly statement?: Statement;
      readonly done: (result: Recorded) => void;
      readonly failed: (error: unknown) => void;
    }
  | {
      readonly kind: "gateway";
      readonly draft: GatewayDraft;
      readonly done: (result: { logIndex: number; statement: Statement }) => void;
      readonly failed: (error: unknown) => void;
    };

const GRANT_TAG = utf8ToBytes("assay/grant/1\0");

/** The secret that lets whoever got the answer read its receipt later: SHA-256("assay/grant/1" NUL || master salt). */
export function grantOf(suite: Pick<CryptoSuite, "sha256">, masterSalt: Uint8Array): Uint8Array {
  return suite.sha256(concatBytes(GRANT_TAG, masterSalt));
}

/** Makes a recorder over a log. */
export function createRecorder(modules: RecorderModules, options: RecorderOptions = {}): Recorder {
  const { log, suite, now, onRecorded } = modules;
  const maxBatch = options.maxBatch ?? 256;
  const maxPending = options.maxPending ?? 10_000;
  // The log takes 32 MiB in one call, and openings are up to 8 MiB each.
  const maxBatchBytes = options.maxBatchBytes ?? 16 * 1024 * 1024;
  const maxPendingBytes = options.maxPendingBytes ?? 256 * 1024 * 1024;
  const lingerMs = options.lingerMs ?? 2;
  const retryUnknownMs = options.retryUnknownMs ?? 1000;
  const rotateBeforeMs = options.rotateBeforeMs ?? 60 * 60 * 1000;
  let issuers = modules.issuers;
  /** Issuers whose keysets could not be logged yet: statements under them would be under keys nobody can find. */
  let unlogged: Issuers | undefined;
  let queue: Job[] = [];
  let queuedBytes = 0;
  let running = false;
  let closed = false;
  let idle: (() => void)[] = [];
  /** Records that a log elsewhere did not answer for, with the heads before them. */
  let unknown: (Asked & { readonly heads: Heads }) | undefined;
  /** The records of the append under way: set when an append was asked for, so that its failure can be judged. */
  let asked: Asked | undefined;
  let retrying: NodeJS.Timeout | undefined;
  /** Digests of remote statements on their way. */
  const underWay = new Set<string>();

  const enqueue = (job: Job): void => {
    if (closed) {
      fail(job, new AssayError("gateway_draining", "The gateway is shutting down and takes no more work."));
      return;
    }
    if (queue.length >= maxPending || queuedBytes >= maxPendingBytes) {
      fail(
        job,
        new AssayError("receipts_overloaded", `${queue.length} receipts wait to be written.`, {
          hints: ["Send the request again after a moment."],
        }),
      );
      return;
    }
    queue.push(job);
    queuedBytes += bytesOf(job);
    start();
  };

  const start = (): void => {
    if (running) return;
    running = true;
    // Everything that finishes in this turn of the event loop shares the flush.
    setImmediate(() => void run());
  };

  const append = async (records: readonly LogRecord[], paid: readonly Paid[]): Promise<readonly number[]> => {
    asked = { records, paid };
    const indexes = await log.append(records);
    asked = undefined;
    return indexes;
  };

  const headsNow = (): Heads => ({ node: issuers.node.head(), gateway: issuers.gateway.head() });
  const rewind = (heads: Heads): void => {
    issuers.node.rewind(heads.node);
    issuers.gateway.rewind(heads.gateway);
  };

  /** Learns what became of unanswered records. False while the log stays silent. */
  const settle = async (): Promise<boolean> => {
    if (!unknown) return true;
    const { records, heads, paid } = unknown;
    try {
      const indexes = await log.append(records);
      unknown = undefined;
      tellDurable(paid, indexes);
      onRecorded(
        records.map((record, i) => decodeRecord(suite, { ...record, index: indexes[i] ?? 0, erased: false })),
        (indexes.at(-1) ?? -1) + 1,
      );
      return true;
    } catch (error) {
      if (isUnanswered(error)) {
        for (const job of takeAll()) fail(job, error);
        retrying ??= setTimeout(() => {
          retrying = undefined;
          start();
        }, retryUnknownMs).unref();
        return false;
      }
      // The log has answered: these records are not in it, and their numbers are free again.
      unknown = undefined;
      for (const { payment } of paid) payment.lost();
      rewind(heads);
      return true;
    }
  };

  const takeAll = (): readonly Job[] => {
    queuedBytes = 0;
    return queue.splice(0);
  };

  const run = async (): Promise<void> => {
    let previous = 0;
    while (queue.length > 0 || unknown) {
      if (!(await settle())) break;
      if (queue.length === 0) continue;
      if (previous >= BUSY_BATCH && queue.length < previous) await linger(lingerMs);
      let jobs = nextBatch();
      previous = jobs.length;
      let heads = headsNow();
      let isDurable = false;
      // Past a durable append there is no way back: its numbers are used, whatever fails after it.
      const durable = (): void => {
        heads = headsNow();
        isDurable = true;
      };
      try {
        const { notBeforeMs, notAfterMs } = issuers.node.document;
        const nowMs = now();
        // A clock that was set back would date statements before the keyset that signs them.
        if (nowMs > notAfterMs - rotateBeforeMs || nowMs < notBeforeMs) {
          unlogged ??= await modules.rotate(heads);
          await logKeysets(unlogged);
          issuers = unlogged;
          unlogged = undefined;
        }
        const { dated, misdated } = byKeyset(jobs, issuers);
        for (const job of misdated) fail(job, clockChanged());
        jobs = dated;
        if (dated.length > 0) await write(dated, durable);
      } catch (error) {
        const waits = asked !== undefined && isUnanswered(error);
        if (asked && waits) unknown = { ...asked, heads };
        else rewind(heads);
        asked = undefined;
        for (const job of jobs) {
          // What may be in the log, and what is, has a payment that is not to be given back.
          if (waits || isDurable) job.failed(error);
          else fail(job, error);
        }
      }
    }
    running = false;
    for (const resolve of idle.splice(0)) resolve();
  };

  const nextBatch = (): readonly Job[] => {
    let bytes = 0;
    let count = 0;
    for (const job of queue) {
      bytes += bytesOf(job);
      if (count > 0 && (count === maxBatch || bytes > maxBatchBytes)) {
        bytes -= bytesOf(job);
        break;
      }
      count++;
    }
    const jobs = queue.slice(0, count);
    queue = count === queue.length ? [] : queue.slice(count);
    queuedBytes -= bytes;
    return jobs;
  };

  const logKeysets = async ({ node, gateway }: Issuers): Promise<void> => {
    const records = [node, gateway].map(({ keysetStatement, keysetBytes }): LogRecord => ({
      entry: encodeEntry([keysetStatement.envelope]),
      claims: encodeSidecar({ claims: [keysetBytes], visibility: "public" }),
      opening: new Uint8Array(),
    }));
    const indexes = await log.append(records);
    onRecorded(
      records.map((record, i) => decodeRecord(suite, { ...record, index: indexes[i] ?? 0, erased: false })),
      (indexes.at(-1) ?? -1) + 1,
    );
  };

  const write = async (jobs: readonly Job[], durable: () => void): Promise<void> => {
    const executions = jobs.filter((job) => job.kind === "execution");
    const others = jobs.filter((job) => job.kind === "gateway");
    const keysets = jobs.filter((job) => job.kind === "keyset");
    const unsigned = executions.filter(({ statement }) => statement === undefined);
    const issued =
      unsigned.length === 0
        ? []
        : issuers.node.issue(
            "execution",
            unsigned.map(({ draft }) => draft),
          );
    let nextIssued = 0;
    const signed = executions.map(({ statement }) => statement ?? issued[nextIssued++]);
    const serviceClaims = executions.map(({ draft }, i) => {
      const statement = signed[i];
      if (!statement) throw new TypeError("A statement was not signed.");
      if (draft.serviceBytes) return { ...draft.serviceBytes(statement.digest), subject: draft.subject };
      const claims = draft.service(statement.digest);
      return { claims: encodeClaims("service", claims), subject: draft.subject, issuedAtMs: claims.issuedAtMs };
    });
    const services = serviceClaims.length === 0 ? [] : issuers.gateway.issue("service", serviceClaims);
    const records: LogRecord[] = executions.map(({ draft }, i) => ({
      entry: encodeEntry([signed[i]?.envelope ?? EMPTY, services[i]?.envelope ?? EMPTY]),
      claims: encodeSidecar({
        claims: [draft.claims, serviceClaims[i]?.claims ?? EMPTY],
        visibility: "private",
        grantSha256: draft.grantSha256,
        ...(draft.owner === undefined ? {} : { owner: draft.owner }),
        ...(draft.payment ? { payment: draft.payment.instruction } : {}),
      }),
      opening: draft.opening,
    }));
    const paid: Paid[] = executions.flatMap(({ draft: { payment, receiptId } }, at) => {
      const [execution, service] = [signed[at], services[at]];
      return payment && execution && service ? [{ payment, at, receiptId, execution, service }] : [];
    });
    const statements = others.map(({ draft }) => {
      const claims =
        draft.kind === "release" ? encodeClaims("release", draft.claims) : encodeClaims("supplement", draft.claims);
      const [statement] = issuers.gateway.issue(draft.kind, [
        { claims, subject: draft.subject, issuedAtMs: draft.issuedAtMs },
      ]);
      if (!statement) throw new TypeError("A statement was not signed.");
      records.push({
        entry: encodeEntry([statement.envelope]),
        claims: encodeSidecar({
          claims: [claims],
          visibility: draft.visibility,
          ...(draft.owner === undefined ? {} : { owner: draft.owner }),
          ...(draft.grantSha256 ? { grantSha256: draft.grantSha256 } : {}),
          ...(draft.payment ? { payment: draft.payment.instruction } : {}),
        }),
        opening: draft.opening ?? EMPTY,
      });
      const { payment } = draft;
      // Of a statement that stands alone the one digest is both that of the work and of the gateway's word on it.
      if (payment && draft.kind === "supplement")
        paid.push({
          payment,
          at: records.length - 1,
          receiptId: draft.claims.supplementId,
          execution: statement,
          service: statement,
        });
      return statement;
    });
    for (const { record } of keysets) records.push(record);
    // What could not be read again must not be logged: every later start would stumble over it.
    for (const record of records.slice(executions.length)) decodeRecord(suite, { ...record, index: 0, erased: false });
    const indexes = await append(records, paid);
    durable();
    tellDurable(paid, indexes);
    const decoded: DecodedRecord[] = [];
    for (const [i, { draft }] of executions.entries()) {
      const [execution, service, logIndex] = [signed[i], services[i], indexes[i]];
      if (!execution || !service || logIndex === undefined)
        throw new TypeError("The log answered with too few indexes.");
      decoded.push({
        logIndex,
        row: executionRow(draft, execution, service, logIndex),
        heads: headsOf(execution, service),
        ...(draft.payment ? { payment: draft.payment.instruction } : {}),
      });
    }
    for (let i = executions.length; i < records.length; i++) {
      const record = records[i];
      if (record) decoded.push(decodeRecord(suite, { ...record, index: indexes[i] ?? 0, erased: false }));
    }
    onRecorded(decoded, (indexes.at(-1) ?? -1) + 1);
    for (const [i, { done }] of executions.entries()) {
      const [execution, service] = [signed[i], services[i]];
      if (execution && service) done({ logIndex: indexes[i] ?? 0, execution, service });
    }
    for (const [i, { done }] of others.entries()) {
      const statement = statements[i];
      if (statement) done({ logIndex: indexes[executions.length + i] ?? 0, statement });
    }
    for (const [i, { done }] of keysets.entries()) {
      done({ logIndex: indexes[executions.length + others.length + i] ?? 0 });
    }
  };

  /** What a remote node signed, once it is known to be good and not here yet. */
  const verified = async (draft: SignedDraft): Promise<Statement> => {
    if (!modules.verifySigned)
      throw new AssayError("node_statement_invalid", "This gateway takes no statements of remote nodes.");
    const statement = await modules.verifySigned(draft);
    const { issuer, seq } = statement.header;
    if (modules.isLogged?.(issuer, seq)) {
      throw new AssayError("node_statement_logged", `The log has statement ${seq} of ${issuer} already.`);
    }
    if (underWay.has(hex(statement.digest)))
      throw new AssayError("node_statement_pending", `Statement ${seq} of ${issuer} is being written.`);
    return statement;
  };

  const recordSigned = async (draft: SignedDraft): Promise<Recorded> => {
    let statement: Statement;
    try {
      statement = await verified(draft);
    } catch (error) {
      draft.payment?.lost();
      throw error;
    }
    const digest = hex(statement.digest);
    underWay.add(digest);
    try {
      return await new Promise((resolve, reject) => {
        enqueue({ kind: "execution", draft, statement, done: resolve, failed: reject });
      });
    } finally {
      underWay.delete(digest);
    }
  };

  return {
    record: (draft) =>
      draft.envelope
        ? recordSigned({ ...draft, envelope: draft.envelope })
        : new Promise((resolve, reject) => {
            enqueue({ kind: "execution", draft, done: resolve, failed: reject });
          }),
    recordSigned,
    logKeyset: ({ envelope, document }) =>
      new Promise((resolve, reject) => {
        const record = {
          entry: encodeEntry([envelope]),
          claims: encodeSidecar({ claims: [document], visibility: "public" }),
          opening: EMPTY,
        };
        enqueue({ kind: "keyset", record, done: resolve, failed: reject });
      }),
    state: (draft) =>
      new Promise((resolve, reject) => {
        enqueue({ kind: "gateway", draft, done: resolve, failed: reject });
      }),
    begin: () => logKeysets(issuers),
    pending: () => queue.length,
    drain() {
      closed = true;
      clearTimeout(retrying);
      if (unknown) start();
      return running ? new Promise((resolve) => idle.push(resolve)) : Promise.resolve();
    },
  };
}

type Heads = { readonly node: ChainHead; readonly gateway: ChainHead };

/** A payment of one record of an append, and the statements that it becomes true with. */
type Paid = {
  readonly payment: RecordedPayment;
  /** Its record's place in the append. */
  readonly at: number;
  readonly receiptId: Uint8Array;
  readonly execution: Statement;
  readonly service: Statement;
};
type Asked = { readonly records: readonly LogRecord[]; readonly paid: readonly Paid[] };

function tellDurable(paid: readonly Paid[], indexes: readonly number[]): void {
  for (const { payment, at, receiptId, execution, service } of paid) {
    payment.durable({
      receiptId: hex(receiptId),
      logIndex: indexes[at] ?? 0,
      executionDigest: hex(execution.digest),
      serviceDigest: hex(service.digest),
    });
  }
}

/** Fails a job that has no record and will have none. */
function fail(job: Job, error: unknown): void {
  if (job.kind !== "keyset") job.draft.payment?.lost();
  job.failed(error);
}

/** Whether a log elsewhere did not answer, so that nobody knows what it did. */
function isUnanswered(error: unknown): boolean {
  return isAssayError(error) && error.code === "log_unreachable";
}

const EMPTY = new Uint8Array();

/** Jobs dated within the keysets' time, and those that a jump of the clock while they were under way left outside. */
function byKeyset(
  jobs: readonly Job[],
  { node, gateway }: Issuers,
): { readonly dated: readonly Job[]; readonly misdated: readonly Job[] } {
  const from = Math.max(node.document.notBeforeMs, gateway.document.notBeforeMs);
  const until = Math.min(node.document.notAfterMs, gateway.document.notAfterMs);
  // What others signed is dated within their own keysets, which was checked before it came here.
  const fits = (job: Job): boolean =>
    job.kind === "keyset" ||
    (job.kind === "execution" && job.statement !== undefined) ||
    (job.draft.issuedAtMs >= from && job.draft.issuedAtMs <= until);
  return { dated: jobs.filter(fits), misdated: jobs.filter((job) => !fits(job)) };
}

function clockChanged(): AssayError<"clock_changed"> {
  return new AssayError("clock_changed", "This machine's clock was changed while the request was under way.", {
    hints: ["Send the request again: no receipt could be dated truthfully."],
  });
}

/** What a job brings to the log besides its signatures, bytes; other statements than executions are small. */
function bytesOf(job: Job): number {
  if (job.kind === "keyset") return 0;
  const { opening } = job.draft;
  return (job.kind === "execution" ? job.draft.claims.length : 0) + (opening?.length ?? 0);
}
/** A batch of this many means that callers come faster than flushes end. */
const BUSY_BATCH = 4;

function linger(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

function headsOf(execution: Statement, service: Statement): DecodedRecord["heads"] {
  return [execution, service].map(({ header, digest }) => ({
    issuer: header.issuer,
    head: { seq: header.seq + 1, prev: digest },
  }));
}

function executionRow(draft: ExecutionDraft, execution: Statement, service: Statement, logIndex: number): ReceiptRow {
  return {
    logIndex,
    receiptId: hex(draft.receiptId),
    executionDigest: hex(execution.digest),
    serviceDigest: hex(service.digest),
    kind: "execution",
    owner: draft.owner ?? null,
    visibility: "private",
    grantSha256: hex(draft.grantSha256),
    model: draft.model,
    manifestDigest: draft.manifestDigest,
    mode: draft.mode,
    issuedAtMs: draft.issuedAtMs,
    refersTo: null,
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}
