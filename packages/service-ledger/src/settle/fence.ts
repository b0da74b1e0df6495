import { setTimeout as pause } from "node:timers/promises";
import { AssayError } from "@assay/core";
import type { Database } from "@assay/driver-postgres";

/** Key of the advisory lock: the bytes "assayset". */
const LOCK_KEY = "7022083106487464308";
/** How often the lock is proved to be held still; a second settler begins no sooner than the first one's connection ends. */
const HEARTBEAT_MS = 1_000;

/** The right to settle: one process has it, because one process alone may give out a key's nonces. */
export type Fence = {
  /** Aborted when the lock was lost, and when it was given up. */
  readonly lost: AbortSignal;
  readonly release: () => Promise<void>;
};

/**
 * Takes the lock that one settler of a database holds, for as long as its connection lives. Throws `settler_running` when
 * another one keeps it for `waitMs`: a process that was killed loses it with its connection.
 */
export async function takeFence(database: Database, waitMs: number): Promise<Fence> {
  const lost = new AbortController();
  const ending = new AbortController();
  let taken = (): void => {};
  let refused = (_error: unknown): void => {};
  const ready = new Promise<void>((resolve, reject) => {
    taken = resolve;
    refused = reject;
  });
  const held = database
    .transaction(async (tx) => {
      const deadline = Date.now() + waitMs;
      for (;;) {
        const { rows } = await tx.query(`SELECT pg_try_advisory_xact_lock(${LOCK_KEY}) AS held`);
        if (rows[0]?.["held"] === true) break;
        if (Date.now() > deadline)
          throw new AssayError("settler_running", "Another process settles the payments of this database.", {
            hints: ["One settler is enough for any number of gateways; stop the other one first."],
          });
        await pause(100);
      }
      taken();
      while (!ending.signal.aborted) {
        await tx.query("SELECT 1");
        await pause(HEARTBEAT_MS, undefined, { signal: ending.signal }).catch(() => undefined);
      }
    })
    .catch((error: unknown) => refused(error))
    .finally(() => lost.abort());
  await ready;
  return {
    lost: lost.signal,
    async release() {
      ending.abort();
      await held;
    },
  };
}
