import type { Candidate } from "./candidate.ts";
import type { Assurance } from "./assurance.ts";
import { modeOf } from "./assurance.ts";
import { healthState } from "./health.ts";
import { evidenceSuffices } from "./jurisdiction.ts";
import { HEARTBEAT } from "./predict.ts";
import type { Prediction } from "./predict.ts";
import { costOf } from "./price.ts";
import { candidateName } from "./candidate.ts";
import type { RoutePolicy, RouteRequest, TokenBounds } from "./request.ts";

/** Why a candidate may not answer whatever the moment, in the order in which it is looked at. */
export const LASTING_REFUSALS = [
  "model",
  "digest",
  "kind",
  "family",
  "cpu_class",
  "context",
  "jurisdiction",
  "jurisdiction_evidence",
  "price_unknown",
  "price_unbounded",
  "price",
  "mode",
  "attestation",
  "audit",
] as const;
/** Why it may not answer now. */
export const PASSING_REFUSALS = ["tried", "silent", "draining", "ejected", "trial", "full", "latency"] as const;
export type Refusal = (typeof LASTING_REFUSALS)[number] | (typeof PASSING_REFUSALS)[number];

const PASSING: ReadonlySet<Refusal> = new Set<Refusal>(PASSING_REFUSALS);

/** Refusals that say that the assurance is what is missing. */
export const ASSURANCE_REFUSALS: ReadonlySet<Refusal> = new Set<Refusal>(["mode", "attestation", "audit"]);

/** Limits with their texts turned into values, once for all candidates. */
export type PreparedLimits = {
  readonly models: ReadonlySet<string> | undefined;
  readonly families: readonly string[];
  readonly cpuClasses: readonly string[];
  readonly jurisdictions: readonly ReadonlySet<string>[];
  readonly evidence: readonly NonNullable<RouteRequest["limits"][number]["jurisdictionEvidence"]>[];
  /** In the units of {@link costOf}. */
  readonly maxCosts: readonly bigint[];
  readonly maxLatencyMs: number;
  readonly assurance: Assurance;
};

/**
 * The first limit that `candidate` breaks, or undefined when it may answer. Lasting limits come before passing ones, so
 * a passing refusal says that only the moment is wrong.
 */
export function refusalOf(
  candidate: Candidate,
  prediction: Prediction,
  request: RouteRequest,
  limits: PreparedLimits,
  { nowMs, policy }: { readonly nowMs: number; readonly policy: RoutePolicy },
): Refusal | undefined {
  if (limits.models && !serves(candidate, limits.models)) return "model";
  if (request.manifestDigest !== undefined && candidate.manifestDigest !== request.manifestDigest) return "digest";
  if (!candidate.kinds.includes(request.kind)) return "kind";
  if (limits.families.some((family) => candidate.family !== family)) return "family";
  if (limits.cpuClasses.some((cpuClass) => candidate.cpuClass !== cpuClass)) return "cpu_class";
  const { tokens } = request;
  if (candidate.contextTokens !== undefined && tokens.inputAtLeast > candidate.contextTokens) return "context";
  const { jurisdiction } = candidate;
  for (const countries of limits.jurisdictions)
    if (!jurisdiction || !countries.has(jurisdiction.country)) return "jurisdiction";
  for (const asked of limits.evidence)
    if (!jurisdiction || !evidenceSuffices(jurisdiction.evidence, asked)) return "jurisdiction_evidence";
  if (limits.maxCosts.length > 0) {
    if (!candidate.price) return "price_unknown";
    const atMost = costAtMost(candidate, tokens);
    if (atMost === undefined) return "price_unbounded";
    if (limits.maxCosts.some((most) => atMost > most)) return "price";
  }
  const mode = modeOf(limits.assurance);
  if (!candidate.securityModes.includes(mode)) return "mode";
  if (mode === "tee" && !isFresh(candidate, nowMs, policy)) return "attestation";
  if (limits.assurance === "vanilla+audit" && !candidate.auditable) return "audit";

  if (request.tried?.has(candidateName(candidate))) return "tried";
  if (candidate.lastSeenMs !== undefined && nowMs - candidate.lastSeenMs > HEARTBEAT.deadAfterMs) return "silent";
  if (candidate.draining === true) return "draining";
  const state = healthState(candidate.health, nowMs);
  if (state === "ejected") return "ejected";
  if (state === "trial" && candidate.load.inFlight > 0) return "trial";
  if (candidate.load.capacity !== undefined && prediction.depth >= candidate.load.capacity) return "full";
  const latencyMs = request.whole === true ? prediction.totalMs : prediction.firstByteMs;
  if (latencyMs > limits.maxLatencyMs) return "latency";
  return undefined;
}

/** What a request asks for beside its model and its work, taken away limit by limit. */
const LIFTED: Partial<Record<Refusal, Partial<PreparedLimits>>> = {
  family: { families: [] },
  cpu_class: { cpuClasses: [] },
  jurisdiction: { jurisdictions: [] },
  jurisdiction_evidence: { evidence: [] },
  price_unknown: { maxCosts: [] },
  price_unbounded: { maxCosts: [] },
  price: { maxCosts: [] },
};

/**
 * The lasting limits that `candidate` breaks besides `first`, which {@link refusalOf} found: what would still stand in
 * the way if the caller widened that one. Empty where no wider limit helps, as when the model does other work.
 */
export function furtherRefusals(
  first: Refusal,
  candidate: Candidate,
  prediction: Prediction,
  request: RouteRequest,
  limits: PreparedLimits,
  moment: { readonly nowMs: number; readonly policy: RoutePolicy },
): readonly Refusal[] {
  const found: Refusal[] = [];
  let left = limits;
  let refusal: Refusal | undefined = first;
  while (refusal !== undefined && LIFTED[refusal] !== undefined) {
    left = { ...left, ...LIFTED[refusal] };
    refusal = refusalOf(candidate, prediction, request, left, moment);
    if (refusal !== undefined && !PASSING.has(refusal)) found.push(refusal);
  }
  return found;
}

/** The most that the request can cost there, in the units of {@link costOf}; undefined when nothing bounds it. */
export function costAtMost(candidate: Candidate, tokens: TokenBounds): bigint | undefined {
  const { price } = candidate;
  if (!price) return undefined;
  const output = smallest(tokens.outputAtMost, candidate.maxOutputTokens, candidate.contextTokens);
  const input = smallest(tokens.inputAtMost, candidate.contextTokens);
  const costs = (rate: string | undefined): boolean => rate !== undefined && /[1-9]/.test(rate);
  if (input === undefined && costs(price.perMillionInputTokens)) return undefined;
  if (output === undefined && costs(price.perMillionOutputTokens)) return undefined;
  return costOf(price, { inputTokens: input ?? 0, outputTokens: (output ?? 0) * tokens.choices });
}

function serves(candidate: Candidate, models: ReadonlySet<string>): boolean {
  return models.has(candidate.model) || (candidate.aliases?.some((alias) => models.has(alias)) ?? false);
}

function isFresh(candidate: Candidate, nowMs: number, policy: RoutePolicy): boolean {
  const { attestation } = candidate;
  return (
    attestation !== undefined &&
    nowMs < attestation.expiresAtMs &&
    attestation.verifiedAtMs <= nowMs &&
    nowMs - attestation.verifiedAtMs <= policy.maxAttestationAgeMs
  );
}

function smallest(...values: readonly (number | undefined)[]): number | undefined {
  let least: number | undefined;
  for (const value of values) if (value !== undefined && (least === undefined || value < least)) least = value;
  return least;
}
