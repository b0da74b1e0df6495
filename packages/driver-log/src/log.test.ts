import { spawn } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { ed25519Signer, mlDsa44Signer, nodeSuite as suite } from "@assay/driver-crypto";
import type { LogRecord, StoredRecord } from "@assay/protocol";
import {
  checkpointSigner,
  decodeBundle,
  formatSignatureLine,
  leafHash,
  newTiles,
  openCheckpoint,
  parseNote,
  signCheckpoint,
  tilePath,
  verifyConsistency,
  verifyInclusion,
} from "@assay/tlog";
import { openLog } from "./file-log.ts";
import type { FileLog, FileLogOptions } from "./file-log.ts";
import { nodeFileOps } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";
import { MAX_QUEUED_BYTES } from "./group-commit.ts";
import { MAX_CALL_BYTES, MAX_CALL_RECORDS, MAX_CLAIMS_BYTES, MAX_OPENING_BYTES } from "./record.ts";

const ORIGIN = "log.example/test";
const signers = {
  ed25519: ed25519Signer(new Uint8Array(32).fill(1)),
  mlDsa44: mlDsa44Signer(new Uint8Array(32).fill(2)),
};
const witness = checkpointSigner(
  "witness.example/w",
  "cosignature-ed25519",
  ed25519Signer(new Uint8Array(32).fill(3)),
  suite,
);
const made: string[] = [];
const logs: FileLog[] = [];
const temporary = (): string => {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "assay-log-")));
  made.push(path);
  return path;
};
afterEach(async () => {
  for (const log of logs.splice(0)) await log.close();
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});
const open = async (directory: string, options: Partial<FileLogOptions> = {}): Promise<FileLog> => {
  const log = await openLog({ directory, origin: ORIGIN, signers, suite, checkpointIntervalMs: 1e9, ...options });
  logs.push(log);
  return log;
};
const record = (i: number, opening = `opening ${i}`): LogRecord => ({
  entry: Buffer.from(`entry ${i}`),
  claims: Buffer.from(`claims ${i}`),
  opening: Buffer.from(opening),
});
const records = (from: number, count: number): LogRecord[] => Array.from({ length: count }, (_, i) => record(from + i));
const plain = (one: StoredRecord | undefined): unknown =>
  one && [
    one.index,
    Buffer.from(one.entry).toString(),
    Buffer.from(one.claims).toString(),
    Buffer.from(one.opening).toString(),
    one.erased,
  ];
const segmentsOf = (directory: string): string[] =>
  readdirSync(join(directory, "journal"))
    .filter((name) => name.endsWith(".seg"))
    .sort();
const flip = (path: string, at: number): void => {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
};
const outcome = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "done",
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  );

describe("append and read", () => {
  test("indexes count up over concurrent calls, and each record is read back as it was", async () => {
    const log = await open(temporary());
    const calls = Array.from({ length: 50 }, (_, i) => log.append(records(i * 3, 3)));
    expect((await Promise.all(calls)).flat()).toEqual(Array.from({ length: 150 }, (_, i) => i));
    expect(log.size()).toBe(150);
    for (const i of [0, 1, 77, 149])
      expect(plain(await log.read(i))).toEqual([i, `entry ${i}`, `claims ${i}`, `opening ${i}`, false]);
    expect(await log.append([])).toEqual([]);
    for (const i of [150, -1, 0.5, Number.NaN]) expect(await log.read(i)).toBeUndefined();
  });

  test("the same before a checkpoint, after it and after opening again, over many small segments", async () => {
    const directory = temporary();
    const options = { segmentBytes: 700 };
    let log = await open(directory, options);
    for (let i = 0; i < 60; i += 4) await log.append(records(i, 4));
    const expected = Array.from({ length: 60 }, (_, i) => [i, `entry ${i}`, `claims ${i}`, `opening ${i}`, false]);
    const check = async (): Promise<void> => {
      expect((await log.readRange(0, 100)).map(plain)).toEqual(expected);
      expect((await log.readRange(7, 30)).map(plain)).toEqual(expected.slice(7, 37));
      expect(await log.readRange(60, 5)).toEqual([]);
      expect(await outcome(log.readRange(-1, 5))).toBe("log_range");
      expect(await outcome(log.readRange(0, 0.5))).toBe("log_range");
      for (const i of [0, 3, 4, 31, 59]) expect(plain(await log.read(i))).toEqual(expected[i]);
    };
    await check();
    await log.checkpoint({ atLeast: 60 });
    await check();
    expect(segmentsOf(directory).length).toBeGreaterThan(3);
    await log.close();
    log = await open(directory, options);
    await check();
    expect(await log.append(records(60, 1))).toEqual([60]);
    expect(plain(await log.read(60))).toEqual([60, "entry 60", "claims 60", "opening 60", false]);
  });

  test("empty entries, claims and openings, and the largest of each", async () => {
    const log = await open(temporary());
    const none = new Uint8Array();
    const large = {
      entry: new Uint8Array(65_535).fill(1),
      claims: new Uint8Array(MAX_CLAIMS_BYTES).fill(2),
      opening: new Uint8Array(MAX_OPENING_BYTES).fill(3),
    };
    await log.append([{ entry: none, claims: none, opening: none }, large]);
    await log.checkpoint({ atLeast: 2 });
    expect(plain(await log.read(0))).toEqual([0, "", "", "", false]);
    const back = await log.read(1);
    expect(Buffer.from(back!.opening).equals(Buffer.from(large.opening))).toBe(true);
    expect([back!.entry.length, back!.claims.length]).toEqual([65_535, MAX_CLAIMS_BYTES]);
  });

  test("one byte or one record over a limit is refused, and costs the next call nothing", async () => {
    const log = await open(temporary());
    const none = new Uint8Array();
    const refused = [
      [{ entry: new Uint8Array(65_536), claims: none, opening: none }],
      [{ entry: none, claims: new Uint8Array(MAX_CLAIMS_BYTES + 1), opening: none }],
      [{ entry: none, claims: none, opening: new Uint8Array(MAX_OPENING_BYTES + 1) }],
      Array.from({ length: MAX_CALL_RECORDS + 1 }, () => record(0)),
      Array.from({ length: MAX_CALL_BYTES / MAX_OPENING_BYTES }, () => ({
        entry: none,
        claims: none,
        opening: new Uint8Array(MAX_OPENING_BYTES),
      })),
    ];
    for (const call of refused) expect(await outcome(log.append(call))).toBe("log_entry_too_large");
    expect(await log.append([record(0)])).toEqual([0]);
    expect(await log.append(records(1, MAX_CALL_RECORDS))).toHaveLength(MAX_CALL_RECORDS);
  });

  test("more bytes than may wait are refused with log_overloaded, and those that wait are kept", async () => {
    const log = await open(temporary());
    const big = { entry: new Uint8Array(1), claims: new Uint8Array(), opening: new Uint8Array(MAX_OPENING_BYTES - 64) };
    const fits = Math.floor(MAX_QUEUED_BYTES / MAX_OPENING_BYTES);
    const calls = Array.from({ length: fits + 2 }, () => outcome(log.append([big])));
    expect(await Promise.all(calls)).toEqual([
      ...Array.from({ length: fits }, () => "done"),
      "log_overloaded",
      "log_overloaded",
    ]);
    expect(log.size()).toBe(fits);
  });

  test("after close, appends are refused and nothing acknowledged is lost", async () => {
    const directory = temporary();
    const log = await open(directory);
    const flying = outcome(log.append([record(0)]));
    await log.close();
    expect(await flying).toBe("done");
    expect(await outcome(log.append([record(1)]))).toBe("log_closed");
    expect(await outcome(log.checkpoint({ atLeast: 9 }))).toBe("log_closed");
    expect((await open(directory)).size()).toBe(1);
  });
});

describe("checkpoints and proofs", () => {
  test("the empty log has one, and each later one verifies under both keys and extends the last", async () => {
    const log = await open(temporary());
    let last = await log.checkpoint();
    expect(last.size).toBe(0);
    for (const count of [1, 254, 1, 1, 255, 300]) {
      const size = log.size() + count;
      await log.append(records(log.size(), count));
      const next = await log.checkpoint({ atLeast: size });
      expect(next.size).toBe(size);
      const opened = await openCheckpoint(next.note, { logs: log.keys }, suite);
      expect(opened).toMatchObject({ ok: true, checkpoint: { size, origin: ORIGIN }, unknown: 0 });
      if (!opened.ok) return;
      expect(opened.signatures.map((one) => one.key.kind)).toEqual(["note", "cosignature-ml-dsa-44"]);
      expect(verifyConsistency(last, next, await log.consistencyProof(last.size, size), suite)).toBe(true);
      for (const index of [0, size - 1, size >> 1]) {
        const path = await log.inclusionProof(index, size);
        expect(verifyInclusion(index, size, leafHash(record(index).entry, suite), path, next.root, suite)).toBe(true);
      }
      last = next;
    }
  });

  test("a proof may be asked for before its checkpoint exists; beyond the log it is refused", async () => {
    const log = await open(temporary());
    await log.append(records(0, 5));
    expect(await log.inclusionProof(4, 5)).toHaveLength(1);
    expect(await outcome(log.inclusionProof(5, 5))).toBe("tlog_range");
    expect(await outcome(log.inclusionProof(0, 6))).toBe("log_range");
    expect(await outcome(log.consistencyProof(0, 6))).toBe("log_range");
    expect(await outcome(log.consistencyProof(5, 4))).toBe("tlog_range");
  });

  test("they come by themselves, and one that does not come in time is refused", async () => {
    const log = await open(temporary(), { checkpointIntervalMs: 1 });
    const waiting = log.checkpoint({ atLeast: 3 });
    await log.append(records(0, 3));
    expect((await waiting).size).toBe(3);
    expect(await outcome(log.checkpoint({ atLeast: 4, timeoutMs: 5 }))).toBe("log_checkpoint_late");
  });

  test("timestamps never run backwards, over an opening too", async () => {
    const directory = temporary();
    const timeOf = async (log: FileLog): Promise<number | undefined> => {
      const opened = await openCheckpoint(
        (await log.checkpoint({ atLeast: log.size() })).note,
        { logs: log.keys },
        suite,
      );
      return opened.ok ? opened.signatures.at(1)?.timestamp : undefined;
    };
    let log = await open(directory, { now: () => 2_000_000_000_000 });
    await log.append([record(0)]);
    expect(await timeOf(log)).toBe(2_000_000_000);
    await log.close();
    log = await open(directory, { now: () => 1_000_000_000_000 });
    await log.append([record(1)]);
    expect(await timeOf(log)).toBe(2_000_000_000);
  });

  test("resources: every tile of every checkpoint stays readable, and nothing else is", async () => {
    const log = await open(temporary());
    const sizes = [3, 200, 256, 700];
    for (const size of sizes) {
      await log.append(records(log.size(), size - log.size()));
      await log.checkpoint({ atLeast: size });
    }
    for (const size of sizes) {
      for (const tile of newTiles(0, size)) expect(await log.resource(tilePath(tile))).toHaveLength(tile.width * 32);
      for (let index = 0; index * 256 < size; index++) {
        const width = Math.min(256, size - index * 256);
        const entries = decodeBundle((await log.resource(tilePath({ level: "entries", index, width })))!, width);
        expect(Buffer.from(entries.at(0)!).toString()).toBe(`entry ${index * 256}`);
      }
    }
    expect(Buffer.from((await log.resource("checkpoint"))!).toString()).toBe((await log.checkpoint()).note);
    for (const path of [
      "",
      "epoch",
      "format",
      "../x",
      "journal/0000000000000000.seg",
      "tile/0/003",
      "tile/0/002.p/189",
      "tile/2/000.p/1",
      "tile/entries/009",
    ]) {
      expect(await log.resource(path)).toBeUndefined();
    }
  });

  test("cosignatures are merged into the checkpoint they belong to, and survive an opening", async () => {
    const directory = temporary();
    const witnesses = [witness.key];
    let log = await open(directory, { witnesses });
    await log.append([record(0)]);
    const old = await log.checkpoint({ atLeast: 1 });
    const linesFor = async (of: typeof old): Promise<string> => {
      const note = await signCheckpoint(of, [witness], 5);
      return parseNote(note).signatures.map(formatSignatureLine).join("");
    };
    expect(await log.cosign(old.note, await linesFor(old))).toHaveLength(1);
    expect(await log.cosign(old.note, await linesFor(old))).toEqual([]);
    const served = await log.checkpoint();
    expect(await openCheckpoint(served.note, { logs: log.keys, witnesses }, suite)).toMatchObject({
      ok: true,
      signatures: [{}, {}, { role: "witness" }],
    });
    await log.append([record(1)]);
    const next = await log.checkpoint({ atLeast: 2 });
    expect(await outcome(log.cosign(next.note, await linesFor(old)))).toBe("cosignature_invalid");
    expect(await outcome(log.cosign("nonsense", await linesFor(old)))).toBe("note_malformed");
    expect(log.cosigned()?.size).toBe(1);
    await log.close();
    log = await open(directory, { witnesses });
    expect(log.cosigned()?.note).toBe(served.note);
  });
});

describe("erasing an opening", () => {
  test("the bytes are gone from disk, the entry, its claims and its proof stay", async () => {
    const directory = temporary();
    let log = await open(directory);
    await log.append([record(0), record(1, "the secret opening"), record(2)]);
    await log.eraseOpening(1);
    await log.checkpoint({ atLeast: 3 });
    await log.eraseOpening(2);
    await log.eraseOpening(2);
    const check = async (): Promise<void> => {
      expect(plain(await log.read(0))).toEqual([0, "entry 0", "claims 0", "opening 0", false]);
      expect((await log.readRange(1, 2)).map(plain)).toEqual([
        [1, "entry 1", "claims 1", "", true],
        [2, "entry 2", "claims 2", "", true],
      ]);
      expect(await log.inclusionProof(1, 3)).toHaveLength(2);
    };
    await check();
    for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
      const path = join(directory, name);
      if (statSync(path).isFile()) expect(readFileSync(path).includes("the secret opening")).toBe(false);
    }
    await log.close();
    log = await open(directory);
    await check();
    expect(await outcome(log.eraseOpening(3))).toBe("log_range");
    expect(await outcome(log.eraseOpening(-1))).toBe("log_range");
  });

  test("a crash between mark and zeros leaves a valid record whose opening is no longer given out", async () => {
    const directory = temporary();
    const copy = temporary();
    let armed = false;
    const files: FileOps = {
      ...nodeFileOps,
      write(file, bytes, position) {
        // The second write of an erasure is the zeros over the opening.
        if (armed && bytes.length > 8) cpSync(directory, copy, { recursive: true });
        return nodeFileOps.write(file, bytes, position);
      },
    };
    const log = await open(directory, { files });
    await log.append([record(0, "a longer opening")]);
    armed = true;
    await log.eraseOpening(0);
    armed = false;
    const after = await open(copy);
    expect(plain(await after.read(0))).toEqual([0, "entry 0", "claims 0", "", true]);
    await after.eraseOpening(0);
    expect(readFileSync(join(copy, "journal", segmentsOf(copy).at(0)!)).includes("a longer opening")).toBe(false);
  });
});

describe("one sequencer", () => {
  test("a second opening is refused, and names who holds the log; after close it is free", async () => {
    const directory = temporary();
    const log = await open(directory);
    await expect(openLog({ directory, origin: ORIGIN, signers, suite })).rejects.toMatchObject({
      code: "log_locked",
      message: expect.stringContaining(`process ${process.pid}`) as string,
    });
    await log.close();
    const again = await open(directory);
    expect(again.status().epoch).toBe(2);
  });

  test("another process is refused too, and a killed one leaves no lock behind", async () => {
    const directory = temporary();
    const source = `
      import { openLog } from ${JSON.stringify(new URL("./index.ts", import.meta.url).href)};
      import { ed25519Signer, nodeSuite } from "@assay/driver-crypto";
      await openLog({ directory: process.argv[1], origin: ${JSON.stringify(ORIGIN)}, suite: nodeSuite, signers: { ed25519: ed25519Signer(new Uint8Array(32).fill(1)) } });
      console.log("open");
      setTimeout(() => {}, 60_000);
    `;
    const child = spawn(
      process.execPath,
      ["--conditions=assay-source", "--import", "tsx", "--input-type=module", "-e", source, directory],
      {
        cwd: new URL("..", import.meta.url).pathname,
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    await new Promise((resolve) => child.stdout.once("data", resolve));
    await expect(openLog({ directory, origin: ORIGIN, signers, suite })).rejects.toMatchObject({
      code: "log_locked",
      message: expect.stringContaining(`process ${child.pid}`) as string,
    });
    const gone = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGKILL");
    await gone;
    // The dead process signed with Ed25519 alone; its checkpoint is accepted under the larger set of keys.
    expect((await open(directory)).status().epoch).toBe(2);
  });

  test("a sequencer whose epoch was superseded acknowledges and signs nothing more", async () => {
    const directory = temporary();
    const log = await open(directory);
    await log.append([record(0)]);
    await log.checkpoint({ atLeast: 1 });
    // What another machine on the same volume, whose kernel does not know the lock, would do.
    writeFileSync(join(directory, "epoch.new"), "epoch 9\npid 1\nhost elsewhere\n");
    renameSync(join(directory, "epoch.new"), join(directory, "epoch"));
    expect(await outcome(log.append([record(1)]))).toBe("log_fenced");
    expect(await outcome(log.append([record(1)]))).toBe("log_fenced");
    expect(log.status().error).toMatchObject({ code: "log_fenced" });
    expect(log.size()).toBe(1);
  });

  test("a record that was on its way while the epoch changed is not acknowledged", async () => {
    const directory = temporary();
    let takeOver = false;
    const files: FileOps = {
      ...nodeFileOps,
      async fdatasync(file) {
        await nodeFileOps.fdatasync(file);
        if (!takeOver) return;
        takeOver = false;
        writeFileSync(join(directory, "epoch.new"), "epoch 9\npid 1\nhost elsewhere\n");
        renameSync(join(directory, "epoch.new"), join(directory, "epoch"));
      },
    };
    const log = await open(directory, { files });
    await log.append([record(0)]);
    takeOver = true;
    expect(await outcome(log.append([record(1)]))).toBe("log_fenced");
    expect(log.size()).toBe(1);
  });

  test("a checkpoint that somebody else replaced is never signed over", async () => {
    const directory = temporary();
    const log = await open(directory);
    await log.append([record(0)]);
    writeFileSync(join(directory, "checkpoint"), "replaced\n");
    expect(await outcome(log.checkpoint({ atLeast: 1 }))).toBe("log_fenced");
    expect(readFileSync(join(directory, "checkpoint"), "utf8")).toBe("replaced\n");
  });
});

describe("what is on disk is not believed", () => {
  // Two openings, so that there are two segments; the first is checkpointed, the second only acknowledged.
  const prepare = async (): Promise<string> => {
    const directory = temporary();
    let log = await open(directory);
    await log.append(records(0, 300));
    await log.close();
    log = await open(directory);
    await log.append([record(300)]);
    await log.append([record(301)]);
    // A crash: the journal is copied as it is, without the checkpoint that close would make.
    const copy = temporary();
    cpSync(directory, copy, { recursive: true });
    return copy;
  };
  const reopened = async (directory: string): Promise<string> => {
    const result = await openLog({ directory, origin: ORIGIN, signers, suite }).catch(
      (error: unknown) => error as Error & { code: string },
    );
    if (result instanceof Error) return `${result.code} ${result.message}`;
    logs.push(result);
    return `opened ${result.size()}`;
  };

  test("undamaged, it opens", async () => {
    expect(await reopened(await prepare())).toBe("opened 302");
  });

  test("a torn end is cut, at every length of the last batch, and only that batch", async () => {
    const directory = await prepare();
    const [, second = ""] = segmentsOf(directory);
    const path = join(directory, "journal", second);
    const { size } = statSync(path);
    for (const cut of [1, 7, 50, 80, 95]) {
      const copy = temporary();
      cpSync(directory, copy, { recursive: true });
      truncateSync(join(copy, "journal", second), size - cut);
      expect(await reopened(copy)).toBe("opened 301");
    }
  });

  test("a damaged last batch is taken for torn, an earlier one is corruption and its offset is named", async () => {
    const directory = await prepare();
    const [, second = ""] = segmentsOf(directory);
    const { size } = statSync(join(directory, "journal", second));
    const damaged = async (at: number): Promise<string> => {
      const copy = temporary();
      cpSync(directory, copy, { recursive: true });
      flip(join(copy, "journal", second), at);
      return reopened(copy);
    };
    expect(await damaged(size - 9)).toBe("opened 301");
    expect(await damaged(40 + 45)).toMatch(/^log_corrupt .*damaged at offset 40: .*a later batch stands at offset/);
    expect(await damaged(10)).toMatch(/^log_corrupt .*no valid header at offset 0/);
  });

  test("stored bytes that look like a batch do not turn a torn end into corruption", async () => {
    const directory = temporary();
    let log = await open(directory);
    await log.append([record(0)]);
    const [first = ""] = segmentsOf(directory);
    const lookalike = readFileSync(join(directory, "journal", first)).subarray(40, 80);
    await log.close();
    log = await open(directory);
    await log.append([record(1)]);
    await log.append([
      {
        entry: Buffer.alloc(0),
        claims: Buffer.alloc(0),
        opening: Buffer.concat([lookalike, lookalike, Buffer.alloc(100)]),
      },
    ]);
    const copy = temporary();
    cpSync(directory, copy, { recursive: true });
    const second = join(copy, "journal", segmentsOf(copy).at(-1)!);
    truncateSync(second, statSync(second).size - 8);
    expect(await reopened(copy)).toBe("opened 2");
  });

  test("records below a checkpoint cannot be missing", async () => {
    const directory = await prepare();
    const [first = ""] = segmentsOf(directory);
    const cut = temporary();
    cpSync(directory, cut, { recursive: true });
    for (const name of readdirSync(join(cut, "journal")))
      if (!name.startsWith(first.slice(0, 16))) rmSync(join(cut, "journal", name));
    truncateSync(join(cut, "journal", first), 5000);
    expect(await reopened(cut)).toMatch(/^log_corrupt/);
    const without = temporary();
    cpSync(directory, without, { recursive: true });
    rmSync(join(without, "journal", first));
    expect(await reopened(without)).toMatch(/^log_corrupt .*earlier segments are missing/);
  });

  test("a lost index is made again; a record damaged later is refused when it is read", async () => {
    const directory = await prepare();
    const [first = ""] = segmentsOf(directory);
    rmSync(join(directory, "journal", first.replace("seg", "idx")));
    expect(await reopened(directory)).toBe("opened 302");
    const log = logs.at(-1)!;
    expect(plain(await log.read(123))).toEqual([123, "entry 123", "claims 123", "opening 123", false]);
    flip(join(directory, "journal", first), 40 + 40 + 30);
    expect(await outcome(log.read(0))).toBe("log_corrupt");
    expect(await outcome(log.readRange(0, 10))).toBe("log_corrupt");
    expect(plain(await log.read(1))).toEqual([1, "entry 1", "claims 1", "opening 1", false]);
  });

  test("tiles, bundles and the checkpoint are held against each other", async () => {
    const directory = await prepare();
    const damaged = async (name: string, change: (path: string) => void): Promise<string> => {
      const copy = temporary();
      cpSync(directory, copy, { recursive: true });
      change(join(copy, name));
      return (await reopened(copy)).split(" ").at(0) ?? "";
    };
    expect(await damaged("tile/0/001.p/44", (path) => flip(path, 3))).toBe("log_corrupt");
    expect(await damaged("tile/1/000.p/1", (path) => flip(path, 3))).toBe("log_corrupt");
    expect(await damaged("tile/entries/001.p/44", (path) => flip(path, 5))).toBe("log_corrupt");
    expect(await damaged("tile/entries/001.p/44", (path) => truncateSync(path, 20))).toBe("log_corrupt");
    expect(await damaged("tile/0/001.p/44", (path) => rmSync(path))).toBe("log_corrupt");
    expect(await damaged("checkpoint", (path) => flip(path, 30))).toBe("log_corrupt");
    expect(await damaged("epoch", (path) => writeFileSync(path, "?"))).toBe("log_corrupt");
    expect(await damaged("format", (path) => writeFileSync(path, `assay-log/2\n${ORIGIN}\n`))).toBe(
      "log_format_unknown",
    );
    expect(await damaged("format", (path) => writeFileSync(path, "assay-log/1\nlog.example/other\n"))).toBe(
      "log_origin_mismatch",
    );
  });

  test("an origin that is no line is refused", async () => {
    expect(await outcome(openLog({ directory: temporary(), origin: "a\nb", signers, suite }))).toBe(
      "log_origin_invalid",
    );
  });
});
