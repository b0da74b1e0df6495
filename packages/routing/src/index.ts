export { candidateName, ROUTED_KINDS } from "./candidate.ts";
export type {
  Attestation,
  Candidate,
  Jurisdiction,
  Latency,
  Load,
  NodeCandidate,
  NodeOffer,
  RoutedKind,
} from "./candidate.ts";
export { isDecimal, parseDecimal } from "./decimal.ts";
export { costToDecimal, isFree, isPrice, priceOf } from "./price.ts";
export type { Price, PriceClaim, TokenCount } from "./price.ts";
export { evidenceSuffices, expandJurisdictions, REGIONS } from "./jurisdiction.ts";
export type { Region } from "./jurisdiction.ts";
export { afterOutcome, healthState, UNKNOWN_HEALTH } from "./health.ts";
export type { Health, HealthState } from "./health.ts";
export { afterAnswer, DEFAULT_LATENCY, HEARTBEAT, median, predict } from "./predict.ts";
export type { Prediction } from "./predict.ts";
export { ASSURANCES, checkAssurancePolicy, DEFAULT_ASSURANCE_POLICY, MAX_TIERS, modeOf } from "./assurance.ts";
export type { Assurance, AssurancePolicy, AssuranceTier, DemandedAssurance } from "./assurance.ts";
export { MAX_ATTESTATION_AGE_MS } from "./request.ts";
export type { RoutePolicy, RouteRequest, TokenBounds } from "./request.ts";
export { LASTING_REFUSALS } from "./limits.ts";
export type { Refusal } from "./limits.ts";
export { WEIGHTS } from "./score.ts";
export type { Weights, WeightTable } from "./score.ts";
export { routeSeed, seededDraw } from "./draws.ts";
export type { Draw } from "./draws.ts";
export { tokenBounds } from "./estimate.ts";
export { consider, decide, EPSILON, EXPLORE_PER_MILLE, MAX_CANDIDATES } from "./decide.ts";
export type { Consideration, Considered, DecideContext, Decision, DecisionFacts, Outcome } from "./decide.ts";
export { candidateSetDigest, MAX_LISTED, routeClaim } from "./facts.ts";
export type { DecisionSource, RouteClaim } from "./facts.ts";
