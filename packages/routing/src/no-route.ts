import { AssayError } from "@assay/core";
import { withRetryAfter } from "@assay/protocol";
import type { DemandedAssurance } from "./assurance.ts";
import type { Considered } from "./decide.ts";
import { ASSURANCE_REFUSALS, PASSING_REFUSALS } from "./limits.ts";
import type { Refusal } from "./limits.ts";
import type { RouteRequest } from "./request.ts";

/** What is said of one candidate, and of several. */
const WORDS: Readonly<Record<Refusal, readonly [one: string, several: string]>> = {
  model: ["serves another model", "serve another model"],
  digest: ["holds another version of the model", "hold another version of the model"],
  kind: ["does another kind of work", "do another kind of work"],
  family: ["is of another family", "are of another family"],
  cpu_class: ["has another CPU class", "have another CPU class"],
  context: ["has too short a context", "have too short a context"],
  jurisdiction: ["is not known to be where the request may go", "are not known to be where the request may go"],
  jurisdiction_evidence: ["has weaker evidence of where it is", "have weaker evidence of where they are"],
  price_unknown: ["has no known price", "have no known price"],
  price_unbounded: [
    "has a price that nothing in the request bounds",
    "have a price that nothing in the request bounds",
  ],
  price: ["may cost more than the limit", "may cost more than the limit"],
  mode: ["does not offer the mode that is demanded", "do not offer the mode that is demanded"],
  attestation: ["has no fresh attestation", "have no fresh attestation"],
  audit: ["cannot be audited by executing again", "cannot be audited by executing again"],
  tried: ["was tried and failed", "were tried and failed"],
  silent: ["was not heard of lately", "were not heard of lately"],
  draining: ["takes nothing new", "take nothing new"],
  ejected: ["failed too often and rests", "failed too often and rest"],
  trial: ["is on trial after failures", "are on trial after failures"],
  full: ["is full", "are full"],
  latency: ["would be too late with its first byte", "would be too late with their first byte"],
};

const HINTS: Partial<Record<Refusal, string>> = {
  kind: "Ask at the route that fits the model: chat, completions or embeddings.",
  jurisdiction: "Widen assay.jurisdiction, or have nodes declare where they are.",
  price_unknown: "Ask for a model with a listed price, or leave maxPrice out.",
  price_unbounded: "Name max_tokens; images and files have no bound before an engine counts them.",
  price: "Name a smaller max_tokens, or a higher maxPrice.",
  latency: "Allow more with maxLatencyMs, or try again when less is under way.",
};

const AGAIN_MS = 1_000;

/**
 * The refusal when every candidate was removed: what a caller can do about it decides its code. The sentence counts
 * each candidate under its outcome, and after "besides" under `further`, the other limits that candidates break.
 */
export function noRoute(
  request: RouteRequest,
  found: readonly Considered[],
  further: readonly Refusal[],
  { assurance, reason }: DemandedAssurance,
  nowMs: number,
): AssayError {
  const counts = countsOf(found.map(({ outcome }) => outcome.slice("refused:".length) as Refusal));
  const besides = countsOf(further);
  const why =
    counts.size === 0
      ? "there are no candidates"
      : `${inWords(counts)}${besides.size === 0 ? "" : `; besides, ${inWords(besides)}`}`;
  const hints = [...new Set([...counts.keys(), ...besides.keys()])].flatMap((refusal) => HINTS[refusal] ?? []);
  if (counts.size === 1 && counts.has("kind"))
    return new AssayError("kind_unsupported", `Nothing of this name does ${kindWords(request)}.`, { hints });
  const passing = PASSING_REFUSALS.filter((refusal) => counts.has(refusal));
  if (passing.some((refusal) => refusal !== "tried" && refusal !== "latency"))
    return withRetryAfter(
      new AssayError("nodes_unavailable", `Nobody can answer at the moment: ${why}.`, {
        hints: ["Send the request again after the time in retry-after.", ...hints],
      }),
      soonestMs(found, nowMs),
    );
  // Only where nothing else stood in the way: these limits are looked at after all other lasting ones.
  if (passing.length === 0 && [...counts.keys()].some((refusal) => ASSURANCE_REFUSALS.has(refusal)))
    return new AssayError("assurance_unavailable", `Nobody here gives ${assurance}: ${why}.`, {
      hints: [reason, "It is not lowered silently; ask for less, or add a node that offers it."],
    });
  const nobody =
    found.length === 1 ? "The only candidate may not answer" : `None of ${found.length} candidates may answer`;
  return new AssayError("no_route", `${nobody}: ${why}.`, { hints });
}

function countsOf(refusals: readonly Refusal[]): ReadonlyMap<Refusal, number> {
  const counts = new Map<Refusal, number>();
  for (const refusal of refusals) counts.set(refusal, (counts.get(refusal) ?? 0) + 1);
  return counts;
}

function inWords(counts: ReadonlyMap<Refusal, number>): string {
  return [...counts].map(([refusal, count]) => `${count} ${WORDS[refusal][count === 1 ? 0 : 1]}`).join(", ");
}

/** When the first of those that rest is back; a second where somebody may be free at any moment. */
function soonestMs(found: readonly Considered[], nowMs: number): number {
  let soonest = Infinity;
  for (const { outcome, candidate } of found) {
    if (outcome === "refused:ejected") soonest = Math.min(soonest, candidate.health.ejectedUntilMs - nowMs);
    else if (PASSING_REFUSALS.some((refusal) => refusal !== "tried" && outcome === `refused:${refusal}`))
      soonest = Math.min(soonest, AGAIN_MS);
  }
  return Number.isFinite(soonest) ? Math.max(AGAIN_MS, soonest) : AGAIN_MS;
}

function kindWords({ kind }: RouteRequest): string {
  return { chat: "chat", completion: "completions", embedding: "embeddings", tensor: "tensors" }[kind];
}
