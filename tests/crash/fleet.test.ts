import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, test } from "vitest";
import { bytesToHex } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createMonitor } from "@assay/driver-log";
import { startEmbeddedPostgres } from "@assay/driver-postgres";
import type { EmbeddedPostgres } from "@assay/driver-postgres";
import { decodeEntry, findContradictions, parseStatement } from "@assay/receipts";
import type { Statement, Trust } from "@assay/receipts";
import { createClient } from "@assay/sdk";
import type { Client } from "@assay/sdk";
import { parseVkey } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { benchModel, eventually, operatorSigner, ROOT, tinyInput } from "./support.ts";

// SIGKILL where more than one process answers: a gateway and its node; two gateways over one database. Whatever dies and
// whenever: what a client was told stands in the log exactly once, and every chain is whole in the end.

const ROUNDS = Number(process.env["ASSAY_CRASH_ROUNDS"] ?? 2);
const SEED = Number(process.env["ASSAY_CRASH_SEED"] ?? Date.now() % 2 ** 31);
const CALLERS = 4;
/** Answers of a round before the kill, at most. */
const MAX_ANSWERS = 60;
const MODEL = "crash/tiny";

const scratch = realpathSync(mkdtempSync(join(tmpdir(), "assay-fleet-crash-")));
const children = new Set<ChildProcess>();
/** A database for each test: an index follows one log. */
const databases: EmbeddedPostgres[] = [];
const openDatabase = async (name: string): Promise<string> => {
  const postgres = await startEmbeddedPostgres({ directory: join(scratch, `database-${name}`) });
  databases.push(postgres);
  return postgres.url;
};
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const postgres of databases) await postgres.close();
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
});

type Running = {
  readonly first: Readonly<Record<string, unknown>>;
  readonly kill: () => Promise<void>;
  readonly alive: () => boolean;
  readonly stderr: () => string;
};

/** Starts a program of the repository from its source; resolves with the first JSON that it prints. */
async function start(script: string, args: readonly string[], home: string): Promise<Running> {
  const child = spawn(
    process.execPath,
    ["--conditions=assay-source", "--import", import.meta.resolve("tsx"), join(ROOT, script), ...args],
    { cwd: ROOT, env: { ...process.env, ASSAY_HOME: home, ASSAY_LOG_LEVEL: "warn" }, stdio: ["pipe", "pipe", "pipe"] },
  );
  children.add(child);
  let stderr = "";
  child.stderr.on("data", (data: Buffer) => (stderr = (stderr + data.toString()).slice(-20_000)));
  // A killed process takes its pipes with it.
  child.stdin.on("error", () => undefined);
  let ended = false;
  const gone = new Promise<void>((resolve) => {
    child.once("exit", () => {
      ended = true;
      children.delete(child);
      resolve();
    });
  });
  let text = "";
  const first = await new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      text += line;
      try {
        resolve(JSON.parse(text) as Readonly<Record<string, unknown>>);
      } catch {
        // Not all of it is here.
      }
    });
    void gone.then(() => reject(new Error(`${script} ended: ${text}\n${stderr}`)));
  });
  if (first["event"] === "failed") throw new Error(`${script} failed: ${JSON.stringify(first)}`);
  return {
    first,
    async kill() {
      child.kill("SIGKILL");
      await gone;
    },
    alive: () => !ended,
    stderr: () => stderr,
  };
}

const startGateway = (home: string, options: object): Promise<Running> =>
  start("tests/crash/fleet-child.ts", [home, JSON.stringify(options)], home);
const portOf = (url: string): number => Number(new URL(url).port);
const clientOf = (url: string, home: string, headers: Readonly<Record<string, string>> = {}): Client =>
  createClient({
    url,
    suite: nodeSuite,
    retries: 0,
    signer: operatorSigner(home),
    fetch: (to, init) => {
      const sent = new Headers(init?.headers as Record<string, string> | undefined);
      for (const [name, value] of Object.entries(headers)) sent.set(name, value);
      return fetch(to, { ...init, headers: sent } as RequestInit);
    },
  });

// Mulberry32: a round can be repeated by its seed.
function randomFrom(seed: number): (n: number) => number {
  let state = seed | 0;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** Refusals that somebody's death may cause; any other is a surprise. */
const EXPECTED = new Set([
  "node_lost",
  "nodes_unavailable",
  "log_unreachable",
  "gateway_unreachable",
  "request_failed",
]);

/** What happened in one round, for the table at the end. */
type Row = Record<string, string | number>;
function rowOf(who: string, answers: number, log: readonly Statement[], beganMs: number, killedMs: number): Row {
  const now = performance.now();
  return {
    killed: who,
    "after ms": Math.round(killedMs - beganMs),
    "answers received": answers,
    "statements logged": log.length,
    "whole again after ms": Math.round(now - killedMs),
  };
}
function show(rows: readonly Row[], { refusals }: Told): void {
  console.log(`seed ${SEED}, refusals meanwhile: ${JSON.stringify(Object.fromEntries(refusals))}`);
  console.table(rows);
}

/** The one, the other, or both. */
function draw(
  of: Readonly<Record<string, Running>>,
  which: number,
): { readonly who: string; readonly victims: readonly Running[] } {
  const all = Object.entries(of);
  const drawn = which === 2 ? all : all.slice(which, which + 1);
  return { who: drawn.map(([name]) => name).join(" and "), victims: drawn.map(([, running]) => running) };
}

type Told = {
  readonly receipts: { readonly id: string; readonly grant: string }[];
  readonly refusals: Map<string, number>;
};

/** Asks `client` until `stop`, one after the other in each of `CALLERS`. */
async function load(client: Client, told: Told, stop: AbortSignal, onAnswer: () => void): Promise<void> {
  let i = told.receipts.length;
  const caller = async (): Promise<void> => {
    while (!stop.aborted) {
      try {
        const { receiptId, grant } = await client.infer({ model: MODEL, inputs: [tinyInput(i++)], retention: "none" });
        told.receipts.push({ id: receiptId, grant });
        onAnswer();
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
        told.refusals.set(code, (told.refusals.get(code) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
}

/** Reads the log over HTTP as a stranger does, every root derived anew; gives all statements. */
function reader(url: string, trust: Trust, name: string): () => Promise<readonly Statement[]> {
  const statements: Statement[] = [];
  const monitor = createMonitor({
    get: async (path) => {
      const response = await fetch(`${url}/log/${path}`);
      if (response.status === 404) return undefined;
      if (!response.ok) throw new Error(`${path}: status ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    },
    trust: { logs: (trust.logs[0]?.keys ?? []).map((vkey) => parseVkey(vkey, nodeSuite)) },
    directory: scratch,
    stateFile: `${name}.json`,
    suite: nodeSuite,
    onEntry: (_index, entry) => {
      statements.push(...decodeEntry(entry).map((envelope) => parseStatement(nodeSuite, envelope)));
    },
  });
  return async () => {
    await monitor.poll();
    return statements;
  };
}

/** Gaps and broken links of every chain, by number: what a node owed may be logged after what it signed later. */
function gapsOf(statements: readonly Statement[]): readonly string[] {
  const chains = new Map<string, Statement[]>();
  for (const statement of statements) {
    const { issuer, kind } = statement.header;
    const name = `${kind === "keyset" ? "keysets" : "chain"} of ${issuer}`;
    chains.set(name, [...(chains.get(name) ?? []), statement]);
  }
  const faults: string[] = [];
  for (const [name, chain] of chains) {
    const sorted = chain.toSorted((a, b) => a.header.seq - b.header.seq);
    for (const [i, { header }] of sorted.entries()) {
      const before = sorted[i - 1];
      if (header.seq !== i) faults.push(`${name}: ${header.seq} where ${i} is due`);
      else if (before && bytesToHex(header.prev ?? new Uint8Array()) !== bytesToHex(before.digest))
        faults.push(`${name}: ${i} does not name the one before it`);
      if (faults.length > 0) break;
    }
  }
  return faults;
}

/** That everything a client was told stands in the log once. */
function assertTold(told: Told, statements: readonly Statement[]): void {
  const counts = new Map<string, number>();
  for (const { header } of statements)
    if (header.kind === "execution") counts.set(header.subject, (counts.get(header.subject) ?? 0) + 1);
  const wrong = told.receipts.filter(({ id }) => counts.get(`urn:assay:receipt:${id}`) !== 1);
  expect(wrong).toEqual([]);
  expect([...counts.values()].filter((count) => count !== 1)).toEqual([]);
  expect(findContradictions(statements)).toEqual([]);
}

/**
 * Works `clients` until a number of answers drawn from `below` is there, then runs `kill` among them. What was under way
 * then may go on: the function that comes back waits for it.
 */
async function round(
  clients: readonly Client[],
  told: Told,
  below: (n: number) => number,
  kill: () => Promise<void>,
): Promise<() => Promise<unknown>> {
  const wanted = told.receipts.length + 1 + below(MAX_ANSWERS);
  const stop = new AbortController();
  let reach: (() => void) | undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const loading = clients.map((client) =>
    load(client, told, stop.signal, () => {
      if (told.receipts.length >= wanted) reach?.();
    }),
  );
  await reached;
  await new Promise((resolve) => setTimeout(resolve, below(20)));
  await kill();
  stop.abort();
  return () => Promise.all(loading);
}

test(`a gateway and its node, either or both killed in ${ROUNDS} rounds (ASSAY_CRASH_SEED=${SEED})`, async () => {
  const below = randomFrom(SEED);
  const offset = below(3);
  const rows: Row[] = [];
  const home = join(scratch, "with-node");
  const database = await openDatabase("with-node");
  let gateway = await startGateway(home, { databaseUrl: database });
  const url = String(gateway.first["url"]);
  const restartGateway = () => startGateway(home, { databaseUrl: database, port: portOf(url) });
  writeFileSync(join(home, "gateway.json"), JSON.stringify({ url, pid: process.pid }));
  const operator = clientOf(url, home);
  await eventually("the database is there", () =>
    operator.push(MODEL, benchModel("tiny-mlp", "with a node")).catch(() => false),
  );
  const startNode = () =>
    start("apps/assay/src/main.ts", ["node", "--join", url, "--models", MODEL, "--jurisdiction", "DE", "--json"], home);
  let node = await startNode();
  const subject = String(node.first["subject"]);
  const trust = await operator.trust();
  const read = reader(url, trust, "with-node");
  const remote = clientOf(url, home, { "assay-jurisdiction": "DE" });
  const told: Told = { receipts: [], refusals: new Map() };

  for (let n = 0; n < ROUNDS; n++) {
    const { victims, who } = draw({ node, gateway }, (n + offset) % 3);
    const before = told.receipts.length;
    const beganMs = performance.now();
    const over = await round([remote, operator], told, below, async () => {
      await Promise.all(victims.map((victim) => victim.kill()));
    });
    const killedMs = performance.now();
    if (!gateway.alive()) gateway = await restartGateway();
    if (!node.alive()) node = await startNode();
    await over();
    expect(String(node.first["subject"])).toBe(subject);
    await eventually("the node answers again", () =>
      remote.infer({ model: MODEL, inputs: [tinyInput(n)], retention: "none" }).catch(() => false),
    );
    // What it owed comes with its heartbeats, once it is older than what its own answer would still bring.
    const statements = await eventually(
      "every chain is whole",
      async () => {
        const all = await read();
        return gapsOf(all).length === 0 && all;
      },
      60_000,
    );
    assertTold(told, statements);
    rows.push(rowOf(who, told.receipts.length - before, statements, beganMs, killedMs));
  }
  show(rows, told);
  expect([...told.refusals.keys()].filter((code) => !EXPECTED.has(code))).toEqual([]);
  const statements = await read();
  expect(
    statements.filter(({ header }) => header.kind === "execution" && header.issuer === subject).length,
  ).toBeGreaterThan(ROUNDS);
  const verify = createVerifier({ trust: await operator.trust(), suite: nodeSuite });
  for (const { id, grant } of told.receipts.slice(-20)) {
    const bytes = await operator.bundle(id, { grant, waitMs: 10_000 });
    expect((await verify(bytes, Date.now())).status).toBe("verified");
  }
  await node.kill();
  await gateway.kill();
});

test(`two gateways over one database, either or both killed in ${ROUNDS} rounds (ASSAY_CRASH_SEED=${SEED})`, async () => {
  const below = randomFrom(SEED + 1);
  const offset = below(3);
  const rows: Row[] = [];
  const homes = { first: join(scratch, "first"), second: join(scratch, "second") };
  const database = await openDatabase("two-gateways");
  let first = await startGateway(homes.first, { databaseUrl: database });
  const url = String(first.first["url"]);
  const operator = clientOf(url, homes.first);
  await eventually("the database is there", () =>
    operator.push(MODEL, benchModel("tiny-mlp", "two gateways")).catch(() => false),
  );
  const { invite } = (await operator.admin({ method: "POST", path: "/v1/nodes/invites", body: {} })) as {
    invite: string;
  };
  let second = await startGateway(homes.second, { databaseUrl: database, peer: { url, invite } });
  const secondUrl = String(second.first["url"]);
  const restart = {
    first: () => startGateway(homes.first, { databaseUrl: database, port: portOf(url) }),
    second: () => startGateway(homes.second, { databaseUrl: database, port: portOf(secondUrl), peer: { url } }),
  };
  const peer = clientOf(secondUrl, homes.second);
  const ready = async (of: string): Promise<boolean> =>
    fetch(`${of}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
  await eventually("the second has the model", () => peer.model(MODEL).catch(() => false));
  const read = reader(url, await operator.trust(), "two-gateways");
  const told: Told = { receipts: [], refusals: new Map() };

  for (let n = 0; n < ROUNDS; n++) {
    const { victims, who } = draw({ first, second }, (n + offset) % 3);
    const before = told.receipts.length;
    const beganMs = performance.now();
    const over = await round([operator, peer], told, below, async () => {
      await Promise.all(victims.map((victim) => victim.kill()));
      // The one that is left either answers with a receipt in the log, or says that it cannot.
      if (second.alive() && !first.alive())
        await eventually("the second says that it cannot", async () => !(await ready(secondUrl)));
    });
    const killedMs = performance.now();
    if (!first.alive()) first = await restart.first();
    if (!second.alive()) second = await restart.second();
    await over();
    await eventually("both are ready", async () => (await ready(url)) && (await ready(secondUrl)));
    for (const client of [operator, peer])
      await eventually("both answer", async () => {
        const answer = await client
          .infer({ model: MODEL, inputs: [tinyInput(n)], retention: "none" })
          .catch(() => undefined);
        if (answer) told.receipts.push({ id: answer.receiptId, grant: answer.grant });
        return answer !== undefined;
      });
    const statements = await eventually("all of it is in the log", async () => {
      const all = await read();
      const there = new Set(all.map(({ header }) => header.subject));
      return told.receipts.every(({ id }) => there.has(`urn:assay:receipt:${id}`)) && all;
    });
    expect(gapsOf(statements)).toEqual([]);
    assertTold(told, statements);
    rows.push(rowOf(who, told.receipts.length - before, statements, beganMs, killedMs));
  }
  show(rows, told);
  expect([...told.refusals.keys()].filter((code) => !EXPECTED.has(code))).toEqual([]);
  // Whoever verifies starts from either one's trust.
  for (const client of [operator, peer]) {
    const verify = createVerifier({ trust: await client.trust(), suite: nodeSuite });
    for (const { id, grant } of told.receipts.slice(-10)) {
      // The one that did not answer it finds it by the index, which follows the log.
      let problem: unknown;
      const bytes = await eventually(
        "the bundle is there",
        () => client.bundle(id, { grant, waitMs: 10_000 }).catch((error: unknown) => void (problem = error)),
        60_000,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}: ${String(problem)}`);
      });
      expect((await verify(bytes, Date.now())).status).toBe("verified");
    }
  }
  await second.kill();
  await first.kill();
});
