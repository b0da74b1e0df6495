import { bytesToHex, canonicalJson } from "@assay/core";
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
 * SHA-256 over everything that a decision looked at, as canonical JSON (RFC 8785): with the same input and the same seed
 * {@link decide} gives the same answer, so whoever kept the input can show that it was followed.
 */
export function candidateSetDigest(
  suite: Pick<CryptoSuite, "sha256">,
  request: RouteRequest,
  candidates: readonly Candidate[],
  nowMs: number,
): Uint8Array {
  const { tried, ...asked } = request;
  const input = { request: { ...asked, tried: [...(tried?.keys() ?? [])].toSorted() }, candidates, nowMs };
  return suite.sha256(canonicalJson(input));
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
