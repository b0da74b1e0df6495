import { AssayError } from "@assay/core";
import type { RoutingOptions } from "@assay/protocol";
import { MAX_CANDIDATES, isPrice } from "@assay/routing";
import type { NodeCandidate, NodeOffer, Price, RoutedKind } from "@assay/routing";
import type { Contract } from "./contracts.ts";
import type { HubTextModel, RoutedUpstream, RouterModules, Source } from "./sources.ts";
import { withListings } from "./listed.ts";
import type { UpstreamLists } from "./upstream-lists.ts";

/** What a name stands for, and what a contract adds to the caller's limits. */
export type Resolved = {
  readonly sources: readonly Source[];
  readonly limits: readonly RoutingOptions[];
  readonly contract?: string;
};

const TEXT_KINDS: readonly RoutedKind[] = ["chat", "completion", "embedding"];
/** Names of models as they stand in statements, whose texts have 512 bytes: node, engine, model and version together. */
const NAMEABLE = /^[!-~]{1,256}$/;
const VERSION = /^[!-~]{1,64}$/;
/** Names in a hint. */
const MAX_HINTED = 8;

/**
 * Everything that `name` stands for, for `viewer`: a contract (with or without a provider's prefix); `namespace/name[@version]` of the hub, wherever nodes hold
 * that version; `upstream/model`; a bare model id that only one upstream has; or `any`. Throws `model_not_found`,
 * `model_ambiguous`, `kind_unsupported` (a contract for other work) and the hub's codes.
 */
export async function resolveModel(
  modules: RouterModules,
  lists: UpstreamLists,
  name: string,
  kind: RoutedKind,
  viewer: string | undefined,
): Promise<Resolved> {
  const contract = contractOf(modules, name);
  if (!contract) return { sources: withListings(modules, await sourcesOf(modules, lists, name, viewer)), limits: [] };
  if (contract.kinds && !contract.kinds.some((one) => one === kind))
    throw new AssayError(
      "kind_unsupported",
      `The contract ${name} is for ${contract.kinds.join(" and ")}, not ${kind}.`,
    );
  const sources: Source[] = [];
  let missing: unknown;
  for (const model of contract.models) {
    try {
      sources.push(...(await sourcesOf(modules, lists, model, viewer)));
    } catch (error) {
      // One model that is gone leaves the others; when all are, the caller hears why the last one is.
      missing = error;
    }
  }
  if (sources.length === 0)
    throw new AssayError("model_not_found", `None of the models of the contract ${name} is here.`, { cause: missing });
  const { require = {}, objective } = contract;
  return {
    sources: withListings(modules, distinct(sources).slice(0, MAX_CANDIDATES)),
    limits: [{ ...require, ...(objective === undefined ? {} : { objective }) }],
    contract: contract.name,
  };
}

/**
 * The contract of a name, or of what follows a provider's prefix (`openai/gpt-5` for a contract `gpt-5`): clients of
 * several providers write one before every name. A whole name that the hub has, or a prefix that is an upstream here, wins.
 */
function contractOf(modules: RouterModules, name: string): Contract | undefined {
  const exact = modules.contract(name);
  const slash = name.indexOf("/");
  if (exact || slash <= 0) return exact;
  const prefix = name.slice(0, slash);
  const at = name.indexOf("@");
  const taken =
    modules.hub.has(at < 0 ? name : name.slice(0, at)) || modules.upstreams().some((one) => one.name === prefix);
  return taken ? undefined : modules.contract(name.slice(slash + 1));
}

async function sourcesOf(
  modules: RouterModules,
  lists: UpstreamLists,
  name: string,
  viewer: string | undefined,
): Promise<readonly Source[]> {
  if (name === "any") return anySources(modules, lists, viewer);
  if (!NAMEABLE.test(name)) throw notFound(name, []);
  const { hub } = modules;
  const upstreams = modules.upstreams();
  const slash = name.indexOf("/");
  const at = name.indexOf("@");
  const isHub = slash > 0 && hub.has(at < 0 ? name : name.slice(0, at));
  const upstream = slash > 0 ? upstreams.find((one) => one.name === name.slice(0, slash)) : undefined;
  if (isHub && upstream)
    throw new AssayError(
      "model_ambiguous",
      `${name} is a model of the hub and may be one of the upstream ${upstream.name}.`,
      {
        hints: ["Name the upstream's model by its bare id, or rename the upstream."],
      },
    );
  if (isHub) return hubSources(modules, await hub.resolve(name, viewer));
  if (upstream) {
    const model = name.slice(slash + 1);
    if (model === "") throw notFound(name, []);
    return [
      upstreamSource(upstream, model, lists),
      ...nodeSources(modules, (_, offer) => offer.engine === upstream.name && offer.model === model),
    ];
  }
  return byBareName(modules, lists, upstreams, name);
}

/** A name that is neither the hub's nor begins with an upstream's: what upstreams list and nodes offer under it. */
async function byBareName(
  modules: RouterModules,
  lists: UpstreamLists,
  upstreams: readonly RoutedUpstream[],
  name: string,
): Promise<readonly Source[]> {
  await lists.settled(upstreams);
  const found: Source[] = upstreams
    .filter((upstream) => lists.known(upstream).some((model) => model.name === name))
    .map((upstream) => upstreamSource(upstream, name, lists));
  const versioned = /^(.+)@([^@]+)$/.exec(name);
  found.push(
    ...nodeSources(modules, (_, offer) => {
      const names = [offer.model, fullNameOf(offer), ...(offer.aliases ?? [])];
      return names.includes(name) || (versioned?.[2] === offer.version && names.includes(versioned?.[1] ?? ""));
    }),
  );
  const all = newest(distinct(found));
  const meant = [...new Set(all.map(({ fullName }) => fullName))];
  if (meant.length > 1)
    throw new AssayError("model_ambiguous", `${JSON.stringify(name.slice(0, 200))} is a model of several upstreams.`, {
      hints: [`Name one of ${meant.slice(0, MAX_HINTED).join(", ")}.`],
    });
  const digests = new Set(all.map(({ manifestDigest }) => manifestDigest));
  if (digests.size > 1)
    throw new AssayError("model_ambiguous", `Nodes offer different models under the name ${name}.`, {
      hints: ["Import the one that is meant into this gateway's hub: its digest then decides."],
    });
  if (all.length === 0)
    throw notFound(
      name,
      upstreams.flatMap((one) => lists.known(one).map((model) => `${one.name}/${model.name}`)),
    );
  return all;
}

async function anySources(
  modules: RouterModules,
  lists: UpstreamLists,
  viewer: string | undefined,
): Promise<readonly Source[]> {
  const upstreams = modules.upstreams();
  await lists.settled(upstreams);
  const hub = (await modules.hub.list(viewer)).flatMap((model) => hubSources(modules, model));
  const listed = upstreams.flatMap((upstream) =>
    lists
      .known(upstream)
      .filter((model) => NAMEABLE.test(model.name))
      .map((model) => upstreamSource(upstream, model.name, lists)),
  );
  // What the hub has under that name was listed above, for those who may see it.
  const others = nodeSources(modules, (_, offer) => isText(offer) && !modules.hub.has(offer.model));
  return distinct([...hub, ...listed, ...others]).slice(0, MAX_CANDIDATES);
}

/** A version of the hub here, and on every node that holds the same manifest. */
function hubSources(modules: RouterModules, model: HubTextModel): readonly Source[] {
  const { name, version, manifestDigest, kinds, family, contextTokens, maxOutputTokens } = model;
  const price = model.price ?? FREE;
  const shared = {
    fullName: name,
    ...(family === undefined ? {} : { family }),
    ...(contextTokens === undefined ? {} : { contextTokens }),
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
  };
  const here: Source = {
    ...shared,
    engine: "local",
    model: name,
    version: String(version),
    manifestDigest,
    kinds,
    price,
    warm: modules.local.warm?.(manifestDigest) ?? false,
    auditable: model.auditable ?? true,
    at: "hub",
    hub: model,
  };
  const elsewhere = nodeSources(
    modules,
    (_, offer) => offer.manifestDigest === manifestDigest && offer.engine === "local",
    price,
  );
  // What a version is, and its price, stand in the hub; a node adds where it runs, under which name, and what it asks.
  return [here, ...elsewhere.map((source) => ({ ...source, ...shared }))];
}

/** The price of a hub model that nobody put a price on. */
export const FREE: Price = { asset: "USDC", perCall: "0" };

function upstreamSource(upstream: RoutedUpstream, model: string, lists: UpstreamLists): Source {
  const listed = lists.known(upstream).find((one) => one.name === model);
  const price = ownOf(upstream.prices, model);
  const family = ownOf(upstream.families, model);
  return {
    fullName: `${upstream.name}/${model}`,
    engine: upstream.name,
    model,
    kinds: listed?.kinds ?? TEXT_KINDS,
    ...(family === undefined ? {} : { family }),
    ...(listed?.contextTokens === undefined ? {} : { contextTokens: listed.contextTokens }),
    ...(listed?.maxOutputTokens === undefined ? {} : { maxOutputTokens: listed.maxOutputTokens }),
    ...(price === undefined ? {} : { price }),
    warm: true,
    auditable: false,
    at: "upstream",
    upstream,
  };
}

/** What a record has for a model, or for `*`. */
export function ownOf<Value>(record: Readonly<Record<string, Value>> | undefined, model: string): Value | undefined {
  if (!record) return undefined;
  return Object.hasOwn(record, model) ? record[model] : record["*"];
}

/**
 * Offers of remote nodes that `wanted` takes. `listing` is the price of offers that name none; an offer that names a
 * price which is none has an unknown one.
 */
export function nodeSources(
  { nodes }: Pick<RouterModules, "nodes">,
  wanted: (node: NodeCandidate, offer: NodeOffer) => boolean,
  listing?: Price,
): readonly Source[] {
  const found: Source[] = [];
  for (const node of nodes()) {
    for (const offer of node.offers) {
      if (!wanted(node, offer) || !isNameable(offer)) continue;
      const { price = listing, warm, auditable, aliases: _, ...facts } = offer;
      found.push({
        ...facts,
        fullName: fullNameOf(offer),
        ...(price && isPrice(price) ? { price } : {}),
        warm: warm ?? false,
        auditable: auditable ?? offer.manifestDigest !== undefined,
        at: "node",
        node,
      });
    }
  }
  return found;
}

function fullNameOf({ engine, model }: Pick<NodeOffer, "engine" | "model">): string {
  return engine === "local" ? model : `${engine}/${model}`;
}

function isNameable({ model, version }: NodeOffer): boolean {
  return NAMEABLE.test(model) && (version === undefined || VERSION.test(version));
}

function isText({ kinds }: NodeOffer): boolean {
  return kinds.some((kind) => TEXT_KINDS.includes(kind));
}

/** Of several versions under one name only the newest: a bare name means the current one. */
function newest(sources: readonly Source[]): readonly Source[] {
  const latest = new Map<string, number>();
  const numberOf = ({ version }: Source): number => (/^[1-9][0-9]{0,8}$/.test(version ?? "") ? Number(version) : 0);
  for (const source of sources)
    latest.set(source.fullName, Math.max(latest.get(source.fullName) ?? 0, numberOf(source)));
  return sources.filter((source) => numberOf(source) === latest.get(source.fullName));
}

function distinct(sources: readonly Source[]): readonly Source[] {
  const seen = new Map<string, Source>();
  for (const source of sources) {
    const where = source.at === "node" ? source.node.subject : "";
    const key = `${where}#${source.engine}/${source.model}@${source.version ?? ""}`;
    if (!seen.has(key)) seen.set(key, source);
  }
  return [...seen.values()];
}

function notFound(name: string, known: readonly string[]): AssayError {
  const tail = name.slice(name.indexOf("/") + 1);
  const near = known.filter(
    (one) => tail !== "" && (one.includes(tail) || tail.includes(one.slice(one.indexOf("/") + 1))),
  );
  return new AssayError("model_not_found", `There is no model named ${JSON.stringify(name.slice(0, 200))}.`, {
    hints: near.slice(0, MAX_HINTED).map((one) => `Did you mean ${one}?`),
  });
}
