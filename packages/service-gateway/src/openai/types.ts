import type { ListingSubject, ParsedText, PricedUse, TextExecutor, TextOutcome, TextTarget } from "@assay/protocol";
import type { ServiceClaims } from "@assay/receipts";

/** Who asks: an owner behind a token, or nobody in particular. `principal` is what the receipt says of them. */
export type TextCaller = {
  readonly owner?: string;
  readonly principal?: { readonly caller: string; readonly authentication: "token" | "payment" | "signature" };
  /** Where the connection comes from: what a limit for callers without a token can go by. */
  readonly remoteAddress?: string;
  /** How the caller wants its payment settled, in OpenGradient's words. */
  readonly settlement?: "private" | "batch" | "individual";
};

/** What the router contributes to the service statement. */
export type TextServiceParts = Pick<
  ServiceClaims,
  "route" | "policy" | "price" | "payment" | "assurance" | "promises" | "extensions"
>;

/** How a try ended, for the router's statistics: `failed` with the error's code, the others with what was measured. */
export type TextEnd = { readonly code?: string; readonly outcome?: TextOutcome };

/** One candidate that the router chose for one try. */
export type Routed = {
  /** Names the candidate, to be excluded from the next try when this one fails before its first frame. */
  readonly candidate: string;
  readonly executor: TextExecutor;
  readonly target: TextTarget;
  /** The listing that it is charged under, where anything is. */
  readonly subject?: ListingSubject;
  /** Asked once, when the answer is complete: prices depend on what was used. */
  readonly service: (outcome: TextOutcome) => TextServiceParts;
  /** The execution begins. Always followed by exactly one `ended`. */
  readonly started: () => void;
  /** The first frame is here; at most once. */
  readonly firstByte: () => void;
  /** The try is over: answered, failed (nobody's fault but the candidate's, or with a refusal's code), or left by the client. */
  readonly ended: (how: "ok" | "failed" | "cancelled", facts?: TextEnd) => void;
};

/**
 * Chooses who answers. Throws `model_not_found` and its own refusals (no candidate within the caller's limits, too many
 * requests of one caller); with `exclude` it must not choose one of those candidates again.
 */
export type TextRouter = {
  readonly route: (
    parsed: ParsedText,
    caller: TextCaller,
    options: {
      readonly exclude: ReadonlySet<string>;
      readonly signal: AbortSignal;
      /** Listings that were quoted: what is charged under another may not be chosen. */
      readonly subjects?: ReadonlySet<ListingSubject>;
    },
  ) => Promise<Routed>;
  /**
   * What a request may be charged for at most, before it is routed: listings of everything that could answer it, and what
   * it can use, for at most `milliseconds`. Throws as `route` does for names that stand for nothing. Without it nothing is
   * charged.
   */
  readonly priced?: (parsed: ParsedText, caller: TextCaller, milliseconds?: number) => Promise<PricedText>;
};

/** Listings that may apply to a request, and the most that it can use: of any of them, and of each. */
export type PricedText = Pick<PricedUse, "subjects" | "most"> & Required<Pick<PricedUse, "mostOf">>;
