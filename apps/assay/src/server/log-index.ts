import { AssayError } from "@assay/core";
import { describe, startIndexer } from "@assay/service-gateway";
import type { DecodedRecord, Indexer } from "@assay/service-gateway";
import { startDatabase } from "./database.ts";
import type { StartedDatabase } from "./database.ts";
import { deferStores } from "./deferred-index.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";

/** The database, and the index of the log in it. */
export type LogIndex = {
  /** Resolves once the database is there; rejects when it did not start. */
  readonly starting: Promise<StartedDatabase>;
  readonly stores: ReturnType<typeof deferStores>;
  /** What keeps the index from being this log's, in one sentence. */
  readonly problem: () => string | undefined;
  /** Follows the log from now on: one process does so for a database. */
  readonly follow: () => void;
  /** Hands over records as they become durable, so that they need not be read again. */
  readonly offer: (decoded: readonly DecodedRecord[]) => void;
  /** Resolves once the index has what is in the log at the call, or `timeoutMs` have passed; true in the first case. */
  readonly settled: (timeoutMs: number) => Promise<boolean | undefined>;
  readonly lagRecords: () => number;
  /** Empties every derived table and makes it again from the log. */
  readonly rebuild: () => Promise<{ readonly before: string; readonly after: string }>;
  readonly stop: () => Promise<void>;
};

/** How long a rebuild may take before it begins, and until its end, milliseconds. */
const CATCH_UP_MS = 60_000;
const REBUILD_MS = 600_000;

/** Begins to open the database. It comes up beside everything else: nothing on the way to an answer waits for it. */
export function openLogIndex({ config, at, suite, logger, undo }: Home, place: LogPlace): LogIndex {
  const { log } = place;
  const starting = startDatabase(config.databaseUrl, at("database"), logger);
  const stores = deferStores(starting.then(({ stores: ready }) => ready));
  undo.push(async () => {
    await starting.then(
      ({ close }) => close(),
      () => undefined,
    );
  });
  let strange: string | undefined;
  let indexer: Indexer | undefined;
  starting
    .then(async ({ stores: { index } }) => {
      if (!place.own || (await index.watermark()) <= log.size()) return;
      // Its rows are of other receipts, and nothing of this log would be added before it is as long as that one.
      strange = "The database's index is ahead of this log: it is another log's, or this one was put back.";
      logger.error({ hint: "name another database, or run `assay db rebuild`" }, strange);
    })
    .catch((error: unknown) => logger.error({ err: describe(error) }, "database did not start"));

  const follow = (): void => {
    indexer = startIndexer({
      log,
      index: stores.index,
      suite,
      onError: (error) => {
        if (stores.started() || stores.failure() !== undefined)
          logger.warn({ err: describe(error) }, "index is behind the log");
      },
    });
  };
  const settled = async (timeoutMs: number): Promise<boolean | undefined> => indexer?.settled(log.size(), timeoutMs);

  return {
    starting,
    stores,
    problem: () => strange,
    follow,
    offer: (decoded) => indexer?.offer(decoded),
    settled,
    lagRecords: () => indexer?.lag().records ?? 0,
    async rebuild() {
      await starting;
      await settled(CATCH_UP_MS);
      // Two followers of one index would each believe the other's watermark: the live one stops first.
      await indexer?.stop();
      const before = await stores.index.fingerprint();
      await stores.index.reset();
      strange = undefined;
      follow();
      if ((await settled(REBUILD_MS)) !== true)
        throw new AssayError("database_unavailable", "The index could not be rebuilt to the end of the log.");
      return { before, after: await stores.index.fingerprint() };
    },
    stop: async () => indexer?.stop(),
  };
}
