import type { JsonValue } from "@assay/core";
import type { Address, SettlementResponse, VerifyResponse } from "@assay/x402";

export type JsonObject = { readonly [key: string]: JsonValue };

/** Who asks, once a token said so. */
export type FacilitatorCaller = {
  readonly id: string;
  /** Who may be paid by what this caller has settled. */
  readonly payTo: "any" | readonly Address[];
};

/** x402 `VerifyResponse`: a payment that fails a check is a value with its reason, not an error. */
export type VerifyResult = VerifyResponse & { readonly extra?: JsonObject };

/**
 * x402 `SettlementResponse`. The network is written as the request wrote it: CAIP-2 in v2, a name in v1. `errorReason`
 * `settlement_pending` with a transaction is not the end: the same request again asks for the outcome.
 */
export type SettleResult = Omit<SettlementResponse, "network" | "extra"> & {
  readonly network: string;
  readonly extra?: JsonObject;
};

export type SupportedKind = {
  readonly x402Version: 1 | 2;
  readonly scheme: string;
  readonly network: string;
  readonly extra?: JsonObject;
};

/** Answer of `GET /supported`. */
export type Supported = {
  readonly kinds: readonly SupportedKind[];
  readonly extensions: readonly string[];
  /** Addresses that transactions come from, by CAIP-2 pattern. */
  readonly signers: Readonly<Record<string, readonly string[]>>;
};

/** One resource that takes payments, as the discovery extension lists it. */
export type DiscoveredResource = {
  readonly resource: string;
  readonly type: string;
  readonly x402Version: number;
  readonly accepts: readonly JsonValue[];
  /** ISO 8601. */
  readonly lastUpdated: string;
  readonly metadata?: JsonObject;
};

export type DiscoveryQuery = { readonly type?: string; readonly limit?: number; readonly offset?: number };

/** Answer of `GET /discovery/resources`. */
export type DiscoveryPage = {
  readonly x402Version: 2;
  readonly items: readonly DiscoveredResource[];
  readonly pagination: { readonly limit: number; readonly offset: number; readonly total: number };
};

/** State of each chain that is served. */
export type FacilitatorHealth = {
  readonly status: "ok" | "degraded" | "down";
  readonly networks: readonly { readonly network: string; readonly up: boolean; readonly code?: string }[];
};

/**
 * Verifies and settles payments: this package's own, or somebody else's behind a URL. Payloads and requirements are the
 * wire documents of x402 v1 and v2. What is wrong with a payment is a result; `AssayError` is for what is wrong with the
 * request, the caller or the way to the chain.
 */
export type Facilitator = {
  readonly verify: (
    payload: JsonValue,
    requirements: JsonValue,
    request?: { readonly caller?: FacilitatorCaller; readonly signal?: AbortSignal },
  ) => Promise<VerifyResult>;
  readonly settle: (
    payload: JsonValue,
    requirements: JsonValue,
    request?: { readonly caller?: FacilitatorCaller; readonly signal?: AbortSignal },
  ) => Promise<SettleResult>;
  readonly supported: () => Promise<Supported>;
  readonly discovery: (query?: DiscoveryQuery) => Promise<DiscoveryPage>;
  readonly health: () => Promise<FacilitatorHealth>;
};
