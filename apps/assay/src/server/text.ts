import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Logger } from "pino";
import { AssayError } from "@assay/core";
import { createGgufEngine } from "@assay/driver-gguf";
import { createLocalEngine } from "@assay/driver-llm";
import type { LocalEngine } from "@assay/driver-llm";
import { createUpstream } from "@assay/driver-upstream";
import type { UpstreamLimits } from "@assay/driver-upstream";
import type { CryptoSuite } from "@assay/core";
import type { LanguageEngine, TextExecutor } from "@assay/protocol";
import type { NodeCandidate } from "@assay/routing";
import {
  createSealer,
  createTextRouter,
  describe,
  openAssurancePolicyStore,
  openContractStore,
  openUpstreamStore,
} from "@assay/service-gateway";
import type {
  AssurancePolicyStore,
  ContractStore,
  DocumentFile,
  HubTextModel,
  LocalNode,
  RoutedUpstream,
  Router,
  RouterModules,
  Upstream,
  UpstreamStore,
} from "@assay/service-gateway";
import { parseModelName } from "@assay/service-hub";
import type { Hub, ModelVersion } from "@assay/service-hub";
import { createTextNode } from "@assay/service-node";
import { writeFileAtomic } from "./files.ts";
import { seenBy } from "./models.ts";

export type TextConfig = {
  /** The program of children that hold language models; absent: this process runs none itself. */
  readonly languageChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  /** The program of children that hold GGUF models, and where node-llama-cpp lies if not beside them. */
  readonly ggufChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  readonly llamaDirectory?: string;
  /** Where this machine is, as its operator declares it: two capital letters. */
  readonly country?: string;
  /** Options of the local engine beside its program. */
  readonly engine?: Partial<Parameters<typeof createLocalEngine>[0]>;
  /** How long upstreams may take, when not as long as usual. */
  readonly upstreamLimits?: Partial<UpstreamLimits>;
};

export type TextModules = {
  readonly at: (...parts: readonly string[]) => string;
  readonly hub: Hub;
  readonly suite: CryptoSuite;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  /** 32 bytes under which keys of upstreams are encrypted at rest. */
  readonly secret: Uint8Array;
  readonly nodeSubject: string;
  readonly checkpointRoot: () => Uint8Array;
  readonly nodes: () => readonly NodeCandidate[];
  readonly nodeExecutor: (subject: string) => TextExecutor | undefined;
  /** What models cost here, where anything has a price. */
  readonly listingOf?: RouterModules["listingOf"];
  readonly decimalsOf?: RouterModules["decimalsOf"];
  readonly logger: Logger;
};

/** Everything of one process that language models need: engines, the node's executor, stores and the router. */
export type TextParts = {
  readonly executor: TextExecutor;
  readonly router: Router;
  readonly upstreams: UpstreamStore;
  readonly contracts: ContractStore;
  readonly assurance: AssurancePolicyStore;
  /** The engine of hub models, when this process runs one. */
  readonly local: LocalEngine | undefined;
  /** Tells the router what processor this is, which it takes a loaded model to find out. */
  readonly classified: (cpuClass: string) => void;
  readonly close: () => Promise<void>;
};

/** Opens the stores under the home and starts what they configure. */
export async function openText(config: TextConfig, modules: TextModules): Promise<TextParts> {
  const { at, hub, suite, now, logger } = modules;
  const local = config.languageChild ? createLocalEngine({ ...config.languageChild, ...config.engine }) : undefined;
  const upstreams = await openUpstreamStore({
    file: documentFile(at("upstreams.json")),
    sealer: createSealer(modules.secret),
    now,
  });
  const contracts = await openContractStore({ file: documentFile(at("contracts.json")), now });
  const assurance = await openAssurancePolicyStore(documentFile(at("assurance-policy.json")));

  const running = new Map<string, { readonly key: string; readonly engine: LanguageEngine }>();
  const engineOf = (upstream: Upstream): LanguageEngine | undefined => {
    try {
      // One whose key cannot be read any more is left out; the others, and the gateway, start all the same.
      const apiKey = upstreams.apiKey(upstream.name);
      if (upstream.kind === "gguf") return gguf(config, upstream, now);
      return createUpstream({
        name: upstream.name,
        kind: upstream.kind,
        ...(upstream.baseUrl === undefined ? {} : { baseUrl: upstream.baseUrl }),
        ...(apiKey === undefined ? {} : { apiKey }),
        limits: {
          ...config.upstreamLimits,
          ...(upstream.maxInFlight === undefined ? {} : { maxRunning: upstream.maxInFlight }),
        },
        now,
        random: Math.random,
      });
    } catch (error) {
      logger.error({ upstream: upstream.name, err: describe(error) }, "upstream not started");
      return undefined;
    }
  };
  const follow = (): void => {
    const wanted = new Map(upstreams.list().map((upstream) => [upstream.name, upstream]));
    for (const [name, { key, engine }] of running) {
      const still = wanted.get(name);
      if (still && key === JSON.stringify(still)) continue;
      running.delete(name);
      // What it answers now is answered to its end; then its connections are let go.
      engine.close().catch((error: unknown) => logger.warn({ err: describe(error) }, "upstream not closed"));
    }
    for (const upstream of wanted.values()) {
      if (running.has(upstream.name)) continue;
      const engine = engineOf(upstream);
      if (engine) running.set(upstream.name, { key: JSON.stringify(upstream), engine });
    }
  };
  follow();

  const executor = createTextNode({
    engines: (name) => (name === "local" ? local : running.get(name)?.engine),
    suite,
    now,
    subject: modules.nodeSubject,
  });
  // What the hub serves lies on this disk, which is what nodes elsewhere call warm too.
  const here: LocalNode & { cpuClass?: string } = {
    executor,
    warm: () => true,
    ...(config.country === undefined
      ? {}
      : { jurisdiction: { country: config.country, evidence: "declared" as const } }),
  };
  const router = createTextRouter({
    suite,
    now,
    random: modules.random,
    local: here,
    hub: hubText(hub, local !== undefined),
    upstreams: () =>
      upstreams.list().flatMap((upstream) => {
        const engine = running.get(upstream.name)?.engine;
        return engine ? [routed(upstream, engine)] : [];
      }),
    nodes: modules.nodes,
    nodeExecutor: modules.nodeExecutor,
    contract: (name) => contracts.get(name),
    contracts: () => contracts.list(),
    assurance,
    checkpointRoot: modules.checkpointRoot,
    ...(modules.listingOf ? { listingOf: modules.listingOf } : {}),
    ...(modules.decimalsOf ? { decimalsOf: modules.decimalsOf } : {}),
  });
  const unfollow = upstreams.onChange(() => {
    follow();
    router.upstreamsChanged();
  });
  return {
    executor,
    router,
    upstreams,
    contracts,
    assurance,
    local,
    classified(cpuClass) {
      here.cpuClass = cpuClass;
    },
    async close() {
      unfollow();
      await Promise.all([local?.close(), ...[...running.values()].map(({ engine }) => engine.close())]);
    },
  };
}

/** A GGUF file as an engine of its own: named like an upstream, and run here. */
function gguf(config: TextConfig, { name, path = "" }: Upstream, now: () => number): LanguageEngine | undefined {
  const { ggufChild, llamaDirectory } = config;
  if (!ggufChild) return undefined;
  return createGgufEngine({
    name,
    model: basename(path).replace(/\.gguf$/, ""),
    path,
    ...ggufChild,
    ...(llamaDirectory === undefined ? {} : { packageDirectory: llamaDirectory }),
    now,
    random: Math.random,
  });
}

function routed(upstream: Upstream, engine: LanguageEngine): RoutedUpstream {
  return {
    name: upstream.name,
    models: () => engine.models(),
    ...(upstream.prices ? { prices: upstream.prices } : {}),
    ...(upstream.families ? { families: upstream.families } : {}),
    ...(upstream.country === undefined ? {} : { country: upstream.country }),
    ...(upstream.maxInFlight === undefined ? {} : { maxInFlight: upstream.maxInFlight }),
  };
}

function hubText(hub: Hub, runs: boolean): Parameters<typeof createTextRouter>[0]["hub"] {
  const described = async (version: ModelVersion): Promise<HubTextModel | undefined> => {
    const { language } = await hub.facts(version);
    if (!language) return undefined;
    return {
      name: version.name,
      version: version.version,
      manifestDigest: version.manifestDigest,
      kinds: language.task === "text-generation" ? ["chat", "completion"] : ["embedding"],
      auditable: language.recheckable,
      ...(language.family === null ? {} : { family: language.family }),
      ...(language.contextTokens === null ? {} : { contextTokens: language.contextTokens }),
    };
  };
  return {
    has: (name) => hub.catalogue.versions(name).length > 0,
    async list(viewer) {
      if (!runs) return [];
      const sees = seenBy(viewer);
      const current = hub.catalogue.names().flatMap((name) => {
        const version = hub.catalogue.current(name);
        return version && sees(version) ? [version] : [];
      });
      const found = await Promise.all(current.map(described));
      return found.filter((model) => model !== undefined);
    },
    async resolve(text, viewer) {
      const { name, version } = parseModelName(text);
      const found = await described(hub.catalogue.resolve(name, version, seenBy(viewer)));
      if (found) return found;
      throw new AssayError("kind_unsupported", `The model ${name} works on tensors and not on text.`, {
        hints: ["Run it with the Open Inference Protocol: POST /v2/models/{model}/infer."],
      });
    },
    async files(model) {
      return (await hub.materialise(hub.catalogue.resolve(model.name, model.version))).all;
    },
  };
}

export function documentFile(path: string): DocumentFile {
  return {
    async read() {
      try {
        return await readFile(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
    write: (bytes) => writeFileAtomic(path, bytes),
  };
}
