import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ExecutedText, ParsedText, TextExecutor, TextTarget } from "@assay/protocol";
import type { ExecuteModel } from "../infer.ts";
import { createNodeClient } from "./client.ts";
import type { NodeClient, NodeClientOptions } from "./client.ts";
import { createRemoteExecutor, createRemoteTensor } from "./executor.ts";
import type { Relayed, TextFields } from "./executor.ts";
import type { NodeRegistry, Party } from "./registry.ts";
import type { WorkUnderWay } from "./statements.ts";

export type NetworkModules = {
  readonly registry: NodeRegistry;
  readonly work: WorkUnderWay;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly fields: TextFields;
  readonly stateRelay: (relay: Relayed) => Promise<ExecutedText>;
};

/** The admitted nodes as things that execute, by their subjects. */
export type NodeNetwork = {
  /** Throws `node_lost` for a node that is not known, not admitted or not reachable. */
  readonly executor: (subject: string) => TextExecutor;
  readonly tensor: (subject: string) => ExecuteModel;
  readonly close: () => Promise<void>;
};

type Connected = {
  readonly url: string;
  readonly secret: Uint8Array;
  readonly client: NodeClient;
  readonly text: TextExecutor;
  readonly tensor: ExecuteModel;
};

/** Keeps one client per node; a node that joined again with another address or secret gets another one. */
export function createNodeNetwork(modules: NetworkModules, options: NodeClientOptions = {}): NodeNetwork {
  const { registry } = modules;
  const connections = new Map<string, Connected>();

  const drop = (key: string): void => {
    const connection = connections.get(key);
    connections.delete(key);
    void connection?.client.close();
  };
  const unlisten = registry.onChange((party) => {
    if (party.state === "left" || party.state === "ejected") drop(party.key);
  });

  const connect = (subject: string): Connected => {
    const party = registry.bySubject(subject);
    if (!party?.url || !party.secret || (party.state !== "active" && party.state !== "draining"))
      throw new AssayError("node_lost", `The node ${subject} takes no work from here.`);
    const known = connections.get(party.key);
    if (known && known.url === party.url && known.secret === party.secret) return known;
    drop(party.key);
    const client = createNodeClient(party, options);
    const parts = {
      ...modules,
      client,
      subject,
      assertOffered: (parsed: ParsedText, target: TextTarget) =>
        assertOffered(registry.party(party.key) ?? party, parsed, target),
      onLost: () => registry.lost(party.key),
    };
    const connection = {
      url: party.url,
      secret: party.secret,
      client,
      text: createRemoteExecutor(parts),
      tensor: createRemoteTensor(parts),
    };
    connections.set(party.key, connection);
    return connection;
  };

  return {
    executor: (subject) => connect(subject).text,
    tensor: (subject) => connect(subject).tensor,
    async close() {
      unlisten();
      await Promise.all([...connections.values()].map(({ client }) => client.close()));
      connections.clear();
    },
  };
}

function assertOffered({ state, advertisement, subject }: Party, parsed: ParsedText, target: TextTarget): void {
  if (state !== "active") throw new AssayError("node_lost", `The node ${subject} takes no new work.`);
  const digest = target.model.files?.manifestDigest;
  const offered = advertisement.offers.some(
    ({ engine, model, manifestDigest, kinds }) =>
      engine === target.engine &&
      kinds.includes(parsed.kind) &&
      (digest === undefined ? model === target.model.name : manifestDigest === digest),
  );
  if (!offered) throw new AssayError("model_not_found", `The node ${subject} does not offer ${target.modelName}.`);
}
