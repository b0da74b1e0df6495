import { cpSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import { nodeFileOps } from "@assay/driver-log";
import type { FileOps } from "@assay/driver-log";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import { decodeBundle } from "@assay/receipts";
import { createClient } from "@assay/sdk";
import type { Client, InferAnswer, InferRequest } from "@assay/sdk";
import { openCheckpoint } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { startServer } from "../../apps/assay/src/server/start-server.ts";
import type { RunningServer, ServerConfig } from "../../apps/assay/src/server/start-server.ts";
import { postmasterOf } from "../crash/server-process.ts";
import {
  benchModel,
  eventually,
  followChains,
  operatorSigner,
  ORT_CHILD,
  tinyInput,
  wideInput,
} from "../crash/support.ts";

const TINY = "bench/tiny";
const WIDE = "bench/wide";
const HOUR_MS = 60 * 60 * 1000;

const root = realpathSync(mkdtempSync(join(tmpdir(), "assay-faults-")));
const template = join(root, "template");
const running = new Set<RunningServer>();
let homes = 0;

async function start(home: string, options: Partial<ServerConfig> = {}): Promise<RunningServer> {
  const server = await startServer({
    home,
    host: "127.0.0.1",
    port: 0,
    seed: false,
    logLevel: "silent",
    version: "0.0.0-faults",
    ...ORT_CHILD,
    ...options,
  });
  running.add(server);
  // Most homes here have no database, and nobody waits for it.
  server.databaseReady.catch(() => undefined);
  return server;
}

async function close(server: RunningServer): Promise<void> {
  running.delete(server);
  await server.close();
}

/** A home of its own with database and both models in it, copied so that not every test pays for them. */
function freshHome(): string {
  const home = join(root, `home-${++homes}`);
  const { status } = spawnSync("cp", ["-a", template, home]);
  if (status !== 0) throw new Error("the template could not be copied");
  return home;
}

/** Nothing listens there: for tests that need no database, and for one that wants it away. */
const NO_DATABASE = { databaseUrl: "postgresql://assay@127.0.0.1:1/assay" } as const;
/** A home whose database mode was never claimed, so that it may be told another. */
function homeWithoutDatabase(): string {
  const home = join(root, `home-${++homes}`);
  for (const part of ["keys", "log", "blobs", "models"])
    if (existsSync(join(template, part))) cpSync(join(template, part), join(home, part), { recursive: true });
  return home;
}

const clientOf = (server: RunningServer, home: string): Client =>
  createClient({ url: server.url, signer: operatorSigner(home), suite: nodeSuite, retries: 0 });

const tiny = (i: number, more: Partial<InferRequest> = {}): InferRequest => ({
  model: TINY,
  inputs: [tinyInput(i)],
  ...more,
});
const wide = (i: number): InferRequest => ({ model: WIDE, inputs: [wideInput(i)] });

type Exchange = { readonly request: InferRequest; readonly answer: InferAnswer };

async function exchange(client: Client, request: InferRequest): Promise<Exchange> {
  return { request, answer: await client.infer(request) };
}

/** Every answer's receipt verifies, opened, against what the server was trusted for, and stands where it was said to. */
async function expectVerified(server: RunningServer, client: Client, exchanges: readonly Exchange[], now = Date.now) {
  const verify = createVerifier({ trust: server.trust, suite: nodeSuite });
  for (const { request, answer } of exchanges) {
    const verdict = await verify(await client.receiptOf(request, answer, { waitMs: 10_000 }), now());
    const bad = verdict.checks.filter(({ status }) => status === "fail" || status === "inconclusive");
    expect([answer.receiptId, verdict.status, bad]).toEqual([answer.receiptId, "verified", []]);
    const facts = verdict.checks.find(({ check }) => check === "log")?.facts;
    expect(facts?.["index"]).toBe(String(answer.logIndex));
  }
}

/** The log from its first entry: chains without a gap, no receipt twice; gives where each execution stands. */
async function expectWholeChains(server: RunningServer): Promise<ReadonlyMap<string, number>> {
  const entries: Uint8Array[] = [];
  while (entries.length < server.log.size())
    entries.push(...(await server.log.readRange(entries.length, 1000)).map(({ entry }) => entry));
  const { faults, executions, boots } = followChains(entries);
  expect(faults).toEqual([]);
  expect(boots.size).toBe(2);
  return executions;
}

/** What a call was refused with. */
async function refusal(call: Promise<unknown>): Promise<{ status: unknown; code: unknown; message: string }> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return {
      status: "status" in error ? error.status : undefined,
      code: "code" in error ? error.code : undefined,
      message: error.message,
    };
  }
  return { status: 200, code: undefined, message: "it was answered" };
}

beforeAll(async () => {
  const server = await start(template);
  await server.databaseReady;
  const client = clientOf(server, template);
  await client.push(TINY, benchModel("tiny-mlp", "tiny"));
  await client.push(WIDE, benchModel("wide-20ms", "wide"));
  await client.infer(tiny(0));
  await client.infer(wide(0));
  await close(server);
});

afterEach(async () => {
  for (const server of running) await close(server);
});

afterAll(() => rmSync(root, { recursive: true, force: true, maxRetries: 5 }));

/** A disk that can be taken away: every changing operation fails with `errno` while it is set. */
function fragileDisk(): {
  files: FileOps;
  fail: (errno: string | undefined, ops?: readonly (keyof FileOps)[]) => void;
} {
  let errno: string | undefined;
  let ops: ReadonlySet<keyof FileOps> = new Set();
  const guard = (op: keyof FileOps): void => {
    if (errno !== undefined && ops.has(op)) throw Object.assign(new Error(`${errno}: injected`), { code: errno });
  };
  return {
    files: {
      ...nodeFileOps,
      open: async (path, flags) => {
        if (flags === "w+" || flags === "wx+") guard("open");
        return nodeFileOps.open(path, flags);
      },
      write: async (file, bytes, position) => {
        guard("write");
        return nodeFileOps.write(file, bytes, position);
      },
      truncate: async (file, length) => {
        guard("truncate");
        return nodeFileOps.truncate(file, length);
      },
      mkdir: async (path) => {
        guard("mkdir");
        return nodeFileOps.mkdir(path);
      },
      rename: async (from, to) => {
        guard("rename");
        return nodeFileOps.rename(from, to);
      },
      fdatasync: async (file) => {
        guard("fdatasync");
        return nodeFileOps.fdatasync(file);
      },
    },
    fail(next, which = ["open", "write", "mkdir", "rename"]) {
      errno = next;
      ops = new Set(which);
    },
  };
}

describe("the log's disk", () => {
  test.each([
    ["ENOSPC", 507, "log_full"],
    ["EROFS", 503, "log_read_only"],
  ])("%s: every answer is refused until it is over, and nothing acknowledged is lost", async (errno, status, code) => {
    const home = homeWithoutDatabase();
    const disk = fragileDisk();
    const server = await start(home, { ...NO_DATABASE, log: { files: disk.files } });
    const client = clientOf(server, home);
    const before = await Promise.all(Array.from({ length: 5 }, (_, i) => exchange(client, tiny(i))));
    const kept = await exchange(client, tiny(9, { retention: "server-encrypted" }));
    const size = server.log.size();
    disk.fail(errno);
    const erase = (): Promise<void> => client.eraseOpening(kept.answer.receiptId, { grant: kept.answer.grant });
    expect(await refusal(erase())).toMatchObject({ status, code });
    const refused = await Promise.all(Array.from({ length: 8 }, (_, i) => refusal(client.infer(tiny(i)))));
    for (const one of refused) expect(one).toMatchObject({ status, code });
    const raw = await rawInfer(server, tiny(1));
    expect([raw.status, raw.headers["retry-after"]]).toEqual([status, status === 507 ? "30" : "1"]);
    expect(raw.headers).not.toHaveProperty("assay-receipt-id");
    expect(JSON.parse(raw.body)).toMatchObject({
      code,
      error: expect.stringMatching(/^[A-Z].*\.$/),
      hints: expect.any(Array),
    });
    expect(server.log.size()).toBe(size);
    disk.fail(undefined);
    const openings = async (): Promise<number> =>
      decodeBundle(await client.bundle(kept.answer.receiptId, { grant: kept.answer.grant })).openings?.length ?? 0;
    expect(await openings()).toBe(2);
    await erase();
    expect(await openings()).toBe(0);
    const after = await Promise.all(Array.from({ length: 5 }, (_, i) => exchange(client, tiny(i))));
    expect(server.log.size()).toBe(size + 5);
    await expectVerified(server, client, [...before, kept, ...after]);
    await expectWholeChains(server);
    expect(await client.ready()).toBe(true);
  });

  test("a disk that is full now and then, under load: each request is answered with a receipt or refused", async () => {
    const home = homeWithoutDatabase();
    const disk = fragileDisk();
    const server = await start(home, { ...NO_DATABASE, log: { files: disk.files } });
    const client = clientOf(server, home);
    await client.infer(tiny(0));
    const answered: Exchange[] = [];
    const refused: unknown[] = [];
    let full = false;
    let next = 0;
    const caller = async (): Promise<void> => {
      while (next < 160) {
        const i = next++;
        if (i % 20 === 0) {
          full = !full;
          disk.fail(full ? "ENOSPC" : undefined);
        }
        try {
          answered.push(await exchange(client, tiny(i)));
        } catch (error) {
          refused.push(error instanceof Error && "code" in error ? error.code : error);
        }
      }
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    disk.fail(undefined);
    expect(new Set(refused)).toEqual(new Set(["log_full"]));
    expect(answered.length).toBeGreaterThan(20);
    expect(answered.length + refused.length).toBe(160);
    const executions = await expectWholeChains(server);
    for (const { answer } of answered) expect(executions.get(answer.receiptId)).toBe(answer.logIndex);
    await expectVerified(server, client, answered);
  });

  test("a failed fdatasync ends the sequencer: not ready, everything refused, and a restart recovers", async () => {
    const home = homeWithoutDatabase();
    const disk = fragileDisk();
    const server = await start(home, { ...NO_DATABASE, log: { files: disk.files } });
    const client = clientOf(server, home);
    const before = [await exchange(client, tiny(1)), await exchange(client, tiny(2))];
    await server.log.checkpoint({ atLeast: server.log.size() });
    disk.fail("EIO", ["fdatasync"]);
    expect(await refusal(client.infer(tiny(3)))).toMatchObject({ status: 503, code: "log_failed" });
    disk.fail(undefined);
    expect(await refusal(client.infer(tiny(4)))).toMatchObject({ status: 503, code: "log_failed" });
    const ready = await fetch(`${server.url}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { ready: false, reasons: [expect.any(String)] }]);
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
    // What was acknowledged is still served.
    await expectVerified(server, client, before);
    await close(server);
    const again = await start(home, NO_DATABASE);
    const reader = clientOf(again, home);
    expect(await reader.ready()).toBe(true);
    const after = [await exchange(reader, tiny(5))];
    const executions = await expectWholeChains(again);
    for (const { answer } of [...before, ...after]) expect(executions.get(answer.receiptId)).toBe(answer.logIndex);
    await expectVerified(again, reader, after);
  });

  test("a disk that is full at the start: refused with its reason, and started as soon as there is space", async () => {
    const home = homeWithoutDatabase();
    const disk = fragileDisk();
    disk.fail("ENOSPC");
    await expect(start(home, { ...NO_DATABASE, log: { files: disk.files } })).rejects.toMatchObject({
      code: "log_full",
    });
    disk.fail(undefined);
    const server = await start(home, { ...NO_DATABASE, log: { files: disk.files } });
    const client = clientOf(server, home);
    await expectVerified(server, client, [await exchange(client, tiny(1))]);
    await expectWholeChains(server);
  });

  test.each([
    ["gone", undefined],
    ["not what it was written as", "{"],
    [
      "ahead of the log",
      JSON.stringify({ version: 1, watermark: 1e9, heads: {}, keysets: {}, last: [], releases: [] }),
    ],
  ])("the file of facts derived from the log is %s: they are read from the log again", async (_, text) => {
    const home = homeWithoutDatabase();
    const state = join(home, "log-state.json");
    if (text === undefined) rmSync(state, { force: true });
    else writeFileSync(state, text);
    const server = await start(home, NO_DATABASE);
    const client = clientOf(server, home);
    await expectVerified(server, client, [await exchange(client, tiny(1))]);
    await expectWholeChains(server);
    await close(server);
    expect(JSON.parse(readFileSync(state, "utf8"))).toMatchObject({ watermark: server.log.size() });
  });

  test("a second server on the same home is refused, naming who holds it", async () => {
    const home = homeWithoutDatabase();
    const server = await start(home, NO_DATABASE);
    await expect(start(home, NO_DATABASE)).rejects.toMatchObject({
      code: "log_locked",
      message: expect.stringContaining(`process ${process.pid} on `),
    });
    await clientOf(server, home).infer(tiny(1));
    await close(server);
    await start(home, NO_DATABASE);
  });
});

describe("the clock", () => {
  test("it goes back by an hour: receipts, checkpoints and ids stay right", async () => {
    const home = homeWithoutDatabase();
    let offsetMs = 0;
    const now = (): number => Date.now() + offsetMs;
    const server = await start(home, { ...NO_DATABASE, now });
    const client = clientOf(server, home);
    const before = [await exchange(client, tiny(1)), await exchange(client, tiny(2))];
    const first = await server.log.checkpoint({ atLeast: server.log.size() });
    offsetMs = -HOUR_MS;
    const after = [await exchange(client, tiny(3)), await exchange(client, tiny(4))];
    const second = await server.log.checkpoint({ atLeast: server.log.size() });
    expect(second.size).toBeGreaterThan(first.size);
    const timestamps = await Promise.all(
      [first, second].map(async ({ note }) => {
        const opened = await openCheckpoint(note, { logs: server.log.keys }, nodeSuite);
        return opened.ok ? Math.max(...opened.signatures.map(({ timestamp }) => timestamp ?? 0)) : -1;
      }),
    );
    expect(timestamps[0]).toBeGreaterThan(0);
    expect(timestamps[1]).toBeGreaterThanOrEqual(timestamps[0] ?? 0);
    // A reader whose clock is right, whichever of the two it is.
    await expectVerified(server, client, [...before, ...after]);
    await expectVerified(server, client, after, now);
    offsetMs = 0;
    const later = [await exchange(client, tiny(5))];
    await expectVerified(server, client, later);
    await close(server);
    offsetMs = -2 * HOUR_MS;
    const again = await start(home, { ...NO_DATABASE, now });
    const earlier = [await exchange(clientOf(again, home), tiny(6))];
    await expectVerified(again, clientOf(again, home), earlier);
    const ids = [...before, ...after, ...later, ...earlier].map(({ answer }) => answer.receiptId);
    expect(new Set(ids).size).toBe(ids.length);
    const executions = await expectWholeChains(again);
    expect(ids.every((id) => executions.has(id))).toBe(true);
  });

  test("it jumps a day ahead under load: keysets follow, and no receipt is issued outside of its keyset's time", async () => {
    const home = homeWithoutDatabase();
    let offsetMs = 0;
    const now = (): number => Date.now() + offsetMs;
    const server = await start(home, { ...NO_DATABASE, now });
    const client = clientOf(server, home);
    await client.infer(wide(0));
    const answered: Exchange[] = [];
    const refused: unknown[] = [];
    let next = 0;
    const caller = async (): Promise<void> => {
      while (next < 120) {
        const i = next++;
        if (i === 40 || i === 80) offsetMs += 24 * HOUR_MS;
        try {
          answered.push(await exchange(client, i % 8 === 0 ? wide(i) : tiny(i)));
        } catch (error) {
          refused.push(error instanceof Error && "code" in error ? error.code : error);
        }
      }
    };
    await Promise.all(Array.from({ length: 16 }, caller));
    // What was under way during a jump may be refused, but only with a word that says so.
    expect(refused.filter((code) => code !== "clock_changed")).toEqual([]);
    expect(refused.length).toBeLessThanOrEqual(2 * 16);
    await expectVerified(server, client, answered, now);
    await expectWholeChains(server);
    const sets = new Set<string>();
    for (const { answer } of answered)
      for (const { document } of decodeBundle(await client.bundle(answer.receiptId, { grant: answer.grant })).keysets)
        sets.add(Buffer.from(document).toString("hex"));
    expect(sets.size).toBe(6);
  });

  test("it jumps between the dating of an execution and its signature: refused with a word that says so", async () => {
    const home = homeWithoutDatabase();
    let offsetMs = 0;
    let jumpMs = 0;
    const now = (): number => {
      const at = Date.now() + offsetMs;
      offsetMs += jumpMs;
      jumpMs = 0;
      return at;
    };
    const server = await start(home, { ...NO_DATABASE, now });
    const client = clientOf(server, home);
    const answered = [await exchange(client, tiny(0))];
    for (const by of [24 * HOUR_MS, -30 * HOUR_MS, 3 * 24 * HOUR_MS]) {
      // No checkpoint is due, so that the next to ask for the time is the node, for the execution's.
      await server.log.checkpoint({ atLeast: server.log.size() });
      const before = server.log.size();
      jumpMs = by;
      expect(await refusal(client.infer(tiny(1)))).toMatchObject({ status: 503, code: "clock_changed" });
      expect(jumpMs).toBe(0);
      // New keysets for both parties, and nothing else.
      expect(server.log.size()).toBe(before + 2);
      answered.push(await exchange(client, tiny(2)));
    }
    // A correction that leaves the date within a keyset's time is no such jump.
    for (const by of [-2000, 2000, -HOUR_MS]) {
      jumpMs = by;
      answered.push(await exchange(client, tiny(3)));
      expect(jumpMs).toBe(0);
    }
    // A reader of some later year, so that nothing stands in its future.
    await expectVerified(server, client, answered, () => Date.now() + 365 * 24 * HOUR_MS);
    await expectWholeChains(server);
  });

  test("a keyset that could not be logged is not used: rotation on a full disk", async () => {
    const home = homeWithoutDatabase();
    const disk = fragileDisk();
    let offsetMs = 0;
    const now = (): number => Date.now() + offsetMs;
    const server = await start(home, { ...NO_DATABASE, now, log: { files: disk.files } });
    const client = clientOf(server, home);
    const before = await exchange(client, tiny(1));
    offsetMs = 24 * HOUR_MS;
    disk.fail("ENOSPC");
    for (let i = 0; i < 3; i++) expect(await refusal(client.infer(tiny(i)))).toMatchObject({ code: "log_full" });
    disk.fail(undefined);
    const after = await exchange(client, tiny(2));
    await expectVerified(server, client, [before, after], now);
    await expectWholeChains(server);
    await close(server);
    const again = await start(home, { ...NO_DATABASE, now });
    await expectVerified(again, clientOf(again, home), [await exchange(clientOf(again, home), tiny(3))], now);
    await expectWholeChains(again);
  });
});

describe("the database", () => {
  test("it dies and comes back: inference goes on, lists say so, and the index misses nothing", async () => {
    const home = freshHome();
    const server = await start(home);
    await server.databaseReady;
    const client = clientOf(server, home);
    const before = await exchange(client, tiny(0));
    const list = (): Promise<{ status: unknown; code: unknown }> => refusal(client.receipts({ limit: 1 }));
    expect(await list()).toMatchObject({ status: 200 });
    const during: Exchange[] = [];
    // The supervisor is quick: should a restart win against the list, the next postmaster is killed too.
    for (let kills = 0; ; kills++) {
      expect(kills).toBeLessThan(4);
      const victim = await eventually("a postmaster", () => postmasterOf(home));
      process.kill(victim, "SIGKILL");
      during.push(await exchange(client, tiny(kills + 1)));
      const seen = await eventually("an answer to the list after the kill", async () => {
        const answer = await list();
        return answer.status === 503 || postmasterOf(home) !== victim ? answer : undefined;
      });
      if (seen.status !== 503) continue;
      expect(seen).toMatchObject({ code: "database_unavailable" });
      break;
    }
    during.push(...(await Promise.all(Array.from({ length: 20 }, (_, i) => exchange(client, tiny(100 + i))))));
    await eventually("lists come back", async () => (await list()).status === 200);
    const wanted = [before, ...during].map(({ answer }) => answer.receiptId);
    await eventually("the index has every receipt", async () => {
      const page = await client.receipts({ limit: 1000 });
      const ids = new Set(page.receipts.map(({ receiptId }) => receiptId));
      return wanted.every((id) => ids.has(id));
    });
    await expectVerified(server, client, [before, ...during]);
    const { before: had, after } = await server.rebuildIndex();
    expect(had).toBe(after);
    await expectWholeChains(server);
  });

  test("it never starts: inference and receipts by grant work, lists are refused", async () => {
    const home = homeWithoutDatabase();
    const server = await start(home, NO_DATABASE);
    const failure = await server.databaseReady.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(Error);
    const client = clientOf(server, home);
    const one = await exchange(client, tiny(1));
    await expectVerified(server, client, [one]);
    expect(await refusal(client.receipts())).toMatchObject({ status: 503, code: "database_unavailable" });
    expect(await refusal(client.bundle("0".repeat(32)))).toMatchObject({ status: 503, code: "database_unavailable" });
  });
});

/** Sends `request` as the SDK would, byte for byte, and gives the whole answer whatever its status. */
async function rawInfer(
  server: RunningServer,
  request: InferRequest,
): Promise<{ status: number | undefined; headers: IncomingMessage["headers"]; body: string }> {
  const { call, body } = openInfer(server, request);
  call.end(body);
  return answerOf(call);
}

function openInfer(
  server: RunningServer,
  request: InferRequest,
  headers: Readonly<Record<string, string>> = {},
): { call: ClientRequest; body: Uint8Array } {
  const encoded = encodeInferRequest({ inputs: request.inputs });
  const body = joinBody(encoded);
  const call = httpRequest(`${server.url}/v2/models/${encodeURIComponent(request.model)}/infer`, {
    method: "POST",
    agent: false,
    headers: {
      "content-type": encoded.contentType,
      "content-length": String(body.length),
      ...(encoded.headerLength === undefined
        ? {}
        : { "inference-header-content-length": String(encoded.headerLength) }),
      ...headers,
    },
  });
  return { call, body };
}

function answerOf(
  call: ClientRequest,
): Promise<{ status: number | undefined; headers: IncomingMessage["headers"]; body: string }> {
  return new Promise((resolve, reject) => {
    call.on("error", reject);
    call.on("response", (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString("latin1")));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
  });
}

describe("one server and its callers", () => {
  const maxBodyBytes = 100_000;
  let home: string;
  let server: RunningServer;
  let client: Client;

  beforeAll(async () => {
    home = homeWithoutDatabase();
    // Runs one at a time, so that requests are seen to wait.
    server = await start(home, { ...NO_DATABASE, maxBodyBytes, runtime: { maxBatchRows: 1 } });
    running.delete(server);
    client = clientOf(server, home);
    await client.infer(wide(0));
  });

  afterAll(() => close(server));

  test("two hundred at once are all answered, each with a receipt of its own", async () => {
    const exchanges = await Promise.all(Array.from({ length: 200 }, (_, i) => exchange(client, tiny(i))));
    expect(new Set(exchanges.map(({ answer }) => answer.receiptId)).size).toBe(200);
    expect(new Set(exchanges.map(({ answer }) => answer.logIndex)).size).toBe(200);
    expect(new Set(exchanges.map(({ answer }) => answer.grant)).size).toBe(200);
    await expectVerified(server, client, exchanges);
    await expectWholeChains(server);
  });

  test("clients that hang up in the middle of a run leave nothing behind", async () => {
    const leaving = Array.from({ length: 10 }, (_, i) => {
      const hangUp = new AbortController();
      return { hangUp, ended: refusal(client.infer({ ...wide(i), signal: hangUp.signal })) };
    });
    await eventually("they wait behind a run", () => server.runtime.stats().queued > 4);
    for (const { hangUp } of leaving) hangUp.abort(new Error("hung up"));
    for (const { ended } of leaving) expect(await ended).toMatchObject({ message: "hung up" });
    await eventually("their runs are withdrawn", () => server.runtime.stats().queued === 0);
    expect(server.runtime.stats().restarts).toBe(0);
    const one = await exchange(client, tiny(1));
    await expectVerified(server, client, [one]);
    await expectWholeChains(server);
  });

  test("a body beyond the limit is refused, declared or not, and the next request is answered", async () => {
    const target = `${server.url}/v2/models/${encodeURIComponent(TINY)}/infer`;
    const piece = Buffer.alloc(16_384, 0x20);
    for (const framing of [{ "content-length": String(1 << 30) }, { "transfer-encoding": "chunked" }]) {
      const call = httpRequest(target, {
        method: "POST",
        agent: false,
        headers: { "content-type": "application/json", ...framing },
      });
      const answer = answerOf(call);
      // The client goes on sending, as one does that reads only when it has sent everything.
      let sent = 0;
      const send = (): void => {
        while (sent < 32 * maxBodyBytes && !call.destroyed) {
          sent += piece.length;
          if (!call.write(piece)) return void call.once("drain", send);
        }
      };
      send();
      const { status, body } = await answer;
      expect([framing, status, JSON.parse(body)]).toMatchObject([framing, 413, { code: "request_too_large" }]);
      call.destroy();
    }
    await expectVerified(server, client, [await exchange(client, tiny(1))]);
    const exact = Buffer.alloc(maxBodyBytes, 0x20);
    const within = await fetch(target, {
      method: "POST",
      body: exact,
      headers: { "content-type": "application/json" },
    });
    expect(within.status).toBe(400);
    expect(await within.json()).not.toMatchObject({ code: "request_too_large" });
  });

  test("a JSON body of another route has a limit too", async () => {
    const body = JSON.stringify({ publicKey: "A".repeat(17 * 1024 * 1024) });
    const answer = await fetch(`${server.url}/v1/auth/challenge`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json" },
    });
    expect([answer.status, await answer.json()]).toMatchObject([413, { code: "request_too_large" }]);
  });

  test("one kept by the server opens the export; once erased it is gone and the receipt still verifies", async () => {
    const request = tiny(7, { retention: "server-encrypted" });
    const kept = await exchange(client, request);
    const other = await exchange(client, tiny(8));
    const verify = createVerifier({ trust: server.trust, suite: nodeSuite });
    const read = async ({ answer }: Exchange) => {
      const bytes = await client.bundle(answer.receiptId, { grant: answer.grant, waitMs: 10_000 });
      const verdict = await verify(bytes, Date.now());
      return {
        bundle: decodeBundle(bytes),
        status: verdict.status,
        commitments: verdict.checks.find(({ check }) => check === "commitments")?.code,
      };
    };
    const opened = await read(kept);
    expect(opened).toMatchObject({ status: "verified", commitments: "commitments_hold" });
    const field = (name: string) =>
      opened.bundle.openings?.flatMap(({ fields }) => fields).find((one) => one.name === name);
    expect(Buffer.from(field("input/x/data")?.value ?? [])).toEqual(Buffer.from(request.inputs[0]?.data ?? []));
    expect(Buffer.from(field("output/y/data")?.value ?? [])).toEqual(Buffer.from(kept.answer.outputs[0]?.data ?? []));
    expect((await read(other)).bundle.openings).toBeUndefined();
    // The plaintext is not on the disk, only its encryption is.
    const journal = Buffer.concat(
      (await nodeFileOps.readdir(join(home, "log/journal"))).map((name) =>
        readFileSync(join(home, "log/journal", name)),
      ),
    );
    expect(journal.includes(Buffer.from(kept.answer.masterSalt))).toBe(false);
    expect(journal.includes(Buffer.from(request.inputs[0]?.data ?? []))).toBe(false);

    const { receiptId, grant } = kept.answer;
    const refusedBy = (access: string | undefined) =>
      refusal(
        createClient({ url: server.url, retries: 0 }).eraseOpening(
          receiptId,
          access === undefined ? {} : { grant: access },
        ),
      );
    expect(await refusedBy(undefined)).toMatchObject({ status: 403, code: "receipt_not_yours" });
    expect(await refusedBy(other.answer.grant)).toMatchObject({ status: 403, code: "receipt_not_yours" });
    expect((await read(kept)).bundle.openings).toHaveLength(2);
    await client.eraseOpening(receiptId, { grant });
    await client.eraseOpening(receiptId, { grant });
    expect(await read(kept)).toMatchObject({
      status: "verified",
      commitments: "nothing_opened",
      bundle: { statements: { length: 2 } },
    });
    // Who kept the salt can still open it; the server cannot.
    await expectVerified(server, client, [kept, other]);
    await expectWholeChains(server);
  });

  test("a child killed in the middle of a run: the next child answers", async () => {
    const victim = server.runtime.pids()[0] ?? 0;
    expect(victim).toBeGreaterThan(1);
    const { restarts } = server.runtime.stats();
    const asked = Array.from({ length: 12 }, (_, i) => exchange(client, wide(i)));
    await eventually("requests wait behind a run", () => server.runtime.stats().queued > 0);
    process.kill(victim, "SIGKILL");
    const exchanges = await Promise.all(asked);
    expect(server.runtime.stats().restarts).toBe(restarts + 1);
    expect(server.runtime.pids()).not.toContain(victim);
    await expectVerified(server, client, exchanges);
    await expectWholeChains(server);
  });
});

describe("its end, and slow callers", () => {
  test("close answers what is under way, then nothing listens any more", async () => {
    const home = homeWithoutDatabase();
    const server = await start(home, NO_DATABASE);
    // A server that has seen a request's head says so when asked to: then the request is under way.
    const calls = Array.from({ length: 20 }, (_, i) => openInfer(server, wide(i), { expect: "100-continue" }));
    const answers = calls.map(({ call }) => answerOf(call));
    await Promise.all(
      calls.map(
        ({ call }) =>
          new Promise<void>((resolve) => {
            call.once("continue", resolve);
            call.flushHeaders();
          }),
      ),
    );
    const closing = close(server);
    for (const { call, body } of calls) call.end(body);
    const statuses = (await Promise.all(answers)).map(({ status, headers }) => [status, "assay-receipt-id" in headers]);
    expect(statuses).toEqual(calls.map(() => [200, true]));
    await closing;
    await expect(fetch(`${server.url}/livez`)).rejects.toThrow("fetch failed");
    const again = await start(home, NO_DATABASE);
    const executions = await expectWholeChains(again);
    for (const { headers } of await Promise.all(answers))
      expect(executions.has(String(headers["assay-receipt-id"]))).toBe(true);
  });

  test("slow clients are cut off by time limits while others are answered", async () => {
    const home = homeWithoutDatabase();
    const server = await start(home, { ...NO_DATABASE, requestTimeoutMs: 1000 });
    const address = new URL(server.url);
    const drip = (head: string, drop: string): Promise<string> =>
      new Promise((resolve) => {
        let answer = "";
        const socket = connect(Number(address.port), address.hostname, () => socket.write(head));
        const timer = setInterval(() => socket.write(drop), 50);
        socket.on("data", (chunk: Buffer) => (answer += chunk.toString("latin1")));
        socket.on("error", () => undefined);
        socket.once("close", () => {
          clearInterval(timer);
          resolve(answer);
        });
      });
    const post = `POST /v2/models/${encodeURIComponent(TINY)}/infer HTTP/1.1\r\nhost: a\r\n`;
    const slow = [
      ...Array.from({ length: 10 }, () => drip(post, "x-more: 1\r\n")),
      ...Array.from({ length: 10 }, () => drip(`${post}content-length: 100000\r\n\r\n`, " ")),
      ...Array.from({ length: 10 }, () => drip(`${post}transfer-encoding: chunked\r\n\r\n`, "1\r\n \r\n")),
      ...Array.from({ length: 5 }, () =>
        drip(
          `POST /v1/auth/challenge HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n`,
          " ",
        ),
      ),
    ];
    const client = clientOf(server, home);
    const exchanges = await Promise.all(Array.from({ length: 20 }, (_, i) => exchange(client, tiny(i))));
    for (const answer of await Promise.all(slow)) expect(answer.slice(0, 12)).toBe("HTTP/1.1 408");
    await expectVerified(server, client, exchanges);
    await close(server);
  });
});
