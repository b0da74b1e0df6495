import { AssayError } from "@assay/core";
import { splitAddressOf } from "@assay/contracts";
import type { TokenInfo } from "@assay/contracts";
import type { BesideUse, ListedPayee, Listing, ListingSubject, MeteredUse, PricedUse, Quote } from "@assay/protocol";
import { offeredExtensions } from "@assay/x402";
import type { Address, PaymentRequired, PaymentRequirements } from "@assay/x402";
import { amountOf, isFreeListing } from "../listings/amounts.ts";
import { WHOLE_BASIS_POINTS } from "../listings/listing.ts";
import { DEFAULT_WITHDRAW_DELAY_S, MAX_TIMEOUT_SECONDS, MIN_DEPOSIT_QUOTES } from "./limits.ts";
import type { DeskModules, DeskOptions } from "./modules.ts";

/** What a quote stands on. The listings are those of its moment: a price that changes meanwhile changes nothing. */
type Terms = {
  readonly token: TokenInfo;
  readonly listings: ReadonlyMap<ListingSubject, Listing>;
  /** The dearest of them for this use, which the cap is of; undefined when there is none. */
  readonly bound: Omit<ChargedPart, "amountAtomic"> | undefined;
  /** The most that each of the services beside can cost; the rest of the cap is that of `listings`. */
  readonly besides: ReadonlyMap<ListingSubject, { readonly listing: Listing; readonly capAtomic: bigint }>;
  readonly payTo: Address;
  /** Who shares what arrives at `payTo`, the gateway's rest included; empty when nobody does. */
  readonly payees: readonly ListedPayee[];
  /** In the order in which clients try them: metered first, or they would all pay the cap. */
  readonly accepts: readonly PaymentRequirements[];
};

/** A quote of this desk. */
export type DeskQuote = Quote & { readonly terms: Terms };

/** What is charged by one listing. */
export type ChargedPart = {
  readonly subject: ListingSubject;
  readonly listing: Listing;
  readonly amountAtomic: bigint;
};

/** Prices uses. */
export type Pricing = {
  readonly quote: (use: PricedUse) => DeskQuote | undefined;
  /** What was used, by the listing of `subject` and those of the services beside: each at most its share of the cap. */
  readonly metered: (
    quote: DeskQuote,
    subject: ListingSubject,
    used: MeteredUse,
    besides: readonly BesideUse[],
  ) => readonly ChargedPart[];
  /** All of the cap, for an answer under the listing of `subject`. */
  readonly whole: (quote: DeskQuote, subject: ListingSubject) => readonly ChargedPart[];
  /** What a GET on a resource without a price of its own may be paid in: every token, for nothing in particular. */
  readonly anything: (use: PricedUse) => DeskQuote | undefined;
  readonly required: (quote: DeskQuote, error: string, accepts?: readonly PaymentRequirements[]) => PaymentRequired;
};

/** How to do without what is charged beside an answer. */
const WITHOUT: Readonly<Partial<Record<ListingSubject, string>>> = {
  "service:openings": "Leave out assay-retention: server-encrypted, and keep what opens the receipt yourself.",
  "service:anchoring": "Leave out x-settlement-type: individual; the receipt is anchored with others within a minute.",
};

/** Prices by listings, in the tokens of one chain. */
export function createPricing(
  { listings, suite }: Pick<DeskModules, "listings" | "suite">,
  options: DeskOptions,
): Pricing {
  const { deployments } = options;
  const tokens = new Map(deployments.tokens.map((token) => [token.symbol, token]));
  // A splitter's address is three hashes; the same few lists of payees stand in every quote.
  const splitters = new WeakMap<
    readonly ListedPayee[],
    { readonly payTo: Address; readonly payees: readonly ListedPayee[] }
  >();

  const payeesOf = (
    priced: readonly Listing[],
  ): { readonly payTo: Address; readonly payees: readonly ListedPayee[] } => {
    const own = { payTo: options.payTo, payees: [] };
    const [first, ...rest] = priced.map(({ payees }) => payees ?? []);
    // Who signs a payment names who gets it before it is known which model answers: shares that differ cannot be named.
    if (!first || first.length === 0 || rest.some((payees) => !samePayees(payees, first))) return own;
    const known = splitters.get(first);
    if (known) return known;
    const left = WHOLE_BASIS_POINTS - first.reduce((sum, { basisPoints }) => sum + basisPoints, 0);
    const payees = left === 0 ? first : [...first, { address: options.payTo, basisPoints: left }];
    const split = { payTo: splitAddressOf(suite.keccak256, payees), payees };
    splitters.set(first, split);
    return split;
  };

  const listed = (subject: ListingSubject): Listing | undefined => {
    const listing = listings.get(subject);
    return listing && !isFreeListing(listing) ? listing : undefined;
  };

  /** What the answer itself is charged under; none when everything that may answer is free. */
  const mainOf = (quote: DeskQuote, subject: ListingSubject): Omit<ChargedPart, "amountAtomic"> | undefined => {
    if (!quote.use.subjects.includes(subject)) throw new TypeError(`${subject} is not one of the quote's subjects.`);
    const own = quote.terms.listings.get(subject);
    if (own) return { subject, listing: own };
    // What answered is free, and another could have: the listing that bounds the quote stands for it.
    return quote.terms.bound;
  };

  return {
    quote(use) {
      const found = new Map<ListingSubject, Listing>();
      for (const subject of use.subjects) {
        const listing = listed(subject);
        if (listing) found.set(subject, listing);
      }
      const beside = (use.besides ?? []).flatMap(({ subject, used }) => {
        const listing = listed(subject);
        return listing ? [{ subject, listing, used }] : [];
      });
      const priced = [...found.values()];
      const [first] = [...priced, ...beside.map(({ listing }) => listing)];
      if (!first) return undefined;
      if (priced.some(({ asset }) => asset !== first.asset))
        throw new AssayError("payment_unavailable", "The models that may answer are priced in different tokens.", {
          hints: ["Name one of the models, or price those of one contract in the same token."],
        });
      const token = tokens.get(first.asset);
      if (!token)
        throw new AssayError(
          "payment_unavailable",
          `The price is in ${first.asset}, which this gateway does not take.`,
        );
      const other = beside.find(({ listing }) => listing.asset !== first.asset);
      if (other)
        throw new AssayError(
          "payment_unavailable",
          `The answer is priced in ${first.asset} and ${other.subject} in ${other.listing.asset}: one payment is in one token.`,
          {
            hints: [
              WITHOUT[other.subject] ?? `Do without ${other.subject}.`,
              `If you operate this gateway, price ${other.subject} in ${first.asset}.`,
            ],
          },
        );
      let capAtomic = 0n;
      let bound: Terms["bound"];
      for (const [subject, listing] of found) {
        const used = use.mostOf?.get(subject) ?? use.most;
        if (isByToken(listing) && used.inputTokens === undefined && used.outputTokens === undefined)
          throw new AssayError(
            "kind_unsupported",
            `What ${subject} costs is counted in tokens, and tensors have none.`,
            {
              hints: ["Ask it with text: /v1/chat/completions, /v1/completions or /v1/embeddings."],
            },
          );
        const most = amountOf(listing, token.decimals, used);
        if (bound && most <= capAtomic) continue;
        capAtomic = most;
        bound = { subject, listing };
      }
      const besides = new Map<ListingSubject, { readonly listing: Listing; readonly capAtomic: bigint }>();
      for (const { subject, listing, used } of beside) {
        const most = amountOf(listing, token.decimals, used);
        besides.set(subject, { listing, capAtomic: most });
        capAtomic += most;
      }
      if (capAtomic === 0n) return undefined;
      // One payment has one recipient: who shares the answer's price shares what is charged beside it in the same way.
      const { payTo, payees } = payeesOf(priced);
      const accepts = acceptsOf(token, capAtomic, payTo, options);
      const terms = { token, listings: found, bound, besides, payTo, payees, accepts };
      return { use, asset: token.symbol, capAtomic, terms };
    },
    anything(use) {
      const [token] = deployments.tokens;
      if (!token) return undefined;
      const accepts = deployments.tokens.flatMap((each) => acceptsOf(each, 1n, options.payTo, options));
      const terms = {
        token,
        listings: new Map(),
        bound: undefined,
        besides: new Map(),
        payTo: options.payTo,
        payees: [],
        accepts,
      };
      return { use, asset: token.symbol, capAtomic: 1n, terms };
    },
    metered(quote, subject, used, besides) {
      const { token, listings: found, besides: beside } = quote.terms;
      const main = mainOf(quote, subject);
      const own = found.get(subject);
      const amount = own ? amountOf(own, token.decimals, used) : 0n;
      const extra = besides.flatMap((one): ChargedPart[] => {
        const priced = beside.get(one.subject);
        if (!priced) return [];
        const cost = amountOf(priced.listing, token.decimals, one.used);
        return [{ subject: one.subject, listing: priced.listing, amountAtomic: least(cost, priced.capAtomic) }];
      });
      return [...(main ? [{ ...main, amountAtomic: least(amount, mainCap(quote)) }] : []), ...extra];
    },
    whole(quote, subject) {
      const main = mainOf(quote, subject);
      const extra = [...quote.terms.besides].map(([one, { listing, capAtomic }]): ChargedPart => ({
        subject: one,
        listing,
        amountAtomic: capAtomic,
      }));
      return [...(main ? [{ ...main, amountAtomic: mainCap(quote) }] : []), ...extra];
    },
    required: ({ use, terms }, error, accepts) => ({
      x402Version: 2,
      error,
      resource: use.resource,
      accepts: accepts ?? terms.accepts,
      extensions: offeredExtensions({
        eip2612: terms.token.eip2612 && (options.settledBy?.sponsors ?? true),
        identifier: "optional",
      }),
    }),
  };
}

function acceptsOf(
  token: TokenInfo,
  capAtomic: bigint,
  payTo: Address,
  { deployments, receiverAuthorizer, withdrawDelayS, settledBy }: DeskOptions,
): readonly PaymentRequirements[] {
  const facilitatorAddress = settledBy ? settledBy.upto : deployments.paymentBatcher;
  const base = {
    network: deployments.network,
    amount: capAtomic.toString(),
    asset: token.address,
    payTo,
    maxTimeoutSeconds: MAX_TIMEOUT_SECONDS,
  };
  const domain = { name: token.name, version: token.version };
  const transfer = token.eip3009 ? {} : ({ assetTransferMethod: "permit2" } as const);
  const accepts = [
    ...(facilitatorAddress === undefined
      ? []
      : [
          {
            ...base,
            scheme: "upto" as const,
            extra: { ...domain, assetTransferMethod: "permit2" as const, facilitatorAddress },
          },
        ]),
    ...(receiverAuthorizer === undefined
      ? []
      : [
          {
            ...base,
            scheme: "batch-settlement" as const,
            extra: {
              ...domain,
              ...transfer,
              receiverAuthorizer,
              withdrawDelay: withdrawDelayS ?? DEFAULT_WITHDRAW_DELAY_S,
              minDeposit: (capAtomic * MIN_DEPOSIT_QUOTES).toString(),
            },
          },
        ]),
    ...(settledBy?.exact === false ? [] : [{ ...base, scheme: "exact" as const, extra: { ...domain, ...transfer } }]),
  ];
  // What the chain has no contracts for could be signed and never settled.
  return accepts.filter(({ scheme }) => deployments.schemes?.includes(scheme) ?? true);
}

/** Whether a price is one of tokens and of nothing else. */
function isByToken({ perCall, perSecond, perMillionInputTokens, perMillionOutputTokens }: Listing): boolean {
  const charges = (rate: string | undefined): boolean => rate !== undefined && /[1-9]/.test(rate);
  return (
    !charges(perCall) && !charges(perSecond) && (charges(perMillionInputTokens) || charges(perMillionOutputTokens))
  );
}

/** The share of the cap that is the answer's own. */
function mainCap({ capAtomic, terms }: DeskQuote): bigint {
  let cap = capAtomic;
  for (const beside of terms.besides.values()) cap -= beside.capAtomic;
  return cap;
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function samePayees(a: readonly ListedPayee[], b: readonly ListedPayee[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ address, basisPoints }, i) => address === b[i]?.address && basisPoints === b[i].basisPoints)
  );
}
