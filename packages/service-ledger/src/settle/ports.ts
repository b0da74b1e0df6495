import type { JsonValue } from "@assay/core";
import type { Address, Hex } from "@assay/x402";

/** A contract's log, as a receipt or a search gives it. */
export type ChainLog = {
  readonly address: Address;
  readonly topics: readonly Hex[];
  readonly data: Hex;
  readonly blockNumber: number;
  readonly transaction: Hex;
  readonly logIndex: number;
};

/** What became of a mined transaction. */
export type ChainReceipt = {
  readonly transaction: Hex;
  readonly blockNumber: number;
  readonly ok: boolean;
  readonly from: Address;
  readonly to: Address | undefined;
  readonly gasUsed: bigint;
  readonly logs: readonly ChainLog[];
};

/** The reads of a chain that settling needs. Every one throws `chain_unavailable` when the node does not answer. */
export type ChainReads = {
  readonly blockNumber: () => Promise<number>;
  /** Undefined when there is no block of this number. */
  readonly blockHash: (number: number) => Promise<Hex | undefined>;
  readonly blockGasLimit: () => Promise<bigint>;
  /** A call that changes nothing. A revert is a value: what it returned, and the node's words. */
  readonly call: (call: {
    readonly from?: Address;
    readonly to: Address;
    readonly data: Hex;
  }) => Promise<
    { readonly ok: true; readonly data: Hex } | { readonly ok: false; readonly data: Hex; readonly message: string }
  >;
  /** Gas that a transaction would take; undefined when it would revert. */
  readonly estimateGas: (call: {
    readonly from: Address;
    readonly to: Address;
    readonly data: Hex;
  }) => Promise<bigint | undefined>;
  readonly logs: (filter: {
    readonly address: Address;
    readonly topics: readonly (Hex | null)[];
    readonly fromBlock: number;
    readonly toBlock: number;
  }) => Promise<readonly ChainLog[]>;
  readonly receipt: (transaction: Hex) => Promise<ChainReceipt | undefined>;
};

/** What became of a job's transaction, whichever of its attempts was mined. */
export type JobOutcome =
  | { readonly state: "none" | "pending" | "dropped" }
  | {
      readonly state: "mined" | "final" | "reverted";
      readonly transaction: Hex;
      readonly blockNumber: number;
    };

/** What somebody else's facilitator answers to a payment that it is to settle. */
export type OutsideResult = {
  readonly success: boolean;
  /** `0x…`, or empty when there is none. */
  readonly transaction: string;
  readonly errorReason?: string;
  readonly errorMessage?: string;
};

/**
 * Has a payment settled by somebody else. Both are wire documents of x402 v2; the requirement names what is charged. The
 * same request again asks for the outcome. Throws what is wrong with the way there (`facilitator_…`); the money may have
 * moved all the same.
 */
export type SettleOutside = (request: {
  readonly payload: JsonValue;
  readonly requirements: JsonValue;
}) => Promise<OutsideResult>;

/** Sends transactions that arrive: one a job, whatever is tried again. */
export type TransactionSender = {
  readonly address: Address;
  /**
   * Signs, writes down and sends the job's transaction, unless that was done before; answers its hash. A node that is away
   * hears of it later.
   */
  readonly submit: (job: {
    readonly jobId: string;
    readonly to: Address;
    readonly data: Hex;
    readonly gasLimit: bigint;
  }) => Promise<Hex>;
  readonly outcome: (jobId: string) => Promise<JobOutcome>;
};
