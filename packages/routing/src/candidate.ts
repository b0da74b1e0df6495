import type { JurisdictionEvidence, SecurityMode } from "@assay/protocol";
import type { Health } from "./health.ts";
import type { Price } from "./price.ts";

/** What can be routed: OpenAI's three kinds of text work, and tensors. */
export const ROUTED_KINDS = ["chat", "completion", "embedding", "tensor"] as const;
export type RoutedKind = (typeof ROUTED_KINDS)[number];

/** Where a node is, and how that is known. `country` is ISO 3166-1 alpha-2. */
export type Jurisdiction = { readonly country: string; readonly evidence: JurisdictionEvidence };

/** When a node's attestation was verified here, and until when it may be relied on; milliseconds since 1970. */
export type Attestation = { readonly verifiedAtMs: number; readonly expiresAtMs: number };

/** Moving averages of one model on one node. Milliseconds; `perTokenMs` is the time from one token to the next. */
export type Latency = {
  readonly firstByteMs: number;
  readonly perTokenMs: number;
  /** From the start to the end of one request, waiting excluded as far as this gateway could see. */
  readonly serviceMs: number;
  readonly samples: number;
};

/** How busy a node's engine is: what this gateway counts itself, and what the node said last. */
export type Load = {
  /** Requests that this gateway sent there and that have not ended: exact at any moment. */
  readonly inFlight: number;
  /** Requests that run at the same time before others wait; absent when unknown, then nobody is assumed to wait. */
  readonly slots?: number;
  /** Most requests, running and waiting, that may be there; beyond it the candidate is full. */
  readonly capacity?: number;
  /**
   * The node's last report: requests running and waiting there (`depth`), how many of them were this gateway's when
   * the report arrived, and when that was by this gateway's clock.
   */
  readonly report?: { readonly depth: number; readonly ownAtReport: number; readonly atMs: number };
};

/** One way to answer: a model on an engine of a node, with everything that limits and scores look at. */
export type Candidate = {
  /** `urn:assay:node:…` of the party that signs. */
  readonly node: string;
  /** `local` for models of the hub, else the name of an upstream configured there. */
  readonly engine: string;
  /** The model's name for the engine. */
  readonly model: string;
  readonly version?: string;
  /** Lower-case hex; absent where no digest identifies the model (upstreams). */
  readonly manifestDigest?: string;
  /** Other names it answers to. */
  readonly aliases?: readonly string[];
  readonly kinds: readonly RoutedKind[];
  readonly family?: string;
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  readonly securityModes: readonly SecurityMode[];
  readonly attestation?: Attestation;
  /** Whether an answer can be executed again and compared: what `vanilla+audit` needs. */
  readonly auditable: boolean;
  readonly jurisdiction?: Jurisdiction;
  /** Absent means unknown, which satisfies no price limit. */
  readonly price?: Price;
  readonly cpuClass?: string;
  readonly accelerator?: string;
  /** Whether the model is loaded there already. */
  readonly warm: boolean;
  readonly health: Health;
  readonly load: Load;
  /** Absent for a model that this gateway has not yet used there. */
  readonly latency?: Latency;
  /** When a remote node was last heard of; absent for the node of this process. */
  readonly lastSeenMs?: number;
  /** Whether the node said that it takes nothing new. */
  readonly draining?: boolean;
};

/** One model that a node offers, as it advertises it. */
export type NodeOffer = {
  readonly engine: string;
  readonly model: string;
  readonly version?: string;
  readonly manifestDigest?: string;
  readonly aliases?: readonly string[];
  readonly kinds: readonly RoutedKind[];
  readonly family?: string;
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  readonly price?: Price;
  readonly warm?: boolean;
  readonly auditable?: boolean;
};

/** A node as the gateway knows it: its admitted descriptor and its last heartbeat. */
export type NodeCandidate = {
  readonly subject: string;
  readonly securityModes: readonly SecurityMode[];
  readonly attestation?: Attestation;
  readonly jurisdiction?: Jurisdiction;
  readonly cpuClass?: string;
  readonly accelerator?: string;
  readonly slots?: number;
  readonly capacity?: number;
  /** Requests running and waiting there by its last heartbeat; absent before the first. */
  readonly reportedDepth?: number;
  /** When that heartbeat arrived, by this gateway's clock. */
  readonly lastSeenMs: number;
  readonly draining?: boolean;
  readonly offers: readonly NodeOffer[];
};

/** The candidate's name in decisions and receipts: node and target. */
export function candidateName(candidate: Pick<Candidate, "node" | "engine" | "model" | "version">): string {
  const { node, engine, model, version } = candidate;
  return `${node}#${engine}/${model}${version === undefined ? "" : `@${version}`}`;
}
