import type { Address, EvmSigner, Hex, Network } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import type { TxReceipt } from "../rpc/types.ts";

/**
 * `signed`: written down, perhaps sent. `sent`: a node took it. `mined`: in a block that may still vanish. `final` and
 * `reverted`: in a block with enough others on top. `replaced`: another attempt of the same nonce is final. `dropped`: its
 * nonce was used by something else, so that it can never be mined.
 */
export type TxState = "signed" | "sent" | "mined" | "final" | "replaced" | "reverted" | "dropped";

/** One signed transaction: an attempt of a job. All attempts of a job have one nonce, so at most one is ever mined. */
export type TxRecord = {
  readonly jobId: string;
  /** From 0. */
  readonly attempt: number;
  readonly network: Network;
  readonly sender: Address;
  readonly nonce: number;
  readonly hash: Hex;
  /** The signed bytes (EIP-2718). */
  readonly raw: Uint8Array;
  /** `maxFeePerGas`, wei. */
  readonly maxFee: bigint;
  readonly state: TxState;
  readonly blockNumber?: number | undefined;
  readonly blockHash?: Hex | undefined;
  readonly gasUsed?: bigint | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
};

export type TxKey = Pick<TxRecord, "network" | "sender" | "nonce" | "attempt">;
export type TxChange = Pick<TxRecord, "state" | "blockNumber" | "blockHash" | "gasUsed" | "updatedAtMs">;

/**
 * The write-ahead journal of transactions (`assay.chain_transactions`). One sender at a time writes for a network and
 * account. Lists are ordered by nonce, then attempt.
 */
export type TxJournal = {
  /** Durable when this resolves. Rejects when the key (network, sender, nonce, attempt) is there already. */
  readonly append: (record: TxRecord) => Promise<void>;
  /** Fields that are undefined in `change` become absent. */
  readonly change: (key: TxKey, change: TxChange) => Promise<void>;
  readonly ofJob: (network: Network, sender: Address, jobId: string) => Promise<readonly TxRecord[]>;
  /** What is `signed`, `sent` or `mined`. */
  readonly open: (network: Network, sender: Address) => Promise<readonly TxRecord[]>;
  /** Everything with this nonce or a higher one, at most `limit` records. */
  readonly from: (network: Network, sender: Address, nonce: number, limit: number) => Promise<readonly TxRecord[]>;
  readonly lastNonce: (network: Network, sender: Address) => Promise<number | undefined>;
};

export type TxJob = {
  /** Names the job for ever: the same id is sent once, whatever happens. At most 200 characters. */
  readonly jobId: string;
  readonly to: Address;
  readonly data: Uint8Array;
  /** Wei; none when absent. */
  readonly value?: bigint;
  /** Estimated when absent, which is also a rehearsal: a transaction that would revert is refused. */
  readonly gasLimit?: bigint;
};

/** What is known once a job is written down: it will be sent until it is mined. The hash changes when it is re-priced. */
export type TxHandle = { readonly jobId: string; readonly nonce: number; readonly hash: Hex };

export type TxProblem = "insufficient_funds" | "fee_above_limit" | "refused" | "receipt_missing";

export type TxOutcome =
  | {
      readonly state: "pending";
      readonly nonce: number;
      readonly hash: Hex;
      readonly attempts: number;
      readonly problem?: TxProblem;
    }
  /** In a block that may vanish; `receipt.ok` says whether it did what it should. */
  | { readonly state: "mined"; readonly nonce: number; readonly hash: Hex; readonly receipt: TxReceipt }
  | { readonly state: "final"; readonly nonce: number; readonly hash: Hex; readonly receipt: TxReceipt }
  | { readonly state: "reverted"; readonly nonce: number; readonly hash: Hex; readonly receipt: TxReceipt }
  /** It never happened and never will: a new job may do the same. */
  | { readonly state: "dropped"; readonly nonce: number };

export type SenderEvent =
  | { readonly type: "tx_repriced"; readonly jobId: string; readonly nonce: number; readonly attempt: number }
  /** A mined transaction is in its block no more; it is sent again. */
  | { readonly type: "tx_reorganised"; readonly jobId: string; readonly nonce: number }
  | { readonly type: "tx_gap_filled"; readonly nonce: number }
  | { readonly type: "tx_dropped"; readonly jobId: string; readonly nonce: number }
  | { readonly type: "tx_problem"; readonly jobId: string; readonly problem: TxProblem; readonly message: string }
  /** The poller could not do its work; tried again. */
  | { readonly type: "tx_poll_failed"; readonly cause: unknown };

export type SenderOptions = {
  /** Blocks in which a transaction must be buried, its own included, to count as final. Default 1. */
  readonly confirmations?: number;
  /** How often the chain is looked at while something is under way. Default 250 ms. */
  readonly pollMs?: number;
  /** How long the lowest open nonce may wait for a block before its price is raised. Default 30 s. */
  readonly stuckMs?: number;
  /** How long until a transaction that is in no block is sent again. Default 5 s. */
  readonly resendMs?: number;
  /**
   * How long a used nonce may have no receipt before it counts as used by somebody else, which lets its job be done again by
   * another. Longer than any node of the chain lags behind. Default 20 s.
   */
  readonly dropMs?: number;
  /** Highest `maxFeePerGas`, wei. Default 500 gwei. */
  readonly maxFeePerGas?: bigint;
  /** Largest gas limit of one transaction. Default 16,777,216 (EIP-7825). */
  readonly maxGas?: bigint;
  readonly nowMs?: () => number;
  readonly onEvent?: (event: SenderEvent) => void;
};

export type SenderParts = {
  readonly chain: Chain;
  readonly signer: EvmSigner;
  readonly journal: TxJournal;
  readonly options?: SenderOptions;
};

export type Sender = {
  readonly address: Address;
  /**
   * Takes up what the journal has under way. Done by the first submit as well. Throws `chain_rewound` when the chain knows
   * less than the journal by more than a reorganisation would explain, and what the chain's methods throw.
   */
  readonly start: () => Promise<void>;
  /**
   * Writes a job down and sends it; from then on it is seen through, across restarts, until it is final. The same job id
   * again gives what is there already. Throws `transaction_reverts` (in the rehearsal), `transaction_unfunded`,
   * `transaction_too_large`, `transaction_queue_full`, `transaction_job_conflict`, `transaction_invalid` and
   * `transaction_fee_above_limit`, all before anything was written down.
   */
  readonly submit: (job: TxJob) => Promise<TxHandle>;
  /** What became of a job; undefined when it was never written down. */
  readonly outcome: (jobId: string) => Promise<TxOutcome | undefined>;
  /** Waits until a job is final, reverted or dropped, or with `until: "mined"` in a block. */
  readonly wait: (
    jobId: string,
    options?: { readonly until?: "mined" | "final"; readonly signal?: AbortSignal },
  ) => Promise<TxOutcome>;
  /** Tries to use up the job's nonce without effect. Whichever is mined first wins; {@link Sender.outcome} tells. */
  readonly cancel: (jobId: string) => Promise<void>;
  readonly status: () => { readonly open: number; readonly nextNonce: number | undefined };
  /** Looks at the chain now. */
  readonly kick: () => void;
  /** Stops looking; what is under way is taken up by the next one. */
  readonly close: () => Promise<void>;
};
