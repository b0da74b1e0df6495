import type { Database } from "@assay/driver-postgres";
import type { LogSink, StoredRecord } from "@assay/protocol";
import type { EvmSuite, Hex } from "@assay/x402";
import { ingestRecords, WatermarkMoved } from "./ingest.ts";
import type { PaidRecord } from "./ingest.ts";
import type { DeskEvent } from "./modules.ts";

/** Brings the rows up to the log, and keeps them there. */
export type Follower = {
  /** Takes records as they become durable, in log order; `next` is the index after the last. Cheap; never fails. */
  readonly offer: (records: readonly PaidRecord[], next: number) => void;
  /** Resolves once everything below `size` is in the rows; false when it is stopped before. */
  readonly reached: (size: number) => Promise<boolean>;
  /** Records that the log has and the rows lack. */
  readonly lag: () => number;
  readonly stop: () => Promise<void>;
};

export type FollowModules = {
  readonly database: Database;
  readonly suite: EvmSuite;
  readonly log: Pick<LogSink, "size" | "readRange">;
  /** Reads a record of the log. What it throws is told, and the record is taken as unpaid. */
  readonly decode: (record: StoredRecord) => PaidRecord;
  /** Told of payments that became due, and of where the rows stand now. */
  readonly onIngested: (due: readonly Hex[], watermark: number) => void;
  readonly onEvent: (event: DeskEvent) => void;
};

/** Records that are read from the log at once. */
const MAX_READ = 1000;
/** Paid records of one transaction. */
const MAX_ROWS = 500;
/** Paid records kept while the database is away; beyond it they are read from the log again. */
const MAX_KEPT = 20_000;
/** Records that nobody paid for only move the watermark: so often, milliseconds. */
const GATHER_MS = 500;
/** Rows that become due together cost hardly more than one, and claims of the same channel stand behind each write, milliseconds. */
const GATHER_PAID_MS = 50;
/** A log elsewhere grows without telling: so often it is looked at, milliseconds. */
const IDLE_MS = 1000;
/** Pause after a failure, growing up to the second figure, milliseconds. */
const RETRY_MS = [100, 5000] as const;

/** Starts following. The first thing it does is to read what the rows lack. */
export function startFollower({ database, suite, log, decode, onIngested, onEvent }: FollowModules): Follower {
  /** Paid ones of the records from `keptFrom` up to `keptTo`. */
  let kept: PaidRecord[] = [];
  let keptFrom = 0;
  let keptTo = 0;
  let watermark: number | undefined;
  const stopping = new AbortController();
  let wake: (() => void) | undefined;
  let hurry: (() => void) | undefined;
  let hurryPaid: (() => void) | undefined;
  let waiting: { readonly size: number; readonly resolve: (reached: boolean) => void }[] = [];

  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  /** Lets more gather, unless somebody waits; `forPaid` says that a paid record ends it. */
  const gather = (ms: number, forPaid: boolean): Promise<void> =>
    new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        hurry = undefined;
        hurryPaid = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      hurry = end;
      hurryPaid = forPaid ? end : undefined;
    });

  const settle = (to: number): void => {
    for (const { resolve } of waiting.filter(({ size }) => size <= to)) resolve(true);
    waiting = waiting.filter(({ size }) => size > to);
  };

  /** The next paid records, and up to where the log was looked at. */
  const next = async (from: number): Promise<{ readonly records: readonly PaidRecord[]; readonly to: number }> => {
    if (keptFrom <= from && from < keptTo) {
      kept = kept.filter(({ logIndex }) => logIndex >= from);
      keptFrom = from;
      const last = kept[MAX_ROWS - 1];
      return { records: kept.slice(0, MAX_ROWS), to: last ? last.logIndex + 1 : keptTo };
    }
    const stored = await log.readRange(from, MAX_READ);
    const records = stored.flatMap((record) => {
      try {
        const decoded = decode(record);
        return decoded.payment ? [decoded] : [];
      } catch (error) {
        onEvent({ type: "unreadable", logIndex: record.index, error });
        return [];
      }
    });
    return { records, to: from + stored.length };
  };

  const step = async (): Promise<void> => {
    watermark ??= await readWatermark(database);
    onIngested([], watermark);
    settle(watermark);
    if (watermark >= Math.max(log.size(), keptTo)) return pause(IDLE_MS);
    let batch = await next(watermark);
    if (batch.to === watermark) return pause(RETRY_MS[0]);
    // What came just now needs no hurry: until the rows have it, this process knows it by itself.
    if (batch.to === keptTo && waiting.length === 0) {
      if (batch.records.length === 0) await gather(GATHER_MS, true);
      if (waiting.length === 0) await gather(GATHER_PAID_MS, false);
      batch = await next(watermark);
    }
    const due = await ingestRecords(database, suite, batch.records, { from: watermark, to: batch.to }, onEvent);
    watermark = batch.to;
    onIngested(due, watermark);
    settle(watermark);
  };

  const follow = async (): Promise<void> => {
    let backoff: number = RETRY_MS[0];
    let told = false;
    while (!stopping.signal.aborted) {
      try {
        await step();
        backoff = RETRY_MS[0];
        told = false;
      } catch (error) {
        watermark = undefined;
        // Another gateway was faster: its place is read, and nothing is wrong.
        if (error instanceof WatermarkMoved) continue;
        if (!told) onEvent({ type: "behind", error });
        told = true;
        await pause(backoff);
        backoff = Math.min(backoff * 2, RETRY_MS[1]);
      }
    }
  };
  const running = follow();

  return {
    offer(records, to) {
      const first = records[0]?.logIndex ?? to;
      const paid = records.filter(({ payment }) => payment !== undefined);
      if (first === keptTo && kept.length + paid.length <= MAX_KEPT) kept.push(...paid);
      else {
        kept = paid;
        keptFrom = first;
      }
      keptTo = Math.max(first, to);
      wake?.();
      if (paid.length > 0) hurryPaid?.();
    },
    reached(size) {
      if (watermark !== undefined && watermark >= size) return Promise.resolve(true);
      if (stopping.signal.aborted) return Promise.resolve(false);
      return new Promise((resolve) => {
        waiting.push({ size, resolve });
        wake?.();
        hurry?.();
      });
    },
    lag: () => Math.max(0, log.size() - (watermark ?? 0)),
    async stop() {
      stopping.abort();
      wake?.();
      hurry?.();
      await running;
      for (const { resolve } of waiting.splice(0)) resolve(false);
    },
  };
}

async function readWatermark(database: Database): Promise<number> {
  const { rows } = await database.query("SELECT watermark FROM assay.ledger_state");
  return Number(rows[0]?.["watermark"]);
}
