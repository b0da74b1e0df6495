import { AssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Listing, Listings, ListingSubject } from "@assay/protocol";
import { amountOf } from "./amounts.ts";
import { assertSold, isListingSubject, listingJson, parseListing } from "./listing.ts";

/** Where the listings are kept. `write` replaces the document at once: a crash leaves the old one or the new one. */
export type ListingFile = {
  /** Undefined when it was never written. */
  readonly read: () => Promise<Uint8Array | undefined>;
  readonly write: (bytes: Uint8Array) => Promise<void>;
};

export type ListingsOptions = {
  readonly now: () => number;
  /** Symbols of the tokens that are taken, with their decimals. */
  readonly assets: readonly { readonly symbol: string; readonly decimals: number }[];
};

/** Listings of one gateway at most: a list is rewritten whole at each change. */
export const MAX_LISTINGS = 4096;
const MAX_BYTES = 8 * 1024 * 1024;
const VERSION = 1;

/**
 * Opens the price list: prices of everything that can be bought, in memory and on disk; a subject without a listing is
 * free. `put` throws `listing_invalid`, `listing_asset_unknown` for a token that this gateway does not take, and
 * `listings_full`. A file that cannot be read is refused with `listings_document_invalid`: going on with an empty
 * list would give away for nothing what its owner set a price on.
 */
export async function openListings(file: ListingFile, options: ListingsOptions): Promise<Listings> {
  const bytes = await file.read();
  let held = bytes === undefined ? new Map<ListingSubject, Listing>() : decode(bytes);
  let last: Promise<void> = Promise.resolve();

  /** Changes are made one after the other, and seen once they are on disk. */
  const change = async <T>(work: (next: Map<ListingSubject, Listing>) => T): Promise<T> => {
    const before = last;
    let done = (): void => undefined;
    last = new Promise((resolve) => {
      done = resolve;
    });
    await before;
    try {
      const next = new Map(held);
      const result = work(next);
      await file.write(encode(next));
      held = next;
      return result;
    } finally {
      done();
    }
  };

  return {
    get: (subject) => held.get(subject),
    list: () => [...held.values()].toSorted((a, b) => (a.subject < b.subject ? -1 : 1)),
    async put(listing) {
      const parsed = parseListing(listingJson({ ...listing, changedAtMs: options.now() }));
      assertSold(parsed);
      const asset = options.assets.find(({ symbol }) => symbol === parsed.asset);
      if (!asset)
        throw new AssayError("listing_asset_unknown", `This gateway takes no ${parsed.asset}.`, {
          hints: [`It takes ${options.assets.map(({ symbol }) => symbol).join(", ") || "no token at all"}.`],
        });
      // Whatever a price is made of is read here once, so that no call finds it unreadable.
      amountOf(parsed, asset.decimals, {});
      return change((next) => {
        if (!next.has(parsed.subject) && next.size >= MAX_LISTINGS)
          throw new AssayError("listings_full", `There are ${MAX_LISTINGS} listings, which is the most.`, {
            hints: ["Remove a listing that nobody uses."],
          });
        next.set(parsed.subject, parsed);
        return parsed;
      });
    },
    remove(subject) {
      if (!isListingSubject(subject) || !held.has(subject)) return Promise.resolve(false);
      return change((next) => next.delete(subject));
    },
  };
}

function encode(listings: ReadonlyMap<ListingSubject, Listing>): Uint8Array {
  const document = { version: VERSION, listings: [...listings.values()].map(listingJson) };
  return new TextEncoder().encode(`${JSON.stringify(document, undefined, 2)}\n`);
}

function decode(bytes: Uint8Array): Map<ListingSubject, Listing> {
  try {
    const json = parseJson(bytes, { maxBytes: MAX_BYTES, maxDepth: 8 });
    const { version, listings } = (typeof json === "object" && json !== null ? json : {}) as Record<string, JsonValue>;
    if (version !== VERSION || !Array.isArray(listings) || listings.length > MAX_LISTINGS)
      throw new TypeError(`The document is not version ${VERSION} of a price list.`);
    return new Map(
      (listings as readonly JsonValue[]).map((item) => {
        const listing = parseListing(item);
        return [listing.subject, listing];
      }),
    );
  } catch (cause) {
    throw new AssayError("listings_document_invalid", "The stored price list cannot be read.", {
      hints: ["Restore the file from a copy, or move it away to start without prices."],
      cause,
    });
  }
}
