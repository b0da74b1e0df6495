import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { ed25519Signer, mlDsa44Signer, nodeSuite as suite } from "@assay/driver-crypto";
import {
  checkpointSigner,
  decodeBundle,
  encodeBundle,
  formatAddCheckpoint,
  MAX_ADD_CHECKPOINT_CHARS,
  openCheckpoint,
  parsePolicy,
  policyTrust,
  formatVkey,
  satisfiesQuorum,
} from "@assay/tlog";
import { openLog } from "./file-log.ts";
import type { FileLog } from "./file-log.ts";
import { nodeFileOps } from "./file-ops.ts";
import { createMonitor } from "./log-monitor.ts";
import type { MonitorReport, ResourceGet } from "./log-monitor.ts";
import { submitToWitnesses } from "./witness-client.ts";
import type { HttpPost } from "./witness-client.ts";
import { openWitness } from "./witness-server.ts";
import type { Witness } from "./witness-server.ts";

const ORIGIN = "log.example/watched";
const ed25519 = ed25519Signer(new Uint8Array(32).fill(1));
const w1 = checkpointSigner(
  "witness.example/one",
  "cosignature-ed25519",
  ed25519Signer(new Uint8Array(32).fill(3)),
  suite,
);
const w2 = checkpointSigner(
  "witness.example/two",
  "cosignature-ml-dsa-44",
  mlDsa44Signer(new Uint8Array(32).fill(4)),
  suite,
);
const made: string[] = [];
const closers: (() => Promise<unknown>)[] = [];
const temporary = (): string => {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "assay-watch-")));
  made.push(path);
  return path;
};
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});
const makeLog = async (
  prefix = "entry",
  directory = temporary(),
): Promise<FileLog & { grow(to: number): Promise<FileLog> }> => {
  const log = await openLog({
    directory,
    origin: ORIGIN,
    signers: { ed25519 },
    suite,
    checkpointIntervalMs: 1e9,
    witnesses: [w1.key, w2.key],
  });
  closers.push(() => log.close());
  const none = new Uint8Array();
  const grow = async (to: number): Promise<FileLog> => {
    const from = log.size();
    await log.append(
      Array.from({ length: to - from }, (_, i) => ({
        entry: Buffer.from(`${prefix} ${from + i}`),
        claims: none,
        opening: none,
      })),
    );
    await log.checkpoint({ atLeast: to });
    return log;
  };
  return { ...log, grow };
};
const makeWitness = async (
  log: { keys: FileLog["keys"] },
  directory = temporary(),
  now = Date.now,
): Promise<Witness> => {
  const witness = await openWitness({ directory, signers: [w1, w2], logs: log.keys, suite, now });
  closers.push(() => witness.close());
  return witness;
};
const direct =
  (witness: Witness): HttpPost =>
  async (url, body) => {
    const answer = await witness.handle("POST", new URL(url).pathname, Buffer.from(body));
    return { status: answer.status, contentType: answer.headers["content-type"] ?? "", body: answer.body };
  };
const hashOf = (origin: string): string => createHash("sha256").update(origin).digest("hex");

describe("witness", () => {
  test("over real HTTP: two cosignatures that make a quorum, then growth from the size it remembers", async () => {
    const log = await makeLog();
    const witness = await makeWitness(log);
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        void (async () => {
          const answer = await witness.handle(request.method ?? "", request.url ?? "", Buffer.concat(chunks));
          response.writeHead(answer.status, answer.headers).end(answer.body);
        })();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => new Promise((resolve) => server.close(resolve)));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const post: HttpPost = async (to, body, signal) => {
      const response = await fetch(to, { method: "POST", body, signal });
      return {
        status: response.status,
        contentType: response.headers.get("content-type") ?? "",
        body: await response.text(),
      };
    };
    const policy = parsePolicy(
      Buffer.from(
        `log ${formatVkey(log.keys.at(0)!)}\nwitness a ${formatVkey(w1.key)}\nwitness b ${formatVkey(w2.key)}\ngroup g all a b\nquorum g\n`,
      ),
      suite,
    );
    let knownSize = 0;
    for (const size of [5, 300, 301]) {
      await log.grow(size);
      const [outcome] = await submitToWitnesses(await log.checkpoint(), [{ url, knownSize }], log, post);
      if (!outcome?.ok) throw outcome?.error ?? new Error("no outcome");
      expect(await log.cosign((await log.checkpoint()).note, outcome.lines)).toHaveLength(2);
      const opened = await openCheckpoint((await log.checkpoint()).note, policyTrust(policy), suite);
      if (!opened.ok) throw new Error(opened.reason);
      expect(satisfiesQuorum(policy, opened)).toEqual({ reached: true, cosigned: ["a", "b"] });
      knownSize = outcome.size;
    }
    const kept = await fetch(`${url}/${hashOf(ORIGIN)}/checkpoint`);
    expect(kept.status).toBe(200);
    expect(await openCheckpoint(await kept.text(), policyTrust(policy), suite)).toMatchObject({
      ok: true,
      checkpoint: { size: 301 },
    });
  });

  test("a client that knows nothing learns the size from the 409 and succeeds; a log that lost records does not", async () => {
    const log = await makeLog();
    const witness = await makeWitness(log);
    const post = direct(witness);
    const target = [{ url: "http://w.example" }];
    await log.grow(10);
    const old = await log.checkpoint();
    await log.grow(20);
    expect(await submitToWitnesses(await log.checkpoint(), target, log, post)).toMatchObject([{ ok: true, size: 20 }]);
    await log.grow(30);
    expect(await submitToWitnesses(await log.checkpoint(), target, log, post)).toMatchObject([{ ok: true, size: 30 }]);
    expect(await submitToWitnesses(old, target, log, post)).toMatchObject([
      { ok: false, error: { code: "witness_ahead" } },
    ]);
  });

  test("a fork is refused and leaves the record as it was, also after opening again", async () => {
    const directory = temporary();
    const log = await makeLog();
    const fork = await makeLog("forged");
    let witness = await makeWitness(log, directory);
    const target = [{ url: "http://w.example", knownSize: 0 }];
    await log.grow(10);
    await fork.grow(12);
    await submitToWitnesses(await log.checkpoint(), target, log, direct(witness));
    const before = readFileSync(join(directory, hashOf(ORIGIN)), "utf8");
    for (let round = 0; round < 2; round++) {
      const outcomes = await submitToWitnesses(await fork.checkpoint(), target, fork, direct(witness));
      expect(outcomes).toMatchObject([{ ok: false, error: { code: "witness_refused" } }]);
      expect(readFileSync(join(directory, hashOf(ORIGIN)), "utf8")).toBe(before);
      await witness.close();
      witness = await makeWitness(log, directory);
    }
  });

  test("of concurrent requests from one state, exactly one is cosigned", async () => {
    const log = await makeLog();
    const witness = await makeWitness(log);
    const bodies: string[] = [];
    for (const size of [3, 4, 5, 6]) {
      await log.grow(size);
      bodies.push(formatAddCheckpoint({ oldSize: 0, proof: [], note: (await log.checkpoint()).note }));
    }
    const answers = await Promise.all(
      bodies.map((body) => witness.handle("POST", "/add-checkpoint", Buffer.from(body))),
    );
    expect(answers.map((one) => one.status)).toEqual([200, 409, 409, 409]);
  });

  test("nothing is answered with a cosignature that is not on disk; times do not run backwards", async () => {
    const log = await makeLog();
    await log.grow(2);
    const directory = temporary();
    let failing = true;
    const files = {
      ...nodeFileOps,
      rename: (from: string, to: string) =>
        failing && !to.endsWith("epoch")
          ? Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" }))
          : nodeFileOps.rename(from, to),
    };
    let seconds = 2000;
    const witness = await openWitness({
      directory,
      signers: [w1],
      logs: log.keys,
      suite,
      files,
      now: () => seconds * 1000,
    });
    closers.push(() => witness.close());
    const submit = async (oldSize: number): Promise<{ status: number; body: string }> => {
      const { note, size } = await log.checkpoint();
      const proof = await log.consistencyProof(oldSize, size);
      return witness.handle("POST", "/add-checkpoint", Buffer.from(formatAddCheckpoint({ oldSize, proof, note })));
    };
    expect(await submit(0)).toMatchObject({ status: 500, body: expect.not.stringContaining("—") as string });
    failing = false;
    const timeOf = async (lines: string): Promise<number | undefined> =>
      (await log.cosign((await log.checkpoint()).note, lines)).at(0)?.timestamp;
    expect(await timeOf((await submit(0)).body)).toBe(2000);
    seconds = 1000;
    await log.grow(3);
    expect(await timeOf((await submit(2)).body)).toBe(2000);
  });

  test("what it does not serve: other paths, methods, logs, too much and broken text", async () => {
    const log = await makeLog();
    const witness = await makeWitness(log);
    const none = new Uint8Array();
    const status = async (method: string, path: string, body: Uint8Array = none): Promise<number> =>
      (await witness.handle(method, path, body)).status;
    expect(await status("GET", "/")).toBe(404);
    expect(await status("GET", "/add-checkpoint")).toBe(405);
    expect(await status("POST", `/${hashOf(ORIGIN)}/checkpoint`)).toBe(405);
    expect(await status("GET", `/${hashOf(ORIGIN)}/checkpoint`)).toBe(404);
    expect(await status("GET", `/${hashOf("other")}/checkpoint`)).toBe(404);
    expect(await status("GET", "/../epoch/checkpoint")).toBe(404);
    expect(await status("POST", "/add-checkpoint")).toBe(400);
    expect(await status("POST", "/add-checkpoint", new Uint8Array([0xff]))).toBe(400);
    expect(await status("POST", "/add-checkpoint", new Uint8Array(MAX_ADD_CHECKPOINT_CHARS + 1))).toBe(400);
    const body = formatAddCheckpoint({ oldSize: 0, proof: [], note: (await log.checkpoint()).note });
    expect(
      await status("POST", "/add-checkpoint", Buffer.from(body.replace(`${ORIGIN}\n`, "log.example/unknown\n"))),
    ).toBe(404);
    expect(await status("POST", "/add-checkpoint", Buffer.from(body))).toBe(200);
  });

  test("one process per directory, cosignature keys only, and no damaged record", async () => {
    const log = await makeLog();
    const directory = temporary();
    const witness = await makeWitness(log, directory);
    await expect(openWitness({ directory, signers: [w1], logs: log.keys, suite })).rejects.toMatchObject({
      code: "log_locked",
    });
    const plain = checkpointSigner("witness.example/plain", "note", ed25519, suite);
    for (const signers of [[], [plain]]) {
      await expect(openWitness({ directory: temporary(), signers, logs: log.keys, suite })).rejects.toMatchObject({
        code: "witness_invalid",
      });
    }
    const body = Buffer.from(formatAddCheckpoint({ oldSize: 0, proof: [], note: (await log.checkpoint()).note }));
    await witness.handle("POST", "/add-checkpoint", body);
    writeFileSync(join(directory, hashOf(ORIGIN)), "damaged");
    expect((await witness.handle("POST", "/add-checkpoint", body)).status).toBe(500);
  });

  test("the client calls a silent, a refusing and a lying witness by name, without credentials", async () => {
    const log = await makeLog();
    const checkpoint = await log.checkpoint();
    const targets = [{ url: "http://user:secret@w.example" }];
    const outcome = async (post: HttpPost): Promise<string> => {
      const [one] = await submitToWitnesses(checkpoint, targets, log, post);
      return one && !one.ok ? `${one.error.code} ${one.error.message}` : "ok";
    };
    expect(await outcome(() => Promise.reject(new Error("refused")))).toBe(
      "witness_unreachable The witness at w.example did not answer.",
    );
    expect(await outcome(() => Promise.resolve({ status: 500, contentType: "", body: "no" }))).toBe(
      "witness_refused The witness at w.example answered 500.",
    );
    let calls = 0;
    const loop: HttpPost = () => {
      calls++;
      return Promise.resolve({ status: 409, contentType: "text/x.tlog.size", body: "0\n" });
    };
    expect(await outcome(loop)).toMatch(/^witness_refused/);
    expect(calls).toBe(2);
    expect(
      await outcome(() => Promise.resolve({ status: 409, contentType: "text/x.tlog.size", body: "1e3\n" })),
    ).toMatch(/^witness_refused/);
  });
});

describe("monitor", () => {
  type Setup = {
    log: Awaited<ReturnType<typeof makeLog>>;
    directory: string;
    seen: string[];
    poll: (get?: ResourceGet) => Promise<MonitorReport>;
  };
  const setup = async (): Promise<Setup> => {
    const log = await makeLog();
    const directory = temporary();
    const seen: string[] = [];
    const poll = (get: ResourceGet = (path) => log.resource(path)): Promise<MonitorReport> =>
      createMonitor({
        get,
        trust: { logs: log.keys },
        directory,
        stateFile: "state",
        suite,
        onEntry: (index, entry) => seen.push(`${index}:${Buffer.from(entry).toString()}`),
      }).poll();
    return { log, directory, seen, poll };
  };
  // The log's resources with one of them changed.
  const tampered =
    (log: FileLog, match: string, change: (bytes: Buffer) => Uint8Array | undefined): ResourceGet =>
    async (path) => {
      const bytes = await log.resource(path);
      return bytes && path.startsWith(match) ? change(Buffer.from(bytes)) : bytes;
    };
  const flipped = (at: number) => (bytes: Buffer) => {
    const place = at < 0 ? bytes.length + at : at;
    bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
    return bytes;
  };

  test("follows a growing log and sees each entry once, across openings of its state", async () => {
    const { log, seen, poll } = await setup();
    expect(await poll()).toMatchObject({ verdict: "consistent", entriesChecked: 0 });
    expect(await poll()).toMatchObject({ verdict: "unchanged" });
    for (const size of [1, 5, 255, 256, 257, 1000]) {
      const before = seen.length;
      await log.grow(size);
      expect(await poll()).toMatchObject({
        verdict: "consistent",
        previousSize: before,
        entriesChecked: size - before,
        checkpoint: { size },
      });
      expect(await poll()).toMatchObject({ verdict: "unchanged" });
    }
    expect(seen).toEqual(Array.from({ length: 1000 }, (_, i) => `${i}:entry ${i}`));
  });

  test("a fork: the same size with another root, and a larger tree that does not begin with the one seen", async () => {
    const { log, directory, poll } = await setup();
    await log.grow(300);
    await poll();
    const state = readFileSync(join(directory, "state"), "utf8");
    const fork = await makeLog("forged");
    await fork.grow(300);
    const get: ResourceGet = (path) => fork.resource(path);
    expect(await poll(get)).toMatchObject({ verdict: "fork", note: (await fork.checkpoint()).note });
    await fork.grow(600);
    expect(await poll(get)).toMatchObject({ verdict: "fork", previousSize: 300, checkpoint: { size: 600 } });
    expect(readFileSync(join(directory, "state"), "utf8")).toBe(state);
    await log.grow(301);
    expect(await poll()).toMatchObject({ verdict: "consistent" });
  });

  test("a fork within the part that was already seen is found although new entries look right", async () => {
    const { log, poll } = await setup();
    const fork = await makeLog();
    await log.grow(260);
    await poll();
    // The same beginning, except for one entry in a bundle that is fetched again.
    await fork.grow(258);
    await fork.append([{ entry: Buffer.from("other 258"), claims: Buffer.alloc(0), opening: Buffer.alloc(0) }]);
    await fork.grow(270);
    expect(await poll((path) => fork.resource(path))).toMatchObject({ verdict: "fork" });
  });

  test("a rewind, and bad checkpoints", async () => {
    const { log, poll } = await setup();
    await log.grow(10);
    const old = Buffer.from((await log.checkpoint()).note);
    await log.grow(20);
    await poll();
    const serving =
      (note: Buffer): ResourceGet =>
      async (path) =>
        path === "checkpoint" ? note : log.resource(path);
    expect(await poll(serving(old))).toMatchObject({ verdict: "rewind", checkpoint: { size: 10 } });
    expect(await poll(serving(flipped(-10)(Buffer.from(old))))).toMatchObject({ verdict: "bad-checkpoint" });
    expect(await poll(serving(Buffer.from("hello")))).toMatchObject({ verdict: "bad-checkpoint" });
  });

  test("tampered and missing entries and tiles are told apart, and nothing of them is remembered", async () => {
    const { log, directory, poll } = await setup();
    await log.grow(300);
    await poll();
    await log.grow(800);
    const state = readFileSync(join(directory, "state"), "utf8");
    const swap = (bytes: Buffer): Uint8Array => {
      const entries = decodeBundle(bytes, 256);
      return encodeBundle([...entries.slice(0, 100), Buffer.from("swapped"), ...entries.slice(101)]);
    };
    expect(await poll(tampered(log, "tile/entries/002", swap))).toMatchObject({
      verdict: "tampered-entries",
      index: 612,
      path: "tile/0/002",
    });
    // Entry 256 was seen before: its bundle is fetched again because it has grown.
    expect(await poll(tampered(log, "tile/entries/001", flipped(5)))).toMatchObject({
      verdict: "tampered-entries",
      index: 256,
    });
    expect(await poll(tampered(log, "tile/entries/002", (bytes) => bytes.subarray(1)))).toMatchObject({
      verdict: "tampered-entries",
      path: "tile/entries/002",
    });
    expect(await poll(tampered(log, "tile/0/002", flipped(40)))).toMatchObject({
      verdict: "tampered-tiles",
      index: 513,
    });
    expect(await poll(tampered(log, "tile/1/000", flipped(64)))).toMatchObject({
      verdict: "tampered-tiles",
      index: 512,
    });
    expect(await poll(tampered(log, "tile/0/003", (bytes) => bytes.subarray(0, -1)))).toMatchObject({
      verdict: "tampered-tiles",
    });
    for (const path of ["tile/entries/003", "tile/0/001", "tile/1/000", "checkpoint"]) {
      expect(await poll(tampered(log, path, () => undefined))).toMatchObject({ verdict: "missing" });
    }
    expect(await poll(() => Promise.reject(new Error("no route")))).toMatchObject({ verdict: "unreachable" });
    expect(await poll(tampered(log, "tile/0", () => Buffer.alloc(9000)))).toMatchObject({ verdict: "unreachable" });
    expect(readFileSync(join(directory, "state"), "utf8")).toBe(state);
    expect(await poll()).toMatchObject({ verdict: "consistent", entriesChecked: 500 });
  });

  test("entries and tiles that were changed together do not lead to the signed root", async () => {
    const { log, poll } = await setup();
    const other = await makeLog("other");
    await log.grow(300);
    await other.grow(300);
    const get: ResourceGet = (path) => (path === "checkpoint" ? log : other).resource(path);
    expect(await poll(get)).toMatchObject({ verdict: "tampered-tiles" });
  });

  test("a damaged state file is an error, not a first visit", async () => {
    const { log, directory, poll } = await setup();
    await log.grow(5);
    await poll();
    const path = join(directory, "state");
    const whole = readFileSync(path, "utf8");
    for (const damaged of [
      "",
      whole.slice(0, -2),
      whole.replace("\n5\n", "\n4\n"),
      whole.replace("assay-monitor/1", "assay-monitor/2"),
    ]) {
      writeFileSync(path, damaged);
      await expect(poll()).rejects.toMatchObject({
        code: expect.stringMatching(/log_corrupt|invalid_encoding/) as string,
      });
    }
    expect(readdirSync(directory)).toEqual(["state"]);
  });

  test("what onEntry throws comes out, and the checkpoint is not remembered", async () => {
    const { log, directory } = await setup();
    await log.grow(5);
    const onEntry = (index: number): void => {
      if (index === 3) throw new Error("bad entry 3");
    };
    const monitor = createMonitor({
      get: (path) => log.resource(path),
      trust: { logs: log.keys },
      directory,
      stateFile: "state",
      suite,
      onEntry,
    });
    await expect(monitor.poll()).rejects.toThrow("bad entry 3");
    expect(readdirSync(directory)).toEqual([]);
  });
});
