import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { destination, pino } from "pino";
import type { Logger } from "pino";
import { AssayError, isAssayError } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import type { openLog } from "@assay/driver-log";
import { createOrtRuntime } from "@assay/driver-ort";
import { exportAir, receiptJson, trustView, viewReceipt } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import {
  createApi,
  createAuth,
  createExporter,
  createItemMemory,
  createOpeningVault,
  createPayments,
  createRecorder,
  createSweep,
  describe,
  followLog,
  mountRouteApi,
  openLogState,
  ownerOf,
  startGateway,
  startIndexer,
} from "@assay/service-gateway";
import type { DecodedRecord, Indexer } from "@assay/service-gateway";
import { createHub } from "@assay/service-hub";
import type { Hub } from "@assay/service-hub";
import { createNode, timeOrderedId } from "@assay/service-node";
import { TEXT_LIMITS } from "@assay/protocol";
import type { TextExecutor } from "@assay/protocol";
import { seedDemoModels } from "../demo/seed.ts";
import { startDatabase } from "./database.ts";
import { DEFAULT_AUDIT_SHARE, startAuditing } from "./auditing.ts";
import { createChecking } from "./checking.ts";
import { findCpuClass } from "./cpu-class.ts";
import { deferStores } from "./deferred-index.ts";
import { hubFiles, readFileIfThere, writeFileAtomic } from "./files.ts";
import { joinLog, openOwnLog } from "./log-place.ts";
import type { LogPlace, PeerConfig } from "./log-place.ts";
import { serverMetrics } from "./metrics.ts";
import type { Money, MoneyConfig } from "./money/open-money.ts";
import { createServable, modelsModule, replayRelease } from "./models.ts";
import { createNodes, followAdmissions, openNodeBook, withChain, withParties } from "./nodes.ts";
import type { Nodes } from "./nodes.ts";
import { openParties } from "./parties.ts";
import { pooledRandom } from "./randomness.ts";
import { readThrough } from "./read-through.ts";
import { recentReceipts } from "./recent.ts";
import { followRoots } from "./roots.ts";
import { routeTensors } from "./tensors.ts";
import { documentFile, openText } from "./text.ts";
import type { TextConfig } from "./text.ts";
import { startWitnessing } from "./witnessing.ts";
import type { ConfiguredWitness } from "./witnessing.ts";

export type ServerConfig = {
  /** Directory of all state. */
  readonly home: string;
  readonly host: string;
  readonly port: number;
  /** A PostgreSQL of one's own; absent means the embedded child. */
  readonly databaseUrl?: string;
  /** The child's program and the arguments Node needs for it. */
  readonly childEntry: string;
  readonly nodeArgs?: readonly string[];
  /** The program of children that hold language models; without it this process runs none itself. */
  readonly languageChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  /** Whether the demo models are released if they are not there. Default true. */
  readonly seed?: boolean;
  /** Witnesses that cosign the log's checkpoints. */
  readonly witnesses?: readonly ConfiguredWitness[];
  readonly logLevel?: "silent" | "error" | "warn" | "info" | "debug";
  /** Where log lines go; default standard error. */
  readonly logger?: Logger;
  readonly runtime?: Partial<Parameters<typeof createOrtRuntime>[0]>;
  /** The program of children that hold GGUF models, and where node-llama-cpp lies if not beside them. */
  readonly ggufChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  readonly llamaDirectory?: string;
  /** How long upstreams may take, when not as long as usual. */
  readonly upstreamLimits?: NonNullable<TextConfig["upstreamLimits"]>;
  /** Certificate chain and key, PEM: the gateway then speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Share of vanilla receipts that another node executes again, 0 to 1. */
  readonly auditShare?: number;
  readonly maxBodyBytes?: number;
  /** Longest a request may take to arrive, milliseconds. */
  readonly requestTimeoutMs?: number;
  readonly now?: () => number;
  readonly version: string;
  /** The gateway that owns the log's files: this one is then a second gateway, over the same database. */
  readonly peer?: PeerConfig;
  /** What payments are taken with; without it nothing has a price. */
  readonly money?: MoneyConfig;
  /** Where this machine is, as its operator declares it: two capital letters. */
  readonly country?: string;
  /** Passed to the log, so that a test may take the disk away. */
  readonly log?: Partial<Parameters<typeof openLog>[0]>;
};

export type RunningServer = {
  readonly url: string;
  readonly trust: Trust;
  readonly hub: Hub;
  readonly log: LogPlace["log"];
  readonly runtime: ReturnType<typeof createOrtRuntime>;
  /** Resolves when the database is there and the index has caught up; rejects when it did not start. */
  readonly databaseReady: Promise<void>;
  /** Chain, ledger and settler; absent where nothing can have a price. */
  readonly money?: Pick<Money, "ready" | "begun">;
  /** Empties every derived table and makes it again from the log; resolves with the fingerprints before and after. */
  readonly rebuildIndex: () => Promise<{ readonly before: string; readonly after: string }>;
  /** Stops taking work, answers what is under way, makes everything durable, stops the children. */
  readonly close: () => Promise<void>;
};

const STATE_SAVE_MS = 5000;
/** Settling begins when the index has what the log has: a minute's work for a few hundred thousand records. */
const INDEX_CATCHES_UP_MS = 600_000;
/** How often answers are erased whose day is over. */
const SWEEP_ANSWERS_MS = 10 * 60_000;
/** A list waits this long for the index to have what was logged before it was asked for; usually it takes a tenth. */
const INDEXED_WAIT_MS = 250;
/** Log lines gather to this size, or for a second, before they are written: one write a line would be felt. */
const LOG_BUFFER_BYTES = 12 * 1024;
const LOG_FLUSH_MS = 1000;
const MAX_BLOB_BYTES = 8 * 1024 * 1024 * 1024;
const DEFAULT_MAX_BODY_BYTES = 256 * 1024 * 1024;

/** Starts everything in this process over `config.home`: log, hub, runtime, database, gateway. */
export async function startServer(config: ServerConfig): Promise<RunningServer> {
  const now = config.now ?? Date.now;
  const witnesses = config.witnesses ?? [];
  const { home } = config;
  const at = (...parts: readonly string[]): string => join(home, ...parts);
  await mkdir(home, { recursive: true, mode: 0o700 });
  for (const folder of ["log", "blobs", "models"]) await mkdir(at(folder), { recursive: true, mode: 0o700 });
  const logger =
    config.logger ??
    pino(
      { level: config.logLevel ?? "info", base: null, timestamp: pino.stdTimeFunctions.isoTime },
      destination({ dest: 2, sync: false, minLength: LOG_BUFFER_BYTES }),
    );
  const flusher = setInterval(() => logger.flush(), LOG_FLUSH_MS);
  flusher.unref();
  const keystore = openKeystore(at("keys"));
  const suite = nodeSuite;
  const undo: (() => Promise<unknown>)[] = [
    () => {
      clearInterval(flusher);
      return new Promise<void>((resolve) => {
        logger.flush(() => resolve());
      });
    },
  ];
  try {
    const ownerKey = keystore.signer("owner", "ed25519");
    const place = config.peer
      ? await joinLog(keystore, config.peer, now)
      : await openOwnLog(keystore, { directory: at("log"), now, witnesses, log: config.log });
    undo.push(() => place.close());
    const { log } = place;

    // The database comes up beside everything else; nothing on the way to an answer waits for it.
    const starting = startDatabase(config.databaseUrl, at("database"), logger);
    const stores = deferStores(starting.then(({ stores: ready }) => ready));
    undo.push(async () => {
      await starting.then(
        ({ close }) => close(),
        () => undefined,
      );
    });
    let strange: string | undefined;
    starting
      .then(async ({ stores: { index } }) => {
        if (!place.own || (await index.watermark()) <= log.size()) return;
        // Its rows are of other receipts, and nothing of this log would be added before it is as long as that one.
        strange = "The database's index is ahead of this log: it is another log's, or this one was put back.";
        logger.error({ hint: "name another database, or run `assay db rebuild`" }, strange);
      })
      .catch((error: unknown) => logger.error({ err: describe(error) }, "database did not start"));

    const stored = await openBlobStore({ directory: at("blobs") });
    const blobs = place.fetchBlob ? readThrough(stored, place.fetchBlob) : stored;
    const state = await openLogState({
      log,
      suite,
      load: () => readFileIfThere(at("log-state.json")),
      store: (text) => writeFileAtomic(at("log-state.json"), text),
    });
    const parties = openParties(keystore, state, "local", now);
    const head = (subject: string) => state.head(subject);
    const nodeHead = head(parties.nodeSubject);
    const gatewayHead = head(parties.gatewaySubject);
    let indexer: Indexer | undefined;
    const follow = (): Indexer =>
      startIndexer({
        log,
        index: stores.index,
        suite,
        onError: (error) => {
          if (stores.started() || stores.failure() !== undefined)
            logger.warn({ err: describe(error) }, "index is behind the log");
        },
      });
    let money: Money | undefined;
    const onRecorded = (decoded: readonly DecodedRecord[], next: number): void => {
      state.apply(decoded, next);
      indexer?.offer(decoded);
      money?.ingest(decoded, next);
    };
    const book = await openNodeBook({ path: at("nodes.json"), state, log, suite, now });
    const recorder = createRecorder({
      log,
      suite,
      issuers: await parties.issue({
        ...(nodeHead ? { node: nodeHead } : {}),
        ...(gatewayHead ? { gateway: gatewayHead } : {}),
      }),
      rotate: (heads) => parties.issue(heads),
      now,
      onRecorded,
      verifySigned: book.verifier.verify,
      isLogged: (issuer, seq) => state.chain(issuer).has(seq),
    });
    await recorder.begin();
    undo.push(() => recorder.drain());

    const hub = createHub({
      blobs,
      suite,
      record: (claims, subject) => {
        if (config.peer) throw releasedElsewhere(config.peer.url);
        return recorder.state({
          kind: "release",
          claims,
          subject,
          issuedAtMs: claims.issuedAtMs,
          owner: claims.owner,
          visibility: claims.visibility,
        });
      },
      now,
      random: (bytes) => new Uint8Array(randomBytes(bytes)),
      files: hubFiles(at("models")),
    });
    for (const logIndex of state.releases()) await replayRelease(hub, log, logIndex);

    const runtime = createOrtRuntime({
      childEntry: config.childEntry,
      ...(config.nodeArgs ? { nodeArgs: config.nodeArgs } : {}),
      ...config.runtime,
    });
    undo.push(() => runtime.close());
    const auth = createAuth({
      secrets: stores.secrets,
      suite,
      challengeSecret: keystore.secret("challenges"),
      operatorKey: ownerKey.publicKey,
      now,
    });
    const nodes = await createNodes({
      ...book,
      log,
      state,
      recorder,
      auth,
      blobs,
      suite,
      operatorKey: ownerKey.publicKey,
      onRecorded,
      now,
      lendsLog: place.own !== undefined,
      onHeard: (subject, atMs) => text.router.heard(subject, atMs),
    });
    undo.push(() => nodes.close());
    const random = pooledRandom();
    const node = createNode({ runtime, suite, now, random });
    // A chain that is begun anew has contracts of the same addresses: what is trusted once stays true.
    let trustChain = (): void => undefined;
    // What payments stand on is loaded where there are any.
    const opened = config.money
      ? await (
          await import("./money/open-money.ts")
        ).openMoney(config.money, {
          at,
          keystore,
          log,
          blobs,
          recorder,
          suite,
          database: starting,
          indexed: async () => indexer?.settled(log.size(), INDEX_CATCHES_UP_MS),
          settles: place.own !== undefined,
          ...(place.askOwner ? { owner: place.askOwner } : {}),
          gateway: parties.gatewaySubject,
          host: config.host,
          now,
          logger,
          onRunning: () => trustChain(),
        })
      : undefined;
    money = opened;
    undo.push(async () => {
      await opened?.close();
    });
    const roots = followRoots(log, logger);
    undo.push(() => roots.stop());
    const text = await openText(config, {
      at,
      hub,
      suite,
      now,
      random,
      secret: keystore.secret("upstreams"),
      nodeSubject: parties.nodeSubject,
      checkpointRoot: roots.latest,
      nodes: () => book.registry.candidates(),
      nodeExecutor: (subject) => executorOf(nodes, subject),
      ...(opened ? { listingOf: opened.listings.get, decimalsOf: opened.decimalsOf } : {}),
      logger,
    });
    undo.push(() => text.close());
    // The processor's class says something only beside others', and it takes a child process to find out.
    let classing: Promise<void> | undefined;
    const classify = async (): Promise<void> => {
      const cpuClass = await findCpuClass(hub, runtime);
      if (cpuClass === undefined) classing = undefined;
      else text.classified(cpuClass);
    };
    const unlisten = book.registry.onChange(({ role, state: of }) => {
      if (role !== "node" || of !== "active") return;
      classing ??= classify().catch((error: unknown) => {
        classing = undefined;
        logger.warn({ err: describe(error) }, "processor not classified");
      });
    });
    undo.push(async () => {
      unlisten();
      await classing;
    });
    const auditor = startAuditing(config.auditShare ?? DEFAULT_AUDIT_SHARE, {
      recorder,
      registry: book.registry,
      network: nodes.network,
      suite,
      now,
      random,
      secret: keystore.secret("audits"),
      localSubject: parties.nodeSubject,
      local: (request) => node.execute(request),
      engine: text.local,
      recheckable: async (manifestDigest) => (await hub.facts({ manifestDigest })).language?.recheckable ?? false,
      logger,
    });
    undo.push(() => auditor.close());

    const trust: Trust = {
      identities: [...parties.identities, ...place.identities],
      keysets: [],
      logs: [place.trusted],
      revoked: [],
      roots: [],
      chains: [],
    };
    // What a person added to the file stays there: it is written once, for the first verification to start from.
    if ((await readFileIfThere(at("trust.json"))) === undefined) {
      await writeFileAtomic(at("trust.json"), `${JSON.stringify(trustView(trust), null, 2)}\n`, 0o644);
    }

    const admissions = followAdmissions(book.registry, at("trust.json"), logger, () => opened?.trusted());
    trustChain = admissions.extend;
    trustChain();
    undo.push(() => admissions.stop());

    // One process follows the log for the database; a second gateway follows it for what it keeps in memory.
    if (place.own) indexer = follow();
    else {
      const follower = followLog({
        log,
        suite,
        from: state.watermark(),
        async onRecords(decoded, next) {
          state.apply(decoded, next);
          for (const { release, logIndex } of decoded) if (release) hub.catalogue.apply(release, logIndex);
        },
        onError: (error) => logger.warn({ err: describe(error) }, "behind the log"),
      });
      undo.push(() => follower.stop());
    }
    undo.push(async () => {
      await indexer?.stop();
    });

    if (config.seed !== false && place.own)
      await seedDemoModels({ hub, blobs, suite, owner: ownerOf(ownerKey.publicKey) });

    if (witnesses.length > 0 && place.own) {
      const witnessing = startWitnessing(place.own, witnesses, (url, error) =>
        logger.warn({ witness: url, err: describe(error) }, "checkpoint not cosigned"),
      );
      undo.push(() => witnessing.stop());
    }

    const saver = setInterval(
      () => void state.save().catch((error: unknown) => logger.warn({ err: describe(error) }, "log state not saved")),
      STATE_SAVE_MS,
    );
    saver.unref();
    undo.push(async () => {
      clearInterval(saver);
      await state.save();
    });

    const recent = recentReceipts();
    const metrics = serverMetrics({ log, recorder, runtime, lagRecords: () => indexer?.lag().records ?? 0 });
    const vault = createOpeningVault(keystore.secret("openings"));
    const payments = opened
      ? createPayments({
          desk: opened.desk,
          log,
          vault,
          suite,
          metrics,
          now,
          individual: opened.individual,
          allFree: opened.allFree,
          v1: opened.v1,
          onError: (error) => logger.warn({ err: describe(error) }, "payment"),
        })
      : undefined;
    if (payments && place.own) {
      const sweep = createSweep({ log, cursor: documentFile(at("answers-swept.json")) });
      const sweeper = setInterval(
        () => void sweep(now()).catch((error: unknown) => logger.warn({ err: describe(error) }, "answers not swept")),
        SWEEP_ANSWERS_MS,
      );
      sweeper.unref();
      undo.push(() => Promise.resolve(clearInterval(sweeper)));
    }
    const exporter = createExporter({
      log,
      index: stores.index,
      state,
      suite,
      logSigner: place.signer,
      ...(place.cosigned ? { cosigned: place.cosigned } : {}),
      ...(opened ? { anchor: opened.anchor } : {}),
    });
    const servable = createServable(hub);
    const trusted = (): Trust => withChain(withParties(trust, book.registry), opened?.trusted());
    const checking = createChecking({
      suite,
      trust: trusted,
      now,
      execute: (request) => node.execute(request),
      engine: text.local,
      model: (name, version) => servable(name, version, undefined),
      files: async ({ name, version }) => (await hub.materialise(hub.catalogue.resolve(name, version))).all,
      recheckable: async (manifestDigest) => (await hub.facts({ manifestDigest })).language?.recheckable ?? false,
    });
    const api = createApi({
      log,
      index: stores.index,
      blobs,
      suite,
      models: modelsModule(hub),
      exporter,
      recorder,
      vault,
      auth,
      metrics,
      trust: trusted,
      verify: checking.verify,
      audit: checking.audit,
      logKeys: place.trusted.keys,
      receiptView: (bundle) => receiptJson(requireView(bundle)),
      exportAir: (bundle) => exportAir(requireView(bundle), parties.executionSigner()),
      recent: recent.get,
      indexed: async () => {
        if (stores.available()) await indexer?.settled(log.size(), INDEXED_WAIT_MS);
      },
      ready: () => readiness([place.problem(), strange]),
      textModels: () => text.router.textModels(),
      payments,
      ...(opened ? { listings: opened.listings, describeListing: opened.describeListing } : {}),
      options: { version: config.version, maxBlobBytes: MAX_BLOB_BYTES, maxJsonBytes: 16 * 1024 * 1024 },
    });
    mountRouteApi(api, { auth, ...text });
    opened?.routes(api, { auth, session: book.registry.session });
    nodes.routes(api);
    const gateway = await startGateway(
      {
        host: config.host,
        port: config.port,
        ...(config.tls ? { tls: config.tls } : {}),
        ...(config.requestTimeoutMs === undefined ? {} : { requestTimeoutMs: config.requestTimeoutMs }),
      },
      {
        api,
        logger,
        infer: {
          execute: routeTensors((request) => node.execute(request), {
            registry: book.registry,
            router: text.router,
            network: nodes.network,
          }),
          auditor,
          payments,
          model: servable,
          rawInput: async (model) => {
            const { signature } = await hub.facts(hub.catalogue.resolve(model.name, model.version));
            const [only, ...more] = signature.inputs;
            return only && more.length === 0
              ? { rawInput: { name: only.name, datatype: only.datatype as never, shape: only.shape } }
              : {};
          },
          recorder,
          vault,
          auth,
          suite,
          metrics,
          nodeSubject: parties.nodeSubject,
          now,
          maxBodyBytes: config.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES,
          onReceipt: recent.add,
        },
        text: {
          router: text.router,
          random,
          receiptId: () => timeOrderedId(now(), random(10)),
          now,
          recorder,
          vault,
          suite,
          auditor,
          payments,
          onReceipt: recent.add,
          auth,
          metrics,
          items: createItemMemory(now),
          maxBodyBytes: Math.min(config.maxBodyBytes ?? TEXT_LIMITS.maxBodyBytes, TEXT_LIMITS.maxBodyBytes),
        },
      },
    );
    undo.push(() => {
      nodes.leave();
      return gateway.close();
    });
    const databaseReady = starting.then(async () => {
      await indexer?.settled(log.size(), 30_000);
    });
    // Whoever waits for it hears of a failure; nobody has to.
    databaseReady.catch(() => undefined);
    let closing: Promise<void> | undefined;
    return {
      url: gateway.url,
      trust,
      hub,
      log,
      runtime,
      databaseReady,
      ...(opened ? { money: opened } : {}),
      async rebuildIndex() {
        await starting;
        await indexer?.settled(log.size(), 60_000);
        // Two followers of one index would each believe the other's watermark: the live one stops first.
        await indexer?.stop();
        const before = await stores.index.fingerprint();
        await stores.index.reset();
        strange = undefined;
        indexer = follow();
        if (!(await indexer.settled(log.size(), 600_000)))
          throw new AssayError("database_unavailable", "The index could not be rebuilt to the end of the log.");
        return { before, after: await stores.index.fingerprint() };
      },
      close() {
        closing ??= unwind(undo);
        return closing;
      },
    };
  } catch (error) {
    await unwind(undo);
    throw error;
  }
}

/** How the router reaches a node; undefined for one that has just left. */
function executorOf({ network }: Nodes, subject: string): TextExecutor | undefined {
  try {
    return network.executor(subject);
  } catch (error) {
    if (isAssayError(error)) return undefined;
    throw error;
  }
}

async function unwind(undo: (() => Promise<unknown>)[]): Promise<void> {
  for (const step of undo.splice(0).toReversed()) await step();
}

function readiness(problems: readonly (string | undefined)[]): { ready: boolean; reasons: readonly string[] } {
  const reasons = problems.filter((problem) => problem !== undefined);
  return { ready: reasons.length === 0, reasons };
}

function releasedElsewhere(url: string): AssayError<"release_elsewhere"> {
  return new AssayError("release_elsewhere", "Models are released at the gateway that owns the log.", {
    hints: [`Release it at ${url}; this one serves it a moment later.`],
  });
}

function requireView(bundle: Uint8Array): Extract<ReturnType<typeof viewReceipt>, { view: unknown }>["view"] {
  const taken = viewReceipt(nodeSuite, bundle);
  if ("fault" in taken) throw new AssayError(taken.fault.code, taken.fault.message);
  return taken.view;
}
