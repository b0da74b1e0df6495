import type { PaymentRequired } from "@assay/x402";

/** What one request used, or the most that it can use. Absent is none. */
export type MeteredUse = {
  readonly inputTokens?: number;
  readonly outputTokens?: number;
  /** Time in the engine. */
  readonly milliseconds?: number;
  /** Bytes kept, times whole days. */
  readonly byteDays?: number;
};

/**
 * What a listing is for: a model by its name (`model:me/net`), or one of the gateway's own services (`service:storage`,
 * `service:openings`, `service:anchoring`, `service:verification`, `service:audit`; `service:proving`, which nothing sells yet).
 */
export type ListingSubject =
  | `model:${string}`
  | `service:${"storage" | "openings" | "anchoring" | "verification" | "audit" | "proving"}`;

/** A share of what a listing earns, in 1/10,000. The rest is the gateway's. */
export type ListedPayee = { readonly address: `0x${string}`; readonly basisPoints: number };

/** The one format of prices: decimal texts in units of `asset`. What is absent costs nothing. */
export type Listing = {
  readonly subject: ListingSubject;
  /** Symbol of a configured token: `USDC`, `ASY`. */
  readonly asset: string;
  readonly perCall?: string;
  readonly perMillionInputTokens?: string;
  readonly perMillionOutputTokens?: string;
  readonly perSecond?: string;
  readonly perGigabyteDay?: string;
  /** At most 8; together at most 10,000. */
  readonly payees?: readonly ListedPayee[];
  readonly owner: string;
  readonly changedAtMs: number;
};

/** Where listings are kept. Who may change which is the gateway's to say. */
export type Listings = {
  readonly get: (subject: ListingSubject) => Listing | undefined;
  readonly list: () => readonly Listing[];
  /** Puts a listing in the place of the one before, durably. Throws `listing_invalid`. */
  readonly put: (listing: Omit<Listing, "changedAtMs">) => Promise<Listing>;
  /** Whether there was one. */
  readonly remove: (subject: ListingSubject) => Promise<boolean>;
};

/** A service that a request asks for beside what it is about: charged by a listing of its own, on top. */
export type BesideUse = { readonly subject: ListingSubject; readonly used: MeteredUse };

/** What is about to be done for a request, before it is. */
export type PricedUse = {
  /** Listings that may apply: the dearest of them bounds the quote. */
  readonly subjects: readonly ListingSubject[];
  readonly most: MeteredUse;
  /** The most under single listings, where it is not `most`: a model that can write much makes no other one dearer. */
  readonly mostOf?: ReadonlyMap<ListingSubject, MeteredUse>;
  /** Each at its most; what it costs is added to the quote. None of `subjects` is among them. */
  readonly besides?: readonly BesideUse[];
  readonly resource: { readonly url: string; readonly description?: string; readonly mimeType?: string };
};

/** A price that a request can be asked to pay. Opaque to the gateway but for what it says. */
export type Quote = {
  readonly use: PricedUse;
  readonly asset: string;
  /** The most that is charged, in the asset's smallest unit. */
  readonly capAtomic: bigint;
};

/** The headers of a request that pay for it, as they came. */
export type PaymentHeaders = {
  readonly "payment-signature"?: string | undefined;
  readonly "x-payment"?: string | undefined;
  readonly "idempotency-key"?: string | undefined;
  readonly "x-settlement-type"?: string | undefined;
};

/** An answer that is to be given again: its receipt, whose record keeps it. */
export type PaidBefore = {
  readonly kind: "replay";
  readonly payer: string;
  readonly receiptId: string;
  readonly logIndex: number;
};

/** What a receipt's record becomes durable with. */
export type DurableReceipt = {
  readonly receiptId: string;
  readonly logIndex: number;
  /** Lower-case hex. */
  readonly executionDigest: string;
  readonly serviceDigest: string;
};

/** The service statement's `payment`: who pays, by which signed payment, and how it will be settled. */
export type PaymentClaim = {
  readonly payer: string;
  readonly paymentId: string;
  readonly scheme: string;
  readonly network: string;
  readonly amountAtomic: string;
  readonly asset: string;
  readonly settlement: string;
  readonly payTo: string;
};

/**
 * The service statement's `price`: amountAtomic times `unit` is the amount of `asset`; `rateSource` names the listing, or is
 * `parts` when several were charged, each with its share of the amount.
 */
export type ListedPriceClaim = {
  readonly amountAtomic: string;
  readonly asset: string;
  readonly rateSource: string;
  readonly unit: string;
  readonly parts?: readonly {
    readonly amountAtomic: string;
    readonly subject: string;
    readonly rateSource: string;
  }[];
};

/** What is charged, fixed: it becomes true with the record that carries `instruction`, and not before. */
export type Charge = {
  readonly amountAtomic: bigint;
  readonly payment: PaymentClaim;
  readonly price: ListedPriceClaim;
  /** What the ledger needs to settle it, kept in the record beside the receipt; opaque to the gateway. */
  readonly instruction: Uint8Array;
  /** Headers of the answer, and the JSON of a stream's `x402-settlement` event. */
  readonly headers: Readonly<Record<string, string>>;
  readonly event: string;
  /** To be told once the record is durable. */
  readonly durable: (receipt: DurableReceipt) => void;
};

/** A payment that was verified and is taken: nobody else can use it until it is charged or released. */
export type OpenPayment = {
  readonly kind: "open";
  readonly payer: `0x${string}`;
  /** CAIP-2 id of the chain that it is settled on: with the payer's address it names the caller. */
  readonly network: `eip155:${number}`;
  readonly paymentId: string;
  readonly scheme: "exact" | "upto" | "batch-settlement";
  readonly settlement: "private" | "batch" | "individual";
  /**
   * Until when the work has to be done, milliseconds since 1970: what the payer signed ends soon after, and what is charged
   * later than that could not be settled.
   */
  readonly untilMs: number;
  /** Headers of an answer whose amount is not known yet: a stream's. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Fixes the amount, once: metered schemes pay for `used` under the listing of `subject` and for what of the quote's
   * `besides` was used, each at most its cap; `exact` pays its price. `subject` is one of the quote's.
   */
  readonly charge: (subject: ListingSubject, used: MeteredUse, besides?: readonly BesideUse[]) => Charge;
  /** Gives the payment back unused: the work failed, or no receipt could be written. Idempotent; not after `durable`. */
  readonly release: () => Promise<void>;
};

/** An answer of the desk's own, without any work: a channel's rest was given back. */
export type PaymentDone = {
  readonly kind: "done";
  readonly status: 200;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON. */
  readonly body: string;
};

/** A refusal to work before payment: status 402, or another when the payment itself is at fault. */
export type PaymentProblem = {
  readonly status: 400 | 402 | 409 | 412 | 503;
  readonly code: string;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly required?: PaymentRequired;
};

/** Takes payments for a gateway. */
export type PaymentDesk = {
  /** The price of a use; undefined when it is free. Throws `payment_unavailable` when nobody could settle it. */
  readonly quote: (use: PricedUse) => Quote | undefined;
  /**
   * Verifies what the headers pay for the quote and takes it; `fingerprint` (SHA-256 of method, path and body, 32 bytes)
   * is what the payment is bound to. Without a payment, and with a faulty one, the answer is a problem to send.
   */
  readonly take: (
    quote: Quote,
    headers: PaymentHeaders,
    request: { readonly fingerprint: Uint8Array; readonly signal: AbortSignal },
  ) => Promise<OpenPayment | PaidBefore | { readonly kind: "problem"; readonly problem: PaymentProblem }>;
  /**
   * Serves a GET on a paid resource: channels' clients ask there what they could pay, and for their channel's rest back.
   * Without a payment the answer is the 402 that a request would get (`use` may be of nothing in particular: then every
   * token is offered); with a signed refund the rest is given back once a block has it. Any other payment is refused.
   * Absent where channels are not offered.
   */
  readonly refund?: (
    use: PricedUse,
    headers: PaymentHeaders,
    signal: AbortSignal,
  ) => Promise<PaymentDone | { readonly kind: "problem"; readonly problem: PaymentProblem }>;
};
