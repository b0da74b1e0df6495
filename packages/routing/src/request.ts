import type { RoutingOptions } from "@assay/protocol";
import type { RoutedKind } from "./candidate.ts";
import type { AssurancePolicy } from "./assurance.ts";

/** What a request may use of tokens. An upper bound that is absent is not known, which no price limit accepts. */
export type TokenBounds = {
  /** Tokens that the input has at least: only what was sent as token ids is certain. */
  readonly inputAtLeast: number;
  readonly inputAtMost?: number;
  /** Tokens of one choice at most, as the caller limited them. */
  readonly outputAtMost?: number;
  readonly choices: number;
};

/** What to route. Every entry of `limits` must hold: the caller's, and those of the contract that was named. */
export type RouteRequest = {
  readonly kind: RoutedKind;
  /** Models that would do, by name or alias; absent for any. */
  readonly models?: readonly string[];
  /** The model's identity, when the name has one here: then nothing else may run. */
  readonly manifestDigest?: string;
  readonly limits: readonly RoutingOptions[];
  readonly tokens: TokenBounds;
  /** Whether the answer comes in one piece: its first byte is then as late as its last. */
  readonly whole?: boolean;
  /** Candidates (by {@link candidateName}) that were tried and failed, with what they said. */
  readonly tried?: ReadonlyMap<string, string>;
};

/** The operator's side of a decision. */
export type RoutePolicy = {
  readonly assurance: AssurancePolicy;
  /** Oldest verification of an attestation that counts as fresh, milliseconds. */
  readonly maxAttestationAgeMs: number;
};

/** A day: long enough that an outage of a certificate service stops nobody, short enough to follow revocations. */
export const MAX_ATTESTATION_AGE_MS = 24 * 60 * 60 * 1000;
