import { AssayError } from "@assay/core";
import type { Objective, RoutingOptions } from "@assay/protocol";
import { demandedAssurance } from "./assurance.ts";
import type { DemandedAssurance } from "./assurance.ts";
import { candidateName } from "./candidate.ts";
import type { Candidate } from "./candidate.ts";
import type { Draw } from "./draws.ts";
import { expandJurisdictions } from "./jurisdiction.ts";
import { costAtMost, furtherRefusals, refusalOf } from "./limits.ts";
import type { PreparedLimits, Refusal } from "./limits.ts";
import { noRoute } from "./no-route.ts";
import { COLD_SAMPLES, TYPICAL_OUTPUT_TOKENS, predict, priorOf } from "./predict.ts";
import type { Prediction } from "./predict.ts";
import { costFromDecimal } from "./price.ts";
import type { RoutePolicy, RouteRequest } from "./request.ts";
import { WEIGHTS, scoreOf } from "./score.ts";
import type { WeightTable } from "./score.ts";

/** Scores this near to the best count as equal to it: they come from averages that are no finer. */
export const EPSILON = 0.05;
/** Of a thousand decisions, those that try a candidate of which too little is known. */
export const EXPLORE_PER_MILLE = 15;
/** Candidates looked at in one decision; a gateway with more nodes than this for one model puts others behind others. */
export const MAX_CANDIDATES = 4096;

export type Outcome = "chosen" | "eligible" | `refused:${Refusal}`;

/** What was found of one candidate. Scores are millionths; predictions are milliseconds, rounded. */
export type Considered = {
  readonly name: string;
  readonly candidate: Candidate;
  readonly outcome: Outcome;
  readonly score?: number;
  readonly prediction: Prediction;
  /** The most that the request can cost there, in units of 10^-24 of the asset. */
  readonly costAtMost?: bigint;
};

/** How the choice was made, for the service statement. */
export type DecisionFacts = {
  readonly weightsVersion: string;
  /** Candidates whose score was near enough to the best to be chosen from. */
  readonly pool: number;
  /** Names of those that were compared: two, one when the pool had one, or the one that was explored. */
  readonly compared: readonly string[];
  readonly explored: boolean;
};

export type Decision = {
  readonly chosen: Considered;
  /** The other candidates that may answer, best first. */
  readonly runnersUp: readonly Considered[];
  /** Every candidate with its outcome, in the order given. */
  readonly candidates: readonly Considered[];
  readonly objective: Objective;
  readonly assurance: DemandedAssurance;
  readonly facts: DecisionFacts;
};

export type DecideContext = {
  readonly nowMs: number;
  /** The only chance in a decision: equal draws give equal decisions. */
  readonly draw: Draw;
  readonly policy: RoutePolicy;
  readonly weights?: WeightTable;
};

/** All that was found, whether or not it leads anywhere. */
export type Consideration = {
  readonly candidates: readonly Considered[];
  readonly objective: Objective;
  readonly assurance: DemandedAssurance;
} & ({ readonly decision: Decision } | { readonly refusal: AssayError });

/**
 * Chooses who answers: hard limits, then scores, then the better of two drawn among the best. Limits are never relaxed.
 * Throws `no_route` when the limits leave nobody, saying which limit removed how many and which others those break;
 * `nodes_unavailable` when only the moment is wrong; `assurance_unavailable` when the assurance is what nobody gives;
 * `jurisdiction_unknown` and `decimal_invalid` for limits that say nothing.
 */
export function decide(request: RouteRequest, candidates: readonly Candidate[], context: DecideContext): Decision {
  const found = consider(request, candidates, context);
  if ("refusal" in found) throw found.refusal;
  return found.decision;
}

/** {@link decide} without throwing when nobody remains: what an explanation shows. Limits that say nothing still throw. */
export function consider(
  request: RouteRequest,
  candidates: readonly Candidate[],
  context: DecideContext,
): Consideration {
  const { nowMs, draw, policy } = context;
  const weights = context.weights ?? WEIGHTS;
  if (candidates.length > MAX_CANDIDATES)
    throw new AssayError("candidates_too_many", `A decision looks at ${MAX_CANDIDATES} candidates at most.`);
  const objective = request.limits.find((one) => one.objective !== undefined)?.objective ?? "balanced";
  const assurance = demandedAssurance(request.limits, policy.assurance);
  const limits = prepare(request, assurance);

  const prior = priorOf(candidates);
  const outputTokens = Math.min(request.tokens.outputAtMost ?? TYPICAL_OUTPUT_TOKENS, TYPICAL_OUTPUT_TOKENS);
  const refusals: (Refusal | undefined)[] = [];
  const predictions: Prediction[] = [];
  const costs: (bigint | undefined)[] = [];
  let bestMs = Infinity;
  const cheapest = new Map<string, bigint>();
  for (const candidate of candidates) {
    const prediction = predict(candidate, { prior, outputTokens, nowMs });
    const refusal = refusalOf(candidate, prediction, request, limits, { nowMs, policy });
    predictions.push(prediction);
    refusals.push(refusal);
    if (refusal !== undefined) {
      costs.push(undefined);
      continue;
    }
    bestMs = Math.min(bestMs, prediction.totalMs);
    const cost = costAtMost(candidate, request.tokens) ?? costOfTypical(candidate, outputTokens);
    costs.push(cost);
    if (cost !== undefined && candidate.price) {
      const least = cheapest.get(candidate.price.asset);
      if (least === undefined || cost < least) cheapest.set(candidate.price.asset, cost);
    }
  }

  const best = { totalMs: bestMs, costs: cheapest };
  const found: Considered[] = candidates.map((candidate, i) => {
    const refusal = refusals[i];
    const prediction = predictions[i] as Prediction;
    const name = candidateName(candidate);
    if (refusal !== undefined) return { name, candidate, outcome: `refused:${refusal}`, prediction };
    const cost = costs[i];
    const score = scoreOf(candidate, prediction, cost, best, weights.by[objective], nowMs);
    return {
      name,
      candidate,
      outcome: "eligible",
      score: Math.round(score * 1_000_000),
      prediction,
      ...(cost === undefined ? {} : { costAtMost: cost }),
    };
  });
  const eligible = found.filter(({ outcome }) => outcome === "eligible").toSorted(byRank);
  if (eligible.length === 0) {
    const further = found.flatMap(({ candidate, prediction }, i) => {
      const first = refusals[i];
      return first === undefined
        ? []
        : furtherRefusals(first, candidate, prediction, request, limits, { nowMs, policy });
    });
    return { candidates: found, objective, assurance, refusal: noRoute(request, found, further, assurance, nowMs) };
  }

  const { index, pool, compared, explored } = pick(eligible, draw);
  const chosen: Considered = { ...(eligible[index] as Considered), outcome: "chosen" };
  const decision: Decision = {
    chosen,
    runnersUp: eligible.filter((_, i) => i !== index),
    candidates: found.map((one) => (one === eligible[index] ? chosen : one)),
    objective,
    assurance,
    facts: { weightsVersion: weights.version, pool, compared, explored },
  };
  return { candidates: decision.candidates, objective, assurance, decision };
}

/**
 * One of `eligible`, which is in order of rank: now and then somebody cold, else the one of two random members of the
 * pool that will be done first (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
 */
function pick(
  eligible: readonly Considered[],
  draw: Draw,
): { readonly index: number; readonly pool: number; readonly compared: readonly string[]; readonly explored: boolean } {
  const top = eligible[0]?.score ?? 0;
  const pool = eligible.filter(({ score = 0 }) => score >= top - EPSILON * 1_000_000).length;
  const name = (index: number): string => eligible[index]?.name ?? "";
  if (eligible.length > 1 && draw(1000) < EXPLORE_PER_MILLE) {
    const cold: number[] = [];
    for (const [i, { candidate }] of eligible.entries())
      if ((candidate.latency?.samples ?? 0) < COLD_SAMPLES && candidate.load.inFlight === 0) cold.push(i);
    const index = cold.length === 0 ? undefined : cold[draw(cold.length)];
    if (index !== undefined) return { index, pool, compared: [name(index)], explored: true };
  }
  if (pool === 1) return { index: 0, pool, compared: [name(0)], explored: false };
  const first = draw(pool);
  // The second is drawn of the others, so that two are always two.
  const other = draw(pool - 1);
  const second = other < first ? other : other + 1;
  const index = sooner(eligible, first, second);
  return { index, pool, compared: [name(first), name(second)], explored: false };
}

function sooner(eligible: readonly Considered[], a: number, b: number): number {
  const [x, y] = [eligible[a]?.prediction, eligible[b]?.prediction];
  if (!x || !y) return a;
  if (x.totalMs !== y.totalMs) return x.totalMs < y.totalMs ? a : b;
  if (x.waitMs !== y.waitMs) return x.waitMs < y.waitMs ? a : b;
  // Nobody is known to wait where slots are unknown; then the emptier of the two.
  if (x.depth !== y.depth) return x.depth < y.depth ? a : b;
  return a;
}

/** Best score first, then who will be done first, then by name: an order that a replay finds again. */
function byRank(a: Considered, b: Considered): number {
  const score = (b.score ?? 0) - (a.score ?? 0);
  if (score !== 0) return score;
  if (a.prediction.totalMs !== b.prediction.totalMs) return a.prediction.totalMs - b.prediction.totalMs;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function prepare(request: RouteRequest, { assurance }: DemandedAssurance): PreparedLimits {
  const { limits } = request;
  const of = <Name extends keyof RoutingOptions>(name: Name): NonNullable<RoutingOptions[Name]>[] =>
    limits.map((one) => one[name]).filter((value) => value !== undefined);
  return {
    models: request.models && new Set(request.models),
    families: of("family"),
    cpuClasses: of("cpuClass"),
    jurisdictions: of("jurisdiction").map(expandJurisdictions),
    evidence: of("jurisdictionEvidence"),
    maxCosts: of("maxPrice").map((text) => costFromDecimal(text, "The price limit")),
    maxLatencyMs: Math.min(Infinity, ...of("maxLatencyMs")),
    assurance,
  };
}

/** For comparing prices where nothing bounds the cost and no limit asked for a bound. */
function costOfTypical(candidate: Candidate, outputTokens: number): bigint | undefined {
  return costAtMost(candidate, { inputAtLeast: 0, inputAtMost: 1000, outputAtMost: outputTokens, choices: 1 });
}
