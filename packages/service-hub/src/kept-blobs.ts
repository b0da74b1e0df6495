import { mkdir, open, opendir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { AssayError } from "@assay/core";
import type { BlobStore } from "@assay/protocol";

/** A content store of which some blobs are kept for a time that was paid for, and all others for good. */
export type KeptBlobs = {
  /** Whatever is put into it stays for good, also when it was kept for a time before. */
  readonly store: BlobStore;
  /**
   * Puts a blob that is kept until `untilMs`: longer when it was paid for longer before, for good when it was for good.
   * Its digest has to be known. Throws what {@link BlobStore.put} throws.
   */
  readonly putUntil: (
    source: AsyncIterable<Uint8Array> | Uint8Array,
    untilMs: number,
    options: { readonly maxBytes?: number; readonly expected: string },
  ) => Promise<{ readonly sha256: string; readonly sizeBytes: number }>;
  /** Does something during which no blob is removed: a release looks whether its files are there, and then names them. */
  readonly holding: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /**
   * Removes blobs whose time, and {@link GRACE_MS} after it, is over; one that something refers to stays for good. Resolves
   * with how many were removed. While somebody puts or holds nothing is: the next sweep is as good.
   */
  readonly sweep: (nowMs: number, isReferenced: (sha256: string) => Promise<boolean>) => Promise<number>;
};

/** How long a blob stays after its time: long enough to notice, and to pay for it again. */
export const GRACE_MS = 7 * 24 * 60 * 60 * 1000;
/** Blobs looked at in one sweep: what is not reached has an hour more. */
const MAX_SWEPT = 10_000;
const DIGEST = /^[0-9a-f]{64}$/;

/**
 * Opens what is known of times at `directory`: one small file for each blob that does not stay for good, so that losing
 * one keeps a blob and never loses it. `store` has to be used through what this gives, and by one process.
 */
export async function openKeptBlobs(store: BlobStore, directory: string): Promise<KeptBlobs> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const times = timesAt(directory);
  const underWay = new Map<string, UnderWay>();
  let holders = 0;
  let removing: Promise<void> | undefined;

  const holding = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    for (let other = removing; other; other = removing) await other;
    holders++;
    try {
      return await work();
    } finally {
      holders--;
    }
  };

  const put: BlobStore["put"] = (source, options) =>
    holding(async () => {
      const stored = await store.put(source, options);
      const other = underWay.get(stored.sha256);
      if (other) other.forGood = true;
      await times.forget(stored.sha256);
      return stored;
    });

  const putUntil: KeptBlobs["putUntil"] = (source, untilMs, options) =>
    holding(async () => {
      const { expected } = options;
      const mine = underWay.get(expected) ?? { puts: 0, forGood: false, seen: undefined };
      underWay.set(expected, mine);
      mine.puts++;
      try {
        // What is here without a time stays for good. Looked at once, before any of these puts writes a time.
        mine.seen ??= (async () => {
          if ((await times.of(expected)) === undefined && (await store.has(expected))) mine.forGood = true;
        })();
        await mine.seen;
        // The time first: a crash between the two leaves a time without a blob, and never a blob that nobody ends.
        if (!mine.forGood) await times.atLeast(expected, untilMs);
        const stored = await store.put(source, options);
        if (mine.forGood) await times.forget(expected);
        return stored;
      } finally {
        if (--mine.puts === 0) underWay.delete(expected);
      }
    });

  /** Ends the time of one blob, unless something happens just now that may need it: puts wait for it. */
  const end = async (
    sha256: string,
    beforeMs: number,
    isReferenced: (sha256: string) => Promise<boolean>,
  ): Promise<boolean> => {
    if (holders > 0 || removing) return false;
    let done = (): void => undefined;
    removing = new Promise((resolve) => {
      done = resolve;
    });
    try {
      if (((await times.of(sha256)) ?? beforeMs) >= beforeMs) return false;
      const stays = await isReferenced(sha256);
      // The blob first: a crash between the two leaves a time without a blob, which the next sweep takes away.
      if (!stays) await store.remove(sha256);
      await times.forget(sha256);
      return !stays;
    } finally {
      removing = undefined;
      done();
    }
  };

  return {
    store: { ...store, put },
    putUntil,
    holding,
    async sweep(nowMs, isReferenced) {
      const beforeMs = nowMs - GRACE_MS;
      let removed = 0;
      for (const sha256 of await times.endedBefore(beforeMs, MAX_SWEPT))
        if (await end(sha256, beforeMs, isReferenced)) removed++;
      return removed;
    },
  };
}

/** A digest that is being put for a time. */
type UnderWay = {
  puts: number;
  /** Whether it was here for good before, or somebody puts it for good meanwhile. */
  forGood: boolean;
  seen: Promise<void> | undefined;
};

type Times = {
  readonly of: (sha256: string) => Promise<number | undefined>;
  /** Durable before it resolves; a time that is later already stays. */
  readonly atLeast: (sha256: string, untilMs: number) => Promise<void>;
  readonly forget: (sha256: string) => Promise<void>;
  readonly endedBefore: (ms: number, most: number) => Promise<readonly string[]>;
};

/** Times of blobs, each in a file of its digest's name. */
function timesAt(directory: string): Times {
  let serial = 0;
  let last: Promise<unknown> = Promise.resolve();
  /** Changes are made one after the other: two that extend the same time would else take the shorter one. */
  const inOrder = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const next = last.then(work, work);
    last = next.catch(() => undefined);
    return next;
  };
  const of = async (sha256: string): Promise<number | undefined> => {
    const text = await readFile(join(directory, sha256), "utf8").catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    if (text === undefined) return undefined;
    // A time that cannot be read is none that has come.
    return /^\d{1,16}\n$/.test(text) ? Number(text) : Number.MAX_SAFE_INTEGER;
  };
  return {
    of,
    atLeast: (sha256, untilMs) =>
      inOrder(async () => {
        if (((await of(sha256)) ?? 0) >= untilMs) return;
        const temporary = join(directory, `${sha256}.${process.pid}.${serial++}.tmp`);
        try {
          const file = await open(temporary, "wx", 0o600);
          try {
            await file.writeFile(`${untilMs}\n`);
            await file.sync();
          } finally {
            await file.close();
          }
          await rename(temporary, join(directory, sha256));
          await syncDirectory(directory);
        } catch (cause) {
          await rm(temporary, { force: true });
          throw new AssayError("storage_full", "How long a file is kept could not be written down.", { cause });
        }
      }),
    forget: (sha256) =>
      inOrder(async () => {
        if ((await of(sha256)) === undefined) return;
        await rm(join(directory, sha256), { force: true });
        await syncDirectory(directory);
      }),
    async endedBefore(ms, most) {
      const ended: string[] = [];
      for await (const { name } of await opendir(directory)) {
        if (!DIGEST.test(name)) continue;
        if (((await of(name)) ?? ms) < ms) ended.push(name);
        if (ended.length >= most) break;
      }
      return ended;
    },
  };
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
