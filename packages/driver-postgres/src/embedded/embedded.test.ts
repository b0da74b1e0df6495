import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { pbkdf2, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { connectDatabase, createIndexStore, migrateDatabase, startEmbeddedPostgres } from "../index.ts";
import type { Database, EmbeddedEvent, EmbeddedOptions, EmbeddedPostgres } from "../index.ts";
import { MIGRATIONS } from "../migrations.ts";
import { MAX_WAITING } from "../pool.ts";
import { findBinaries, linkLibraries, reachableBinaries } from "./binaries.ts";
import { MAX_RESTARTS, MAX_SOCKET_PATH_BYTES } from "./embedded.ts";
import { SERVICE_IDENTITY, canReach, initIdentity } from "./identity.ts";
import { MAX_LOG_BYTES } from "./postmaster.ts";
import { clusterProcesses, isClusterProcess, recordedPid } from "./processes.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;
const isRoot = process.geteuid?.() === 0;
const index = new URL("../index.ts", import.meta.url).href;

let root: string;
let template: string;
const running = new Set<EmbeddedPostgres>();
const children = new Set<ChildProcess>();

async function start(directory: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ directory, ...options });
  running.add(server);
  return server;
}

/** A directory with a fresh cluster in it, copied so that not every test pays for initdb. */
function fresh(): string {
  const directory = join(root, randomBytes(4).toString("hex"));
  const { status } = spawnSync("cp", ["-a", template, directory]);
  if (status !== 0) throw new Error("the template could not be copied");
  return directory;
}

async function withDatabase<T>(server: EmbeddedPostgres, work: (database: Database) => Promise<T>): Promise<T> {
  const database = connectDatabase({ url: server.url });
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

async function ask(server: EmbeddedPostgres, sql: string): Promise<unknown> {
  return withDatabase(server, async (database) => Object.values((await database.query(sql)).rows[0] ?? {})[0]);
}

/** Runs a program that imports this package, and gives its first line. */
async function runChild(source: string, ...values: string[]): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(
    process.execPath,
    ["--conditions=assay-source", "--import", "tsx", "--input-type=module", "--eval", source, index, ...values],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  children.add(child);
  const lines = createInterface({ input: child.stdout });
  const [line] = (await once(lines, "line")) as [string];
  return { child, line };
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

/** Starts a server and then does nothing; ends by itself if nobody kills it. */
const OWNER = `
const { startEmbeddedPostgres } = await import(process.argv[1]);
const server = await startEmbeddedPostgres({ directory: process.argv[2] });
console.log(server.pid());
setTimeout(() => server.close().then(() => process.exit()), 60_000);
`;

/** Starts a server and inserts row after row, printing each number once its commit was answered. */
const WRITER = `
const { startEmbeddedPostgres, connectDatabase } = await import(process.argv[1]);
const server = await startEmbeddedPostgres({ directory: process.argv[2] });
const database = connectDatabase({ url: server.url });
await database.exec("CREATE TABLE acknowledged (n int PRIMARY KEY)");
console.log(server.pid());
setTimeout(() => process.exit(1), 60_000);
for (let n = 1; ; n++) {
  await database.query("INSERT INTO acknowledged VALUES ($1)", [n]);
  console.log(n);
}
`;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "assay-embedded-"));
  template = join(root, "template");
  const server = await start(template);
  await withDatabase(server, migrateDatabase);
  await server.close();
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const server of running) await server.close();
  // What a failed test left running without an owner.
  for (const name of readdirSync(root).map((name) => join(root, name, "data")))
    if (existsSync(name)) for (const pid of await clusterProcesses(name)) process.kill(pid, "SIGKILL");
  rmSync(root, { recursive: true, force: true });
});

describe("a first start", () => {
  it("makes a durable server that only its user can reach, and stops it in order", async () => {
    const directory = fresh();
    const server = await start(directory);
    expect(server).toMatchObject({ created: false, adopted: false });
    const settings = await withDatabase(server, async (database) => {
      const { rows } = await database.query(
        `SELECT name, setting FROM pg_settings WHERE name IN
         ('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses', 'ssl', 'server_version_num')`,
      );
      return Object.fromEntries(rows.map((row) => [row["name"], row["setting"]]));
    });
    expect(settings).toMatchObject({
      fsync: "on",
      synchronous_commit: "on",
      full_page_writes: "on",
      listen_addresses: "",
      ssl: "off",
    });
    expect(String(settings["server_version_num"])).toMatch(/^18/);
    expect(statSync(join(directory, "data")).mode & 0o777).toBe(0o700);
    expect(readFileSync(join(directory, "data/pg_hba.conf"), "utf8")).not.toMatch(/^host/m);
    const pid = server.pid();
    await server.close();
    await server.close();
    expect(await isClusterProcess(pid, join(directory, "data"))).toBe(false);
    expect(existsSync(join(directory, "data/postmaster.pid"))).toBe(false);
    expect(await clusterProcesses(join(directory, "data"))).toEqual([]);
  });

  it("begins anew when an earlier first start was interrupted", async () => {
    const directory = join(root, "interrupted");
    mkdirSync(join(directory, "data.new/base"), { recursive: true });
    writeFileSync(join(directory, "data.new/PG_VERSION"), "18\n");
    const server = await start(directory);
    expect(server).toMatchObject({ created: true, adopted: false });
    expect(existsSync(join(directory, "data.new"))).toBe(false);
    await server.close();
  });
});

describe("the log", () => {
  it("is set aside when it has grown too large", async () => {
    const directory = fresh();
    const log = join(directory, "postgres.log");
    writeFileSync(log, Buffer.alloc(MAX_LOG_BYTES + 1));
    await (await start(directory)).close();
    expect(statSync(`${log}.old`).size).toBe(MAX_LOG_BYTES + 1);
    expect(statSync(log).size).toBeLessThan(10_000);
    await (await start(directory)).close();
    expect(statSync(`${log}.old`).size).toBe(MAX_LOG_BYTES + 1);
  });
});

describe.runIf(isRoot)("as root", () => {
  it("runs as an unprivileged user, below folders that this user may not enter", async () => {
    const closed = join(root, "closed");
    mkdirSync(closed, { mode: 0o700 });
    const server = await start(join(closed, "x".repeat(60), "y".repeat(60)));
    const data = join(closed, "x".repeat(60), "y".repeat(60), "data");
    expect(statSync(`/proc/${server.pid()}`)).toMatchObject(SERVICE_IDENTITY);
    expect(statSync(join(data, "PG_VERSION"))).toMatchObject(SERVICE_IDENTITY);
    expect(readFileSync(`/proc/${server.pid()}/status`, "utf8")).toMatch(/^Groups:\s*$/m);
    // The path of the socket is too long for a socket address, so it is reached by a link.
    expect(join(data, ".s.PGSQL.5432").length).toBeGreaterThan(MAX_SOCKET_PATH_BYTES);
    expect(await ask(server, "SELECT 41 + 1")).toBe(42);
    const link = decodeURIComponent(server.url.split("host=")[1] ?? "");
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    await server.close();
    expect(existsSync(dirname(link))).toBe(false);
  });

  it("takes files that were restored as root", async () => {
    const directory = fresh();
    expect(spawnSync("chown", ["-R", "0:0", directory]).status).toBe(0);
    const server = await start(directory);
    expect(await ask(server, "SELECT count(*)::int FROM assay.schema_migrations")).toBe(MIGRATIONS.length);
    await server.close();
    expect(statSync(join(directory, "data/base"))).toMatchObject(SERVICE_IDENTITY);
  });

  it("are copied to where the other user can reach them, once, and run from there", async () => {
    const closed = join(root, "root-home");
    mkdirSync(closed, { mode: 0o700 });
    const native = join(closed, "native");
    cpSync(await findBinaries(), native, { recursive: true });
    expect(await canReach(native, SERVICE_IDENTITY)).toBe(false);
    chmodSync(root, 0o711);
    const copyDirectory = join(root, "cache");
    const directory = join(closed, "db");
    const server = await start(directory, { binaries: native, copyDirectory });
    expect(await ask(server, "SELECT 1")).toBe(1);
    await server.close();
    expect(readdirSync(copyDirectory)).toEqual(["postgres-18.4.0-beta.17"]);
    const copy = join(copyDirectory, "postgres-18.4.0-beta.17");
    const { ino } = statSync(copy);
    expect(await reachableBinaries(native, SERVICE_IDENTITY, copyDirectory)).toBe(copy);
    expect(statSync(copy).ino).toBe(ino);
    chmodSync(copy, 0o777);
    const unsafe = reachableBinaries(native, SERVICE_IDENTITY, copyDirectory);
    await expect(unsafe).rejects.toEqual(code("embedded_copy_unsafe"));
  });
});

describe.runIf(isRoot && (await canReach(import.meta.dirname, { uid: 65_534, gid: 65_534 })))(
  "as an ordinary user",
  () => {
    it("works for an ordinary user who may read the program", async () => {
      const directory = join(root, "ordinary");
      mkdirSync(directory, { mode: 0o700 });
      chmodSync(root, 0o711);
      chownSync(directory, 65_534, 65_534);
      const child = spawn(
        process.execPath,
        [
          "--conditions=assay-source",
          "--import",
          "tsx",
          "--input-type=module",
          "--eval",
          OWNER,
          index,
          join(directory, "db"),
        ],
        { stdio: ["ignore", "pipe", "inherit"], uid: 65_534, gid: 65_534, env: { TMPDIR: directory, HOME: directory } },
      );
      children.add(child);
      const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
      expect(statSync(`/proc/${line}`).uid).toBe(65_534);
      await kill(child);
      // Root finds it running, and it stays the other user's.
      const server = await start(join(directory, "db"));
      expect(server.adopted).toBe(true);
      await server.close();
      expect(statSync(join(directory, "db/data")).uid).toBe(65_534);
    });
  },
);

describe("refusals", () => {
  it("refuses a second start on one directory while the first runs, here and in another process", async () => {
    const directory = fresh();
    const server = await start(directory);
    await expect(startEmbeddedPostgres({ directory })).rejects.toEqual(code("database_directory_locked"));
    const source = `
      const { startEmbeddedPostgres } = await import(process.argv[1]);
      await startEmbeddedPostgres({ directory: process.argv[2] }).catch((error) => console.log(error.code));`;
    expect((await runChild(source, directory)).line).toBe("database_directory_locked");
    expect(await ask(server, "SELECT 1")).toBe(1);
    await server.close();
  });

  it.each([
    ["assay-database-v1\nmode url\nmajor -\n", "database_mode_changed"],
    ["assay-database-v1\nmode embedded\nmajor 17\n", "database_version_changed"],
    ["assay-database-v1\nmode embedded\n", "database_marker_invalid"],
    ["x".repeat(10_000), "database_marker_invalid"],
  ])("refuses a directory marked %j", async (marker, wanted) => {
    const directory = join(root, randomBytes(4).toString("hex"));
    mkdirSync(directory);
    writeFileSync(join(directory, "assay-database"), marker);
    await expect(startEmbeddedPostgres({ directory })).rejects.toEqual(code(wanted));
    expect(readdirSync(directory)).toEqual(["assay-database"]);
  });

  it("tells at once what the server's log says when it cannot start, and lets the directory go", async () => {
    const directory = fresh();
    const config = join(directory, "data/postgresql.conf");
    const right = readFileSync(config, "utf8");
    writeFileSync(config, `${right}\nno_such_setting_at_all = 1\n`);
    const failed = startEmbeddedPostgres({ directory });
    await expect(failed).rejects.toEqual(code("database_start_failed"));
    await expect(failed).rejects.toMatchObject({
      hints: [expect.stringContaining("no_such_setting_at_all"), expect.anything()],
    });
    writeFileSync(config, right);
    await (await start(directory)).close();
  });

  it("hears of a server that ends at once, however slow the disk is", async () => {
    const directory = fresh();
    writeFileSync(join(directory, "data/postgresql.conf"), "no_such_setting_at_all = 1\n");
    // What waits for files waits behind these, while the server comes and goes.
    const over = new AbortController();
    const turn = async (): Promise<void> => {
      while (!over.signal.aborted) await promisify(pbkdf2)("slow", "disk", 100_000, 32, "sha256");
    };
    const turns = Array.from({ length: 8 }, turn);
    await expect(startEmbeddedPostgres({ directory })).rejects.toEqual(code("database_start_failed"));
    over.abort();
    await Promise.all(turns);
  });

  it("refuses binaries that are not there", async () => {
    const binaries = join(root, "nothing");
    mkdirSync(join(binaries, "lib"), { recursive: true });
    chmodSync(root, 0o711);
    const failed = startEmbeddedPostgres({ directory: join(root, "no-binaries"), binaries });
    await expect(failed).rejects.toEqual(code("database_init_failed"));
  });

  it("refuses to create a database where root is the only user", async () => {
    const passwd = join(root, "passwd");
    writeFileSync(passwd, "root:x:0:0::/root:/bin/sh\nbroken line\n");
    await expect(initIdentity(SERVICE_IDENTITY, passwd)).rejects.toEqual(code("embedded_user_missing"));
    writeFileSync(passwd, "root:x:0:0::/:/bin/sh\nd:x:1:2::/:/bin/sh\nnobody:x:99:98::/:/bin/sh\n");
    expect(await initIdentity(SERVICE_IDENTITY, passwd)).toEqual({ uid: 99, gid: 98 });
    expect(await initIdentity({ uid: 1, gid: 1 }, passwd)).toEqual({ uid: 1, gid: 2 });
  });
});

describe("binaries", () => {
  it("get links for libraries by the name that the loader asks for, again after the package moved", async () => {
    const links = join(root, "links");
    for (const version of ["one", "two"]) {
      const native = join(root, version);
      mkdirSync(join(native, "lib"), { recursive: true });
      for (const file of ["libicuuc.so.60.2", "libpq.so.5.18", "libz.so.1", "libpq.a"])
        writeFileSync(join(native, "lib", file), `${version} ${file}`);
      await linkLibraries(native, links);
      await linkLibraries(native, links);
      expect(readdirSync(links).sort()).toEqual(["libicuuc.so.60", "libpq.so.5"]);
      expect(readFileSync(join(links, "libpq.so.5"), "utf8")).toBe(`${version} libpq.so.5.18`);
    }
  });
});

describe("after a kill", () => {
  it("adopts the server of a process that was killed, and stops it at close", async () => {
    const directory = fresh();
    const data = join(directory, "data");
    const { child, line } = await runChild(OWNER, directory);
    await kill(child);
    expect(await isClusterProcess(Number(line), data)).toBe(true);
    const server = await start(directory);
    expect(server).toMatchObject({ adopted: true, created: false });
    expect(server.pid()).toBe(Number(line));
    expect(await ask(server, "SELECT count(*)::int FROM assay.schema_migrations")).toBe(MIGRATIONS.length);
    await server.close();
    expect(await clusterProcesses(data)).toEqual([]);
    expect(existsSync(join(data, "postmaster.pid"))).toBe(false);
  });

  it("has every acknowledged row after owner, postmaster and backends are killed at once", async () => {
    const directory = fresh();
    const data = join(directory, "data");
    const { child } = await runChild(WRITER, directory);
    const lines = createInterface({ input: child.stdout! });
    let acknowledged = 0;
    lines.on("line", (line) => (acknowledged = Number(line)));
    await vi.waitFor(() => expect(acknowledged).toBeGreaterThan(50), { timeout: 60_000, interval: 5 });
    const gone = once(child, "exit");
    const drained = once(lines, "close");
    for (const pid of await clusterProcesses(data)) process.kill(pid, "SIGKILL");
    child.kill("SIGKILL");
    await gone;
    await drained;
    const server = await start(directory);
    expect(server.adopted).toBe(false);
    const last = Number(await ask(server, "SELECT max(n) FROM acknowledged"));
    expect(last).toBeGreaterThanOrEqual(acknowledged);
    // No gap either: the one row that may be there unacknowledged is the next.
    expect(Number(await ask(server, "SELECT count(*)::int FROM acknowledged"))).toBe(last);
    expect(last).toBeLessThanOrEqual(acknowledged + 1);
    await server.close();
  });

  it("waits for backends that outlive a killed postmaster instead of killing them", async () => {
    const directory = fresh();
    const data = join(directory, "data");
    const { child, line } = await runChild(OWNER, directory);
    await kill(child);
    const others = (await clusterProcesses(data)).filter((pid) => pid !== Number(line));
    const [survivor] = others;
    expect(survivor).toBeDefined();
    // Frozen, it cannot notice that its postmaster died, and keeps the shared memory.
    process.kill(survivor ?? 0, "SIGSTOP");
    process.kill(Number(line), "SIGKILL");
    const starting = start(directory);
    const log = join(directory, "postgres.log");
    await vi.waitFor(() => expect(readFileSync(log, "utf8")).toContain("still in use"), {
      timeout: 60_000,
      interval: 10,
    });
    process.kill(survivor ?? 0, "SIGCONT");
    const server = await starting;
    expect(server.adopted).toBe(false);
    expect(await ask(server, "SELECT 1")).toBe(1);
    await server.close();
  });

  it("is not misled by a process that got the dead server's number", async () => {
    const directory = fresh();
    const data = join(directory, "data");
    // This process's parent and ours are exempt from PostgreSQL's own check, so a stranger is needed.
    const stranger = spawn("sleep", ["60"], isRoot ? { uid: 60_650, gid: 60_650 } : {});
    children.add(stranger);
    await once(stranger, "spawn");
    writeFileSync(
      join(data, "postmaster.pid"),
      `${stranger.pid}\n/proc/self/cwd\n1700000000\n5432\n/proc/self/cwd\n\n`,
    );
    if (isRoot) chownSync(join(data, "postmaster.pid"), 60_650, 60_650);
    expect(await recordedPid(data)).toBe(stranger.pid);
    const server = await start(directory);
    expect(server.adopted).toBe(false);
    expect(stranger.exitCode).toBeNull();
    await server.close();
    await kill(stranger);
  });

  it("starts the server again when it dies, while calls fail fast and then work again", async () => {
    const directory = fresh();
    const events: EmbeddedEvent[] = [];
    const server = await start(directory, { onEvent: (event) => events.push(event) });
    const causes: unknown[] = [];
    const database = connectDatabase({ url: server.url, onUnavailable: (cause) => causes.push(cause) });
    const store = createIndexStore(database);
    expect(await store.watermark()).toBe(0);
    // A connection in use but idle has nobody to tell of its loss: that must not end the process.
    const held = database.transaction(async (tx) => {
      await tx.query("SELECT 1");
      await vi.waitFor(() => expect(events.map((event) => event.type)).toContain("restarted"), { timeout: 60_000 });
      await tx.query("SELECT 1");
    });
    const lost = held.catch((error: unknown) => error);
    const before = server.pid();
    for (const pid of await clusterProcesses(join(directory, "data"))) process.kill(pid, "SIGKILL");
    await vi.waitFor(() => expect(events.map((event) => event.type)).toEqual(["died", "restarted"]), {
      timeout: 60_000,
    });
    expect(await lost).toEqual(code("database_unavailable"));
    expect(server.pid()).not.toBe(before);
    // The lost connections opened the circuit, and its probe closes it.
    await vi.waitFor(() => expect(store.watermark()).resolves.toBe(0), { timeout: 60_000 });
    expect(database.available()).toBe(true);
    expect(causes.length).toBeGreaterThan(0);
    await database.close();
    await server.close();
    expect(events.map((event) => event.type)).toEqual(["died", "restarted"]);
  });

  it("gives up on a server that dies again and again", async () => {
    const directory = fresh();
    const events: string[] = [];
    const server = await start(directory, { onEvent: (event) => events.push(event.type) });
    for (let i = 0; i <= MAX_RESTARTS; i++) {
      await vi.waitFor(() => expect(events.filter((type) => type === "restarted")).toHaveLength(i), {
        timeout: 30_000,
        interval: 5,
      });
      process.kill(server.pid(), "SIGQUIT");
    }
    await vi.waitFor(() => expect(events.at(-1)).toBe("given_up"), { timeout: 60_000 });
    expect(events.filter((type) => type === "restarted")).toHaveLength(MAX_RESTARTS);
    await server.close();
    expect(await clusterProcesses(join(directory, "data"))).toEqual([]);
  });
});

describe("a database that is away", () => {
  it("refuses every call at once after the first, without trying to connect again", async () => {
    const directory = fresh();
    const server = await start(directory);
    const database = connectDatabase({ url: server.url });
    const store = createIndexStore(database);
    expect(await store.watermark()).toBe(0);
    await server.close();
    await expect(store.watermark()).rejects.toEqual(code("database_unavailable"));
    expect(database.available()).toBe(false);
    // Settled within the same turn of the event loop: no socket was asked.
    let settled = false;
    void store.receipts({ limit: 1 }).catch(() => (settled = true));
    await new Promise((resolve) => process.nextTick(() => queueMicrotask(() => resolve(undefined))));
    expect(settled).toBe(true);
    for (const call of [store.index({ receipts: [], models: [], watermark: 1 }), store.fingerprint(), store.reset()])
      await expect(call).rejects.toMatchObject({
        code: "database_unavailable",
        hints: [expect.any(String), expect.any(String)],
      });
    const again = await start(directory);
    await vi.waitFor(() => expect(store.watermark()).resolves.toBe(0), { timeout: 60_000 });
    await database.close();
    await expect(store.watermark()).rejects.toEqual(code("database_unavailable"));
    await again.close();
  });

  it("cancels a statement that takes too long, and goes on", async () => {
    const server = await start(fresh());
    const database = connectDatabase({ url: server.url, statementTimeoutMs: 100 });
    await expect(database.query("SELECT pg_sleep(60)")).rejects.toEqual(code("database_timeout"));
    expect((await database.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await database.close();
    await server.close();
  });

  it("lets go of connections that nobody uses, but for one", async () => {
    const server = await start(fresh());
    const database = connectDatabase({ url: server.url, idleTimeoutMs: 50 });
    const watcher = connectDatabase({ url: server.url, maxConnections: 1 });
    const others = async (): Promise<readonly unknown[]> =>
      (
        await watcher.query(
          "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
      ).rows.map(({ pid }) => pid);
    let go = (): void => {};
    const all = new Promise<void>((resolve) => (go = resolve));
    let begun = 0;
    const held = Array.from({ length: 5 }, () =>
      database.transaction(async (tx) => {
        await tx.query("SELECT 1");
        if (++begun === 5) go();
        await all;
      }),
    );
    await all;
    expect(await others()).toHaveLength(5);
    await Promise.all(held);
    await expect.poll(async () => (await others()).length, { timeout: 10_000 }).toBe(1);
    const [kept] = await others();
    expect((await database.query("SELECT pg_backend_pid() AS pid")).rows).toEqual([{ pid: kept }]);
    await watcher.close();
    await database.close();
    await server.close();
  });

  it("says that it is overloaded, not away, when every connection is busy", async () => {
    const server = await start(fresh());
    const database = connectDatabase({ url: server.url, maxConnections: 1, connectTimeoutMs: 100 });
    let release: (() => void) | undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let began: (() => void) | undefined;
    const begun = new Promise<void>((resolve) => (began = resolve));
    const long = database.transaction(async (tx) => {
      await tx.query("SELECT 1");
      began?.();
      await held;
    });
    await begun;
    await expect(database.query("SELECT 1")).rejects.toEqual(code("database_overloaded"));
    expect(database.available()).toBe(true);
    release?.();
    await long;
    expect((await database.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await database.close();
    await server.close();
  });

  it("lets a bounded number wait for a connection, and serves them all", async () => {
    const server = await start(fresh());
    const database = connectDatabase({ url: server.url, maxConnections: 1, connectTimeoutMs: 60_000 });
    let release: (() => void) | undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let began: (() => void) | undefined;
    const begun = new Promise<void>((resolve) => (began = resolve));
    const long = database.transaction(async (tx) => {
      await tx.query("SELECT 1");
      began?.();
      await held;
    });
    await begun;
    const waiting = Array.from({ length: MAX_WAITING }, () => database.query("SELECT 1"));
    await expect(database.query("SELECT 1")).rejects.toEqual(code("database_overloaded"));
    release?.();
    await long;
    expect(await Promise.all(waiting)).toHaveLength(MAX_WAITING);
    await database.close();
    await server.close();
  });

  it.each(["", "mysql://localhost/x", "localhost:5432", "postgresql://user:secret@a b/x"])(
    "refuses the address %j without repeating it",
    (url) => {
      const attempt = (): Database => connectDatabase({ url });
      expect(attempt).toThrow(expect.objectContaining({ code: "database_url_invalid" }));
      expect(attempt).not.toThrow("secret");
    },
  );
});
