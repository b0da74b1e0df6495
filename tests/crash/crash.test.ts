import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import { createMonitor } from "@assay/driver-log";
import { parseTrust, trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import { createClient } from "@assay/sdk";
import type { Client, InferAnswer, InferRequest } from "@assay/sdk";
import { consistencyProof, openCheckpoint, parseVkey, tileHashReader, tilePath, verifyConsistency } from "@assay/tlog";
import type { Checkpoint, NoteKey } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import type { Verifier } from "@assay/verifier";
import { isAlive, postmasterOf, processesOf, signalAll, startServerProcess } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";
import { benchModel, eventually, followChains, operatorSigner, tinyInput } from "./support.ts";

const ROUNDS = Number(process.env["ASSAY_CRASH_ROUNDS"] ?? 5);
const SEED = Number(process.env["ASSAY_CRASH_SEED"] ?? Date.now() % 2 ** 31);
/** Callers at once; a batch of the log is at most this large. */
const CALLERS = 8;
/** A round's answers before the kill, at most; the moment is drawn from them and a few milliseconds more. */
const MAX_ANSWERS = 150;
/** Answers of earlier rounds that are looked at again after each round; the last round looks at all. */
const SAMPLE = 20;
const MODEL = "crash/tiny";

const home = realpathSync(mkdtempSync(join(tmpdir(), "assay-crash-")));
let current: ServerProcess | undefined;

afterAll(async () => {
  signalAll(processesOf(home, current?.pid), "SIGKILL");
  await current?.gone;
  await eventually("all processes gone", () => processesOf(home).length === 0);
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
});

type Answered = {
  readonly request: InferRequest;
  readonly answer: InferAnswer;
  /** Whether the server was asked to erase what it kept, and whether it said that it did. */
  erase: "no" | "asked" | "done";
};

/** Everything that the outside was told, and must therefore find again after any crash. */
type Told = {
  readonly answers: Answered[];
  /** Notes of checkpoints, as they were handed out. */
  readonly checkpoints: Set<string>;
  /** Versions whose release was acknowledged, with their manifests' digests. */
  readonly releases: Map<number, string>;
  readonly surprises: string[];
};

// Mulberry32: a round can be repeated by its seed.
function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const describeError = (error: unknown): string =>
  error instanceof Error ? `${"code" in error ? String(error.code) : error.name}: ${error.message}` : String(error);

/** Works the server until `stop`: inferences, erasures, releases, a reader of checkpoints. */
async function load(client: Client, told: Told, round: number, stop: AbortSignal, onAnswer: () => void): Promise<void> {
  const until = async (work: () => Promise<void>): Promise<void> => {
    while (!stop.aborted) {
      try {
        await work();
      } catch (error) {
        // What fails once the server is being killed was never acknowledged.
        if (!stop.aborted) told.surprises.push(`round ${round}: ${describeError(error)}`);
        return;
      }
    }
  };
  let next = told.answers.length;
  const callers = Array.from({ length: CALLERS }, () =>
    until(async () => {
      const i = next++;
      const request: InferRequest = {
        model: MODEL,
        inputs: [tinyInput(i)],
        retention: i % 3 === 0 ? "server-encrypted" : "none",
        identify: i % 5 === 0,
      };
      const answer = await client.infer(request);
      told.answers.push({ request, answer, erase: "no" });
      onAnswer();
    }),
  );
  const eraser = until(async () => {
    const kept = told.answers.findLast(
      ({ request, erase }) => request.retention === "server-encrypted" && erase === "no",
    );
    if (!kept) return pause(2);
    kept.erase = "asked";
    await client.eraseOpening(kept.answer.receiptId, { grant: kept.answer.grant });
    kept.erase = "done";
    await pause(5);
  });
  let release = 0;
  const releaser = until(async () => {
    const pushed = await client.push(MODEL, benchModel("tiny-mlp", `round ${round}, release ${release++}`));
    told.releases.set(pushed.version, pushed.manifestDigest);
    await pause(20);
  });
  const reader = until(async () => {
    told.checkpoints.add(Buffer.from(await client.log("checkpoint")).toString("utf8"));
    await pause(10);
  });
  await Promise.all([...callers, eraser, releaser, reader]);
}

type Follower = {
  readonly poll: () => Promise<readonly Uint8Array[]>;
};

/** Reads the log over HTTP like a stranger: each poll re-derives the signed root and gives all entries so far. */
function follower(url: () => string, keys: readonly NoteKey[]): Follower {
  const entries: Uint8Array[] = [];
  const monitor = createMonitor({
    get: async (path) => {
      const response = await fetch(`${url()}/log/${path}`);
      if (response.status === 404) return undefined;
      if (!response.ok) throw new Error(`${path}: status ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    },
    trust: { logs: keys },
    directory: home,
    stateFile: "follower.json",
    suite: nodeSuite,
    onEntry: (index, entry) => {
      entries[index] = entry;
    },
  });
  return {
    async poll() {
      const report = await monitor.poll();
      expect(report, report.reason).toMatchObject({ verdict: expect.stringMatching(/^(consistent|unchanged)$/) });
      return entries.slice(0, report.checkpoint?.size);
    },
  };
}

async function checkCheckpoints(client: Client, told: Told, keys: readonly NoteKey[]): Promise<Checkpoint> {
  const open = async (note: string | Uint8Array): Promise<Checkpoint> => {
    const opened = await openCheckpoint(note, { logs: keys }, nodeSuite);
    if (!opened.ok) throw new Error(`a checkpoint is refused: ${opened.reason}`);
    return opened.checkpoint;
  };
  const latest = await open(await client.log("checkpoint"));
  const tiles = new Map<string, Promise<Uint8Array>>();
  const reader = tileHashReader(
    latest.size,
    (tile) => {
      const path = tilePath(tile);
      const known = tiles.get(path) ?? client.log(path);
      tiles.set(path, known);
      return known;
    },
    nodeSuite,
  );
  for (const note of told.checkpoints) {
    const earlier = await open(note);
    const proof = await consistencyProof(earlier.size, latest.size, reader, nodeSuite);
    const holds = verifyConsistency(earlier, latest, proof, nodeSuite);
    expect([earlier.size, latest.size, holds]).toEqual([earlier.size, latest.size, true]);
  }
  return latest;
}

async function checkAnswer(client: Client, verify: Verifier, of: Answered, executions: ReadonlyMap<string, number>) {
  const { request, answer, erase } = of;
  expect([answer.receiptId, executions.get(answer.receiptId)]).toEqual([answer.receiptId, answer.logIndex]);
  const bare = await client.bundle(answer.receiptId, { grant: answer.grant, waitMs: 5000 });
  const kept = await verify(bare, Date.now());
  expect([answer.receiptId, kept.status, kept.code]).toEqual([answer.receiptId, "verified", "verified"]);
  expect(kept.executionDigest).toBe(answer.executionDigest);
  expect(kept.checks.find(({ check }) => check === "log")?.facts["index"]).toBe(String(answer.logIndex));
  // An opening that was asked to be erased and not acknowledged may be there or not, but nothing in between.
  const opened = kept.checks.find(({ check }) => check === "commitments")?.code !== "nothing_opened";
  if (erase !== "asked") expect(opened).toBe(request.retention === "server-encrypted" && erase === "no");
  const own = await verify(await client.receiptOf(request, answer), Date.now());
  expect(own.checks.find(({ check }) => check === "commitments")).toMatchObject({ status: "pass" });
}

async function boot(): Promise<{ server: ServerProcess; url: string }> {
  const server = startServerProcess(home);
  current = server;
  const { url } = await server.told("listening");
  return { server, url: String(url) };
}

/** Ends `server` and, unless only it shall die, everything that works for the home, as nearly at once as can be. */
async function kill(server: ServerProcess, everything: boolean): Promise<void> {
  const all = processesOf(home, server.pid);
  const victims = everything ? all : [server.pid];
  // Nobody may react to another's death before its own.
  signalAll(victims, "SIGSTOP");
  signalAll(victims, "SIGKILL");
  await server.gone;
  if (everything) {
    signalAll(processesOf(home), "SIGKILL");
    await eventually("every process gone", () => processesOf(home).length === 0);
    return;
  }
  const database = new Set(processesOf(home));
  const orphans = all.filter((pid) => pid !== server.pid && !database.has(pid));
  await eventually("the runtime's children end with their parent", () => !orphans.some(isAlive));
}

test(`${ROUNDS} rounds of load, SIGKILL and restart on one home (ASSAY_CRASH_SEED=${SEED})`, async () => {
  const random = randomFrom(SEED);
  const below = (n: number): number => Math.floor(random() * n);
  const told: Told = { answers: [], checkpoints: new Set(), releases: new Map(), surprises: [] };
  const table: Record<string, string | number>[] = [];
  let trust: Trust | undefined;
  let started = 1;

  let { server, url } = await boot();
  const signer = operatorSigner(home);
  const clientOf = (): Client => createClient({ url, signer, suite: nodeSuite, retries: 0 });
  await server.told("database");
  let client = clientOf();
  trust = await client.trust();
  const verify = createVerifier({ trust, suite: nodeSuite });
  const keys = (trust.logs[0]?.keys ?? []).map((vkey) => parseVkey(vkey, nodeSuite));
  expect(keys).toHaveLength(2);
  const follow = follower(() => url, keys);
  const first = await client.push(MODEL, benchModel("tiny-mlp", "before all rounds"));
  told.releases.set(first.version, first.manifestDigest);

  for (let round = 1; round <= ROUNDS; round++) {
    // Every third round leaves the database's processes behind, as an out-of-memory kill of the server alone does.
    const everything = round % 3 !== 2;
    const wanted = told.answers.length + 1 + below(MAX_ANSWERS);
    const jitterMs = below(30);
    const before = told.answers.length;
    const stop = new AbortController();
    let reach: (() => void) | undefined;
    const reached = new Promise<void>((resolve) => (reach = resolve));
    const begunMs = performance.now();
    const loading = load(client, told, round, stop.signal, () => {
      if (told.answers.length >= wanted) reach?.();
    });
    await Promise.race([reached, loading]);
    await pause(jitterMs);
    const postmaster = postmasterOf(home);
    stop.abort();
    const killedMs = performance.now() - begunMs;
    await kill(server, everything);
    await loading;
    expect(told.surprises).toEqual([]);

    // Now and then the next start is killed too, before or while it recovers.
    let aborted = "";
    if (below(2) === 0) {
      const boots = startServerProcess(home);
      current = boots;
      const afterMs = 200 + below(1500);
      await pause(afterMs);
      await kill(boots, everything);
      aborted = `${afterMs} ms`;
    }

    ({ server, url } = await boot());
    started++;
    client = clientOf();
    await server.told("database");
    const adopted = postmaster !== undefined && postmasterOf(home) === postmaster;
    await server.ask("settle", "settled");

    const entries = await follow.poll();
    const chains = followChains(entries);
    expect(chains.faults).toEqual([]);
    expect(chains.boots.size).toBe(2);
    const [boots, others] = [...chains.boots.values()];
    expect(boots).toBe(others);
    expect(boots).toBeGreaterThanOrEqual(started);
    const latest = await checkCheckpoints(client, told, keys);
    expect(latest.size).toBe(entries.length);

    const fresh = told.answers.slice(before);
    const older =
      round === ROUNDS
        ? told.answers.slice(0, before)
        : Array.from({ length: Math.min(SAMPLE, before) }, () => told.answers[below(before)]);
    const due = [...fresh, ...older];
    const checkers = Array.from({ length: CALLERS }, async () => {
      for (let one = due.pop(); one; one = due.pop()) await checkAnswer(client, verify, one, chains.executions);
    });
    await Promise.all(checkers);
    expect(trustView(await client.trust())).toEqual(trustView(trust));

    const { versions } = await client.model(MODEL);
    const digests = new Map(versions.map(({ version, manifestDigest }) => [version, manifestDigest]));
    for (const [version, digest] of told.releases) expect([version, digests.get(version)]).toEqual([version, digest]);
    expect([...digests.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: digests.size }, (_, i) => i + 1));

    const listed: string[] = [];
    for (let at: number | null | undefined; at !== null;) {
      const page = await client.receipts({ limit: 1000, model: MODEL, ...(at === undefined ? {} : { before: at }) });
      listed.push(...page.receipts.filter(({ kind }) => kind === "execution").map(({ receiptId }) => receiptId));
      at = page.next;
    }
    expect(new Set(listed)).toEqual(new Set(chains.executions.keys()));
    expect(listed).toHaveLength(chains.executions.size);
    const rebuilt = await server.ask("rebuild", "rebuilt");
    expect(rebuilt["before"]).toBe(rebuilt["after"]);

    // An orderly end saves what a kill does not, so that the next kill leaves it behind the log.
    const orderly = below(3) === 0;
    if (orderly) {
      await server.end();
      expect(processesOf(home)).toEqual([]);
      ({ server, url } = await boot());
      started++;
      client = clientOf();
      await server.told("database");
    }

    table.push({
      round,
      killed: everything ? "everything" : "server alone",
      "at answer": `${wanted - before} + ${jitterMs} ms`,
      "at ms": Math.round(killedMs),
      "answers received": told.answers.length - before,
      "executions logged": chains.executions.size,
      "log size": entries.length,
      "checkpoints seen": told.checkpoints.size,
      erased: told.answers.filter(({ erase }) => erase === "done").length,
      releases: told.releases.size,
      "start killed after": aborted,
      database: adopted ? "adopted" : "restarted",
      "then ended in order": orderly ? "yes" : "",
    });
  }
  const loadable = parseTrust(JSON.stringify(trustView(trust)));
  expect(loadable.identities).toHaveLength(2);
  expect(told.answers.length).toBeGreaterThan(ROUNDS);
  await server.end();
  expect(processesOf(home)).toEqual([]);
  console.log(`seed ${SEED}`);
  console.table(table);
});
