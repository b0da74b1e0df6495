import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AssayError, bytesToHex, equalBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import type { FileLog } from "@assay/driver-log";
import type { DurableReceipt, IndexStore, LogSink, ReceiptRow } from "@assay/protocol";
import {
  PROFILE,
  createIssuer,
  decodeBundle,
  encodeBundle,
  encodeClaims,
  keyId,
  receiptSubject,
} from "@assay/receipts";
import type { ChainHead, Issuer, KeyUse } from "@assay/receipts";
import { formatVkey, leafHash, verifyCoseReceipt, verifyTlogProof } from "@assay/tlog";
import { createVerifier } from "@assay/verifier";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { decodeRecord } from "./decode-record.ts";
import type { DecodedRecord } from "./decode-record.ts";
import { createExporter } from "./exporter.ts";
import { startIndexer } from "./indexer.ts";
import type { Indexer } from "./indexer.ts";
import { openLogState } from "./log-state.ts";
import type { LogState } from "./log-state.ts";
import { createRecorder } from "./recorder.ts";
import type { ExecutionDraft, Issuers, RecordedPayment, Recorder, RecorderOptions } from "./recorder.ts";
import { decodeSidecar } from "./sidecar.ts";

// Recorder, state, indexer and exporter over the real log; the database alone is a stand-in, to take it away at will.

const DAY = 86_400_000;
const START = 1_795_255_200_000;
const suite = nodeSuite;

let directory = "";
let log: FileLog;
let logKey: Signer;
let clock = START;
const now = (): number => clock;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-recording-"));
  logKey = ed25519Signer(randomSeed());
  clock = START;
  log = await openLog({
    directory,
    origin: "log.test/a",
    signers: { ed25519: logKey },
    suite,
    checkpointIntervalMs: 20,
  });
});
afterEach(async () => {
  await log.close();
  rmSync(directory, { recursive: true, force: true });
});

type Parties = {
  readonly issue: (heads: { readonly node?: ChainHead; readonly gateway?: ChainHead }) => Promise<Issuers>;
  readonly identities: readonly { readonly subject: string; readonly publicKey: Uint8Array }[];
  readonly made: () => number;
};

function makeParties(): Parties {
  const identity = { node: ed25519Signer(randomSeed()), gateway: ed25519Signer(randomSeed()) };
  const uses: Record<"node" | "gateway", readonly KeyUse[]> = {
    node: ["execution", "supplement"],
    gateway: ["service", "supplement", "release"],
  };
  const subject = (role: "node" | "gateway"): string =>
    `urn:assay:${role}:${bytesToHex(keyId(suite, identity[role].publicKey))}`;
  const previous = new Map<string, Issuer>();
  let made = 0;
  const issuer = async (role: "node" | "gateway", head: ChainHead | undefined): Promise<Issuer> => {
    const before = previous.get(role);
    const fresh = await createIssuer({
      suite,
      subject: subject(role),
      role,
      identity: identity[role],
      keys: Object.fromEntries(uses[role].map((use) => [use, ed25519Signer(randomSeed())])),
      instanceId: new Uint8Array(16),
      bootSeq: before ? before.document.bootSeq + 1 : 0,
      ...(before ? { previous: { keyset: before.keysetDigest, statement: before.keysetStatement.digest } } : {}),
      notBeforeMs: clock,
      notAfterMs: clock + DAY,
      ...(head ? { head } : {}),
    });
    previous.set(role, fresh);
    return fresh;
  };
  return {
    identities: (["node", "gateway"] as const).map((role) => ({
      subject: subject(role),
      publicKey: identity[role].publicKey,
    })),
    made: () => made,
    async issue({ node, gateway }) {
      made++;
      return { node: await issuer("node", node), gateway: await issuer("gateway", gateway) };
    },
  };
}

let drafted = 0;
function draft(changes: Partial<ExecutionDraft> = {}): ExecutionDraft {
  const receiptId = suite.sha256(new TextEncoder().encode(`receipt ${drafted++}`)).slice(0, 16);
  const root = suite.sha256(receiptId);
  return {
    receiptId,
    subject: receiptSubject(receiptId),
    issuedAtMs: clock,
    claims: encodeClaims("execution", {
      profile: PROFILE.execution,
      receiptId,
      modelName: "demo/net",
      modelVersion: "1",
      modelDigest: root,
      modelDigestScheme: "sha256-manifest",
      modelDigestCheck: "hashed-at-load",
      requestRoot: root,
      responseRoot: root,
      requestFields: 1,
      responseFields: 1,
      mode: "vanilla",
      kind: "onnx",
      issuedAtMs: clock,
      finishReason: "stop",
    }),
    service: (executionDigest) => ({
      profile: PROFILE.service,
      receiptId,
      executionDigest,
      issuedAtMs: clock,
      route: { chosen: "urn:assay:node:x" },
      assurance: { asked: "vanilla", given: "vanilla" },
      retention: "none",
    }),
    model: "demo/net",
    manifestDigest: bytesToHex(root),
    mode: "vanilla",
    grantSha256: suite.sha256(root),
    opening: new Uint8Array(),
    ...changes,
  };
}

type Setup = { readonly recorder: Recorder; readonly parties: Parties; readonly told: DecodedRecord[] };

async function setup(options: RecorderOptions = {}, sink: LogSink = log): Promise<Setup> {
  const parties = makeParties();
  const told: DecodedRecord[] = [];
  const recorder = createRecorder(
    {
      log: sink,
      suite,
      issuers: await parties.issue({}),
      rotate: (heads) => parties.issue(heads),
      now,
      onRecorded: (decoded) => told.push(...decoded),
    },
    options,
  );
  await recorder.begin();
  return { recorder, parties, told };
}

/** The log, with appends that fail while `failing` says so, and a count of their calls. */
function faulty(): LogSink & { failing: (call: number) => boolean; calls: number[]; held?: Promise<void> } {
  const sink = {
    ...log,
    failing: (_call: number): boolean => false,
    calls: [] as number[],
    held: undefined as Promise<void> | undefined,
    async append(records: Parameters<LogSink["append"]>[0]) {
      sink.calls.push(records.length);
      if (sink.held) await sink.held;
      if (sink.failing(sink.calls.length)) throw new AssayError("log_full", "No space is left.");
      return log.append(records);
    },
  };
  return sink as LogSink & { failing: (call: number) => boolean; calls: number[]; held?: Promise<void> };
}

const decodedLog = async (): Promise<DecodedRecord[]> =>
  (await log.readRange(0, 1000)).map((record) => decodeRecord(suite, record));

/** Every issuer's statements must follow one another without a gap, each naming the one before. */
async function expectChains(): Promise<void> {
  const next = new Map<string, number>();
  for (const { heads } of await decodedLog())
    for (const { issuer, head } of heads) {
      expect(head.seq).toBe((next.get(issuer) ?? 0) + 1);
      next.set(issuer, head.seq);
    }
}

describe("the recorder", () => {
  test("a receipt is answered when it is in the log, and told of as the log has it", async () => {
    const { recorder, told } = await setup();
    const one = draft({ owner: "ed25519:aa" });
    const { logIndex, execution } = await recorder.record(one);
    expect(logIndex).toBe(2);
    const stored = await log.read(logIndex);
    expect(stored && decodeSidecar(stored.claims)).toMatchObject({ owner: "ed25519:aa", visibility: "private" });
    expect(told.map((record) => record.logIndex)).toEqual([0, 1, 2]);
    expect(told[2]?.row).toMatchObject({
      executionDigest: bytesToHex(execution.digest),
      owner: "ed25519:aa",
      model: "demo/net",
    });
    // What is told at once is what decoding the log tells later.
    const again = (await decodedLog())[2];
    expect(told[2]?.heads).toEqual(again?.heads);
    expect(told[2]?.row).toEqual(again?.row);
  });

  test("receipts that come together share a flush, and their order is the log's", async () => {
    const sink = faulty();
    const { recorder } = await setup({}, sink);
    const many = await Promise.all(Array.from({ length: 20 }, () => recorder.record(draft())));
    expect(many.map(({ logIndex }) => logIndex)).toEqual(many.map((_, i) => i + 2));
    expect(sink.calls).toEqual([2, 20]);
    await expectChains();
  });

  test("a batch ends at its limits, in number and in bytes", async () => {
    const sink = faulty();
    const { recorder } = await setup({ maxBatch: 3, lingerMs: 0 }, sink);
    await Promise.all(Array.from({ length: 7 }, () => recorder.record(draft())));
    expect(sink.calls).toEqual([2, 3, 3, 1]);
    const weighty = faulty();
    const other = await setup({ maxBatchBytes: 5000, lingerMs: 0 }, weighty);
    const opening = new Uint8Array(2000);
    await Promise.all([
      ...Array.from({ length: 5 }, () => other.recorder.record(draft({ opening }))),
      // Larger than a batch may be: it goes alone.
      other.recorder.record(draft({ opening: new Uint8Array(9000) })),
    ]);
    expect(weighty.calls).toEqual([2, 2, 2, 1, 1]);
  });

  test("when an append fails, everybody in it is told, and the chain goes on where it was", async () => {
    const sink = faulty();
    const { recorder, told } = await setup({}, sink);
    await recorder.record(draft());
    sink.failing = () => true;
    const failed = await Promise.allSettled([recorder.record(draft()), recorder.record(draft())]);
    for (const outcome of failed) expect(outcome).toMatchObject({ status: "rejected", reason: { code: "log_full" } });
    expect(log.size()).toBe(3);
    sink.failing = () => false;
    await recorder.record(draft());
    expect(log.size()).toBe(4);
    expect(told).toHaveLength(4);
    await expectChains();
  });

  test("what fails after an append is durable takes no number back", async () => {
    const parties = makeParties();
    let broken = false;
    const recorder = createRecorder({
      log,
      suite,
      issuers: await parties.issue({}),
      rotate: (heads) => parties.issue(heads),
      now,
      onRecorded: () => {
        if (broken) throw new Error("a listener broke");
      },
    });
    await recorder.begin();
    broken = true;
    await expect(recorder.record(draft())).rejects.toThrow("a listener broke");
    broken = false;
    await recorder.record(draft());
    expect(log.size()).toBe(4);
    await expectChains();
  });

  test("a statement that could not be read again is not logged", async () => {
    const { recorder } = await setup();
    const claims = {
      profile: PROFILE.release,
      releaseId: new Uint8Array(16),
      modelName: "demo/net",
      version: 0.5,
      modelDigest: new Uint8Array(32),
      action: "release" as const,
      owner: "",
      visibility: "public" as const,
      sizeBytes: -1,
      issuedAtMs: clock,
    };
    await expect(
      recorder.state({
        kind: "release",
        claims,
        subject: "urn:assay:model:demo/net@1",
        issuedAtMs: clock,
        visibility: "public",
      }),
    ).rejects.toMatchObject({ code: expect.any(String) });
    expect(log.size()).toBe(2);
    await recorder.record(draft());
    await expectChains();
  });

  test("past the limit of what waits, in number and in bytes, callers are turned away at once", async () => {
    const sink = faulty();
    const { recorder } = await setup({ maxPending: 2, maxPendingBytes: 4000 }, sink);
    let open = (): void => undefined;
    sink.held = new Promise((resolve) => {
      open = resolve;
    });
    const first = recorder.record(draft());
    await expect.poll(() => sink.calls.length).toBe(2);
    const waiting = [recorder.record(draft()), recorder.record(draft({ opening: new Uint8Array(100) }))];
    expect(recorder.pending()).toBe(2);
    await expect(recorder.record(draft())).rejects.toMatchObject({ code: "receipts_overloaded" });
    open();
    await Promise.all([first, ...waiting]);
    expect(recorder.pending()).toBe(0);
    sink.held = new Promise((resolve) => {
      open = resolve;
    });
    const held = recorder.record(draft());
    await expect.poll(() => sink.calls.length).toBe(4);
    const heavy = recorder.record(draft({ opening: new Uint8Array(5000) }));
    await expect(recorder.record(draft())).rejects.toMatchObject({ code: "receipts_overloaded" });
    open();
    await Promise.all([held, heavy]);
    await recorder.record(draft());
  });

  test("draining finishes what was taken and takes no more", async () => {
    const { recorder } = await setup();
    const taken = Array.from({ length: 5 }, () => recorder.record(draft()));
    await recorder.drain();
    expect(log.size()).toBe(7);
    await Promise.all(taken);
    await expect(recorder.record(draft())).rejects.toMatchObject({ code: "gateway_draining" });
    await recorder.drain();
    expect(log.size()).toBe(7);
  });

  describe("a payment", () => {
    type Told = { readonly durable: DurableReceipt[]; lost: number; readonly payment: RecordedPayment };
    const paid = (): Told => {
      const told: Told = {
        durable: [],
        lost: 0,
        payment: {
          instruction: Uint8Array.of(1, 2, 3),
          durable: (receipt) => told.durable.push(receipt),
          lost: () => told.lost++,
        },
      };
      return told;
    };

    test("is told of its record before its caller is, and its instruction is beside the receipt", async () => {
      const { recorder, told: decoded } = await setup();
      const told = paid();
      const drafted_ = draft({ payment: told.payment });
      const { logIndex, execution, service } = await recorder.record(drafted_);
      expect([told.durable, told.lost]).toEqual([
        [
          {
            receiptId: bytesToHex(drafted_.receiptId),
            logIndex,
            executionDigest: bytesToHex(execution.digest),
            serviceDigest: bytesToHex(service.digest),
          },
        ],
        0,
      ]);
      expect(decoded.at(-1)?.payment).toEqual(told.payment.instruction);
      expect((await decodedLog()).at(-1)?.payment).toEqual(told.payment.instruction);
      await recorder.record(draft());
      expect((await decodedLog()).at(-1)?.payment).toBeUndefined();
    });

    test("is lost with an append that fails, with a queue that is full and after the end", async () => {
      const sink = faulty();
      const { recorder } = await setup({ maxPending: 1 }, sink);
      sink.failing = () => true;
      const [failed, overfull, late] = [paid(), paid(), paid()];
      const first = recorder.record(draft({ payment: failed.payment }));
      await expect(recorder.record(draft({ payment: overfull.payment }))).rejects.toMatchObject({
        code: "receipts_overloaded",
      });
      await expect(first).rejects.toMatchObject({ code: "log_full" });
      await recorder.drain();
      await expect(recorder.record(draft({ payment: late.payment }))).rejects.toMatchObject({
        code: "gateway_draining",
      });
      for (const told of [failed, overfull, late]) expect([told.lost, told.durable]).toEqual([1, []]);
    });

    test("of a statement that a remote node signed badly is lost", async () => {
      const { recorder } = await setup();
      const told = paid();
      await expect(
        recorder.recordSigned({ ...draft({ payment: told.payment }), envelope: new Uint8Array() }),
      ).rejects.toMatchObject({ code: "node_statement_invalid" });
      expect([told.lost, told.durable]).toEqual([1, []]);
    });

    test.each([
      ["it has the record: it is durable", true],
      ["it has not: it is lost", false],
    ])("waits for a log that does not answer, until that says whether %s", async (_, has) => {
      let silent = true;
      let kept: readonly number[] | undefined;
      let appends = 0;
      const sink = {
        ...log,
        async append(records: Parameters<LogSink["append"]>[0]) {
          // The keysets first.
          if (++appends === 1) return log.append(records);
          if (silent) {
            if (has) kept ??= await log.append(records);
            throw new AssayError("log_unreachable", "It does not answer.");
          }
          if (has && kept) return kept;
          throw new AssayError("log_full", "No space is left.");
        },
      } as LogSink;
      const { recorder } = await setup({ retryUnknownMs: 5 }, sink);
      const [asked, behind] = [paid(), paid()];
      await expect(recorder.record(draft({ payment: asked.payment }))).rejects.toMatchObject({
        code: "log_unreachable",
      });
      expect([asked.lost, asked.durable]).toEqual([0, []]);
      // What was never sent is not in the log.
      await expect(recorder.record(draft({ payment: behind.payment }))).rejects.toMatchObject({
        code: "log_unreachable",
      });
      expect([behind.lost, behind.durable]).toEqual([1, []]);
      expect(asked.lost).toBe(0);
      silent = false;
      await expect.poll(() => asked.lost + asked.durable.length).toBe(1);
      expect(asked.durable.length === 1).toBe(has);
      if (has) expect(asked.durable[0]?.logIndex).toBe(kept?.[0]);
    });
  });

  test("a keyset is replaced before it ends, and the chains go on", async () => {
    const { recorder, parties } = await setup({ rotateBeforeMs: DAY / 2 });
    await recorder.record(draft());
    clock += DAY / 2 + 1;
    await Promise.all([recorder.record(draft()), recorder.record(draft())]);
    expect(parties.made()).toBe(2);
    expect((await decodedLog()).map(({ row }) => row.kind)).toEqual([
      "keyset",
      "keyset",
      "execution",
      "keyset",
      "keyset",
      "execution",
      "execution",
    ]);
    await expectChains();
  });

  test("no statement is made under a keyset that could not be logged", async () => {
    const sink = faulty();
    const { recorder, parties } = await setup({ rotateBeforeMs: DAY / 2 }, sink);
    clock += DAY / 2 + 1;
    sink.failing = () => true;
    for (let i = 0; i < 3; i++) await expect(recorder.record(draft())).rejects.toMatchObject({ code: "log_full" });
    sink.failing = () => false;
    await recorder.record(draft());
    // One new pair in all: the first that was made is the one that is logged when there is space again.
    expect(parties.made()).toBe(2);
    const records = await decodedLog();
    const logged = new Set(records.flatMap(({ keyset }) => (keyset ? [bytesToHex(keyset.keyset)] : [])));
    expect(logged.size).toBe(4);
    expect(records.map(({ row }) => row.kind)).toEqual(["keyset", "keyset", "keyset", "keyset", "execution"]);
    await expectChains();
  });

  test("gateway statements stand in the log like receipts", async () => {
    const { recorder } = await setup();
    const claims = {
      profile: PROFILE.release,
      releaseId: new Uint8Array(16),
      modelName: "demo/net",
      version: 1,
      modelDigest: new Uint8Array(32),
      action: "release" as const,
      owner: "ed25519:aa",
      visibility: "public" as const,
      sizeBytes: 1,
      issuedAtMs: clock,
    };
    const [receipt, released] = await Promise.all([
      recorder.record(draft()),
      recorder.state({
        kind: "release",
        claims,
        subject: "urn:assay:model:demo/net@1",
        issuedAtMs: clock,
        owner: "ed25519:aa",
        visibility: "public",
      }),
    ]);
    expect([receipt.logIndex, released.logIndex]).toEqual([2, 3]);
    expect((await decodedLog())[3]).toMatchObject({
      release: { modelName: "demo/net" },
      row: { kind: "release", model: "demo/net" },
    });
    await expectChains();
  });
});

describe("the state of the log", () => {
  const open = (text: string | undefined, stored: string[] = []): Promise<LogState> =>
    openLogState({
      log,
      suite,
      load: () => Promise.resolve(text),
      store: (saved) => {
        stored.push(saved);
        return Promise.resolve();
      },
    });
  const saved = async (): Promise<string> => {
    const stored: string[] = [];
    await (await open(undefined, stored)).save();
    return stored[0] ?? "";
  };
  const facts = (state: LogState, parties: Parties) =>
    JSON.stringify([
      state.watermark(),
      state.releases(),
      parties.identities.map(({ subject }) => {
        const head = state.head(subject);
        const last = state.lastKeyset(subject);
        return [
          head && [head.seq, head.prev && bytesToHex(head.prev)],
          last && [last.bootSeq, bytesToHex(last.keyset), last.logIndex],
        ];
      }),
    ]);

  test("a start from the file is a start from the log, at every point between", async () => {
    const { recorder, parties } = await setup();
    const files = [await saved()];
    for (let i = 0; i < 3; i++) {
      await recorder.record(draft());
      files.push(await saved());
    }
    const whole = facts(await open(undefined), parties);
    for (const file of files) expect(facts(await open(file), parties)).toBe(whole);
    expect(files.at(-1)).toContain('"watermark":5');
  });

  test("a damaged file, and one ahead of the log, cost only a full read", async () => {
    const { recorder, parties } = await setup();
    await recorder.record(draft());
    const whole = facts(await open(undefined), parties);
    const good = await saved();
    for (const bad of [
      "",
      "{",
      "null",
      "[]",
      "{}",
      '"text"',
      good.slice(0, -10),
      good.replace('"version":1', '"version":2'),
      good.replace('"watermark":3', '"watermark":4'),
      good.replace('"watermark":3', '"watermark":-1'),
      good.replace('"watermark":3', '"watermark":1.5'),
      good.replace('"watermark":3', '"watermark":"3"'),
      good.replace(/"prev":"[0-9a-f]+"/, '"prev":"zz"'),
      good.replace(/"heads":\{.*?\}\}/, '"heads":null'),
      good.replace(/"last":\[.*?\]/, '"last":7'),
      good.replace(/"releases":\[\]/, '"releases":{}'),
    ]) {
      expect(bad).not.toBe(good);
      expect(facts(await open(bad), parties), bad).toBe(whole);
    }
  });

  test("it is written when something changed, and only then", async () => {
    const { recorder } = await setup();
    const stored: string[] = [];
    const state = await open(undefined, stored);
    await state.save();
    await state.save();
    expect(stored).toHaveLength(1);
    await recorder.record(draft());
    state.apply([(await decodedLog())[2] as DecodedRecord], 3);
    await state.save();
    expect(stored).toHaveLength(2);
    expect(stored[1]).toContain('"watermark":3');
  });
});

/** The index in memory: what the real one promises, and failures on demand. */
function memoryIndex(): IndexStore & {
  rows: Map<number, ReceiptRow>;
  fail: string | undefined;
  batches: number[];
  fence: () => void;
} {
  let watermark = 0;
  let fenced = false;
  const store = {
    rows: new Map<number, ReceiptRow>(),
    fail: undefined as string | undefined,
    batches: [] as number[],
    fence: () => {
      fenced = true;
      watermark = 0;
      store.rows.clear();
    },
    check: (): void => {
      if (store.fail !== undefined) throw new AssayError(store.fail, "The database is away.");
    },
    watermark: () => {
      store.check();
      fenced = false;
      return watermark;
    },
    index: (batch: Parameters<IndexStore["index"]>[0]) => {
      store.check();
      if (fenced) throw new AssayError("index_fenced", "Another process reset the index.");
      for (const row of batch.receipts) {
        if (row.logIndex >= batch.watermark) throw new TypeError("A row lies past its watermark.");
        store.rows.set(row.logIndex, row);
      }
      store.batches.push(batch.receipts.length);
      watermark = batch.watermark;
    },
    supplements: () => {
      store.check();
      return [];
    },
  };
  return new Proxy(store, {
    get: (target, name) => {
      const value = target[name as keyof typeof target] as unknown;
      if (name !== "watermark" && name !== "index" && name !== "supplements") return value;
      return async (...parameters: readonly unknown[]) =>
        (value as (...all: readonly unknown[]) => unknown)(...parameters);
    },
  }) as unknown as ReturnType<typeof memoryIndex>;
}

describe("the indexer", () => {
  let indexer: Indexer | undefined;
  afterEach(async () => {
    await indexer?.stop();
  });
  const follow = (index: IndexStore, errors: unknown[] = []): Indexer => {
    indexer = startIndexer({ log, index, suite, onError: (error) => errors.push(error) });
    return indexer;
  };
  const expectWhole = async (rows: ReadonlyMap<number, ReceiptRow>): Promise<void> => {
    expect([...rows.keys()]).toEqual(Array.from({ length: log.size() }, (_, i) => i));
    expect([...rows.values()].map((row) => row.executionDigest)).toEqual(
      (await decodedLog()).map(({ row }) => row.executionDigest),
    );
  };

  test("it reads what was there before it, and takes what is offered after", async () => {
    const { recorder, told } = await setup();
    await recorder.record(draft());
    const index = memoryIndex();
    const following = follow(index);
    expect(await following.settled(3, 5000)).toBe(true);
    told.length = 0;
    await recorder.record(draft());
    following.offer(told);
    expect(await following.settled(4, 5000)).toBe(true);
    expect(following.lag()).toEqual({ records: 0, failure: null });
    await expectWhole(index.rows);
  });

  test("while the database is away it says so once, and catches up when it is back", async () => {
    const { recorder, told } = await setup();
    const index = memoryIndex();
    const errors: unknown[] = [];
    index.fail = "database_unavailable";
    const following = follow(index, errors);
    await expect.poll(() => following.lag().failure).toBe("database_unavailable");
    for (let i = 0; i < 3; i++) {
      told.length = 0;
      await recorder.record(draft());
      following.offer(told);
    }
    expect(following.lag().records).toBe(5);
    expect(await following.settled(5, 1)).toBe(false);
    expect(errors).toHaveLength(1);
    index.fail = undefined;
    expect(await following.settled(5, 10_000)).toBe(true);
    expect(following.lag()).toEqual({ records: 0, failure: null });
    await expectWhole(index.rows);
  });

  test("records that were offered with a gap, twice or not at all are read from the log", async () => {
    const { recorder } = await setup();
    for (let i = 0; i < 5; i++) await recorder.record(draft());
    const records = await decodedLog();
    const index = memoryIndex();
    index.fail = "database_unavailable";
    const following = follow(index);
    following.offer(records.slice(1, 2));
    following.offer(records.slice(4, 6));
    following.offer(records.slice(4, 6));
    following.offer([]);
    index.fail = undefined;
    expect(await following.settled(7, 10_000)).toBe(true);
    await expectWhole(index.rows);
  });

  test("more than is kept in memory is read from the log again", async () => {
    const { recorder } = await setup();
    const index = memoryIndex();
    index.fail = "database_unavailable";
    const following = follow(index);
    await expect.poll(() => following.lag().failure).toBe("database_unavailable");
    await recorder.record(draft());
    const [, , third] = await decodedLog();
    // Far beyond what is kept, and none of it is what the log has: had it been kept, it would be indexed.
    for (let at = 3; at < 40_003; at += 10_000)
      following.offer(Array.from({ length: 10_000 }, (_, i) => ({ ...(third as DecodedRecord), logIndex: at + i })));
    index.fail = undefined;
    expect(await following.settled(3, 10_000)).toBe(true);
    await expectWhole(index.rows);
  });

  test("after another process reset the index it begins anew where that left off", async () => {
    const { recorder, told } = await setup();
    await recorder.record(draft());
    const index = memoryIndex();
    const following = follow(index);
    expect(await following.settled(3, 5000)).toBe(true);
    index.fence();
    told.length = 0;
    await recorder.record(draft());
    following.offer(told);
    await expect.poll(() => index.rows.size).toBe(4);
    await expectWhole(index.rows);
  });

  test("stopping answers whoever waits", async () => {
    const index = memoryIndex();
    index.fail = "database_unavailable";
    await setup();
    const following = follow(index);
    const waiting = following.settled(100, 60_000);
    await following.stop();
    expect(await waiting).toBe(false);
    expect(await following.settled(100, 60_000)).toBe(false);
  });
});

describe("the exporter", () => {
  const make = async (sink: LogSink = log) => {
    const { recorder, parties } = await setup();
    const { logIndex } = await recorder.record(draft());
    const state = await openLogState({
      log,
      suite,
      load: () => Promise.resolve(undefined),
      store: () => Promise.resolve(),
    });
    const index = memoryIndex();
    return {
      logIndex,
      parties,
      index,
      recorder,
      exporter: createExporter({ log: sink, index, state, suite, logSigner: logKey }),
    };
  };

  test("a bundle verifies by itself, and without a database says what it may lack", async () => {
    const { exporter, logIndex, parties, index } = await make();
    const { bundle, complete } = await exporter.bundle(logIndex, 5000);
    expect(complete).toBe(true);
    expect(bundle.checkpoints).toHaveLength(1);
    const verify = createVerifier({
      suite,
      trust: {
        identities: parties.identities.map(({ subject, publicKey }) => ({
          algorithm: "ed25519",
          publicKey,
          subject,
          label: "test",
        })),
        keysets: [],
        logs: [{ origin: "log.test/a", keys: log.keys.map(formatVkey), witnesses: [], quorum: 0 }],
        revoked: [],
        roots: [],
        chains: [],
      },
    });
    const verdict = await verify(encodeBundle(bundle), START + 1000);
    expect(verdict.status, JSON.stringify(verdict.checks)).toBe("verified");
    index.fail = "database_unavailable";
    const without = await exporter.bundle(logIndex, 5000);
    expect(without.complete).toBe(false);
    expect((await verify(encodeBundle(without.bundle), START + 1000)).status).toBe("verified");
    index.fail = "database_error";
    await expect(exporter.bundle(logIndex, 5000)).rejects.toMatchObject({ code: "database_error" });
  });

  test("before a checkpoint covers it, a bundle has no log part and proofs are refused", async () => {
    const early = { ...log, checkpoint: () => Promise.reject(new AssayError("log_checkpoint_late", "Not yet.")) };
    const { exporter, logIndex } = await make(early);
    const { bundle } = await exporter.bundle(logIndex, 0);
    expect(bundle.log).toBeUndefined();
    expect(decodeBundle(encodeBundle(bundle)).statements).toHaveLength(2);
    await expect(exporter.tlogProof(logIndex, 0)).rejects.toMatchObject({ code: "not_logged_yet" });
    await expect(exporter.coseReceipt(logIndex, 0)).rejects.toMatchObject({ code: "not_logged_yet" });
    const broken = { ...log, checkpoint: () => Promise.reject(new AssayError("log_failed", "No more.")) };
    const other = await make(broken);
    await expect(other.exporter.bundle(other.logIndex, 0)).rejects.toMatchObject({ code: "log_failed" });
  });

  test("proofs verify against the entry and nothing else", async () => {
    const { exporter, logIndex } = await make();
    const record = await log.read(logIndex);
    const leaf = leafHash(record?.entry ?? new Uint8Array(), suite);
    const text = await exporter.tlogProof(logIndex, 5000);
    expect(await verifyTlogProof(text, leaf, { logs: log.keys }, suite)).toMatchObject({ ok: true, index: logIndex });
    const cose = await exporter.coseReceipt(logIndex, 5000);
    const signedBy = { algorithm: "ed25519" as const, publicKey: logKey.publicKey };
    expect(await verifyCoseReceipt(cose, leaf, signedBy, suite)).toMatchObject({ ok: true });
    const other = leafHash((await log.read(0))?.entry ?? new Uint8Array(), suite);
    expect(equalBytes(other, leaf)).toBe(false);
    expect(await verifyCoseReceipt(cose, other, signedBy, suite)).toMatchObject({ ok: false });
  });

  test("what is no receipt is not exported", async () => {
    const { exporter } = await make();
    await expect(exporter.bundle(0, 0)).rejects.toMatchObject({ code: "receipt_not_found" });
    await expect(exporter.bundle(99, 0)).rejects.toMatchObject({ code: "receipt_not_found" });
    await expect(exporter.tlogProof(99, 0)).rejects.toMatchObject({ code: "not_logged_yet" });
  });
});
