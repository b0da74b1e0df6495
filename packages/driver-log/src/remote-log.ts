import { AssayError, hexToBytes, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { decodeRecords, encodeRecords, REMOTE_LOG_LIMITS, wireBytes } from "@assay/protocol";
import type { CheckpointNote, LogRecord, LogSink, StoredRecord } from "@assay/protocol";

/** The calls that are made of the sequencer. */
export type LogFetch = (
  url: string,
  init: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: Uint8Array;
    readonly signal: AbortSignal;
    readonly redirect: "error";
  },
) => Promise<Response>;

export type RemoteLogOptions = {
  /** The gateway that owns the log's files. */
  readonly url: string;
  /** Bearer of this gateway's session there; asked for each call, since a session ends when the gateway joins again. */
  readonly token: () => string;
  readonly fetch: LogFetch;
  /** Whether a sequencer on another machine may be spoken to over plain http. */
  readonly allowPlainHttp?: boolean;
  /** How long an append is tried again before its caller is told `log_unreachable`, milliseconds. */
  readonly appendMs?: number;
  /** Longest single call, and the pause between two tries, milliseconds. */
  readonly callMs?: number;
  readonly retryMs?: number;
  /** How long the sequencer holds a question for news, milliseconds. */
  readonly pollMs?: number;
  /** Told when the log has grown, by whomever. */
  readonly onGrowth?: (size: number) => void;
};

export type RemoteLog = LogSink & {
  /** Whether the last call was answered. */
  readonly reachable: () => boolean;
};

const APPEND_MS = 5000;
const CALL_MS = 10_000;
const RETRY_MS = 200;
const POLL_MS = 10_000;
/** How long `checkpoint` waits by default, as for a log of one's own. */
const CHECKPOINT_MS = 10_000;
/** Bytes and records that may wait here, as in a log of one's own. */
const MAX_QUEUED_BYTES = 64 * 1024 * 1024;
/** Answers in JSON are a proof or a list of indexes. */
const MAX_JSON_BYTES = 1024 * 1024;

type Call = {
  readonly records: readonly LogRecord[];
  readonly bytes: number;
  readonly resolve: (indexes: readonly number[]) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * A log whose files another gateway owns. Appends are gathered into bounded calls, one at a time and in order, and a
 * call whose answer was lost is sent again: the sequencer knows records by their digests. When it stays silent, callers
 * get `log_unreachable`, which says that nobody knows whether their records are in the log: the same records must be
 * appended again before anything that relies on the outcome.
 *
 * Throws `log_unreachable` when the sequencer does not answer at all, `log_url_invalid`, and what it refuses with.
 */
export async function connectLog(options: RemoteLogOptions): Promise<RemoteLog> {
  const base = checked(options.url, options.allowPlainHttp ?? false);
  const appendMs = options.appendMs ?? APPEND_MS;
  const callMs = options.callMs ?? CALL_MS;
  const retryMs = options.retryMs ?? RETRY_MS;
  const closing = new AbortController();
  let reachable = true;
  let queue: Call[] = [];
  let queuedBytes = 0;
  let running: Promise<void> | undefined;

  const ask = async (
    method: string,
    path: string,
    parts: { readonly body?: Uint8Array; readonly timeoutMs?: number; readonly maxBytes?: number } = {},
  ): Promise<Uint8Array | undefined> => {
    if (closing.signal.aborted) throw closed();
    let response: Response;
    let bytes: Uint8Array;
    try {
      response = await options.fetch(`${base}/internal/log/${path}`, {
        method,
        headers: {
          authorization: `Bearer ${options.token()}`,
          "content-type": "application/octet-stream",
          "assay-log-epoch": String(session.epoch),
        },
        ...(parts.body ? { body: parts.body } : {}),
        signal: AbortSignal.any([closing.signal, AbortSignal.timeout(parts.timeoutMs ?? callMs)]),
        redirect: "error",
      });
      bytes = await readAll(response, parts.maxBytes ?? MAX_JSON_BYTES);
    } catch (cause) {
      if (closing.signal.aborted) throw closed();
      reachable = false;
      throw isAssayError(cause) ? cause : unreachable(cause);
    }
    reachable = response.status !== 502 && response.status !== 504;
    if (response.ok) return bytes;
    if (response.status === 404 && bytes.length === 0) return undefined;
    throw refusal(response.status, bytes);
  };
  const json = async (...of: Parameters<typeof ask>): Promise<{ readonly [key: string]: JsonValue }> => {
    const bytes = (await ask(...of)) ?? new Uint8Array();
    const value = parseJson(bytes, { maxBytes: MAX_JSON_BYTES, maxDepth: 4 });
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as { readonly [key: string]: JsonValue };
    throw malformed();
  };

  const session = { epoch: 0, run: "" };
  const openSession = async (): Promise<{ readonly origin: string; readonly size: number }> => {
    const { origin, size, epoch, run } = await json("POST", "session");
    if (typeof origin !== "string" || typeof run !== "string") throw malformed();
    session.epoch = uint(epoch);
    session.run = run;
    return { origin, size: uint(size) };
  };
  const opened = await openSession();
  let known = opened.size;
  const grew = (size: number): void => {
    if (size <= known) return;
    known = size;
    options.onGrowth?.(size);
  };

  /** One bounded call, until it is answered or the time is over. */
  const send = async (records: readonly LogRecord[]): Promise<readonly number[]> => {
    const body = encodeRecords(records);
    const deadline = performance.now() + appendMs;
    for (;;) {
      try {
        const { indexes, size } = await json("POST", "append", { body });
        if (!Array.isArray(indexes) || indexes.length !== records.length) throw malformed();
        grew(uint(size));
        return (indexes as readonly JsonValue[]).map(uint);
      } catch (error) {
        if (!isAssayError(error)) throw error;
        // A sequencer that was started again counts sessions anew; one that did not has been given another session.
        if (error.code === "log_fenced" && (await restarted())) continue;
        if (NOT_HEARD.has(error.code)) throw unreachable(error);
        if (!UNANSWERED.has(error.code)) throw error;
        if (performance.now() >= deadline) throw unreachable(error);
        await pause(retryMs);
      }
    }
  };
  const restarted = async (): Promise<boolean> => {
    const before = { ...session };
    await openSession();
    if (session.run !== before.run) return true;
    // We were fenced out by another session of this gateway: it must stay so.
    session.epoch = before.epoch;
    return false;
  };

  const take = (): { readonly calls: readonly Call[]; readonly records: readonly LogRecord[] } => {
    let bytes = 0;
    let count = 0;
    let n = 0;
    for (const call of queue) {
      const over =
        bytes + call.bytes > REMOTE_LOG_LIMITS.maxBytes || count + call.records.length > REMOTE_LOG_LIMITS.maxRecords;
      if (n > 0 && over) break;
      bytes += call.bytes;
      count += call.records.length;
      n++;
    }
    const calls = queue.slice(0, n);
    queue = queue.slice(n);
    queuedBytes -= bytes;
    return { calls, records: calls.flatMap(({ records }) => records) };
  };
  const flush = async (): Promise<void> => {
    await Promise.resolve();
    while (queue.length > 0) {
      const { calls, records } = take();
      try {
        const indexes = await send(records);
        let at = 0;
        for (const call of calls) {
          call.resolve(indexes.slice(at, at + call.records.length));
          at += call.records.length;
        }
      } catch (error) {
        for (const call of calls) call.reject(error);
      }
    }
    running = undefined;
  };

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      timer.unref();
      closing.signal.addEventListener("abort", done, { once: true });
      function done(): void {
        clearTimeout(timer);
        closing.signal.removeEventListener("abort", done);
        resolve();
      }
    });
  // Others append too: whoever follows the log must hear of it.
  const follow = async (): Promise<void> => {
    const pollMs = options.pollMs ?? POLL_MS;
    while (!closing.signal.aborted) {
      try {
        const { size } = await json("GET", `size?above=${known}&waitMs=${pollMs}`, { timeoutMs: pollMs + callMs });
        grew(uint(size));
      } catch {
        await pause(retryMs * 5);
      }
    }
  };
  const following = follow();

  const readRange = async (from: number, limit: number): Promise<readonly StoredRecord[]> => {
    if (!Number.isSafeInteger(from) || from < 0 || !Number.isSafeInteger(limit) || limit < 0)
      throw new AssayError("log_range", `There are no ${limit} records from ${from} on.`);
    const count = Math.min(limit, REMOTE_LOG_LIMITS.maxReadRecords);
    const bytes = await ask("GET", `records?from=${from}&limit=${count}`, {
      timeoutMs: callMs * 3,
      maxBytes: REMOTE_LOG_LIMITS.maxReadBytes + MAX_RECORD_BYTES,
    });
    return decodeRecords(bytes ?? new Uint8Array(), REMOTE_LOG_LIMITS.maxReadRecords);
  };
  const path = async (query: string): Promise<readonly Uint8Array[]> => {
    const { path: hashes } = await json("GET", query);
    if (!Array.isArray(hashes)) throw malformed();
    return (hashes as readonly JsonValue[]).map((hash) => hexToBytes(typeof hash === "string" ? hash : "-"));
  };

  return {
    origin: opened.origin,
    reachable: () => reachable,
    size: () => known,
    append(records) {
      if (closing.signal.aborted) return Promise.reject(closed());
      if (records.length === 0) return Promise.resolve([]);
      const bytes = records.reduce((sum, record) => sum + wireBytes(record), 0);
      if (bytes > REMOTE_LOG_LIMITS.maxBytes || records.length > REMOTE_LOG_LIMITS.maxRecords) {
        return Promise.reject(
          new AssayError("log_entry_too_large", `A call appends ${records.length} records of ${bytes} bytes.`, {
            hints: [`The limits are ${REMOTE_LOG_LIMITS.maxRecords} records and ${REMOTE_LOG_LIMITS.maxBytes} bytes.`],
          }),
        );
      }
      if (queuedBytes + bytes > MAX_QUEUED_BYTES)
        return Promise.reject(new AssayError("log_overloaded", `${queuedBytes} bytes are already waiting.`));
      queuedBytes += bytes;
      const promise = new Promise<readonly number[]>((resolve, reject) => {
        queue.push({ records, bytes, resolve, reject });
      });
      running ??= flush();
      return promise;
    },
    async checkpoint({ atLeast = 0, timeoutMs = CHECKPOINT_MS } = {}): Promise<CheckpointNote> {
      const { origin, size, root, note } = await json("GET", `checkpoint?atLeast=${atLeast}&waitMs=${timeoutMs}`, {
        timeoutMs: timeoutMs + callMs,
      });
      if (typeof origin !== "string" || typeof root !== "string" || typeof note !== "string") throw malformed();
      return { origin, size: uint(size), root: hexToBytes(root), note };
    },
    inclusionProof: (index, size) => path(`inclusion?index=${index}&size=${size}`),
    consistencyProof: (oldSize, newSize) => path(`consistency?oldSize=${oldSize}&newSize=${newSize}`),
    async read(index) {
      if (!Number.isSafeInteger(index) || index < 0) return undefined;
      const [record] = await readRange(index, 1);
      return record;
    },
    readRange,
    async eraseOpening(index) {
      await json("POST", `erase?index=${index}`);
    },
    resource: (of) => ask("GET", `resource?path=${encodeURIComponent(of)}`, { maxBytes: MAX_RESOURCE_BYTES }),
    async close() {
      closing.abort();
      await following;
      await running;
      for (const call of queue.splice(0)) call.reject(closed());
    },
  };
}

/** A full bundle of 256 entries of 65,535 bytes. */
const MAX_RESOURCE_BYTES = 17 * 1024 * 1024;
/** The largest single record, which a read may bring past its limit. */
const MAX_RECORD_BYTES = 18 * 1024 * 1024;
/** Codes with which an append may be tried again at once. */
const UNANSWERED: ReadonlySet<string> = new Set(["log_unreachable", "gateway_draining", "gateway_overloaded"]);
/**
 * Refusals of the one who asks, before the log is looked at: they say nothing of an earlier try whose answer was lost,
 * so they too leave open what became of the records.
 */
const NOT_HEARD: ReadonlySet<string> = new Set([
  "node_session_unknown",
  "node_pending",
  "node_ejected",
  "log_peer_required",
  "log_fenced",
  "request_too_large",
  "log_message_invalid",
]);

async function readAll(response: Response, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of (response.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes) throw malformed();
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks, size));
}

function checked(url: string, allowPlain: boolean): string {
  const refused = (why: string, cause?: unknown): AssayError =>
    new AssayError("log_url_invalid", `The log's address ${why}.`, cause === undefined ? {} : { cause });
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw refused("is not one", cause);
  }
  const local = ["127.0.0.1", "[::1]", "localhost"].includes(parsed.hostname);
  if (parsed.protocol !== "https:" && !(parsed.protocol === "http:" && (local || allowPlain)))
    throw refused("is not https, and not on this machine");
  return url.replace(/\/+$/, "");
}

function refusal(status: number, bytes: Uint8Array): AssayError {
  try {
    const value = parseJson(bytes, { maxBytes: MAX_JSON_BYTES, maxDepth: 4 });
    const { code, error } = value as { readonly code?: JsonValue; readonly error?: JsonValue };
    if (typeof code === "string" && /^[a-z][a-z0-9_]{0,63}$/.test(code) && typeof error === "string")
      return new AssayError(code, error.slice(0, 1000));
  } catch {
    // Not ours: something in front of the sequencer answered.
  }
  return unreachable(new Error(`status ${status}`));
}

function uint(value: JsonValue | undefined): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw malformed();
}

function malformed(): AssayError<"log_message_invalid"> {
  return new AssayError("log_message_invalid", "The log's sequencer answered with something that it does not say.");
}

function unreachable(cause: unknown): AssayError<"log_unreachable"> {
  const why = isAssayError(cause) && cause.code !== "log_unreachable" ? `: ${cause.message}` : ".";
  return new AssayError("log_unreachable", `The gateway that owns the log does not answer${why}`, {
    hints: ["Receipts cannot be made durable until it does; nothing is answered without one."],
    cause,
  });
}

function closed(): AssayError<"log_closed"> {
  return new AssayError("log_closed", "The log is closed.");
}
