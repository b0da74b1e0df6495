import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { AssayError, bytesToHex, utf8ToBytes } from "@assay/core";
import { ed25519Signer, nodeSuite, randomSeed } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import type { FileLog } from "@assay/driver-log";
import type { ExecutedText, Frame, PaymentDesk, TextExecutor, TextOutcome, TextRequest } from "@assay/protocol";
import {
  PROFILE,
  createIssuer,
  decodeClaims,
  decodeEntry,
  encodeClaims,
  keyId,
  parseStatement,
  receiptSubject,
} from "@assay/receipts";
import type { ExecutionClaims, Issuer, KeyUse, ServiceClaims, Statement } from "@assay/receipts";
import {
  createItemMemory,
  createMetrics,
  createOpeningVault,
  createPayments,
  createRecorder,
  decodeRecord,
  decodeSidecar,
  startGateway,
} from "@assay/service-gateway";
import type {
  DecodedRecord,
  Gateway,
  GatewayModules,
  GatewayOptions,
  ListedTextModel,
  OpeningVault,
  PaymentModules,
  PaymentOptions,
  Payments,
  Recorder,
  TextCaller,
  TextEnd,
  TextModules,
  TextRecorder,
  TextRouter,
  TextServiceParts,
} from "@assay/service-gateway";
import { timeOrderedId } from "@assay/service-node";
import { createApi } from "@assay/service-gateway";
import type { ApiModules } from "@assay/service-gateway";

// The text API whole: real HTTP, real recorder, real log on disk. Who answers is the test's own.

const DAY_MS = 86_400_000;

/** One candidate of the test's router. */
export type Candidate = {
  readonly name: string;
  readonly executor: TextExecutor;
  readonly service?: (outcome: TextOutcome) => TextServiceParts;
  readonly upstream?: string;
  readonly model?: string;
};

/** What the router was told of one try. */
type RouteEvent = {
  readonly candidate: string;
  readonly what: "started" | "firstByte" | "ok" | "failed" | "cancelled";
  readonly facts?: TextEnd;
};

export type Logged = {
  readonly execution: ExecutionClaims;
  readonly service: ServiceClaims;
  readonly statements: readonly Statement[];
  readonly owner?: string;
  readonly openingBytes: number;
};

export type TextServer = {
  readonly url: string;
  readonly gateway: Gateway;
  readonly modules: TextModules;
  readonly log: FileLog;
  readonly payments: Payments | undefined;
  readonly events: readonly RouteEvent[];
  readonly callers: readonly TextCaller[];
  readonly lines: readonly string[];
  /** Ids of receipts in the order in which they became durable. */
  readonly receipts: readonly string[];
  /** What the log holds of a receipt. */
  readonly logged: (receiptId: string) => Promise<Logged>;
  readonly metric: (name: string) => Promise<number>;
  readonly close: () => Promise<void>;
};

export type TextServerOptions = {
  readonly candidates: readonly Candidate[];
  readonly gateway?: Partial<GatewayOptions>;
  /** Changes the recorder, to take receipts away. */
  readonly recorder?: (recorder: Recorder) => TextRecorder;
  readonly models?: readonly ListedTextModel[];
  readonly maxBodyBytes?: number;
  /** Takes payments: candidates are then priced under their models, ten tokens in and what the request allows out. */
  readonly desk?: PaymentDesk;
  /** Told of the log before anything is recorded, and of every durable record. */
  readonly ledger?: {
    readonly start: (log: FileLog) => Promise<void>;
    readonly ingest: (records: readonly DecodedRecord[], next: number) => void;
  };
  readonly paid?: PaymentOptions & Partial<PaymentModules>;
  /** What runs tensors. */
  readonly infer?: Partial<GatewayModules["infer"]>;
  readonly api?: (parts: {
    readonly recorder: Recorder;
    readonly log: FileLog;
    readonly vault: OpeningVault;
    readonly payments: Payments | undefined;
  }) => Partial<ApiModules>;
};

async function makeIssuer(role: "node" | "gateway", uses: readonly KeyUse[]): Promise<Issuer> {
  const identity = ed25519Signer(randomSeed());
  return createIssuer({
    suite: nodeSuite,
    subject: `urn:assay:${role}:${bytesToHex(keyId(nodeSuite, identity.publicKey))}`,
    role,
    identity,
    keys: Object.fromEntries(uses.map((use) => [use, ed25519Signer(randomSeed())])),
    instanceId: new Uint8Array(16),
    bootSeq: 0,
    notBeforeMs: Date.now() - 1000,
    notAfterMs: Date.now() + DAY_MS,
  });
}

/** Starts the text API over a fresh log. */
export async function openTextServer(options: TextServerOptions): Promise<TextServer> {
  const directory = mkdtempSync(join(tmpdir(), "assay-text-"));
  const log = await openLog({
    directory,
    origin: "log.test/text",
    signers: { ed25519: ed25519Signer(randomSeed()) },
    suite: nodeSuite,
    checkpointIntervalMs: 1000,
  });
  const lines: string[] = [];
  const receipts: string[] = [];
  const indexes = new Map<string, number>();
  const events: RouteEvent[] = [];
  const callers: TextCaller[] = [];
  const recorder = createRecorder({
    log,
    suite: nodeSuite,
    issuers: {
      node: await makeIssuer("node", ["execution", "supplement"]),
      gateway: await makeIssuer("gateway", ["service", "supplement", "release"]),
    },
    rotate: () => Promise.reject(new Error("no keyset ends during a test")),
    now: Date.now,
    onRecorded: (decoded, next) => {
      options.ledger?.ingest(decoded, next);
      for (const { row, logIndex } of decoded) {
        if (row.kind !== "execution") continue;
        receipts.push(row.receiptId);
        indexes.set(row.receiptId, logIndex);
      }
    },
  });
  await recorder.begin();
  await options.ledger?.start(log);
  const metrics = createMetrics([]);
  const auth = {
    caller: (header: string | undefined) => {
      const token = /^Bearer (assay_\S+)$/.exec(header ?? "")?.[1];
      if (token === undefined) return Promise.resolve(undefined);
      if (token !== "assay_good") return Promise.reject(new AssayError("token_invalid", "The token is unknown."));
      return Promise.resolve({ owner: "ed25519:aa", scopes: [] });
    },
  };
  const router: TextRouter = {
    route(parsed, caller, { exclude }) {
      callers.push(caller);
      const candidate = options.candidates.find(({ name }) => !exclude.has(name));
      if (!candidate)
        return Promise.reject(
          new AssayError("model_not_found", `There is no model named ${parsed.model}.`, { hints: [] }),
        );
      const { name, executor, service, model = parsed.model } = candidate;
      const told = (what: RouteEvent["what"], facts?: TextEnd): void => {
        events.push({ candidate: name, what, ...(facts ? { facts } : {}) });
      };
      return Promise.resolve({
        candidate: name,
        executor,
        target: {
          engine: candidate.upstream ?? "scripted",
          model: { name: candidate.model ?? parsed.model },
          modelName: candidate.model ?? parsed.model,
        },
        subject: `model:${model}`,
        service: service ?? (() => ({ route: { chosen: executor.subject } })),
        started: () => told("started"),
        firstByte: () => told("firstByte"),
        ended: (how, facts) => told(how, facts),
      });
    },
  };
  const vault = createOpeningVault(new Uint8Array(32));
  const payments =
    options.desk &&
    createPayments(
      {
        desk: options.desk,
        log,
        vault,
        suite: nodeSuite,
        metrics,
        now: Date.now,
        onError: (error) => lines.push(`payments: ${String(error)}`),
        ...options.paid,
      },
      options.paid,
    );
  const modules: TextModules = {
    router: options.desk
      ? {
          ...router,
          priced: (parsed, _caller, milliseconds = 0) =>
            Promise.resolve({
              subjects: options.candidates.map(({ model = parsed.model }) => `model:${model}` as const),
              most: { inputTokens: 10, outputTokens: parsed.parameters.max_tokens ?? 10, milliseconds },
              mostOf: new Map(),
            }),
        }
      : router,
    payments,
    recorder: options.recorder?.(recorder) ?? (recorder as unknown as TextRecorder),
    vault,
    suite: nodeSuite,
    now: Date.now,
    random: (bytes) => new Uint8Array(randomBytes(bytes)),
    receiptId: () => timeOrderedId(Date.now(), new Uint8Array(randomBytes(10))),
    onReceipt: () => undefined,
    auth,
    metrics,
    items: createItemMemory(Date.now),
    maxBodyBytes: options.maxBodyBytes ?? 32 * 1024 * 1024,
  };
  const closeLog = async (): Promise<void> => {
    await recorder.drain();
    await log.close();
    rmSync(directory, { recursive: true, force: true });
  };
  const gateway = await startGateway(
    { host: "127.0.0.1", port: 0, ...options.gateway },
    {
      api: createApi({
        options: { version: "0", maxBlobBytes: 1000, maxJsonBytes: 1000 },
        auth,
        metrics,
        models: {
          list: () => [],
          resolve: () => {
            throw new AssayError("model_not_found", "There is no such model.");
          },
        },
        textModels: () => Promise.resolve(options.models ?? []),
        ...options.api?.({ recorder, log, vault, payments }),
      } as unknown as ApiModules),
      infer: {
        metrics,
        auth,
        recorder: modules.recorder,
        vault,
        suite: nodeSuite,
        now: Date.now,
        nodeSubject: "urn:assay:node:scripted",
        onReceipt: () => undefined,
        maxBodyBytes: modules.maxBodyBytes,
        payments,
        ...options.infer,
      } as unknown as GatewayModules["infer"],
      text: modules,
      logger: pino({ level: "info", base: null }, { write: (line: string) => lines.push(line) }),
    },
  ).catch(async (error: unknown) => {
    await closeLog();
    throw error;
  });
  return {
    url: gateway.url,
    gateway,
    modules,
    log,
    payments,
    events,
    callers,
    lines,
    receipts,
    async logged(receiptId) {
      const index = indexes.get(receiptId);
      const record = index === undefined ? undefined : await log.read(index);
      if (!record) throw new Error(`No receipt ${receiptId} is in the log.`);
      // Whoever makes the index again reads the record like this: it must be readable.
      decodeRecord(nodeSuite, record);
      const sidecar = decodeSidecar(record.claims);
      const [execution, service] = sidecar.claims;
      if (!execution || !service) throw new Error("The record lacks claims.");
      return {
        execution: decodeClaims("execution", execution),
        service: decodeClaims("service", service),
        statements: decodeEntry(record.entry).map((envelope) => parseStatement(nodeSuite, envelope)),
        ...(sidecar.owner === undefined ? {} : { owner: sidecar.owner }),
        openingBytes: record.opening.length,
      };
    },
    async metric(name) {
      const text = await metrics.registry.metrics();
      let sum = 0;
      for (const line of text.split("\n"))
        if (line.startsWith(`${name}{`) || line.startsWith(`${name} `))
          sum += Number(line.slice(line.lastIndexOf(" ")));
      return sum;
    },
    async close() {
      await gateway.close();
      await closeLog();
    },
  };
}

/** What a scripted executor does for one request: frames as they come, until it ends or throws. */
export type Script = (request: TextRequest) => AsyncGenerator<Frame, void, undefined>;

export type ScriptedExecutor = TextExecutor & {
  /** Executions begun and not yet over. */
  readonly running: () => number;
  readonly taken: () => number;
  readonly finished: readonly ExecutedText["finish"][];
};

/** An executor that plays a script and states what came of it, unsigned, as the local node does. */
export function scriptedExecutor(
  script: Script,
  options: { readonly subject?: string; readonly check?: TextExecutor["check"] } = {},
): ScriptedExecutor {
  let running = 0;
  let taken = 0;
  const finished: ExecutedText["finish"][] = [];
  return {
    subject: options.subject ?? "urn:assay:node:scripted",
    running: () => running,
    taken: () => taken,
    finished,
    check: options.check ?? (() => Promise.resolve()),
    execute(request) {
      let handed = 0;
      let failure: unknown;
      let complete = false;
      taken++;
      async function* frames(): AsyncGenerator<Frame, void, undefined> {
        running++;
        try {
          for await (const frame of script(request)) {
            request.signal.throwIfAborted();
            handed++;
            yield frame;
          }
          request.signal.throwIfAborted();
          complete = true;
        } catch (error) {
          failure = error;
          throw error;
        } finally {
          running--;
        }
      }
      return {
        frames: frames(),
        finish() {
          if (handed === 0)
            return Promise.reject(failure instanceof Error ? failure : new Error("nothing was handed out"));
          const finish = complete ? "stop" : "incomplete";
          finished.push(finish);
          const root = nodeSuite.sha256(request.receiptId);
          const issuedAtMs = Date.now();
          return Promise.resolve({
            finish,
            usage: { prompt_tokens: 3, completion_tokens: handed, total_tokens: 3 + handed },
            engineMs: 1,
            subject: receiptSubject(request.receiptId),
            issuedAtMs,
            claims: encodeClaims("execution", {
              profile: PROFILE.execution,
              receiptId: request.receiptId,
              modelName: request.target.modelName,
              requestRoot: root,
              responseRoot: root,
              requestFields: 1,
              responseFields: 1,
              mode: "vanilla",
              kind: "chat",
              issuedAtMs,
              finishReason: finish,
            }),
            requestFields: [{ name: "model", value: utf8ToBytes("x") }],
            responseFields: [{ name: "id", value: utf8ToBytes("y") }],
            modelName: request.target.modelName,
            manifestDigest: null,
          });
        },
      };
    },
  };
}
