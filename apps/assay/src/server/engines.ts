import { isAssayError } from "@assay/core";
import { createOrtRuntime } from "@assay/driver-ort";
import type { TextExecutor } from "@assay/protocol";
import { describe } from "@assay/service-gateway";
import type { Auditor } from "@assay/service-gateway";
import type { Hub } from "@assay/service-hub";
import { createNode } from "@assay/service-node";
import { DEFAULT_AUDIT_SHARE, startAuditing } from "./auditing.ts";
import { findCpuClass } from "./cpu-class.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";
import type { Money } from "./money/money.ts";
import type { Nodes } from "./nodes.ts";
import type { Records } from "./records.ts";
import { followRoots } from "./roots.ts";
import { openText } from "./text.ts";
import type { TextParts } from "./text.ts";

export type Runtime = ReturnType<typeof createOrtRuntime>;

/** What answers: the node in this process, language models and the router over all, and whoever checks them. */
export type Engines = {
  readonly runtime: Runtime;
  readonly node: ReturnType<typeof createNode>;
  readonly text: TextParts;
  readonly auditor: Auditor;
};

/** Starts the runtime that tensors run on, in child processes. */
export function openRuntime({ config, undo }: Home): Runtime {
  const runtime = createOrtRuntime({
    childEntry: config.childEntry,
    ...(config.nodeArgs ? { nodeArgs: config.nodeArgs } : {}),
    ...config.runtime,
  });
  undo.push(() => runtime.close());
  return runtime;
}

export async function startEngines(
  home: Home,
  parts: {
    readonly place: LogPlace;
    readonly records: Records;
    readonly hub: Hub;
    readonly runtime: Runtime;
    readonly nodes: Nodes;
    readonly money: Money | undefined;
  },
): Promise<Engines> {
  const { config, at, suite, now, random, keystore, logger, undo } = home;
  const { hub, runtime, nodes, money } = parts;
  const { book, parties, recorder } = parts.records;
  const node = createNode({ runtime, suite, now, random });
  const roots = followRoots(parts.place.log, logger);
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
    ...(money ? { listingOf: money.listings.get, decimalsOf: money.decimalsOf } : {}),
    logger,
  });
  undo.push(() => text.close());
  classifyOnce(home, { hub, runtime, text, registry: book.registry });
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
  return { runtime, node, text, auditor };
}

/** Finds out the processor's class when others are there: it says something only beside theirs, and takes a child process. */
function classifyOnce(
  { logger, undo }: Home,
  parts: {
    readonly hub: Hub;
    readonly runtime: Runtime;
    readonly text: TextParts;
    readonly registry: Records["book"]["registry"];
  },
): void {
  let classing: Promise<void> | undefined;
  const classify = async (): Promise<void> => {
    const cpuClass = await findCpuClass(parts.hub, parts.runtime);
    if (cpuClass === undefined) classing = undefined;
    else parts.text.classified(cpuClass);
  };
  const unlisten = parts.registry.onChange(({ role, state }) => {
    if (role !== "node" || state !== "active") return;
    classing ??= classify().catch((error: unknown) => {
      classing = undefined;
      logger.warn({ err: describe(error) }, "processor not classified");
    });
  });
  undo.push(async () => {
    unlisten();
    await classing;
  });
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
