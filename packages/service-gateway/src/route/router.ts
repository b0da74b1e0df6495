import { AssayError } from "@assay/core";
import type { ListingSubject, ParsedText, RoutingOptions } from "@assay/protocol";
import {
  MAX_ATTESTATION_AGE_MS,
  WEIGHTS,
  LASTING_REFUSALS,
  consider,
  decide,
  isFree,
  routeSeed,
  seededDraw,
  tokenBounds,
} from "@assay/routing";
import type { DecideContext, DecisionSource, RoutePolicy, RouteRequest } from "@assay/routing";
import type { ListedTextModel } from "../openai/models.ts";
import type { Routed, TextCaller, TextRouter, TextServiceParts } from "../openai/types.ts";
import { createCallers } from "./callers.ts";
import type { CallerLimits } from "./callers.ts";
import { placed } from "./candidates.ts";
import type { Placed } from "./candidates.ts";
import { endOf } from "./ends.ts";
import { explanationOf } from "./explain.ts";
import type { Explanation } from "./explain.ts";
import { listTextModels } from "./list-models.ts";
import { subjectOf, withListings } from "./listed.ts";
import { pricedText } from "./priced.ts";
import { FREE, nodeSources, resolveModel } from "./resolve.ts";
import type { Resolved } from "./resolve.ts";
import { createRouteState } from "./route-state.ts";
import type { RouteState } from "./route-state.ts";
import { serviceParts } from "./service-parts.ts";
import type { RouterModules, Source } from "./sources.ts";
import { targetOf } from "./target.ts";
import { createUpstreamLists } from "./upstream-lists.ts";

/** A model of tensors, resolved in the hub: nothing but this manifest may answer. */
export type TensorModel = { readonly name: string; readonly version: number; readonly manifestDigest: string };

/** Where a tensor inference goes: `remote` names the node, absent for the one in this process. */
export type RoutedTensor = {
  readonly candidate: string;
  readonly remote?: string;
  readonly service: () => TextServiceParts;
  readonly started: () => void;
  readonly ended: (
    how: "ok" | "failed" | "cancelled",
    facts?: { readonly code?: string; readonly engineMs?: number },
  ) => void;
};

/** The gateway's router: chooses for text and tensors alike, and says why. */
export type Router = TextRouter & {
  /** As `route`, for a model of tensors. Throws `no_route`, `nodes_unavailable` and `assurance_unavailable`. */
  readonly routeTensor: (
    model: TensorModel,
    limits: RoutingOptions,
    options: { readonly exclude: ReadonlySet<string> },
  ) => RoutedTensor;
  /** What `route` would do now, without doing it: no engine is asked, nothing is counted. */
  readonly explain: (parsed: ParsedText, caller: TextCaller) => Promise<Explanation>;
  /** Models under names that are not the hub's, for lists. */
  readonly textModels: () => Promise<readonly ListedTextModel[]>;
  /** To be called when a node's heartbeat arrives: what is then in flight there is in its report. */
  readonly heard: (subject: string, atMs: number) => void;
  /** To be called when upstreams were added, replaced or removed: what they listed is forgotten. */
  readonly upstreamsChanged: () => void;
  readonly stats: RouteState["stats"];
};

export type RouterOptions = CallerLimits & {
  /** Oldest verification of an attestation that counts as fresh, milliseconds; a day when absent. */
  readonly maxAttestationAgeMs?: number;
};

const RULED_OUT: ReadonlySet<string> = new Set(LASTING_REFUSALS.map((refusal) => `refused:${refusal}`));

/** Whether a candidate may not answer at any moment, as far as the request and what is known of it go. */
function isRuledOut(outcome: string | undefined): boolean {
  return outcome !== undefined && RULED_OUT.has(outcome);
}

const NO_TOKENS = { inputAtLeast: 0, choices: 1 } as const;

/** Makes the router over its sources. */
export function createTextRouter(modules: RouterModules, options: RouterOptions = {}): Router {
  const { suite, now, random, local, assurance } = modules;
  const state = createRouteState(now);
  const lists = createUpstreamLists(now);
  const callers = createCallers(options);
  const policy = (): RoutePolicy => ({
    assurance: assurance.get(),
    maxAttestationAgeMs: options.maxAttestationAgeMs ?? MAX_ATTESTATION_AGE_MS,
  });
  const place = (sources: readonly Source[]): readonly Placed[] => {
    const nowMs = now();
    return sources.map((source) => placed(source, local, state, nowMs));
  };
  const chance = (requestId: Uint8Array): { readonly source: DecisionSource; readonly context: DecideContext } => {
    const checkpointRoot = modules.checkpointRoot();
    const seed = routeSeed(suite, requestId, checkpointRoot);
    const nowMs = now();
    return {
      source: { decidedAtMs: nowMs, seed, requestId, checkpointRoot },
      context: { nowMs, policy: policy(), draw: seededDraw(suite, seed) },
    };
  };

  const textRequest = (
    parsed: ParsedText,
    { limits }: Resolved,
    found: readonly Placed[],
    tried: ReadonlyMap<string, string>,
  ): RouteRequest => ({
    kind: parsed.kind,
    limits: [parsed.routing, ...limits],
    // Bounding the input reads all of it, which is worth it only where somebody charges.
    tokens: tokenBounds(
      found.some(({ candidate: { price } }) => price && !isFree(price)) ? parsed : { ...parsed, messages: [] },
    ),
    ...(parsed.stream ? {} : { whole: true }),
    ...(tried.size === 0 ? {} : { tried }),
  });

  const route = async (
    parsed: ParsedText,
    caller: TextCaller,
    {
      exclude,
      signal,
      receiptId,
      subjects,
    }: {
      readonly exclude: ReadonlySet<string>;
      readonly signal: AbortSignal;
      readonly receiptId?: Uint8Array;
      readonly subjects?: ReadonlySet<ListingSubject>;
    },
  ): Promise<Routed> => {
    callers.admit(caller);
    const all = await resolveModel(modules, lists, parsed.model, parsed.kind, caller.owner);
    // What was not quoted is not charged, and so does not answer: an upstream may have come in between.
    const resolved = subjects
      ? { ...all, sources: all.sources.filter((source) => subjects.has(subjectOf(source))) }
      : all;
    const tried = new Map([...exclude].map((name) => [name, "failed"]));
    for (;;) {
      signal.throwIfAborted();
      const found = place(resolved.sources);
      const request = textRequest(parsed, resolved, found, tried);
      const { source, context } = chance(receiptId ?? random(16));
      const candidates = found.map(({ candidate }) => candidate);
      const decision = decide(request, candidates, context);
      const chosen = found.find(({ name }) => name === decision.chosen.name);
      const called = chosen && (await targetOf(modules, chosen));
      if (!chosen || !called) {
        // Its node left between the list and the call; whoever else may answer is asked.
        tried.set(decision.chosen.name, "left");
        continue;
      }
      const lease = state.lease(chosen.name, chosen.place);
      const { contract } = resolved;
      let leave: (() => void) | undefined;
      const decided = {
        decision,
        request,
        candidates,
        source,
        policyDigest: assurance.digest(),
        ...(contract === undefined ? {} : { contract }),
      };
      return {
        candidate: chosen.name,
        ...called,
        ...(subjects ? { subject: subjectOf(chosen.source) } : {}),
        service: (outcome) => serviceParts(suite, decided, outcome),
        started() {
          lease.started();
          leave ??= callers.begin(caller);
        },
        firstByte: lease.firstByte,
        ended(how, facts = {}) {
          lease.ended(endOf(how, facts, parsed.stream));
          // What ended before it started is over: a late start counts for nobody.
          leave ??= () => undefined;
          leave();
        },
      };
    }
  };

  return {
    route,
    async priced(parsed, caller, milliseconds) {
      const resolved = await resolveModel(modules, lists, parsed.model, parsed.kind, caller.owner);
      const { sources } = resolved;
      const { listingOf } = modules;
      const options = {
        ...(milliseconds === undefined ? {} : { milliseconds }),
        limited: [parsed.routing, ...resolved.limits].some(({ maxPrice }) => maxPrice !== undefined),
      };
      if (new Set(sources.map(({ fullName }) => fullName)).size <= 1)
        return pricedText(parsed, sources, listingOf, options);
      // A name that stands for several is quoted by those that the limits leave: nobody pays for what may not answer.
      const found = place(sources);
      const { candidates } = consider(
        textRequest(parsed, resolved, found, new Map()),
        found.map(({ candidate }) => candidate),
        chance(random(16)).context,
      );
      const may = found.filter((_, i) => !isRuledOut(candidates[i]?.outcome));
      return pricedText(
        parsed,
        may.map(({ source }) => source),
        listingOf,
        options,
      );
    },
    routeTensor(model, limits, { exclude }) {
      const { name, version, manifestDigest } = model;
      const here: Source = {
        fullName: name,
        engine: "onnx",
        model: name,
        version: String(version),
        manifestDigest,
        kinds: ["tensor"],
        price: FREE,
        warm: local.warm?.(manifestDigest) ?? false,
        auditable: true,
        at: "hub",
        hub: { name, version, manifestDigest, kinds: ["tensor"] },
      };
      const elsewhere = nodeSources(
        modules,
        (_, offer) => offer.manifestDigest === manifestDigest && offer.kinds.includes("tensor"),
        FREE,
      );
      const found = place(withListings(modules, [here, ...elsewhere]));
      const tried = new Map([...exclude].map((one) => [one, "failed"]));
      const request: RouteRequest = {
        kind: "tensor",
        manifestDigest,
        limits: [limits],
        tokens: NO_TOKENS,
        whole: true,
        tried,
      };
      const { source, context } = chance(random(16));
      const candidates = found.map(({ candidate }) => candidate);
      const decision = decide(request, candidates, context);
      const chosen = found.find((one) => one.name === decision.chosen.name);
      if (!chosen) throw new AssayError("no_route", "The decision chose none of its candidates.");
      const lease = state.lease(chosen.name, chosen.place);
      const decided = { decision, request, candidates, source, policyDigest: assurance.digest() };
      return {
        candidate: chosen.name,
        ...(chosen.source.at === "node" ? { remote: chosen.candidate.node } : {}),
        service: () => serviceParts(suite, decided),
        started: lease.started,
        ended(how, { code, engineMs } = {}) {
          if (how === "ok") lease.ended({ how: "answered", engineMs: engineMs ?? 0, outputTokens: 0, streamed: false });
          else lease.ended(endOf(how, code === undefined ? {} : { code }, false));
        },
      };
    },
    async explain(parsed, caller) {
      const resolved = await resolveModel(modules, lists, parsed.model, parsed.kind, caller.owner);
      const found = place(resolved.sources);
      const { context } = chance(random(16));
      const considered = consider(
        textRequest(parsed, resolved, found, new Map()),
        found.map(({ candidate }) => candidate),
        context,
      );
      const { contract } = resolved;
      const asked = { model: parsed.model, kind: parsed.kind, ...(contract === undefined ? {} : { contract }) };
      return explanationOf(asked, considered, WEIGHTS.version, context.nowMs);
    },
    textModels: () => listTextModels(modules, lists),
    heard: state.heard,
    upstreamsChanged: lists.forget,
    stats: state.stats,
  };
}
