import type { Listing, ListingSubject } from "@assay/protocol";
import type { Price } from "@assay/routing";
import type { RouterModules, Source } from "./sources.ts";

const prices = new WeakMap<Listing, { readonly decimals: number | undefined; readonly price: Price | undefined }>();

/** The listing that a source is charged under. */
export function subjectOf({ fullName }: Pick<Source, "fullName">): ListingSubject {
  return `model:${fullName}`;
}

/** Sources with the prices of their listings: what a model costs here is what is asked here, whatever a node says. */
export function withListings(
  modules: Pick<RouterModules, "listingOf" | "decimalsOf">,
  sources: readonly Source[],
): readonly Source[] {
  const { listingOf } = modules;
  if (!listingOf) return sources;
  return sources.map((source) => {
    const listing = listingOf(subjectOf(source));
    if (!listing) return source;
    const { price: _, ...rest } = source;
    const price = priceOfListing(listing, modules.decimalsOf);
    return { ...rest, ...(price ? { price } : {}) };
  });
}

/**
 * A listing as the router compares prices; undefined, which is unknown and satisfies no limit, when it asks for time as
 * well, which nobody can tell before. The same listing gives the same object, whose rates are read once.
 */
function priceOfListing(listing: Listing, decimalsOf: RouterModules["decimalsOf"]): Price | undefined {
  const decimals = decimalsOf?.(listing.asset);
  const known = prices.get(listing);
  if (known && known.decimals === decimals) return known.price;
  const { asset, perCall, perMillionInputTokens, perMillionOutputTokens, perSecond } = listing;
  const price: Price | undefined =
    perSecond !== undefined && /[1-9]/.test(perSecond)
      ? undefined
      : {
          asset,
          ...(decimals === undefined ? {} : { decimals }),
          ...(perCall === undefined ? {} : { perCall }),
          ...(perMillionInputTokens === undefined ? {} : { perMillionInputTokens }),
          ...(perMillionOutputTokens === undefined ? {} : { perMillionOutputTokens }),
        };
  prices.set(listing, { decimals, price });
  return price;
}
