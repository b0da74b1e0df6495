import type { Logger } from "pino";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { CryptoSuite } from "@assay/core";
import type { BlobStore, LogSink } from "@assay/protocol";
import { parseTrust, trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import {
  addNodeRoutes,
  createAdmission,
  createLogApi,
  createNodeNetwork,
  createOffers,
  createRelayStatement,
  createStatementVerifier,
  createWorkUnderWay,
  describe,
  openNodeRegistry,
  textFields,
} from "@assay/service-gateway";
import type {
  Auth,
  DecodedRecord,
  LogState,
  NodeNetwork,
  NodeRegistry,
  Recorder,
  StatementVerifier,
} from "@assay/service-gateway";
import { readFileIfThere, writeFileAtomic } from "./files.ts";

/** What of the nodes has to be there before the recorder is: who may sign. */
export type NodeBook = { readonly registry: NodeRegistry; readonly verifier: StatementVerifier };

/** Opens the book of admitted parties. Throws `nodes_file_invalid` for a damaged one. */
export async function openNodeBook(modules: {
  readonly path: string;
  readonly state: LogState;
  readonly log: LogSink;
  readonly suite: CryptoSuite;
  readonly now: () => number;
}): Promise<NodeBook> {
  const { path, state, log, suite, now } = modules;
  const registry = await openNodeRegistry({
    load: () => readFileIfThere(path),
    store: (text) => writeFileAtomic(path, text),
    now,
  });
  return { registry, verifier: createStatementVerifier({ registry, state, log, suite }) };
}

/** Lets parties in, speaks with them, and gives what they are asked for its routes. */
export type Nodes = {
  readonly network: NodeNetwork;
  readonly routes: (api: OpenAPIHono) => void;
  /** Answers second gateways that wait for the log to grow, so that they keep nobody from closing. */
  readonly leave: () => void;
  readonly close: () => Promise<void>;
};

export type NodesModules = NodeBook & {
  /** Told of every heartbeat. */
  readonly onHeard: (subject: string, atMs: number) => void;
  readonly log: LogSink;
  readonly state: LogState;
  readonly recorder: Recorder;
  readonly auth: Auth;
  readonly blobs: BlobStore;
  readonly suite: CryptoSuite;
  readonly operatorKey: Uint8Array;
  readonly onRecorded: (decoded: readonly DecodedRecord[], next: number) => void;
  readonly now: () => number;
  /** Whether this process owns the log's files, and so lends them to second gateways. */
  readonly lendsLog: boolean;
};

export async function createNodes(modules: NodesModules): Promise<Nodes> {
  const { registry, verifier, state, recorder, auth, suite, now } = modules;
  const work = createWorkUnderWay(now);
  const admission = createAdmission({ registry, recorder, state, auth, suite, operatorKey: modules.operatorKey, now });
  const network = createNodeNetwork({
    registry,
    work,
    suite,
    fields: textFields,
    stateRelay: createRelayStatement({ suite, fields: textFields, now }),
  });
  const leaving = new AbortController();
  const offers = createOffers({ recorder, work, suite, now });
  const logApi = modules.lendsLog
    ? await createLogApi({
        log: modules.log,
        registry,
        state,
        suite,
        keyset: verifier.keyset,
        onRecorded: modules.onRecorded,
        now,
        leaving: leaving.signal,
      })
    : undefined;
  return {
    network,
    routes(api) {
      // A heartbeat tells what ran there when it was sent: the router counts from that moment on.
      const heard: NodeRegistry["heard"] = (party, load) => {
        registry.heard(party, load);
        modules.onHeard(party.subject, now());
      };
      addNodeRoutes(api, {
        registry: { ...registry, heard },
        admission,
        offers,
        state,
        auth,
        blobs: modules.blobs,
        suite,
      });
      logApi?.routes(api);
    },
    leave: () => leaving.abort(),
    close: () => network.close(),
  };
}

/**
 * Writes who was admitted and who was ejected into the home's trust file: letting a node in is the operator's own
 * decision, and its receipts are to be verified here without another one. What else stands in the file stays.
 */
export function followAdmissions(
  registry: NodeRegistry,
  path: string,
  logger: Logger,
  chain: () => Trust["chains"][number] | undefined = () => undefined,
): { readonly settled: () => Promise<void>; readonly extend: () => void; readonly stop: () => Promise<void> } {
  let last: Promise<void> = Promise.resolve();
  const extend = async (): Promise<void> => {
    const text = await readFileIfThere(path);
    if (text === undefined) return;
    const trust = parseTrust(text);
    const extended = withChain(withParties(trust, registry), chain());
    if (extended !== trust) await writeFileAtomic(path, `${JSON.stringify(trustView(extended), null, 2)}\n`, 0o644);
  };
  const follow = (): void => {
    last = last
      .then(extend)
      .catch((error: unknown) => logger.warn({ err: describe(error) }, "trust file not extended"));
  };
  follow();
  const unlisten = registry.onChange(follow);
  return {
    settled: () => last,
    extend: follow,
    async stop() {
      unlisten();
      await last;
    },
  };
}

/** `trust` with a chain that it does not name; the same object when it does. What a person wrote of one stays. */
export function withChain(trust: Trust, chain: Trust["chains"][number] | undefined): Trust {
  if (!chain || trust.chains.some((known) => known.chain === chain.chain)) return trust;
  return { ...trust, chains: [...trust.chains, chain] };
}

/**
 * `trust` with the parties of a registry, and without the revocations of those that were ejected and admitted again; the
 * same object when there is nothing to change. What a person wrote is never taken out.
 */
export function withParties(trust: Trust, registry: Pick<NodeRegistry, "identities" | "list" | "revoked">): Trust {
  const known = new Set(trust.identities.map(({ publicKey }) => Buffer.from(publicKey).toString("hex")));
  const revoked = new Set(trust.revoked.map(({ key }) => key));
  const identities = registry
    .identities()
    .filter(({ publicKey }) => !known.has(Buffer.from(publicKey).toString("hex")));
  const ejected = registry.revoked().filter(({ key }) => !revoked.has(key));
  const back = new Map(registry.list().flatMap((party) => (party.state === "ejected" ? [] : [[party.key, party]])));
  const still = trust.revoked.filter(({ key, sinceMs, reason }) => {
    const party = back.get(key);
    return party?.ejectedAtMs !== sinceMs || party.ejectedFor !== reason;
  });
  if (identities.length === 0 && ejected.length === 0 && still.length === trust.revoked.length) return trust;
  return {
    ...trust,
    identities: [...trust.identities, ...identities],
    revoked: [...still, ...ejected],
  };
}
