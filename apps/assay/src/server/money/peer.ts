import type { OpenAPIHono } from "@hono/zod-openapi";
import { AssayError, isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { ChainDocument, Listing, Listings, ListingSubject } from "@assay/protocol";
import type { NodeRegistry } from "@assay/service-gateway";
import { listingJson, parseListing } from "@assay/service-ledger";
import { z } from "zod";
import { address, token } from "./chain-place.ts";
import type { ChainPlace } from "./chain-place.ts";

/** Asks the gateway that owns the log, as one that it let in. Undefined when it has no such path. */
export type AskOwner = (path: string) => Promise<JsonValue | undefined>;

/** What a second gateway follows of the first one's prices. */
export type SharedPrices = {
  readonly listings: readonly Listing[];
  readonly assets: readonly { readonly symbol: string; readonly decimals: number }[];
  readonly configured: Pick<ChainDocument, "network" | "chainId" | "development">;
};

/** What a second gateway takes payments on. */
type SharedChain = Pick<ChainPlace, "rpcUrl" | "deployments" | "payTo" | "receiverAuthorizer">;

const PRICES = "/internal/money/prices";
const CHAIN = "/internal/money/chain";
const ON_ANOTHER_CHAIN =
  "On a chain that is not its own the second gateway needs ASSAY_CHAIN, ASSAY_CHAIN_FILE, ASSAY_CHAIN_KEYS and ASSAY_PAY_TO too.";
/** Prices of the first gateway hold at the second after so long, milliseconds. */
const FOLLOW_MS = 2_000;

const network = z
  .string()
  .regex(/^eip155:\d{1,18}$/)
  .transform((text) => text as `eip155:${number}`);
const pricesWire = z.object({
  prices: z.array(z.json()).max(10_000),
  assets: z.array(z.object({ symbol: z.string().max(64), decimals: z.int().min(0).max(77) })).max(128),
  configured: z.object({ network, chainId: z.int().min(1), development: z.boolean() }),
});
const contracts = {
  permit2: address,
  exactPermit2Proxy: address,
  uptoPermit2Proxy: address,
  batchSettlement: address,
  erc3009DepositCollector: address,
  permit2DepositCollector: address,
  multicall3: address,
  paymentBatcher: address,
  receiptAnchor: address,
  splitFactory: address,
};
const chainWire = z.object({
  rpcUrl: z.url().max(2048),
  deployments: z.object({ chainId: z.int().min(1), network, ...contracts, tokens: z.array(token).max(128) }),
  payTo: address,
  receiverAuthorizer: address,
});

/** Lets gateways that were let in have prices and chain: what they quote is settled here. */
export function addSharedMoney(
  app: OpenAPIHono,
  modules: {
    readonly session: NodeRegistry["session"];
    readonly listings: Pick<Listings, "list">;
    readonly assets: SharedPrices["assets"];
    readonly configured: SharedPrices["configured"];
    readonly place: () => Promise<ChainPlace>;
  },
): void {
  const assertPeer = (authorization: string | undefined): void => {
    const { role, state } = modules.session(authorization);
    if (role !== "gateway" || (state !== "active" && state !== "draining"))
      throw new AssayError("log_peer_required", "Prices and chain are shared with gateways that joined this one.");
  };
  app.get(PRICES, (context) => {
    assertPeer(context.req.header("authorization"));
    const { listings, assets, configured } = modules;
    return context.json({ prices: listings.list().map(listingJson), assets, configured });
  });
  app.get(CHAIN, async (context) => {
    assertPeer(context.req.header("authorization"));
    const { rpcUrl, deployments, payTo, receiverAuthorizer, development } = await modules.place();
    // Another node's address may hold a credential, and is its operator's to hand on.
    if (!development)
      throw new AssayError("chain_not_development", "Only a development chain is shared with other gateways.", {
        hints: [ON_ANOTHER_CHAIN],
      });
    return context.json({ rpcUrl, deployments, payTo, receiverAuthorizer });
  });
}

/** The first gateway's prices as they are now; undefined when nothing has a price there. Throws `log_unreachable`. */
export async function askPrices(ask: AskOwner): Promise<SharedPrices | undefined> {
  const answer = await ask(PRICES);
  if (answer === undefined) return undefined;
  const { prices, assets, configured } = parsed(pricesWire, answer);
  return { listings: prices.map((listing) => parseListing(listing as JsonValue)), assets, configured };
}

/** The first gateway's chain; waits until that one has it. Throws `log_unreachable`, and what the first one refuses with. */
export async function askChain(ask: AskOwner): Promise<SharedChain> {
  const answer = await ask(CHAIN);
  if (answer === undefined)
    throw new AssayError("payment_unavailable", "The gateway that owns the log takes no payments.");
  const { rpcUrl, deployments, payTo, receiverAuthorizer } = parsed(chainWire, answer);
  return { rpcUrl, deployments, payTo, receiverAuthorizer };
}

/**
 * The first gateway's prices, kept up with. They are set there: `put` and `remove` throw `prices_elsewhere`. While that
 * gateway is away the last ones hold, and nothing is answered anyway.
 */
export function followPrices(
  ask: AskOwner,
  first: readonly Listing[],
  onChange: () => void,
  onError: (error: unknown) => void,
): Listings & { readonly stop: () => void } {
  let held = new Map<ListingSubject, Listing>(first.map((listing) => [listing.subject, listing]));
  let last = JSON.stringify(first.map(listingJson));
  let told = false;
  let busy = false;
  const look = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    try {
      const { listings = [] } = (await askPrices(ask)) ?? {};
      const text = JSON.stringify(listings.map(listingJson));
      told = false;
      if (text === last) return;
      last = text;
      held = new Map(listings.map((listing) => [listing.subject, listing]));
      onChange();
    } catch (error) {
      if (!told) onError(error);
      told = true;
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void look(), FOLLOW_MS);
  timer.unref();
  const elsewhere = (): Promise<never> =>
    Promise.reject(
      new AssayError("prices_elsewhere", "Prices are set at the gateway that owns the log.", {
        hints: ["This one follows them a moment later."],
      }),
    );
  return {
    get: (subject) => held.get(subject),
    list: () => [...held.values()],
    put: elsewhere,
    remove: elsewhere,
    stop: () => clearInterval(timer),
  };
}

function parsed<Schema extends z.ZodType>(schema: Schema, answer: JsonValue): z.output<Schema> {
  const read = schema.safeParse(answer);
  if (read.success) return read.data;
  throw new AssayError("log_unreachable", "The gateway that owns the log answers what this version does not know.", {
    cause: read.error,
  });
}

/** Asks through a session of its own: `fetchAsPeer` adds it. */
export function ownerAsked(
  base: string,
  fetchAsPeer: (url: string) => Promise<Response>,
  read: (response: Response) => Promise<JsonValue>,
): AskOwner {
  return async (path) => {
    try {
      const response = await fetchAsPeer(`${base}${path}`);
      if (response.status === 404) {
        await response.body?.cancel();
        return undefined;
      }
      if (response.ok) return await read(response);
      await response.body?.cancel();
      throw new AssayError("payment_unavailable", `The gateway at ${base} answered ${response.status} for its money.`, {
        hints: [ON_ANOTHER_CHAIN],
      });
    } catch (error) {
      if (isAssayError(error)) throw error;
      throw new AssayError("log_unreachable", `The gateway at ${base} does not answer.`, { cause: error });
    }
  };
}
