import type { TxReceipt } from "@assay/driver-chain";
import type { Address, Hex } from "@assay/x402";

/** What became of a job. A receipt is of the transaction that had an effect. */
export type JobOutcome =
  | { readonly state: "pending"; readonly transaction?: Hex }
  | { readonly state: "mined" | "final" | "reverted"; readonly receipt: TxReceipt }
  | { readonly state: "dropped" };

/** Sends transactions of one account. The same job is one transaction however often it is submitted. */
export type Sender = {
  readonly address: Address;
  readonly submit: (job: {
    readonly jobId: string;
    readonly to: Address;
    readonly data: Uint8Array;
    readonly gasLimit?: bigint;
  }) => Promise<unknown>;
  readonly outcome: (jobId: string) => Promise<JobOutcome>;
};
