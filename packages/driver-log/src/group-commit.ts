import { AssayError } from "@assay/core";
import type { LogRecord } from "@assay/protocol";
import type { Journal } from "./journal.ts";
import { BATCH_HEADER_BYTES, checkRecords, encodeRecord, MAX_CALL_BYTES } from "./record.ts";

/** A batch is closed here, so that the last caller of a burst does not wait for one huge write. */
const BATCH_TARGET_BYTES = 8 * 1024 * 1024;
/** What may wait for the disk, bytes; beyond it a caller is told to slow down rather than let memory grow. */
export const MAX_QUEUED_BYTES = 64 * 1024 * 1024;
/** The write buffer is kept between batches up to this size. */
const KEPT_BUFFER_BYTES = 1024 * 1024;

type Call = {
  readonly records: readonly LogRecord[];
  readonly bytes: number;
  readonly resolve: (indexes: readonly number[]) => void;
  readonly reject: (error: unknown) => void;
};

/** One writer for many callers: whoever comes while a flush is in flight joins the next one. */
export type GroupCommit = {
  readonly append: (records: readonly LogRecord[]) => Promise<readonly number[]>;
  /** Refuses further calls with `error` and resolves when the flush in flight is over. */
  stop(error: AssayError): Promise<void>;
};

/** Group commit over `journal`; `onCommit` is called after each batch that reached stable storage. */
export function createGroupCommit(journal: Journal, onCommit: () => void): GroupCommit {
  let queue: Call[] = [];
  let queuedBytes = 0;
  let running: Promise<void> | undefined;
  let stopped: AssayError | undefined;
  let buffer = Buffer.allocUnsafe(KEPT_BUFFER_BYTES);

  // The calls of the next batch: at least one, and no more than a batch may hold.
  function take(): { calls: readonly Call[]; bytes: number } {
    let bytes = 0;
    let n = 0;
    for (const call of queue) {
      if (n > 0 && (bytes + call.bytes > MAX_CALL_BYTES || bytes >= BATCH_TARGET_BYTES)) break;
      bytes += call.bytes;
      n++;
    }
    const calls = n === queue.length ? queue : queue.slice(0, n);
    queue = n === queue.length ? [] : queue.slice(n);
    queuedBytes -= bytes;
    return { calls, bytes };
  }

  async function flush(): Promise<void> {
    // Calls made in the same turn of the event loop share the first batch.
    await Promise.resolve();
    while (queue.length > 0) {
      const { calls, bytes } = take();
      const length = BATCH_HEADER_BYTES + bytes;
      if (buffer.length < length) buffer = Buffer.allocUnsafe(length);
      let at = BATCH_HEADER_BYTES;
      let count = 0;
      for (const call of calls) {
        for (const record of call.records) at = encodeRecord(buffer, at, record);
        count += call.records.length;
      }
      let index = journal.size();
      try {
        await journal.append(buffer.subarray(0, length), count);
      } catch (error) {
        for (const call of calls) call.reject(error);
        continue;
      }
      for (const call of calls) call.resolve(call.records.map(() => index++));
      if (buffer.length > KEPT_BUFFER_BYTES) buffer = Buffer.allocUnsafe(KEPT_BUFFER_BYTES);
      onCommit();
    }
    running = undefined;
  }

  return {
    // Not an async function: a refusal must not depend on a later turn, and one promise per call is enough.
    append(records) {
      if (stopped) return Promise.reject(stopped);
      let bytes: number;
      try {
        bytes = checkRecords(records);
      } catch (error) {
        return Promise.reject(error instanceof Error ? error : new Error(String(error)));
      }
      if (records.length === 0) return Promise.resolve([]);
      if (queuedBytes + bytes > MAX_QUEUED_BYTES) {
        const hints = [`At most ${MAX_QUEUED_BYTES} bytes may wait for the disk; try again after a pause.`];
        return Promise.reject(new AssayError("log_overloaded", `${queuedBytes} bytes are already waiting.`, { hints }));
      }
      queuedBytes += bytes;
      const promise = new Promise<readonly number[]>((resolve, reject) => {
        queue.push({ records, bytes, resolve, reject });
      });
      running ??= flush();
      return promise;
    },
    async stop(error) {
      stopped ??= error;
      await running;
    },
  };
}
