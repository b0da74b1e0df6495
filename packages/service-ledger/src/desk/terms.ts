import { AssayError } from "@assay/core";
import { splitAddressOf } from "@assay/contracts";
import type { TokenInfo } from "@assay/contracts";
import type { ListedPayee, Listing, ListingSubject, MeteredUse, PricedUse, Quote } from "@assay/protocol";
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
  readonly payTo: Address;
  /** Who shares what arrives at `payTo`, the gateway's rest included; empty when nobody does. */
  readonly payees: readonly ListedPayee[];
  /** In the order in which clients try them: metered first, or they would all pay the cap. */
  readonly accepts: readonly PaymentRequirements[];
};

/** A quote of this desk. */
export type DeskQuote = Quote & { readonly terms: Terms };

/** Prices uses. */
export type Pricing = {
  readonly quote: (use: PricedUse) => DeskQuote | undefined;
  /** What is charged by the listing of `subject`, at most the cap. */
  readonly charge: (quote: DeskQuote, subject: ListingSubject, used: MeteredUse) => bigint;
  /** What a GET on a resource without a price of its own may be paid in: every token, for nothing in particular. */
  readonly anything: (use: PricedUse) => DeskQuote | undefined;
  readonly required: (quote: DeskQuote, error: string, accepts?: readonly PaymentRequirements[]) => PaymentRequired;
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

  return {
    quote(use) {
      const found = new Map<ListingSubject, Listing>();
      for (const subject of use.subjects) {
        const listing = listings.get(subject);
        if (listing && !isFreeListing(listing)) found.set(subject, listing);
      }
      const priced = [...found.values()];
      const [first] = priced;
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
      let capAtomic = 0n;
      for (const listing of priced) {
        const most = amountOf(listing, token.decimals, use.most);
        if (most > capAtomic) capAtomic = most;
      }
      if (capAtomic === 0n) return undefined;
      const { payTo, payees } = payeesOf(priced);
      const accepts = acceptsOf(token, capAtomic, payTo, options);
      return { use, asset: token.symbol, capAtomic, terms: { token, listings: found, payTo, payees, accepts } };
    },
    anything(use) {
      const [token] = deployments.tokens;
      if (!token) return undefined;
      const accepts = deployments.tokens.flatMap((each) => acceptsOf(each, 1n, options.payTo, options));
      const terms = { token, listings: new Map<ListingSubject, Listing>(), payTo: options.payTo, payees: [], accepts };
      return { use, asset: token.symbol, capAtomic: 1n, terms };
    },
    charge({ use, capAtomic, terms }, subject, used) {
      if (!use.subjects.includes(subject)) throw new TypeError(`${subject} is not one of the quote's subjects.`);
      const listing = terms.listings.get(subject);
      const amount = listing ? amountOf(listing, terms.token.decimals, used) : 0n;
      return amount < capAtomic ? amount : capAtomic;
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
  return [
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
}

function samePayees(a: readonly ListedPayee[], b: readonly ListedPayee[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ address, basisPoints }, i) => address === b[i]?.address && basisPoints === b[i].basisPoints)
  );
}
