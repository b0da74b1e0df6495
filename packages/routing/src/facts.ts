import { bytesToHex, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { Candidate } from "./candidate.ts";
import type { Considered, Decision } from "./decide.ts";
import type { RouteRequest } from "./request.ts";

/** Candidates that a service statement lists; the rest are counted. The claim's own limit. */
export const MAX_LISTED = 64;

/** The service statement's `route`. */
export type RouteClaim = {
  readonly chosen: string;
  readonly objective: string;
  readonly candidates: readonly { readonly node: string; readonly outcome: string; readonly score?: number }[];
  readonly facts: Readonly<Record<string, string | number | boolean | Uint8Array | readonly string[]>>;
};

/** What a decision was derived from, to be named in its statement. */
export type DecisionSource = {
  readonly decidedAtMs: number;
  /** 32 bytes of {@link routeSeed}, and what it was made of. */
  readonly seed: Uint8Array;
  readonly requestId: Uint8Array;
  readonly checkpointRoot: Uint8Array;
};

/**
 * SHA-256 over everything that a decision looked at: with the same input and the same seed {@link decide} gives the same
 * answer, so whoever kept the input can show that it was followed. The preimage is canonical JSON (RFC 8785): one array
 * of the tag, the time, the request and every candidate, each an array of its members in the order below with `null` for
 * what is absent. Arrays alone have no keys to be sorted, so the engine's own writer gives that form at once.
 */
export function candidateSetDigest(
  suite: Pick<CryptoSuite, "sha256">,
  request: RouteRequest,
  candidates: readonly Candidate[],
  nowMs: number,
): Uint8Array {
  const input = [SET_TAG, nowMs, requestRow(request), candidates.map(candidateRow)];
  return suite.sha256(utf8ToBytes(JSON.stringify(input)));
}

const SET_TAG = "assay/candidate-set/1";

function requestRow({ kind, models, manifestDigest, limits, tokens, whole, tried }: RouteRequest): readonly unknown[] {
  return [
    kind,
    models,
    manifestDigest,
    limits.map((one) => [
      one.objective,
      one.mode,
      one.jurisdiction,
      one.jurisdictionEvidence,
      one.maxPrice,
      one.maxLatencyMs,
      one.family,
      one.cpuClass,
      one.valueAtRisk,
    ]),
    [tokens.inputAtLeast, tokens.inputAtMost, tokens.outputAtMost, tokens.choices],
    whole === true,
    [...(tried?.keys() ?? [])].toSorted(),
  ];
}

function candidateRow(one: Candidate): readonly unknown[] {
  const { attestation, jurisdiction, price, health, load, latency } = one;
  return [
    one.node,
    one.engine,
    one.model,
    one.version,
    one.manifestDigest,
    one.aliases,
    one.kinds,
    one.family,
    one.contextTokens,
    one.maxOutputTokens,
    one.securityModes,
    attestation && [attestation.verifiedAtMs, attestation.expiresAtMs],
    one.auditable,
    jurisdiction && [jurisdiction.country, jurisdiction.evidence],
    price && [price.asset, price.decimals, price.perCall, price.perMillionInputTokens, price.perMillionOutputTokens],
    one.cpuClass,
    one.accelerator,
    one.warm,
    [health.consecutiveFailures, health.errorRate, health.samples, health.ejections, health.ejectedUntilMs],
    [
      load.inFlight,
      load.slots,
      load.capacity,
      load.report && [load.report.depth, load.report.ownAtReport, load.report.atMs],
    ],
    latency && [latency.firstByteMs, latency.perTokenMs, latency.serviceMs, latency.samples],
    one.lastSeenMs,
    one.draining,
  ];
}

/** The `route` claim of a decision. `chosen` is the node that signs; candidates are named with their targets. */
export function routeClaim(decision: Decision, setDigest: Uint8Array, source: DecisionSource): RouteClaim {
  const { chosen, runnersUp, candidates, objective, facts } = decision;
  const refused = candidates.filter(({ outcome }) => outcome.startsWith("refused:"));
  const listed = [chosen, ...runnersUp, ...refused].slice(0, MAX_LISTED);
  return {
    chosen: chosen.candidate.node,
    objective,
    candidates: listed.map(entryOf),
    facts: {
      target: chosen.name,
      candidates: candidates.length,
      candidateSet: setDigest,
      weights: facts.weightsVersion,
      pool: facts.pool,
      compared: facts.compared,
      explored: facts.explored,
      decidedAtMs: source.decidedAtMs,
      requestId: bytesToHex(source.requestId),
      checkpointRoot: source.checkpointRoot,
      seed: source.seed,
    },
  };
}

function entryOf({ name, outcome, score }: Considered): RouteClaim["candidates"][number] {
  return { node: name, outcome, ...(score === undefined ? {} : { score }) };
}
