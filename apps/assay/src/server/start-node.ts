import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { destination, pino } from "pino";
import type { Logger } from "pino";
import { AssayError, bytesToHex } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, nodeSuite, openKeystore, randomSeed } from "@assay/driver-crypto";
import { createLocalEngine } from "@assay/driver-llm";
import { createOrtRuntime } from "@assay/driver-ort";
import { parseManifest } from "@assay/onnx";
import { parseText } from "@assay/protocol";
import type { Advertisement, LanguageModelFiles, PartyState, RemoteTensor, TextTarget } from "@assay/protocol";
import { createIssuer, keyId } from "@assay/receipts";
import type { KeyUse } from "@assay/receipts";
import { describe } from "@assay/service-gateway";
import { createModelPuller, createNode, createTextNode, startRemoteNode } from "@assay/service-node";
import type { ModelPuller, RemoteNode } from "@assay/service-node";
import { pooledRandom } from "./randomness.ts";

/** A model as a node offers it: what the gateway's hub says of it. */
export type OfferedModel = {
  readonly name: string;
  readonly version: number;
  readonly manifestDigest: string;
  readonly kinds: readonly ("chat" | "completion" | "embedding" | "tensor")[];
  readonly family?: string;
  readonly contextTokens?: number;
  /** Whether its answers can be checked again; default true. */
  readonly auditable?: boolean;
};

export type NodeConfig = {
  /** Directory of this node's keys, outbox and models. */
  readonly home: string;
  readonly gatewayUrl: string;
  readonly host: string;
  readonly port: number;
  /** Where the gateway reaches it, when that is not where it listens. */
  readonly publicUrl?: string;
  readonly invite?: string;
  readonly allowPlainHttp?: boolean;
  readonly models: readonly OfferedModel[];
  /** Two capital letters: where the operator declares that it runs. */
  readonly country?: string;
  readonly price?: NonNullable<Advertisement["offers"][number]["price"]>;
  readonly accelerator?: string;
  readonly child: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  readonly languageChild: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  /** An ONNX file and its SHA-256, to find the class of this processor with. */
  readonly probe: { readonly path: string; readonly sha256: string };
  /** The operator's key, on the operator's own machine: the gateway then lets the node in at once. */
  readonly operator?: Signer;
  readonly logLevel?: "silent" | "error" | "warn" | "info" | "debug";
  /** Where log lines go; default standard error. */
  readonly logger?: Logger;
  readonly now?: () => number;
  readonly onState?: (state: PartyState | "unreachable") => void;
};

export type RunningNode = {
  readonly subject: string;
  /** The identity key, 64 hexadecimal digits: what an operator admits. */
  readonly key: string;
  readonly url: string;
  readonly cpuClass: string;
  readonly state: () => PartyState | "unreachable";
  /** Resolves when every offered model is on this disk, which takes being let in; rejects when it is closed before. */
  readonly pulled: Promise<void>;
  /** Takes nothing new, finishes what runs, and leaves the gateway when asked to. */
  readonly close: (options?: { readonly leave?: boolean }) => Promise<void>;
};

/** A keyset lives at most a day; the signer replaces it before. */
const KEYSET_MS = 24 * 60 * 60 * 1000;
/** A keyset begins this much before it is made, for small corrections of the clock. */
const EARLY_MS = 5 * 60 * 1000;
/** Pause before models that did not come are asked for again. */
const PULL_AGAIN_MS = 10_000;
const USES = ["execution", "supplement"] as const satisfies readonly KeyUse[];

/** Starts a node that executes for a gateway elsewhere and signs what it did with a key of its own. */
export async function startNode(config: NodeConfig): Promise<RunningNode> {
  const { home } = config;
  const logger =
    config.logger ??
    pino({ level: config.logLevel ?? "info", base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination(2));
  const now = config.now ?? Date.now;
  const at = (...parts: readonly string[]): string => join(home, ...parts);
  for (const folder of ["keys", "outbox", "models"]) await mkdir(at(folder), { recursive: true, mode: 0o700 });
  const identity = openKeystore(at("keys")).signer("node-identity", "ed25519");
  const subject = `urn:assay:node:${bytesToHex(keyId(nodeSuite, identity.publicKey))}`;
  const random = pooledRandom();
  const runtime = createOrtRuntime(config.child);
  const engine = createLocalEngine(config.languageChild);
  const undo: (() => Promise<unknown>)[] = [() => runtime.close(), () => engine.close()];
  const tensors = createNode({ runtime, suite: nodeSuite, now, random });
  let node: RemoteNode | undefined;
  try {
    const { facts } = await runtime.prepare({
      ...config.probe,
      manifestDigest: config.probe.sha256,
      profile: "native",
    });
    const puller = createModelPuller(
      {
        gatewayUrl: config.gatewayUrl,
        directory: at("models"),
        ...(config.allowPlainHttp === undefined ? {} : { allowPlainHttp: config.allowPlainHttp }),
      },
      {
        fetch: (url, init) => fetch(url, init),
        parseManifest: (bytes) => parseManifest(nodeSuite, bytes).manifest,
        session: () => {
          if (!node) throw new AssayError("node_not_joined", "This node has not joined its gateway yet.");
          return node.link.session();
        },
      },
    );
    const offered = new Map(config.models.map((model) => [model.manifestDigest, model]));
    const warm = new Set<string>();
    const pulling = keepPulling(config.models, puller, warm, logger);
    undo.push(() => pulling.close());
    const advertisement: Advertisement = {
      offers: config.models.map((model) => ({
        engine: model.kinds.includes("tensor") ? "onnx" : "local",
        model: model.name,
        version: String(model.version),
        manifestDigest: model.manifestDigest,
        kinds: [...model.kinds],
        auditable: model.auditable ?? true,
        ...(model.family === undefined ? {} : { family: model.family }),
        ...(model.contextTokens === undefined ? {} : { contextTokens: model.contextTokens }),
        ...(config.price ? { price: config.price } : {}),
      })),
      securityModes: ["vanilla"],
      cpuClass: facts.cpuClass,
      ...(config.country === undefined
        ? {}
        : { jurisdiction: { country: config.country, evidence: "declared" as const } }),
      ...(config.accelerator === undefined ? {} : { accelerator: config.accelerator }),
    };
    node = await startRemoteNode(
      {
        gatewayUrl: config.gatewayUrl,
        outbox: { directory: at("outbox") },
        server: { host: config.host, port: config.port },
        ...(config.publicUrl === undefined ? {} : { publicUrl: config.publicUrl }),
        ...(config.invite === undefined ? {} : { invite: config.invite }),
        ...(config.allowPlainHttp === undefined ? {} : { allowPlainHttp: config.allowPlainHttp }),
      },
      {
        identity,
        ...(config.operator ? { operator: config.operator } : {}),
        suite: nodeSuite,
        fetch: (url, init) => fetch(url, init),
        now,
        random,
        issuer: (previous, head) => {
          const madeMs = now();
          return createIssuer({
            suite: nodeSuite,
            subject,
            role: "node",
            identity,
            keys: Object.fromEntries(USES.map((use) => [use, ed25519Signer(randomSeed())])),
            instanceId: new Uint8Array(randomBytes(16)),
            bootSeq: previous ? previous.bootSeq + 1 : 0,
            ...(previous ? { previous: { keyset: previous.keyset, statement: previous.statement } } : {}),
            notBeforeMs: madeMs - EARLY_MS,
            notAfterMs: madeMs + KEYSET_MS,
            head,
          });
        },
        advertisement: () => advertisement,
        load: () => ({ queued: engine.stats().queued + runtime.stats().queued, warm: [...warm] }),
        text: createTextNode({
          engines: (name) => (name === "local" ? engine : undefined),
          suite: nodeSuite,
          now,
          subject,
        }),
        parseText: (dialect, body) => parseText(dialect, body, {}),
        async target({ engine: of, model, manifestDigest, modelName, modelVersion }, signal): Promise<TextTarget> {
          const files = await offeredFiles(puller, offered, manifestDigest, signal);
          return {
            engine: of,
            model: { name: model, files },
            modelName,
            ...(modelVersion === undefined ? {} : { modelVersion }),
          };
        },
        async tensor(request, signal) {
          const files = await offeredFiles(puller, offered, request.model.manifestDigest, signal);
          return tensors.execute({ ...execution(request, files), signal });
        },
        onState: (state) => {
          if (state === "active") pulling.start();
          config.onState?.(state);
        },
        onError: (error) => logger.warn({ err: describe(error) }, "node"),
      },
    );
    const running = node;
    let leaving = false;
    undo.push(() => running.close({ leave: leaving }));
    let closing: Promise<void> | undefined;
    return {
      subject,
      key: bytesToHex(identity.publicKey),
      url: running.url,
      cpuClass: facts.cpuClass,
      state: () => running.link.state(),
      pulled: pulling.done,
      close({ leave = false } = {}) {
        leaving = leave;
        closing ??= unwind(undo);
        return closing;
      },
    };
  } catch (error) {
    await unwind(undo);
    throw error;
  }
}

async function unwind(undo: (() => Promise<unknown>)[]): Promise<void> {
  for (const step of undo.splice(0).toReversed()) await step();
}

/**
 * Brings every offered model once the gateway has let this node in, and tries again while it cannot: a node that waits
 * to be admitted is given nothing. What a request needs sooner is pulled for it.
 */
function keepPulling(
  models: readonly OfferedModel[],
  puller: ModelPuller,
  warm: Set<string>,
  logger: Logger,
): { readonly done: Promise<void>; readonly start: () => void; readonly close: () => Promise<void> } {
  let brought = (): void => undefined;
  let fail: ((error: unknown) => void) | undefined;
  const done = new Promise<void>((resolve, reject) => {
    brought = resolve;
    fail = reject;
  });
  // Whoever waits for it hears of a failure; nobody has to.
  done.catch(() => undefined);
  let running: Promise<void> | undefined;
  let again: NodeJS.Timeout | undefined;
  let complete = false;
  let closed = false;
  const start = (): void => {
    clearTimeout(again);
    if (closed || complete) return;
    running ??= (async () => {
      for (const { manifestDigest, name } of models) {
        await puller.pull(manifestDigest);
        warm.add(name);
      }
      complete = true;
      brought();
    })()
      .catch((error: unknown) => {
        if (closed) return;
        logger.warn({ err: describe(error) }, "model not pulled");
        again = setTimeout(start, PULL_AGAIN_MS);
        again.unref();
      })
      .finally(() => {
        running = undefined;
      });
  };
  return {
    done,
    start,
    async close() {
      closed = true;
      clearTimeout(again);
      fail?.(new AssayError("node_not_joined", "This node was closed before its models were here."));
      await puller.close();
      await running;
    },
  };
}

/** The files of a model that this node offers; a gateway cannot make it fetch and run another. */
async function offeredFiles(
  puller: ModelPuller,
  offered: ReadonlyMap<string, OfferedModel>,
  manifestDigest: string | undefined,
  signal: AbortSignal,
): Promise<LanguageModelFiles> {
  if (manifestDigest === undefined || !offered.has(manifestDigest))
    throw new AssayError("model_not_found", "This node does not offer that model.");
  return puller.pull(manifestDigest, signal);
}

function execution(
  request: RemoteTensor,
  files: LanguageModelFiles,
): Parameters<ReturnType<typeof createNode>["execute"]>[0] {
  const { entry } = files;
  const base = entry.slice(0, entry.lastIndexOf("/") + 1);
  const main = files.files.find(({ path }) => path === entry);
  if (!main) throw new AssayError("manifest_invalid", "The manifest's entry is not among its files.");
  return {
    requestedName: request.requestedName,
    profile: request.profile,
    inputs: request.inputs,
    ...(request.outputs ? { outputs: request.outputs } : {}),
    ...(request.clientNonce ? { clientNonce: request.clientNonce } : {}),
    ...(request.preprocessingDigest ? { preprocessingDigest: request.preprocessingDigest } : {}),
    ...(request.principal ? { principal: request.principal } : {}),
    model: {
      ...request.model,
      path: join(files.directory, ...entry.split("/")),
      sha256: main.sha256,
      files: files.files.flatMap(({ path, sha256 }) =>
        path !== entry && path.startsWith(base) && /\.(?:onnx_data|data|bin)/.test(path)
          ? [{ path: path.slice(base.length), sha256 }]
          : [],
      ),
    },
  };
}
