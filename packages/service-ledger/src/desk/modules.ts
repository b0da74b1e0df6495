import type { Deployments } from "@assay/contracts";
import type { Chain, ChannelOnChain, FactsQuery, PayerFacts } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import type { Listings } from "@assay/protocol";
import type { Address, EvmSuite, Hex } from "@assay/x402";

/** What is asked of a chain about a payer before work is done; the allowance is Permit2's. */
export type FactsAsked = Omit<FactsQuery, "spender">;

/** What a chain says of a payer. Undefined is what the token does not know. */
export type FactsFound = Omit<PayerFacts, "blockNumber" | "timestampS" | "assetCodeBytes">;

/** What a chain says of a channel. */
export type ChannelFacts = ChannelOnChain;

/** The chain as the desk asks it. Every method throws `chain_unavailable` while nobody answers. */
export type DeskChain = Pick<Chain, "isValidSignature" | "isValidUndeployed"> & {
  readonly payerFacts: (asked: FactsAsked) => Promise<FactsFound>;
  readonly channel: (channelId: Hex) => Promise<ChannelFacts>;
};

export type DeskEvent =
  /** The log holds two receipts for one payment: the first was charged, this one is not. It must never happen. */
  | { readonly type: "doubled"; readonly paymentId: Hex; readonly logIndex: number }
  /** An instruction in the log could not be read; its payment is not settled. */
  | { readonly type: "unreadable"; readonly logIndex: number; readonly error: unknown }
  /** The rows could not be brought up to the log; it is tried again. */
  | { readonly type: "behind"; readonly error: unknown }
  /** A claim could not be taken back; it is when the same payment comes again, or at the next start. */
  | { readonly type: "stuck"; readonly paymentId: Hex; readonly error: unknown };

export type DeskModules = {
  readonly database: Database;
  readonly listings: Pick<Listings, "get">;
  readonly suite: EvmSuite;
  /** Without one nothing is asked of a chain, and payers are trusted up to {@link DeskOptions.maxUnsettledPerPayer}. */
  readonly chain?: DeskChain;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /**
   * Claims what was charged on a channel and gives its payer the rest, or `amountAtomic` of it; resolves once a block has
   * it. Without it refunds are refused.
   */
  readonly refund?: (
    channelId: Hex,
    amountAtomic?: bigint,
  ) => Promise<{ readonly transaction: Hex; readonly amountAtomic: bigint }>;
  /** Told of payments that became due, for the settler. */
  readonly onDue?: (paymentIds: readonly Hex[]) => void;
  readonly onEvent?: (event: DeskEvent) => void;
};

export type DeskOptions = {
  readonly deployments: Pick<Deployments, "network" | "chainId" | "paymentBatcher" | "tokens" | "schemes">;
  /** Who earns what no listing gives to others. */
  readonly payTo: Address;
  /** Who settles fixed and metered payments when it is not the batcher: somebody else's facilitator, as it says of itself. */
  readonly settledBy?: {
    /** Whom metered payments name; without one they are not offered. */
    readonly upto: Address | undefined;
    readonly exact: boolean;
    /** Whether it takes permits of Permit2's allowance along. */
    readonly sponsors: boolean;
  };
  /** Signs claims and refunds of channels. Without one channels are not offered. */
  readonly receiverAuthorizer?: Address;
  /** A name without a slash: this gateway among those that share the database: it releases what its dead predecessors left. */
  readonly gateway: string;
  /** Of this process, random. */
  readonly bootId: string;
  /**
   * By symbol, atomic units: what one payer may owe while no chain says what it has. One whole token when absent.
   */
  readonly maxUnsettledPerPayer?: Readonly<Record<string, bigint>>;
  /** What all of them together may owe then, until the chain answers again: a hundred whole tokens when absent. */
  readonly maxUnsettledOnTrust?: Readonly<Record<string, bigint>>;
  /** The same for payers whose balance the chain has told: a hundred whole tokens when absent. */
  readonly maxVerifiedUnsettledPerPayer?: Readonly<Record<string, bigint>>;
  /** How long a copy of a payment waits for what becomes of the first, milliseconds; a minute when absent. */
  readonly copyWaitMs?: number;
  /** Factories whose accounts may pay before they are deployed (ERC-6492), lower case. None when absent. */
  readonly factories?: readonly Address[];
  /** Seconds that a channel's payer waits for a withdrawal; 900 to 2,592,000. A day when absent. */
  readonly withdrawDelayS?: number;
};
