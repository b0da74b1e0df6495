import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MAX_WHOLE_BYTES } from "./blob-store.ts";
import { CHUNK_BYTES } from "./copy.ts";
import { nodeFiles } from "./files.ts";
import { cidOf, openBlobStore } from "./index.ts";
import type { Files, OpenFile } from "./index.ts";

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const hex = (value: Uint8Array): string => Buffer.from(value).toString("hex");
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
/** A writer that acknowledges one blob and then puts one that never ends; it ends by itself if nobody kills it. */
const WRITER = `
const { openBlobStore } = await import(process.argv[1]);
const store = await openBlobStore({ directory: process.argv[2] });
const whole = await store.put(new TextEncoder().encode("acknowledged"));
console.log(whole.sha256);
setTimeout(() => process.exit(1), 30_000);
await store.put((async function* () {
  for (let i = 0; i < 8; i++) yield new Uint8Array(65_536).fill(i);
  console.log("writing");
  await new Promise(() => undefined);
})());
`;
const MISSING = digest(bytes("never stored"));

let root: string;
let directory: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "assay-blobs-"));
  directory = join(root, "store");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const pathOf = (id: string): string => join(directory, "blobs", id.slice(0, 2), id.slice(2, 4), id);
const leftovers = (): string[] => readdirSync(join(directory, "temporary"));
const code = (value: string): object => expect.objectContaining({ code: value }) as object;

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

async function* broken(): AsyncGenerator<Uint8Array> {
  yield bytes("part");
  throw new Error("the client went away");
}

async function* chunks(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** Replaces the bytes of a stored blob behind the store's back. */
function damage(id: string, content: Uint8Array): void {
  chmodSync(pathOf(id), 0o600);
  writeFileSync(pathOf(id), content);
}

/** The real file system with some of its calls replaced; `file` wraps every file that is created. */
function faulty(faults: Partial<Files>, file: (real: OpenFile) => Partial<OpenFile> = () => ({})): Files {
  return {
    ...nodeFiles,
    async create(path, mode) {
      const real = await nodeFiles.create(path, mode);
      const base: OpenFile = {
        read: (...a) => real.read(...a),
        write: (...a) => real.write(...a),
        chmod: (mode) => real.chmod(mode),
        sync: () => real.sync(),
        close: () => real.close(),
        stat: () => real.stat(),
      };
      return { ...base, ...file(base) };
    },
    ...faults,
  };
}

const systemError = (name: string): Error => Object.assign(new Error(name), { code: name });
const fail = (name: string) => (): Promise<never> => Promise.reject(systemError(name));

describe("storing and reading", () => {
  it("gives back what was put, whole, streamed and in ranges", async () => {
    const store = await openBlobStore({ directory });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 5_000 }), { maxLength: 5 }),
        fc.nat(25_000),
        fc.nat(25_000),
        async (parts, a, b) => {
          const whole = new Uint8Array(Buffer.concat(parts));
          const put = await store.put(chunks(...parts));
          expect(put).toEqual({ sha256: digest(whole), sizeBytes: whole.length });
          expect(await store.get(put.sha256)).toEqual(whole);
          expect(await collect(store.stream(put.sha256))).toEqual(whole);
          const [start, end] = [Math.min(a, b, whole.length), Math.min(Math.max(a, b), whole.length)];
          expect(await collect(store.stream(put.sha256, { start, end }))).toEqual(whole.subarray(start, end));
        },
      ),
      { numRuns: 40 },
    );
  });

  it("reads a blob of several chunks, and the empty one", async () => {
    const store = await openBlobStore({ directory });
    const large = new Uint8Array(randomBytes(3 * CHUNK_BYTES + 17));
    const { sha256 } = await store.put(large);
    expect(digest(await collect(store.stream(sha256)))).toBe(sha256);
    const start = CHUNK_BYTES - 5;
    const end = 2 * CHUNK_BYTES + 5;
    expect(await collect(store.stream(sha256, { start, end }))).toEqual(large.subarray(start, end));
    const empty = await store.put(new Uint8Array());
    expect(await store.get(empty.sha256)).toEqual(new Uint8Array());
    expect(await store.sizeBytes(empty.sha256)).toBe(0);
  });

  it("keeps one read-only file per content and lists it", async () => {
    const store = await openBlobStore({ directory });
    const first = await store.put(bytes("same"));
    const [again] = await Promise.all([store.put(chunks(bytes("sa"), bytes("me"))), store.put(bytes("same"))]);
    expect(again).toEqual(first);
    const other = await store.put(bytes("other"));
    const listed: string[] = [];
    for await (const id of store.list()) listed.push(id);
    expect(listed).toEqual([first.sha256, other.sha256].sort());
    expect(statSync(pathOf(first.sha256)).mode & 0o777).toBe(0o400);
    expect(leftovers()).toEqual([]);
  });

  it("accepts the expected digest, and a second store reads what the first wrote", async () => {
    const content = bytes("expected");
    await (await openBlobStore({ directory })).put(content, { expected: digest(content), maxBytes: content.length });
    expect(await (await openBlobStore({ directory })).get(digest(content))).toEqual(content);
  });

  it("asks for the next piece only when the last is written", async () => {
    let written = 0;
    const files = faulty({}, (real) => ({
      async write(buffer, offset, length) {
        const answer = await real.write(buffer, offset, length);
        written += answer.bytesWritten;
        return answer;
      },
    }));
    const store = await openBlobStore({ directory, files });
    let asked = 0;
    async function* source(): AsyncGenerator<Uint8Array> {
      for (; asked < 20; asked++) {
        expect(written).toBe(asked * 1_000);
        yield new Uint8Array(1_000);
      }
    }
    expect((await store.put(source())).sizeBytes).toBe(20_000);
  });

  it("writes everything when the kernel takes a few bytes at a time", async () => {
    const files = faulty({}, (real) => ({
      write: (buffer, offset, length) => real.write(buffer, offset, Math.min(length, 7)),
    }));
    const content = new Uint8Array(randomBytes(100));
    const store = await openBlobStore({ directory, files });
    expect(await store.get((await store.put(content)).sha256)).toEqual(content);
  });

  it("removes a blob, and removing it again is no error", async () => {
    const store = await openBlobStore({ directory });
    const { sha256 } = await store.put(bytes("short-lived"));
    await store.remove(sha256);
    await store.remove(sha256);
    expect(await store.has(sha256)).toBe(false);
    await expect(store.get(sha256)).rejects.toEqual(code("blob_missing"));
  });
});

describe("durability", () => {
  it("syncs the file before it appears and its folders after, and only then answers", async () => {
    const calls: string[] = [];
    const short = (path: string): string => path.slice(directory.length + 1).replace(/[0-9a-f]{64}/, "ID");
    const files = faulty(
      {
        rename: async (from, to) => {
          calls.push(`rename ${short(to)}`);
          await nodeFiles.rename(from, to);
        },
        syncDirectory: async (path) => {
          calls.push(`sync ${short(path)}`);
          await nodeFiles.syncDirectory(path);
        },
      },
      (real) => ({
        sync: async () => {
          calls.push("sync file");
          await real.sync();
        },
      }),
    );
    const store = await openBlobStore({ directory, files });
    const { sha256: id } = await store.put(bytes("ordered"));
    const [a, b] = [id.slice(0, 2), id.slice(2, 4)];
    expect(calls).toEqual([
      "sync file",
      "sync blobs",
      `sync blobs/${a}`,
      `rename blobs/${a}/${b}/ID`,
      `sync blobs/${a}/${b}`,
    ]);
  });

  it("shows nothing of a blob whose writer was killed, and sweeps it", async () => {
    const child = spawn(
      process.execPath,
      [
        "--conditions=assay-source",
        "--import",
        "tsx",
        "--input-type=module",
        "--eval",
        WRITER,
        new URL("index.ts", import.meta.url).href,
        directory,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const acknowledged = String((await lines.next()).value);
    expect((await lines.next()).value).toBe("writing");
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(
      leftovers()
        .map((name) => statSync(join(directory, "temporary", name)).size)
        .at(0),
    ).toBeGreaterThan(0);
    const store = await openBlobStore({ directory });
    expect(leftovers()).toEqual([]);
    const listed: string[] = [];
    for await (const id of store.list()) listed.push(id);
    expect(listed).toEqual([acknowledged]);
    expect(await store.get(acknowledged)).toEqual(bytes("acknowledged"));
  });

  it("sweeps neither a living writer's file nor a stranger's", async () => {
    await openBlobStore({ directory });
    const parts = readFileSync("/proc/self/stat", "utf8");
    const started = parts
      .slice(parts.lastIndexOf(")") + 2)
      .split(" ")
      .at(19);
    const tag = "0123456789abcdef.part";
    const mine = `${process.pid}-${started}-${tag}`;
    const reused = `${process.pid}-1-${tag}`;
    for (const name of [mine, reused, "notes.txt", `x-1-${tag}`])
      writeFileSync(join(directory, "temporary", name), "x");
    mkdirSync(join(directory, "temporary", `${2 ** 22 + 1}-1-${tag}`));
    await openBlobStore({ directory });
    expect(leftovers().sort()).toEqual([mine, "notes.txt", `x-1-${tag}`, `${2 ** 22 + 1}-1-${tag}`].sort());
  });
});

describe("refusals", () => {
  it("refuses more bytes than allowed, at the first byte past the limit, and keeps nothing", async () => {
    const store = await openBlobStore({ directory, maxBlobBytes: 10 });
    expect((await store.put(new Uint8Array(10))).sizeBytes).toBe(10);
    await expect(store.put(new Uint8Array(11))).rejects.toEqual(code("blob_too_large"));
    await expect(store.put(bytes("four"), { maxBytes: 3 })).rejects.toEqual(code("blob_too_large"));
    let asked = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        asked++;
        yield new Uint8Array(4);
      }
    }
    await expect(store.put(endless())).rejects.toEqual(code("blob_too_large"));
    expect(asked).toBe(3);
    expect(leftovers()).toEqual([]);
  });

  it("gives nothing in one piece that is too large for it, and asks for no memory", async () => {
    const { sha256 } = await (await openBlobStore({ directory })).put(bytes("x"));
    for (const [size, wanted] of [
      [MAX_WHOLE_BYTES + 1, "blob_too_large"],
      [2, "blob_corrupt"],
    ] as const) {
      const openRead = async (path: string): Promise<OpenFile> => {
        const real = await nodeFiles.openRead(path);
        return {
          read: (...a) => real.read(...a),
          write: (...a) => real.write(...a),
          chmod: (mode) => real.chmod(mode),
          sync: () => real.sync(),
          close: () => real.close(),
          stat: () => Promise.resolve({ size, isFile: () => true }),
        };
      };
      const store = await openBlobStore({ directory, files: { ...nodeFiles, openRead } });
      await expect(store.get(sha256)).rejects.toEqual(code(wanted));
    }
  });

  it("refuses bytes with another digest than expected and keeps nothing", async () => {
    const store = await openBlobStore({ directory });
    await expect(store.put(bytes("a"), { expected: MISSING })).rejects.toEqual(code("blob_digest_mismatch"));
    expect(await store.has(digest(bytes("a")))).toBe(false);
    expect(leftovers()).toEqual([]);
  });

  it("passes on the error of a source that breaks off and keeps nothing", async () => {
    const store = await openBlobStore({ directory });
    await expect(store.put(broken())).rejects.toThrow("the client went away");
    expect(leftovers()).toEqual([]);
  });

  it.each([
    ["changed bytes", bytes("Damaged!")],
    ["fewer bytes", bytes("damag")],
    ["more bytes", bytes("damaged!!")],
    ["no bytes", new Uint8Array()],
  ])("finds a blob with %s on every way of reading all of it", async (_name, content) => {
    const store = await openBlobStore({ directory });
    const { sha256 } = await store.put(bytes("damaged!"));
    damage(sha256, content);
    await expect(store.get(sha256)).rejects.toEqual(code("blob_corrupt"));
    await expect(collect(store.stream(sha256))).rejects.toEqual(code("blob_corrupt"));
    await expect(store.materialise(sha256, join(root, "copy"))).rejects.toEqual(code("blob_corrupt"));
    expect(existsSync(join(root, "copy"))).toBe(false);
    // Putting the right bytes again repairs it.
    await store.put(bytes("damaged!"));
    expect(await store.get(sha256)).toEqual(bytes("damaged!"));
  });

  it("finds damage in the first of many chunks before it gives the last", async () => {
    const store = await openBlobStore({ directory });
    const content = new Uint8Array(randomBytes(2 * CHUNK_BYTES + 1));
    const { sha256 } = await store.put(content);
    content.set([(content.at(0) ?? 0) ^ 1]);
    damage(sha256, content);
    let given = 0;
    const reading = (async () => {
      for await (const part of store.stream(sha256)) given += part.length;
    })();
    await expect(reading).rejects.toEqual(code("blob_corrupt"));
    expect(given).toBeLessThan(content.length);
  });

  it.each(["", "ab", MISSING.toUpperCase(), `../${MISSING.slice(3)}`, `${MISSING}0`, `${MISSING.slice(1)}\n`])(
    "refuses %j as an id",
    async (id) => {
      const store = await openBlobStore({ directory });
      expect(await store.has(id)).toBe(false);
      expect(await store.sizeBytes(id)).toBeUndefined();
      await expect(store.get(id)).rejects.toEqual(code("blob_id_invalid"));
      await expect(collect(store.stream(id))).rejects.toEqual(code("blob_id_invalid"));
      await expect(store.remove(id)).rejects.toEqual(code("blob_id_invalid"));
      await expect(store.put(bytes("x"), { expected: id })).rejects.toEqual(code("blob_id_invalid"));
      expect(() => cidOf(id)).toThrow("64 lower-case hex digits");
    },
  );

  it("says that a blob is missing", async () => {
    const store = await openBlobStore({ directory });
    expect(await store.has(MISSING)).toBe(false);
    await expect(store.get(MISSING)).rejects.toEqual(code("blob_missing"));
    await expect(collect(store.stream(MISSING))).rejects.toEqual(code("blob_missing"));
    await expect(store.materialise(MISSING, join(root, "copy"))).rejects.toEqual(code("blob_missing"));
    expect(existsSync(join(root, "copy"))).toBe(false);
  });

  it.each([
    { start: -1, end: 2 },
    { start: 0, end: 7 },
    { start: 3, end: 2 },
    { start: 0.5, end: 2 },
    { start: Number.NaN, end: 2 },
  ])("refuses the range $start to $end of six bytes", async (range) => {
    const store = await openBlobStore({ directory });
    const { sha256 } = await store.put(bytes("sixsix"));
    await expect(collect(store.stream(sha256, range))).rejects.toEqual(code("blob_range_invalid"));
  });

  it("refuses links anywhere in the store", async () => {
    const store = await openBlobStore({ directory });
    const secret = join(root, "secret");
    writeFileSync(secret, "secret");
    const id = digest(bytes("secret"));
    const inner = join(directory, "blobs", id.slice(0, 2), id.slice(2, 4));
    mkdirSync(inner, { recursive: true });
    symlinkSync(secret, join(inner, id));
    await expect(store.get(id)).rejects.toEqual(code("blob_store_unsafe"));
    await expect(store.has(id)).rejects.toEqual(code("blob_store_unsafe"));
    await expect(store.put(bytes("secret"))).rejects.toEqual(code("blob_store_unsafe"));
    rmSync(join(directory, "blobs", id.slice(0, 2)), { recursive: true });
    symlinkSync(root, join(directory, "blobs", id.slice(0, 2)));
    await expect(store.get(id)).rejects.toEqual(code("blob_store_unsafe"));
    await expect(store.put(bytes("secret"))).rejects.toEqual(code("blob_store_unsafe"));
    await expect(store.remove(id)).rejects.toEqual(code("blob_store_unsafe"));
    expect(leftovers()).toEqual([]);
    rmSync(join(directory, "blobs"), { recursive: true });
    symlinkSync(root, join(directory, "blobs"));
    await expect(openBlobStore({ directory })).rejects.toEqual(code("blob_store_unsafe"));
    expect(readFileSync(secret, "utf8")).toBe("secret");
  });

  it("refuses a file where a folder belongs, and does not list or read a folder as a blob", async () => {
    const store = await openBlobStore({ directory });
    mkdirSync(pathOf(MISSING), { recursive: true });
    expect(await store.has(MISSING)).toBe(false);
    await expect(collect(store.stream(MISSING))).rejects.toEqual(code("blob_store_unsafe"));
    for await (const id of store.list()) expect(id).toBe("nothing");
    writeFileSync(join(root, "file"), "");
    await expect(openBlobStore({ directory: join(root, "file") })).rejects.toEqual(code("blob_store_unsafe"));
  });
});

describe("faults of the disk", () => {
  it.each([
    ["ENOSPC", "storage_full"],
    ["EDQUOT", "storage_full"],
    ["EROFS", "storage_read_only"],
    ["EACCES", "storage_read_only"],
  ])("maps %s to %s wherever it strikes, and keeps nothing", async (name, wanted) => {
    let broken = true;
    const when = (fault: () => Promise<never>, fine: () => Promise<void>) => (): Promise<void> =>
      broken ? fault() : fine();
    const last = faulty({ syncDirectory: (path) => when(fail(name), () => nodeFiles.syncDirectory(path))() });
    const places: Files[] = [
      faulty({ create: fail(name) }),
      faulty({}, () => ({ write: fail(name) })),
      faulty({}, () => ({ sync: fail(name) })),
      faulty({ rename: fail(name) }),
      last,
    ];
    for (const files of places) {
      const store = await openBlobStore({ directory, files });
      await expect(store.put(bytes("unlucky"))).rejects.toEqual(code(wanted));
      expect(leftovers()).toEqual([]);
    }
    broken = false;
    const store = await openBlobStore({ directory, files: last });
    expect((await store.put(bytes("unlucky"))).sizeBytes).toBe(7);
  });

  it("passes on what it has no name for", async () => {
    const store = await openBlobStore({ directory, files: faulty({}, () => ({ write: fail("EIO") })) });
    await expect(store.put(bytes("x"))).rejects.toEqual(code("EIO"));
  });

  it("reads a store whose disk became read-only", async () => {
    const { sha256 } = await (await openBlobStore({ directory })).put(bytes("kept"));
    writeFileSync(join(directory, "temporary", `${2 ** 22 + 1}-1-0123456789abcdef.part`), "torn");
    const readOnly = faulty({ create: fail("EROFS"), unlink: fail("EROFS"), rename: fail("EROFS") });
    const store = await openBlobStore({ directory, files: readOnly });
    expect(await store.get(sha256)).toEqual(bytes("kept"));
    await expect(store.put(bytes("new"))).rejects.toEqual(code("storage_read_only"));
    await expect(store.remove(sha256)).rejects.toEqual(code("storage_read_only"));
  });

  it("says that a store cannot be made on a read-only disk", async () => {
    const files = faulty({ makeDirectory: fail("EROFS") });
    await expect(openBlobStore({ directory, files })).rejects.toEqual(code("storage_read_only"));
  });
});

describe("materialise", () => {
  it("copies, so that the copy may be changed and the blob may not", async () => {
    const store = await openBlobStore({ directory });
    const { sha256 } = await store.put(bytes("original"));
    const path = join(root, "copy");
    await store.materialise(sha256, path);
    expect(statSync(path)).toMatchObject({ nlink: 1 });
    expect(statSync(path).ino).not.toBe(statSync(pathOf(sha256)).ino);
    writeFileSync(path, "changed");
    expect(await store.get(sha256)).toEqual(bytes("original"));
  });

  it("never writes over a file or through a link", async () => {
    const store = await openBlobStore({ directory });
    const { sha256 } = await store.put(bytes("original"));
    writeFileSync(join(root, "taken"), "mine");
    symlinkSync(join(root, "elsewhere"), join(root, "link"));
    for (const name of ["taken", "link"])
      await expect(store.materialise(sha256, join(root, name))).rejects.toEqual(code("blob_target_exists"));
    expect(readFileSync(join(root, "taken"), "utf8")).toBe("mine");
    expect(existsSync(join(root, "elsewhere"))).toBe(false);
  });

  it("leaves nothing when the disk fills up", async () => {
    const content = new Uint8Array(randomBytes(CHUNK_BYTES + 1));
    const { sha256 } = await (await openBlobStore({ directory })).put(content);
    const store = await openBlobStore({ directory, files: faulty({}, () => ({ write: fail("ENOSPC") })) });
    await expect(store.materialise(sha256, join(root, "copy"))).rejects.toEqual(code("storage_full"));
    expect(existsSync(join(root, "copy"))).toBe(false);
  });
});

describe("cidOf", () => {
  it("agrees with the published CID of the empty raw block", () => {
    expect(cidOf(digest(new Uint8Array()))).toBe("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
  });

  it("differs where digests differ", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(31), (raw, at) => {
        const other = Uint8Array.from(raw, (byte, i) => (i === at ? byte ^ 1 : byte));
        expect(cidOf(hex(raw))).toMatch(/^bafkrei[a-z2-7]{52}$/);
        expect(cidOf(hex(raw))).not.toBe(cidOf(hex(other)));
      }),
    );
  });
});
