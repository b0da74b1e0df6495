import { AssayError, bytesToHex } from "@assay/core";
import type { SecurityMode, TextOutcome } from "@assay/protocol";
import { candidateSetDigest, modeOf, priceOf, routeClaim } from "@assay/routing";
import type { Candidate, Decision, DecisionSource, RouteRequest } from "@assay/routing";
import type { CryptoSuite } from "@assay/core";
import type { TextServiceParts } from "../openai/types.ts";

/** Everything that a decision was made of, kept until its answer is complete. */
export type Decided = {
  readonly decision: Decision;
  readonly request: RouteRequest;
  readonly candidates: readonly Candidate[];
  readonly source: DecisionSource;
  readonly policyDigest: Uint8Array;
  readonly contract?: string;
};

/**
 * What the service statement says of a route: the decision with what it looked at, the assurance asked and given, and the
 * price by the listing when one is known. Throws `assurance_unavailable` when the node ran the request in a weaker mode
 * than it was chosen for: such an answer gets no statement that says otherwise, and so no receipt.
 */
export function serviceParts(
  suite: Pick<CryptoSuite, "sha256">,
  { decision, request, candidates, source, policyDigest, contract }: Decided,
  outcome?: Pick<TextOutcome, "usage"> & { readonly mode?: SecurityMode },
): TextServiceParts {
  const { chosen, assurance } = decision;
  const mode = outcome?.mode ?? "vanilla";
  const demanded = modeOf(assurance.assurance);
  if (demanded !== "vanilla" && mode !== demanded)
    throw new AssayError(
      "assurance_unavailable",
      `The node ran the request in ${mode} mode where ${demanded} was demanded.`,
    );
  const route = routeClaim(decision, candidateSetDigest(suite, request, candidates, source.decidedAtMs), source);
  const { price } = chosen.candidate;
  const usage = {
    inputTokens: outcome?.usage.prompt_tokens ?? 0,
    outputTokens: outcome?.usage.completion_tokens ?? 0,
  };
  return {
    route: {
      ...route,
      facts: {
        ...route.facts,
        assurancePolicy: bytesToHex(policyDigest),
        ...(contract === undefined ? {} : { contract }),
        ...(assurance.auditShare === undefined ? {} : { auditShare: assurance.auditShare }),
      },
    },
    assurance: {
      asked: assurance.assurance,
      given: mode === "vanilla" ? assurance.assurance : mode,
      reason: assurance.reason,
    },
    ...(price ? { price: priceOf(price, usage) } : {}),
  };
}
