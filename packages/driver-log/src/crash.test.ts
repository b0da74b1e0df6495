import { spawn } from "node:child_process";
import {
  cpSync,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { ed25519Signer, nodeSuite as suite } from "@assay/driver-crypto";
import type { CheckpointNote, LogRecord } from "@assay/protocol";
import { leafHash, openCheckpoint, verifyConsistency } from "@assay/tlog";
import { openLog } from "./file-log.ts";
import type { FileLog } from "./file-log.ts";
import { nodeFileOps } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";

const ORIGIN = "log.example/crash";
const ed25519 = ed25519Signer(new Uint8Array(32).fill(1));
const made: string[] = [];
const temporary = (): string => {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "assay-log-")));
  made.push(path);
  return path;
};
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});

const open = (directory: string, files: FileOps = nodeFileOps): Promise<FileLog> =>
  openLog({
    directory,
    origin: ORIGIN,
    signers: { ed25519 },
    suite,
    files,
    checkpointIntervalMs: 1e9,
    now: () => 1_700_000_000_000,
  });
const record = (i: number): LogRecord => ({
  entry: Buffer.from(`entry ${i}`),
  claims: Buffer.from(`claims ${i} ${"c".repeat(i % 40)}`),
  opening: Buffer.from(i % 3 === 0 ? "" : `opening ${i}`),
});
const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error);

// The operations that change something, in the order they are asked for.
type Step = { readonly op: keyof FileOps; readonly path: string };
const CHANGING = new Set<keyof FileOps>([
  "open",
  "write",
  "truncate",
  "fdatasync",
  "syncDirectory",
  "mkdir",
  "rename",
  "unlink",
  "rmdir",
]);

// Syncs cost time and decide nothing where a crash is simulated by copying; the strict image below counts them.
const unsynced: FileOps = {
  ...nodeFileOps,
  fdatasync: () => Promise.resolve(),
  syncDirectory: () => Promise.resolve(),
};

/**
 * Real file operations with a hook before each that changes something; the hook may throw in its place. Writes are
 * cut into pieces, so that hooks also see half-written records.
 */
function hooked(before: (step: Step) => void, image?: Image): FileOps {
  const paths = new Map<number, string>();
  const wrap =
    <A extends unknown[], R>(op: keyof FileOps, pathOf: (...args: A) => string, run: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (CHANGING.has(op)) before({ op, path: pathOf(...args) });
      return run(...args);
    };
  const byFile = (file: number, ..._rest: unknown[]): string => paths.get(file) ?? "";
  return {
    ...nodeFileOps,
    open: async (path, flags) => {
      if (flags === "w+" || flags === "wx+") before({ op: "open", path });
      const fresh = !existsSync(path);
      const file = await nodeFileOps.open(path, flags);
      paths.set(file, path);
      if (fresh) image?.created(file);
      return file;
    },
    write: wrap("write", byFile, (file, bytes: Uint8Array, at: number) =>
      nodeFileOps.write(file, bytes.subarray(0, 8000), at),
    ),
    truncate: wrap("truncate", byFile, (file, length: number) => nodeFileOps.truncate(file, length)),
    fdatasync: wrap("fdatasync", byFile, async (file) => {
      await unsynced.fdatasync(file);
      image?.synced(file, byFile(file));
    }),
    syncDirectory: wrap(
      "syncDirectory",
      (path: string) => path,
      async (path) => {
        await unsynced.syncDirectory(path);
        image?.syncedDirectory(path);
      },
    ),
    mkdir: wrap(
      "mkdir",
      (path: string) => path,
      (path) => nodeFileOps.mkdir(path),
    ),
    rename: wrap(
      "rename",
      (_: string, to: string) => to,
      (from, to) => nodeFileOps.rename(from, to),
    ),
    unlink: wrap(
      "unlink",
      (path: string) => path,
      (path) => nodeFileOps.unlink(path),
    ),
    rmdir: wrap(
      "rmdir",
      (path: string) => path,
      (path) => nodeFileOps.rmdir(path),
    ),
  };
}

/** What a strict file system would still have after a power failure: synced contents under synced names, nothing else. */
type Image = {
  created(file: number): void;
  synced(file: number, path: string): void;
  syncedDirectory(path: string): void;
  writeTo(target: string): void;
};
function durableImage(root: string): Image {
  const contents = new Map<number, Buffer>();
  const names = new Map<string, Map<string, { inode: number; directory: boolean }>>();
  const put = (source: string, target: string): void => {
    mkdirSync(target);
    for (const [name, { inode, directory }] of names.get(source) ?? []) {
      if (directory) put(join(source, name), join(target, name));
      else writeFileSync(join(target, name), contents.get(inode) ?? "");
    }
  };
  return {
    created: (file) => contents.delete(fstatSync(file).ino),
    synced(file, path) {
      if (existsSync(path)) contents.set(fstatSync(file).ino, readFileSync(path));
    },
    syncedDirectory(path) {
      const list = readdirSync(path).map((name) => {
        const { ino, ...entry } = lstatSync(join(path, name));
        return [
          name,
          { inode: ino, directory: lstatSync(join(path, name)).isDirectory() && entry !== undefined },
        ] as const;
      });
      names.set(path, new Map(list));
    },
    writeTo: (target) => put(root, target),
  };
}

type Seen = { acked: number; checkpoints: CheckpointNote[]; errors: string[] };

// Calls with a checkpoint after each: a lone record, a few, enough to complete a tile, and a few that leave the tile
// above it as it was.
async function workload(log: FileLog, seen: Seen, counts: readonly number[]): Promise<void> {
  for (const count of counts) {
    const from = log.size();
    const indexes = await log.append(Array.from({ length: count }, (_, i) => record(from + i)));
    expect(indexes[0]).toBe(from);
    seen.acked = Math.max(seen.acked, from + count);
    seen.checkpoints.push(await log.checkpoint({ atLeast: from + count }));
  }
}

// RFC 6962 section 2.1 as written.
const sha = (...parts: Uint8Array[]): Uint8Array => createHash("sha256").update(Buffer.concat(parts)).digest();
function naiveRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha();
  const [only] = leaves;
  if (leaves.length === 1 && only) return only;
  const k = 2 ** Math.ceil(Math.log2(leaves.length) - 1);
  return sha(Buffer.from([1]), naiveRoot(leaves.slice(0, k)), naiveRoot(leaves.slice(k)));
}

/** Everything acknowledged is there, nothing else was made up, and the tree extends every checkpoint ever handed out. */
async function assertWhole(log: FileLog, seen: Seen): Promise<void> {
  expect(log.size()).toBeGreaterThanOrEqual(seen.acked);
  const records = await log.readRange(0, log.size() + 1);
  expect(records.map((one) => Buffer.from(one.entry).toString())).toEqual(
    Array.from({ length: log.size() }, (_, i) => `entry ${i}`),
  );
  expect(
    records.every(
      (one, i) =>
        Buffer.from(one.claims).equals(record(i).claims) && Buffer.from(one.opening).equals(record(i).opening),
    ),
  ).toBe(true);
  const latest = await log.checkpoint({ atLeast: log.size() });
  const leaves = records.map((one) => leafHash(one.entry, suite));
  expect(Buffer.from(latest.root)).toEqual(Buffer.from(naiveRoot(leaves)));
  expect(await openCheckpoint(latest.note, { logs: log.keys }, suite)).toMatchObject({ ok: true });
  for (const earlier of seen.checkpoints) {
    const proof = await log.consistencyProof(earlier.size, latest.size);
    expect(verifyConsistency(earlier, latest, proof, suite)).toBe(true);
  }
}

describe("a crash at every step", () => {
  test.each(["everything written survives", "only what was synced survives"])("%s", async (mode) => {
    const directory = temporary();
    const image = durableImage(directory);
    const target = temporary();
    const snapshots: { path: string; seen: Seen; step: Step }[] = [];
    const seen: Seen = { acked: 0, checkpoints: [], errors: [] };
    const files = hooked((step) => {
      const path = join(target, String(snapshots.length));
      if (mode === "everything written survives") cpSync(directory, path, { recursive: true });
      else image.writeTo(path);
      snapshots.push({ path, step, seen: { ...seen, checkpoints: [...seen.checkpoints] } });
    }, image);
    const log = await open(directory, files);
    await workload(log, seen, [1, 3, 300, 2]);
    await log.close();
    expect(snapshots.length).toBeGreaterThan(80);
    for (const snapshot of snapshots) {
      // A checkpoint that was handed out is still the one on disk, or a later one is.
      const promised = Math.max(-1, ...snapshot.seen.checkpoints.map((one) => one.size));
      const onDisk = join(snapshot.path, "checkpoint");
      const kept = existsSync(onDisk) ? Number(readFileSync(onDisk, "utf8").split("\n").at(1)) : -1;
      expect([snapshot.step, kept >= promised]).toEqual([snapshot.step, true]);
      const again = await open(snapshot.path, unsynced).catch((error: unknown) => {
        throw new Error(`not opened after a crash before ${snapshot.step.op} ${snapshot.step.path}: ${String(error)}`);
      });
      await assertWhole(again, snapshot.seen);
      // It goes on from there, and what it does then lasts too.
      await again.append([record(again.size())]);
      await again.close();
      rmSync(snapshot.path, { recursive: true });
    }
  });
});

describe("a failure at every step", () => {
  test.each(["ENOSPC", "EIO", "EROFS"])(
    "%s: nothing acknowledged is lost, and a full disk is survived",
    async (errno) => {
      const counts = [2, 260];
      const counter = { steps: 0, failAt: -1 };
      let failed: Step | undefined;
      const files = hooked((step) => {
        if (counter.steps++ !== counter.failAt) return;
        failed = step;
        throw Object.assign(new Error(`${errno}: injected before ${step.op}`), { code: errno });
      });
      const directory = temporary();
      const whole = await open(directory, files);
      await workload(whole, { acked: 0, checkpoints: [], errors: [] }, counts);
      await whole.close();
      const total = counter.steps;
      const survived: string[] = [];
      for (let k = 0; k < total; k += errno === "ENOSPC" ? 1 : 3) {
        const path = temporary();
        const seen: Seen = { acked: 0, checkpoints: [], errors: [] };
        Object.assign(counter, { steps: 0, failAt: k });
        failed = undefined;
        const log = await open(path, files).catch((error: unknown) => seen.errors.push(codeOf(error)));
        if (typeof log === "object") {
          await workload(log, seen, counts).catch((error: unknown) => seen.errors.push(codeOf(error)));
          counter.failAt = -1;
          // A failed sync ends this opening; after every other failure of space or rights the same log goes on.
          const after = await workload(log, seen, counts).then(() => "goes on", codeOf);
          if (errno !== "EIO" && failed && !isSync(failed)) expect([k, failed, after]).toEqual([k, failed, "goes on"]);
          survived.push(after);
          await log.close();
        }
        const expected = { ENOSPC: "log_full", EIO: "log_failed", EROFS: "log_read_only" }[errno] ?? "";
        expect([expected, "log_failed"]).toEqual(expect.arrayContaining([...new Set(seen.errors)]));
        const again = await open(path);
        await assertWhole(again, seen);
        await again.close();
        rmSync(path, { recursive: true });
      }
      expect(new Set(survived)).toEqual(new Set(["goes on", "log_failed"]));
    },
  );

  test("a failed fdatasync ends the sequencer: no later append is acknowledged, until it is opened again", async () => {
    const directory = temporary();
    let fail = false;
    const files = hooked((step) => {
      if (fail && step.op === "fdatasync" && step.path.endsWith(".seg"))
        throw Object.assign(new Error("EIO"), { code: "EIO" });
    });
    const log = await open(directory, files);
    await log.append([record(0)]);
    fail = true;
    await expect(log.append([record(1)])).rejects.toMatchObject({ code: "log_failed" });
    fail = false;
    await expect(log.append([record(1)])).rejects.toMatchObject({ code: "log_failed" });
    expect(log.status().error).toMatchObject({ code: "log_failed" });
    expect(log.size()).toBe(1);
    await log.close();
    const again = await open(directory);
    expect([1, 2]).toContain(again.size());
    await again.append([record(again.size())]);
    await again.close();
  });

  test("a full disk in the middle of a write, and then no truncation either: refused until both work again", async () => {
    const directory = temporary();
    let full = false;
    let pieces = 0;
    const files = hooked((step) => {
      // The first piece of the record still fits.
      if (full && ((step.op === "write" && pieces++ > 0) || step.op === "truncate")) {
        throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
      }
    });
    const log = await open(directory, files);
    await log.append([record(0)]);
    const segment = join(directory, "journal", "0000000000000000.seg");
    const before = statSync(segment).size;
    full = true;
    const large = { ...record(1), opening: Buffer.alloc(20_000) };
    for (let i = 0; i < 3; i++) await expect(log.append([large])).rejects.toMatchObject({ code: "log_full" });
    expect(statSync(segment).size).toBe(before + 8000);
    full = false;
    expect(await log.append([record(1)])).toEqual([1]);
    // What was half written is gone, not merely written over.
    expect(statSync(segment).size).toBeLessThan(before + 200);
    await assertWhole(log, { acked: 2, checkpoints: [], errors: [] });
    await log.close();
  });
});

const isSync = (step: Step): boolean => step.op === "fdatasync" || step.op === "syncDirectory";

describe("SIGKILL under load", () => {
  const source = `
    import { openLog } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
    import { ed25519Signer, nodeSuite } from "@assay/driver-crypto";
    import { writeSync } from "node:fs";
    const log = await openLog({ directory: process.argv[1], origin: ${JSON.stringify(ORIGIN)}, suite: nodeSuite,
      signers: { ed25519: ed25519Signer(new Uint8Array(32).fill(1)) }, checkpointIntervalMs: 5 });
    // Entries are numbered by the order of the calls, which is the order of the indexes.
    let next = log.size();
    const one = async () => {
      for (;;) {
        const i = next++;
        const c = "c".repeat(i % 40);
        const [index] = await log.append([{ entry: Buffer.from("entry " + i), claims: Buffer.from("claims " + i + " " + c),
          opening: Buffer.from(i % 3 === 0 ? "" : "opening " + i) }]);
        writeSync(1, index + "\\n");
      }
    };
    await Promise.all(Array.from({ length: 16 }, one));
  `;

  test("every acknowledged record is there, in one growing tree, round after round", { timeout: 60_000 }, async () => {
    const directory = temporary();
    const seen: Seen = { acked: 0, checkpoints: [], errors: [] };
    const packageRoot = new URL("..", import.meta.url).pathname;
    for (const acks of [1, 400, 3000, 900]) {
      const child = spawn(
        process.execPath,
        ["--conditions=assay-source", "--import", "tsx", "--input-type=module", "-e", source, directory],
        { cwd: packageRoot, stdio: ["ignore", "pipe", "inherit"] },
      );
      let output = "";
      const wanted = seen.acked + acks;
      child.stdout.on("data", (data: Buffer) => {
        output += data.toString();
        const last = Number(output.slice(0, output.lastIndexOf("\n")).split("\n").at(-1));
        if (last >= wanted) child.kill("SIGKILL");
      });
      const signal = await new Promise((resolve) => child.once("close", (_, by) => resolve(by)));
      expect(signal).toBe("SIGKILL");
      const acked = output.split("\n").slice(0, -1).map(Number);
      seen.acked = Math.max(seen.acked, ...acked.map((index) => index + 1));
      const log = await open(directory);
      await assertWhole(log, seen);
      seen.checkpoints.push(await log.checkpoint({ atLeast: log.size() }));
      seen.acked = log.size();
      await log.close();
    }
    expect(seen.acked).toBeGreaterThan(4000);
  });
});
