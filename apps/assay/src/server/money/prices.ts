import { isLoopbackHost, refuseDevelopment } from "@assay/driver-chain";
import type { ListingSubject, Listings, PricedUse } from "@assay/protocol";
import { describe } from "@assay/service-gateway";
import { isFreeListing, openListings } from "@assay/service-ledger";
import { readFileIfThere, writeFileAtomic } from "../files.ts";
import { configuredChain, knownTokens } from "./chain-place.ts";
import type { MoneyConfig, MoneyModules } from "./money.ts";
import { askPrices, followPrices } from "./peer.ts";
import type { SharedPrices } from "./peer.ts";

/** What things cost here, in which tokens of which chain. */
export type Prices = {
  readonly listings: Listings;
  /** Tokens that a price can be in. */
  readonly tokens: readonly { readonly symbol: string; readonly decimals: number }[];
  /** What is known of the chain before it is open. */
  readonly configured: SharedPrices["configured"];
  readonly decimalsOf: (asset: string) => number | undefined;
  /** Whether nothing has a price. */
  readonly allFree: () => boolean;
  /** Whether a listing of what is asked for charges anything: looked up, because every call is asked about. */
  readonly mayCost: (use: Pick<PricedUse, "subjects" | "besides">) => boolean;
  readonly stop: () => void;
};

/**
 * Opens this home's prices, or follows those of the gateway that owns the log. `onPriced` is told when that one's have
 * changed and something has a price. Throws `listings_document_invalid`, `chain_file_invalid` and `development_key_refused`.
 */
export async function openPrices(
  config: MoneyConfig,
  { at, owner, host, now, logger }: MoneyModules,
  onPriced: () => void,
): Promise<Prices> {
  const shared = owner && (await askPrices(owner));
  if (shared) refuseShared(shared.configured, host);
  const tokens = shared?.assets ?? (await knownTokens(config.chain));
  const configured = shared?.configured ?? {
    ...(await configuredChain(config.chain)),
    development: config.chain.kind === "embedded",
  };
  const decimals = new Map(tokens.map((token) => [token.symbol, token.decimals]));
  const followed =
    owner &&
    followPrices(
      owner,
      shared?.listings ?? [],
      () => {
        changed(undefined);
        if (priced.size > 0) onPriced();
      },
      (error) => logger.warn({ err: describe(error) }, "behind the prices"),
    );
  const list: Listings =
    followed ??
    (await openListings(
      {
        read: async () => {
          const text = await readFileIfThere(at("prices.json"));
          return text === undefined ? undefined : new TextEncoder().encode(text);
        },
        write: (bytes) => writeFileAtomic(at("prices.json"), bytes),
      },
      { now, assets: tokens },
    ));
  // Asked at every call, so it is found out when the list changes.
  let priced = pricedIn(list);
  const changed = <T>(value: T): T => {
    priced = pricedIn(list);
    return value;
  };
  return {
    listings: {
      ...list,
      put: async (listing) => changed(await list.put(listing)),
      remove: async (subject) => changed(await list.remove(subject)),
    },
    tokens,
    configured,
    decimalsOf: (asset) => decimals.get(asset),
    allFree: () => priced.size === 0,
    mayCost: ({ subjects, besides = [] }) =>
      subjects.some((subject) => priced.has(subject)) || besides.some(({ subject }) => priced.has(subject)),
    stop: () => followed?.stop(),
  };
}

/** A development chain under a public chain's number is for this machine alone, whichever gateway of it has the chain. */
function refuseShared({ chainId, development }: SharedPrices["configured"], host: string): void {
  if (development && chainId !== 31337 && !isLoopbackHost(host))
    refuseDevelopment({ chainId, rpcUrl: `http://${host}` });
}

/** What is listed for more than nothing. */
function pricedIn(listings: Pick<Listings, "list">): ReadonlySet<ListingSubject> {
  return new Set(
    listings
      .list()
      .filter((listing) => !isFreeListing(listing))
      .map(({ subject }) => subject),
  );
}
