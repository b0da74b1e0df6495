import { healthState, costToDecimal } from "@assay/routing";
import type { Consideration, Considered, Decision } from "@assay/routing";
import type { AssayError } from "@assay/core";

/** A route as it would be taken now, as JSON. */
export type Explanation = {
  readonly model: string;
  readonly kind: string;
  readonly contract: string | null;
  readonly objective: string;
  readonly weights: string;
  readonly assurance: { readonly demanded: string; readonly reason: string; readonly auditShare: string | null };
  readonly candidates: readonly ExplainedCandidate[];
  readonly choice: { readonly candidate: string; readonly node: string; readonly reason: string } | null;
  readonly refusal: { readonly code: string; readonly error: string; readonly hints: readonly string[] } | null;
};

type ExplainedCandidate = {
  readonly candidate: string;
  readonly node: string;
  readonly engine: string;
  readonly model: string;
  readonly version: string | null;
  /** `chosen`, `eligible`, or `refused:` and the limit that it breaks. */
  readonly outcome: string;
  /** 0 to 1; null when refused. */
  readonly score: number | null;
  readonly predicted: {
    readonly waitMs: number;
    readonly firstByteMs: number;
    readonly totalMs: number;
    readonly depth: number;
  };
  /** Most that the call can cost, decimal text; null when unknown. */
  readonly costAtMost: string | null;
  readonly asset: string | null;
  readonly health: string;
  readonly samples: number;
  readonly country: string | null;
  readonly countryEvidence: string | null;
  readonly securityModes: readonly string[];
};

/** Candidates that an explanation shows. */
export const MAX_EXPLAINED = 200;

/** The JSON of a consideration; nothing was executed for it. */
export function explanationOf(
  asked: { readonly model: string; readonly kind: string; readonly contract?: string },
  found: Consideration,
  weights: string,
  nowMs: number,
): Explanation {
  const { objective, assurance } = found;
  const rank = ({ outcome, score = -1 }: Considered): number => (outcome === "chosen" ? Infinity : score);
  const order = found.candidates.toSorted((a, b) => (rank(b) > rank(a) ? 1 : rank(b) < rank(a) ? -1 : 0));
  return {
    model: asked.model,
    kind: asked.kind,
    contract: asked.contract ?? null,
    objective,
    weights,
    assurance: {
      demanded: assurance.assurance,
      reason: assurance.reason,
      auditShare: assurance.auditShare ?? null,
    },
    candidates: order.slice(0, MAX_EXPLAINED).map((one) => explained(one, nowMs)),
    choice: "decision" in found ? choiceOf(found.decision) : null,
    refusal: "decision" in found ? null : refusalOf(found.refusal),
  };
}

function explained(
  { name, candidate, outcome, score, prediction, costAtMost }: Considered,
  nowMs: number,
): ExplainedCandidate {
  return {
    candidate: name,
    node: candidate.node,
    engine: candidate.engine,
    model: candidate.model,
    version: candidate.version ?? null,
    outcome,
    score: score === undefined ? null : score / 1_000_000,
    predicted: {
      waitMs: Math.round(prediction.waitMs),
      firstByteMs: Math.round(prediction.firstByteMs),
      totalMs: Math.round(prediction.totalMs),
      depth: prediction.depth,
    },
    costAtMost: costAtMost === undefined ? null : costToDecimal(costAtMost),
    asset: candidate.price?.asset ?? null,
    health: healthState(candidate.health, nowMs),
    samples: candidate.latency?.samples ?? 0,
    country: candidate.jurisdiction?.country ?? null,
    countryEvidence: candidate.jurisdiction?.evidence ?? null,
    securityModes: candidate.securityModes,
  };
}

function choiceOf({ chosen, facts, objective, runnersUp }: Decision): NonNullable<Explanation["choice"]> {
  const reason = facts.explored
    ? "Too little is known of it, and now and then such a candidate is tried."
    : runnersUp.length === 0
      ? "It is the only candidate within the limits."
      : facts.pool === 1
        ? `It has the best score for the objective ${objective}, and no other is near.`
        : `Of ${facts.pool} candidates with about the best score for the objective ${objective}, two were drawn, and this one is expected to be done first.`;
  return { candidate: chosen.name, node: chosen.candidate.node, reason };
}

function refusalOf({ code, message, hints }: AssayError): NonNullable<Explanation["refusal"]> {
  return { code, error: message, hints };
}
