import { AssayError } from "@assay/core";
import type { Deployments } from "@assay/contracts";
import type { Address, Hex } from "@assay/x402";
import type { EngineOptions } from "./engine.ts";

/** Private keys of the accounts that settle, 32 bytes each as `0x…`. They travel in messages alone. */
export type SettlerKeys = {
  /** Sends settlements and pays their gas: an operator of the batcher. */
  readonly operator: Hex;
  /** Signs claims and refunds of our channels; the operator when absent. */
  readonly authorizer?: Hex;
  /** Posts and signs anchored batches; without it nothing is anchored. */
  readonly submitter?: Hex;
};

export type SettlerOptions = {
  /** Payments of one scheme and token that are sent without waiting for more; default 50. */
  readonly items?: number;
  /** How long the first payment of a group waits for company, milliseconds; default 2,000. */
  readonly afterMs?: number;
  /** How long the first charge on a channel waits for further ones, milliseconds; default 60,000. */
  readonly claimAfterMs?: number;
  /** Payments of at least this, in the asset's smallest unit, wait for nobody. */
  readonly immediateAbove?: Readonly<Record<Address, bigint>>;
  readonly tickMs?: number;
  readonly pollMs?: number;
  /** Blocks after which a transaction counts as final, its own included; default 1. */
  readonly confirmations?: number;
  /** How long another settler is waited for at the start, milliseconds; default 15,000. */
  readonly lockWaitMs?: number;
  /** How often splitters that hold something are made to pay out, milliseconds; default ten minutes, 0 for never. */
  readonly payoutEveryMs?: number;
  /** How often receipts are gathered into an anchored batch, milliseconds; default one minute, 0 for never. */
  readonly anchorEveryMs?: number;
  /** Receipts that are anchored without waiting for more; default 1,000. */
  readonly anchorLeaves?: number;
};

/** Everything that a settler is started with. */
export type SettlerSettings = {
  /** Of PostgreSQL; may hold a password. */
  readonly databaseUrl: string;
  /** Of the chain's node; may hold a credential. */
  readonly rpcUrl: string;
  readonly deployments: Deployments;
  readonly keys: SettlerKeys;
  readonly options: SettlerOptions;
};

export type Resolved = EngineOptions &
  Required<Pick<SettlerOptions, "confirmations" | "lockWaitMs" | "payoutEveryMs" | "anchorEveryMs" | "anchorLeaves">>;

/** Options with their defaults. Refuses what is out of range with `settler_options_invalid`. */
export function resolveOptions(options: SettlerOptions): Resolved {
  const resolved: Resolved = {
    items: options.items ?? 50,
    afterMs: options.afterMs ?? 2_000,
    claimAfterMs: options.claimAfterMs ?? 60_000,
    immediateAbove: options.immediateAbove ?? {},
    tickMs: options.tickMs ?? 250,
    pollMs: options.pollMs ?? 250,
    confirmations: options.confirmations ?? 1,
    lockWaitMs: options.lockWaitMs ?? 15_000,
    payoutEveryMs: options.payoutEveryMs ?? 600_000,
    anchorEveryMs: options.anchorEveryMs ?? 60_000,
    anchorLeaves: options.anchorLeaves ?? 1_000,
  };
  for (const [name, least] of [
    ["items", 1],
    ["afterMs", 0],
    ["claimAfterMs", 0],
    ["tickMs", 10],
    ["pollMs", 10],
    ["confirmations", 1],
    ["lockWaitMs", 0],
    ["payoutEveryMs", 0],
    ["anchorEveryMs", 0],
    ["anchorLeaves", 1],
  ] as const) {
    const value = resolved[name];
    if (!Number.isSafeInteger(value) || value < least || value > 86_400_000)
      throw new AssayError(
        "settler_options_invalid",
        `The settler's option ${name} is not a whole number from ${least} on.`,
      );
  }
  return resolved;
}
