import { isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { LogSink, StoredRecord } from "@assay/protocol";
import type { ReleaseClaims } from "@assay/receipts";
import { decodeRecord } from "../decode-record.ts";
import type { DecodedRecord } from "../decode-record.ts";

/** Follows until it is stopped. */
export type Follower = {
  /** The position after the last record that was handed on. */
  readonly at: () => number;
  /** Resolves once everything up to `size` was handed on. */
  readonly reached: (size: number) => Promise<void>;
  readonly stop: () => Promise<void>;
};

export type FollowOptions = {
  readonly log: Pick<LogSink, "size" | "readRange">;
  readonly suite: Pick<CryptoSuite, "sha256">;
  /** First record to hand on. */
  readonly from: number;
  /** Every record once, in order; `next` is the position after the last. */
  readonly onRecords: (decoded: readonly DecodedRecord[], next: number) => Promise<void> | void;
  readonly onError: (error: unknown) => void;
  readonly pollMs?: number;
};

const STRIDE = 1000;
const POLL_MS = 250;

/**
 * Follows a log that others write to as well, so that what this gateway derives from it (chains, keysets, catalogue,
 * index) holds their part too. A log that is away is asked again; a record that cannot be handed on is tried again,
 * because what comes after it may rest on it.
 */
export function followLog(options: FollowOptions): Follower {
  const { log, suite, onRecords } = options;
  const pollMs = options.pollMs ?? POLL_MS;
  const stopping = new AbortController();
  let at = options.from;
  let failing = false;
  let waiting: { readonly size: number; readonly resolve: () => void }[] = [];
  let wake: (() => void) | undefined;

  const step = async (): Promise<boolean> => {
    if (log.size() <= at) return false;
    const records: readonly StoredRecord[] = await log.readRange(at, STRIDE);
    if (records.length === 0) return false;
    const next = at + records.length;
    await onRecords(
      records.map((record) => decodeRecord(suite, record)),
      next,
    );
    at = next;
    for (const { resolve } of waiting.filter(({ size }) => size <= at)) resolve();
    waiting = waiting.filter(({ size }) => size > at);
    return true;
  };
  const follow = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        const moved = await step();
        failing = false;
        if (moved) continue;
      } catch (error) {
        if (!failing && !(isAssayError(error) && error.code === "log_closed")) options.onError(error);
        failing = true;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pollMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  };
  const running = follow();
  return {
    at: () => at,
    reached(size) {
      if (at >= size) return Promise.resolve();
      return new Promise((resolve) => {
        waiting.push({ size, resolve });
        wake?.();
      });
    },
    async stop() {
      stopping.abort();
      wake?.();
      await running;
      for (const { resolve } of waiting.splice(0)) resolve();
    },
  };
}

/** Follows the releases alone: what a second gateway's catalogue is made of. */
export function followReleases(
  options: Omit<FollowOptions, "onRecords"> & {
    readonly apply: (release: ReleaseClaims, logIndex: number) => Promise<void> | void;
  },
): Follower {
  return followLog({
    ...options,
    async onRecords(decoded) {
      for (const { release, logIndex } of decoded) if (release) await options.apply(release, logIndex);
    },
  });
}
