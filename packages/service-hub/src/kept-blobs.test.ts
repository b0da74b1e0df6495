import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bytesToHex, utf8ToBytes } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { nodeSuite } from "@assay/driver-crypto";
import { buildManifest } from "@assay/onnx";
import type { BlobStore } from "@assay/protocol";
import { PROFILE } from "@assay/receipts";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { GRACE_MS, createCatalogue, createHub, createReferences, openKeptBlobs } from "./index.ts";
import type { KeptBlobs } from "./index.ts";

// Real blobs on the disk; the clock is an argument.

let folder = "";
let disk: BlobStore;
let kept: KeptBlobs;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "assay-kept-"));
  disk = await openBlobStore({ directory: join(folder, "blobs") });
  kept = await openKeptBlobs(disk, join(folder, "until"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const UNTIL = 1_000_000;
/** The first moment at which a blob kept until {@link UNTIL} goes. */
const OVER = UNTIL + GRACE_MS + 1;
const one = utf8ToBytes("one");
const digestOf = (bytes: Uint8Array): string => bytesToHex(nodeSuite.sha256(bytes));
const ONE = digestOf(one);
const putOne = (untilMs = UNTIL): ReturnType<KeptBlobs["putUntil"]> => kept.putUntil(one, untilMs, { expected: ONE });
const nobody = (): Promise<boolean> => Promise.resolve(false);
const times = (): readonly string[] => readdirSync(join(folder, "until"));

/** Bytes that come only when they are let go. */
function slow(bytes: Uint8Array): { readonly source: AsyncIterable<Uint8Array>; readonly go: () => void } {
  let go = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    go = resolve;
  });
  return {
    go: () => go(),
    source: (async function* source() {
      await gone;
      yield bytes;
    })(),
  };
}

describe("a blob that is kept for a time", () => {
  test("is there until its time and a grace are over, and gone then", async () => {
    expect(await putOne()).toEqual({ sha256: ONE, sizeBytes: 3 });
    expect(await kept.sweep(UNTIL + 1, nobody)).toBe(0);
    expect(await kept.sweep(OVER - 1, nobody)).toBe(0);
    expect(await kept.store.get(ONE)).toEqual(one);
    expect(await kept.sweep(OVER, nobody)).toBe(1);
    expect(await kept.store.has(ONE)).toBe(false);
    expect(times()).toEqual([]);
    expect(await kept.sweep(OVER, nobody)).toBe(0);
  });

  test("has its time over a restart", async () => {
    await putOne();
    const again = await openKeptBlobs(disk, join(folder, "until"));
    expect(await again.sweep(OVER - 1, nobody)).toBe(0);
    expect(await again.sweep(OVER, nobody)).toBe(1);
  });

  test("is kept the longest that anybody paid for, in whatever order, also at the same moment", async () => {
    await Promise.all([putOne(UNTIL + 5), putOne(UNTIL), putOne(UNTIL + 9), putOne(UNTIL + 2)]);
    await putOne(UNTIL - 1);
    expect(await kept.sweep(OVER + 8, nobody)).toBe(0);
    expect(await kept.sweep(OVER + 9, nobody)).toBe(1);
  });

  test("stays for good when something refers to it, also when nothing does later", async () => {
    await putOne();
    expect(await kept.sweep(OVER, (sha256) => Promise.resolve(sha256 === ONE))).toBe(0);
    expect(await kept.sweep(OVER * 2, nobody)).toBe(0);
    expect(await kept.store.has(ONE)).toBe(true);
  });

  test("stays for now when nobody knows what refers to it", async () => {
    await putOne();
    await expect(kept.sweep(OVER, () => Promise.reject(new Error("unreadable")))).rejects.toThrow("unreadable");
    expect(await kept.store.has(ONE)).toBe(true);
    expect(await kept.sweep(OVER, nobody)).toBe(1);
  });

  test("whose time cannot be read stays", async () => {
    await putOne();
    writeFileSync(join(folder, "until", ONE), "soon\n");
    writeFileSync(join(folder, "until", "README"), "0\n");
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    expect(await kept.store.has(ONE)).toBe(true);
  });

  test("of other bytes than were declared is refused, and what has its digest is left alone", async () => {
    const wrong = kept.putUntil(utf8ToBytes("two"), UNTIL, { expected: ONE });
    await expect(wrong).rejects.toThrow(expect.objectContaining({ code: "blob_digest_mismatch" }) as Error);
    await kept.store.put(one);
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    expect(await kept.store.has(ONE)).toBe(true);
  });
});

describe("a blob that is there for good", () => {
  test("stays so when somebody pays for a time of it, however often", async () => {
    await kept.store.put(one);
    await Promise.all([putOne(), putOne()]);
    expect(times()).toEqual([]);
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    expect(await kept.store.has(ONE)).toBe(true);
  });

  test("is one that was kept for a time before, or is just being put for one", async () => {
    await putOne();
    await kept.store.put(one);
    expect(times()).toEqual([]);
    const two = utf8ToBytes("two");
    const { source, go } = slow(two);
    const paid = kept.putUntil(source, UNTIL, { expected: digestOf(two) });
    await kept.store.put(two);
    go();
    await paid;
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    expect([await kept.store.has(ONE), await kept.store.has(digestOf(two))]).toEqual([true, true]);
  });
});

describe("a model that was released of files paid for a time", () => {
  test("keeps them for good, also when it is deprecated; what it is not made of goes", async () => {
    const entry = new Uint8Array(readFileSync(new URL("../../../models/digits/model.onnx", import.meta.url)));
    const card = utf8ToBytes("A card.");
    const built = buildManifest(nodeSuite, {
      entry: "model.onnx",
      task: "image-classification",
      files: [
        { path: "model.onnx", bytes: entry },
        { path: "card.md", bytes: card },
      ].map(({ path, bytes }) => ({ path, sha256: digestOf(bytes), sizeBytes: bytes.length })),
    });
    const pay = (bytes: Uint8Array): ReturnType<KeptBlobs["putUntil"]> =>
      kept.putUntil(bytes, UNTIL, { expected: digestOf(bytes) });
    // Also the manifest, which the release stores itself.
    for (const bytes of [entry, card, built.bytes, one]) await pay(bytes);
    const hub = createHub({
      blobs: kept.store,
      suite: nodeSuite,
      holding: kept.holding,
      // Whoever sweeps while a release is made finds nothing to remove.
      record: async ({ action }) => {
        if (action === "release") expect(await kept.sweep(OVER, nobody)).toBe(0);
        return { logIndex: 1 };
      },
      now: () => 1,
      random: (bytes) => new Uint8Array(bytes),
      files: { has: () => Promise.resolve(false), create: () => Promise.resolve(), path: () => "" },
    });
    const released = { name: "a/net", manifest: built.bytes, owner: "ed25519:a", visibility: "public" } as const;
    const { version } = await hub.release(released);
    await hub.change("a/net", version, "deprecate", "ed25519:a");
    const isReferenced = createReferences({ catalogue: hub.catalogue, blobs: kept.store, suite: nodeSuite });
    expect(await kept.sweep(OVER, isReferenced)).toBe(1);
    const there = [digestOf(entry), digestOf(card), built.digest, built.configDigest, ONE];
    expect(await Promise.all(there.map((sha256) => kept.store.has(sha256)))).toEqual([true, true, true, true, false]);
    expect(times()).toEqual([]);
  });

  test("whose manifest cannot be read keeps everything", async () => {
    await putOne();
    const catalogue = createCatalogue();
    catalogue.apply(
      {
        profile: PROFILE.release,
        releaseId: new Uint8Array(16),
        modelName: "a/net",
        version: 1,
        modelDigest: new Uint8Array(32),
        action: "release",
        owner: "ed25519:a",
        visibility: "public",
        sizeBytes: 1,
        issuedAtMs: 1,
      },
      1,
    );
    const isReferenced = createReferences({ catalogue, blobs: kept.store, suite: nodeSuite });
    await expect(kept.sweep(OVER, isReferenced)).rejects.toThrow(
      expect.objectContaining({ code: "blob_missing" }) as Error,
    );
    expect(await kept.store.has(ONE)).toBe(true);
  });
});

describe("nothing is removed", () => {
  test("while somebody puts, or looks whether it is there", async () => {
    await putOne();
    const two = utf8ToBytes("two");
    const { source, go } = slow(two);
    const putting = kept.store.put(source);
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    go();
    await putting;
    await kept.holding(async () => expect(await kept.sweep(OVER, nobody)).toBe(0));
    expect(await kept.store.has(ONE)).toBe(true);
    expect(await kept.sweep(OVER, nobody)).toBe(1);
  });

  test("of what is put again while it is being removed", async () => {
    await putOne();
    let again: Promise<unknown> | undefined;
    const removed = await kept.sweep(OVER, () => {
      again ??= putOne(OVER);
      return Promise.resolve(false);
    });
    await again;
    expect(removed).toBe(1);
    expect(await kept.store.get(ONE)).toEqual(one);
    expect(await kept.sweep(OVER, nobody)).toBe(0);
    expect(await kept.sweep(OVER + OVER, nobody)).toBe(1);
  });
});
