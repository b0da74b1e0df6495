import type { JsonValue } from "@assay/core";
import type { Call, ReadResult, ReadStep, TxLog, TxReceipt } from "@assay/driver-chain";
import type { Address, Hex } from "@assay/x402";

/** A contract's log, as a receipt or a search gives it; its data as `0x…`, which is how ABIs are read. */
export type ChainLog = Omit<TxLog, "data" | "transactionHash"> & {
  readonly data: Hex;
  readonly transaction: Hex;
};

/** What became of a mined transaction. */
export type ChainReceipt = Pick<TxReceipt, "blockNumber" | "ok" | "from" | "to" | "gasUsed"> & {
  readonly transaction: Hex;
  readonly logs: readonly ChainLog[];
};

/** The reads of a chain that settling needs. Every one throws `chain_unavailable` when the node does not answer. */
export type ChainReads = {
  readonly blockNumber: () => Promise<number>;
  /** Undefined when there is no block of this number. */
  readonly blockHash: (number: number) => Promise<Hex | undefined>;
  readonly blockGasLimit: () => Promise<bigint>;
  /** A call that changes nothing. A revert is a value: what it returned, and the node's words. */
  readonly call: (
    call: Call & { readonly from?: Address },
  ) => Promise<
    { readonly ok: true; readonly data: Hex } | { readonly ok: false; readonly data: Hex; readonly message: string }
  >;
  /** Gas that a transaction would take; undefined when it would revert. */
  readonly estimateGas: (call: Call & { readonly from: Address }) => Promise<bigint | undefined>;
  /** All steps at one block; one that reverted is not `ok`. */
  readonly read: (steps: readonly ReadStep[]) => Promise<readonly ReadResult[]>;
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
  readonly submit: (job: Call & { readonly jobId: string; readonly gasLimit: bigint }) => Promise<Hex>;
  readonly outcome: (jobId: string) => Promise<JobOutcome>;
};
