import type { Objective } from "@assay/protocol";
import type { Candidate } from "./candidate.ts";
import { HEARTBEAT } from "./predict.ts";
import type { Prediction } from "./predict.ts";

export type Weights = {
  readonly latency: number;
  readonly price: number;
  readonly security: number;
  readonly locality: number;
  /**
   * How many times the best predicted time still counts as equally quick. Load figures are old and averages coarse:
   * whoever takes the single best by them sends everybody to the same node. Among equals the pick compares two at
   * random. Eight loses little with exact figures and saves most with old ones (`bench/router.ts`); who asks for latency
   * gets a narrower field.
   */
  readonly latencySlack: number;
};

/** Weights by objective, under a version that decisions name. The four weights of a row sum to 1. */
export type WeightTable = { readonly version: string; readonly by: Readonly<Record<Objective, Weights>> };

export const WEIGHTS: WeightTable = {
  version: "1",
  by: {
    balanced: { latency: 0.4, price: 0.3, security: 0.15, locality: 0.15, latencySlack: 8 },
    latency: { latency: 0.8, price: 0.05, security: 0.05, locality: 0.1, latencySlack: 4 },
    price: { latency: 0.1, price: 0.8, security: 0.05, locality: 0.05, latencySlack: 8 },
    security: { latency: 0.15, price: 0.1, security: 0.7, locality: 0.05, latencySlack: 8 },
  },
};

/** What is left of the score of a node whose heartbeats are late. */
const SUSPECT_FACTOR = 0.5;
const SECURITY = { vanilla: 0, tee: 0.75, zkml: 1 } as const;
/** An answer that can be executed again is worth more than one that cannot. */
const AUDITABLE = 0.3;

/** What all candidates are compared with. */
export type Best = { readonly totalMs: number; readonly costs: ReadonlyMap<string, bigint> };

/**
 * The score of a candidate, 0 to 1. Latency: best predicted time to this one's, with the slack of the weights. Price:
 * cheapest in the same asset to this one, 1 when free, 0 when unknown. Security: the strongest mode offered, attestation
 * freshness having been looked at before. Locality: whether the model is loaded.
 */
export function scoreOf(
  candidate: Candidate,
  prediction: Prediction,
  cost: bigint | undefined,
  best: Best,
  weights: Weights,
  nowMs: number,
): number {
  const latency = prediction.totalMs <= 0 ? 1 : Math.min(1, (weights.latencySlack * best.totalMs) / prediction.totalMs);
  const score =
    weights.latency * latency +
    weights.price * priceScore(candidate, cost, best) +
    weights.security * securityScore(candidate) +
    weights.locality * (candidate.warm ? 1 : 0);
  const suspect = candidate.lastSeenMs !== undefined && nowMs - candidate.lastSeenMs > HEARTBEAT.suspectAfterMs;
  return Math.min(1, Math.max(0, suspect ? score * SUSPECT_FACTOR : score));
}

function priceScore(candidate: Candidate, cost: bigint | undefined, best: Best): number {
  if (cost === undefined || !candidate.price) return 0;
  if (cost === 0n) return 1;
  const least = best.costs.get(candidate.price.asset) ?? cost;
  // Ten thousandths are finer than any price difference that should decide.
  return Number((least * 10_000n) / cost) / 10_000;
}

function securityScore(candidate: Candidate): number {
  let score = candidate.auditable ? AUDITABLE : 0;
  for (const mode of candidate.securityModes) score = Math.max(score, SECURITY[mode]);
  return score;
}
