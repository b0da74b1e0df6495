import { isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { IndexStore, LogSink } from "@assay/protocol";
import { decodeRecord, modelRow } from "./decode-record.ts";
import type { DecodedRecord } from "./decode-record.ts";

/** Keeps the database's index behind the log, by as little as the database allows. */
export type Indexer = {
  /** Takes records as they become durable. Cheap; never fails. */
  readonly offer: (decoded: readonly DecodedRecord[]) => void;
  /** Resolves when everything up to `size` is indexed; with false after `timeoutMs`, or when the indexer stops. */
  readonly settled: (size: number, timeoutMs: number) => Promise<boolean>;
  /** Records that the log has and the index lacks, and the last failure's code. */
  readonly lag: () => { readonly records: number; readonly failure: string | null };
  readonly stop: () => Promise<void>;
};

export type IndexerModules = {
  readonly log: LogSink;
  readonly index: IndexStore;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly onError: (error: unknown) => void;
};

/** Rows a transaction inserts at most. */
const MAX_ROWS = 4000;
/** Pause between two inserts, milliseconds: new receipts are found without the index, and larger inserts cost less. */
const GATHER_MS = 500;
/** Decoded rows kept in memory while the database is away; beyond it they are read from the log again. */
const MAX_KEPT = 20_000;
/** Pause after a failure, growing up to the second figure, milliseconds. */
const RETRY_MS = [100, 5000] as const;

/** Starts following. The first thing it does is to read what the index lacks. */
export function startIndexer({ log, index, suite, onError }: IndexerModules): Indexer {
  let kept: DecodedRecord[] = [];
  let watermark: number | undefined;
  let failure: string | null = null;
  const stopping = new AbortController();
  let wake: (() => void) | undefined;
  let hurry: (() => void) | undefined;
  let waiting: { readonly size: number; readonly resolve: (reached?: boolean) => void }[] = [];

  const pause = (ms: number | undefined): Promise<void> =>
    new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  // Unlike a pause it is not ended by new records, only by somebody who waits for the index, or by the stop.
  const gather = (): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, GATHER_MS);
      hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const reached = (to: number): void => {
    for (const { resolve } of waiting.filter(({ size }) => size <= to)) resolve();
    waiting = waiting.filter(({ size }) => size > to);
  };

  const nextRows = async (from: number): Promise<readonly DecodedRecord[]> => {
    if (kept[0] !== undefined && kept[0].logIndex < from) kept = kept.filter(({ logIndex }) => logIndex >= from);
    if (kept[0]?.logIndex === from) return kept.slice(0, MAX_ROWS);
    const records = await log.readRange(from, MAX_ROWS);
    return records.map((record) => decodeRecord(suite, record));
  };

  const follow = async (): Promise<void> => {
    let backoff: number = RETRY_MS[0];
    while (!stopping.signal.aborted) {
      try {
        watermark ??= await index.watermark();
        reached(watermark);
        if (watermark >= log.size()) {
          await pause(undefined);
          continue;
        }
        const batch = await nextRows(watermark);
        if (batch.length === 0) {
          await pause(RETRY_MS[0]);
          continue;
        }
        const next = watermark + batch.length;
        await index.index({
          receipts: batch.map(({ row }) => row),
          models: batch.flatMap(({ release, logIndex }) => (release ? [modelRow(release, logIndex)] : [])),
          watermark: next,
        });
        watermark = next;
        kept = kept.slice(kept[0]?.logIndex === next - batch.length ? batch.length : 0);
        failure = null;
        backoff = RETRY_MS[0];
        reached(next);
        if (waiting.length === 0 && batch.length < MAX_ROWS) await gather();
      } catch (error) {
        const code = isAssayError(error) ? error.code : "index_failed";
        if (failure !== code) onError(error);
        failure = code;
        watermark = undefined;
        await pause(backoff);
        backoff = Math.min(backoff * 2, RETRY_MS[1]);
      }
    }
  };
  const running = follow();

  return {
    offer(decoded) {
      const last = kept.at(-1)?.logIndex;
      const first = decoded[0]?.logIndex;
      if (
        first !== undefined &&
        (last === undefined || last + 1 === first) &&
        kept.length + decoded.length <= MAX_KEPT
      ) {
        kept = kept.length === 0 ? [...decoded] : kept.concat(decoded);
      } else kept = [];
      wake?.();
    },
    settled(size, timeoutMs) {
      if (watermark !== undefined && watermark >= size) return Promise.resolve(true);
      if (stopping.signal.aborted) return Promise.resolve(false);
      return new Promise((resolve) => {
        const timer = setTimeout(() => {
          waiting = waiting.filter((entry) => entry !== mine);
          resolve(false);
        }, timeoutMs);
        const mine = {
          size,
          resolve: (reached = true) => {
            clearTimeout(timer);
            resolve(reached);
          },
        };
        waiting.push(mine);
        wake?.();
        hurry?.();
      });
    },
    lag: () => ({ records: Math.max(0, log.size() - (watermark ?? 0)), failure }),
    async stop() {
      stopping.abort();
      wake?.();
      hurry?.();
      await running;
      for (const { resolve } of waiting.splice(0)) resolve(false);
    },
  };
}
