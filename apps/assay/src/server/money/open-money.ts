import { AssayError, bytesToBase64Url, hexToBytes, isAssayError } from "@assay/core";
import { splitAddressOf } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { FileKeystore } from "@assay/driver-crypto";
import { isLoopbackHost, nativeEvmSuite, refuseDevelopment } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import type { BlobStore, DurableReceipt, Listing, Listings, LogSink, PaymentDesk } from "@assay/protocol";
import type { OpenMap, Trust } from "@assay/receipts";
import type { OpenAPIHono } from "@hono/zod-openapi";
import { describe, mountLedgerApi } from "@assay/service-gateway";
import type {
  Auth,
  DecodedRecord,
  IndividualFacts,
  NodeRegistry,
  PaymentModules,
  Recorder,
} from "@assay/service-gateway";
import {
  anchorProof,
  forgetChain,
  isFreeListing,
  listPayments,
  listingDigest,
  openListings,
} from "@assay/service-ledger";
import type { SettlerOptions } from "@assay/service-ledger";
import type { CryptoSuite } from "@assay/core";
import { addFacilitatorRoutes, createExternalFacilitator } from "@assay/service-facilitator";
import { paymentRequiredV1 } from "@assay/x402";
import type { Address, EvmSuite } from "@assay/x402";
import type { Logger } from "pino";
import { readFileIfThere, writeFileAtomic } from "../files.ts";
import { blobIfThere } from "./blob-if-there.ts";
import { configuredChain, knownTokens, openChainPlace } from "./chain-place.ts";
import type { ChainConfig, ChainPlace } from "./chain-place.ts";
import { deferFacilitator, readFacilitatorSettings } from "./facilitate.ts";
import { developmentAccounts } from "./keys.ts";
import { openLedger } from "./open-ledger.ts";
import type { OpenLedger } from "./open-ledger.ts";
import type { OutsideConfig } from "./outside.ts";
import { addSharedMoney, askChain, askPrices, followPrices } from "./peer.ts";
import type { AskOwner, SharedPrices } from "./peer.ts";
import { ledgerReports } from "./reports.ts";

/** What payments are set up with. */
export type MoneyConfig = {
  readonly chain: ChainConfig;
  /** Who is paid for what has no payees; an account of this installation when absent on the embedded chain. */
  readonly payTo?: Address;
  /** The settler's program, and the arguments its thread needs. */
  readonly settler: { readonly entry: string; readonly nodeArgs?: readonly string[] };
  readonly settling?: SettlerOptions;
  /** Somebody else's facilitator that settles fixed and metered payments; this gateway does when absent. */
  readonly outside?: OutsideConfig;
  /** Whether the chain is opened soon after the start; otherwise when something has a price, or somebody asks for it. */
  readonly eager?: boolean;
  /** By symbol, smallest units: what one payer may owe that no block has yet. */
  readonly maxUnsettledPerPayer?: Readonly<Record<string, bigint>>;
};

export type MoneyModules = {
  readonly at: (...parts: readonly string[]) => string;
  readonly keystore: FileKeystore;
  readonly log: LogSink;
  readonly blobs: BlobStore;
  readonly recorder: Pick<Recorder, "state">;
  readonly suite: CryptoSuite;
  /** The database once it is there, and where other threads find it. */
  readonly database: Promise<{ readonly database: Database; readonly url: string }>;
  /** Resolves once the index has what is in the log at the call. */
  readonly indexed: () => Promise<unknown>;
  /** Whether this process settles: a second gateway leaves it to the one that owns the log. */
  readonly settles: boolean;
  /** Asks the gateway that owns the log, when that is another one: prices and chain are its own. */
  readonly owner?: AskOwner;
  /** This gateway among those that share the database: each releases only what it left itself. No slash in it. */
  readonly gateway: string;
  readonly host: string;
  readonly now: () => number;
  readonly logger: Logger;
  /** Told when payments are taken. */
  readonly onRunning: () => void;
};

/** Everything of this process that has to do with payments. */
export type Money = {
  readonly listings: Listings;
  readonly describeListing: (listing: Listing) => { readonly digest: string; readonly payTo?: string };
  readonly decimalsOf: (asset: string) => number | undefined;
  /** Whether nothing has a price: then nothing of a request need be looked at. */
  readonly allFree: () => boolean;
  /** Refuses with `payment_unavailable` what has a price while chain and ledger are not there. */
  readonly desk: PaymentDesk;
  readonly individual: (receipt: DurableReceipt) => Promise<IndividualFacts>;
  /** Where an execution is anchored: what its bundle takes along. */
  readonly anchor: (executionDigest: string) => Promise<OpenMap | undefined>;
  /** Takes records as they become durable, in log order. */
  readonly ingest: (decoded: readonly DecodedRecord[], next: number) => void;
  /** Opens what is not open yet; resolves once payments are taken, rejects when they never will be. */
  readonly ready: () => Promise<Running>;
  /** The members of a 402's body that clients of x402 v1 read. */
  readonly v1: NonNullable<PaymentModules["v1"]>;
  /** Adds payments, batches and chain, the facilitator, and what second gateways follow, to the API. */
  readonly routes: (
    api: OpenAPIHono,
    modules: { readonly auth: Pick<Auth, "caller" | "isOperator">; readonly session: NodeRegistry["session"] },
  ) => void;
  /** The chain as trust files name it; undefined before it is open. */
  readonly trusted: () => Trust["chains"][number] | undefined;
  /** Whether it is being opened, or is open. */
  readonly begun: () => boolean;
  readonly status: () => { readonly open: number; readonly lag: number };
  readonly close: () => Promise<void>;
};

/** Chain, desk and settler once all of them are there. */
export type Running = Omit<OpenLedger, "close"> & { readonly place: ChainPlace; readonly database: Database };

/** While nothing has a price, the first answers come before the chain: both would share the processors. Milliseconds. */
const EAGER_AFTER_MS = 1_500;
/** What was away may be back soon: how long until payments are begun again, the first time and at most, milliseconds. */
const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 60_000;
/** What somebody has to mend first. */
const FOR_GOOD: ReadonlySet<string> = new Set([
  "chain_binary_missing",
  "chain_profile_changed",
  "chain_keys_invalid",
  "chain_file_invalid",
  "chain_mismatch",
  "development_key_refused",
  "facilitator_config_invalid",
  "facilitator_unsuitable",
]);

/**
 * Opens prices, and begins to open chain, ledger and settler behind them: nothing that is free waits for any of these.
 * Throws `listings_document_invalid`, `chain_file_invalid`, and `development_key_refused` for an embedded chain under a
 * public chain's number while the gateway is reachable from elsewhere: what its payers sign would be good there too.
 */
export async function openMoney(config: MoneyConfig, modules: MoneyModules): Promise<Money> {
  const { at, keystore, log, suite, now, logger } = modules;
  if (config.chain.kind === "embedded" && config.chain.profile !== 31337 && !isLoopbackHost(modules.host))
    refuseDevelopment({ chainId: config.chain.profile, rpcUrl: `http://${modules.host}` });
  const { owner } = modules;
  const shared = owner && (await askPrices(owner));
  if (shared) refuseShared(shared.configured, modules.host);
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
        if (priced) void ready().catch(() => undefined);
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
  let priced = anyPriced(list);
  const changed = <T>(value: T): T => {
    priced = anyPriced(list);
    return value;
  };
  const listings: Listings = {
    ...list,
    put: async (listing) => changed(await list.put(listing)),
    remove: async (subject) => changed(await list.remove(subject)),
  };
  const facilitating = await readFacilitatorSettings(at("facilitator.json"));
  const outside = config.outside && createExternalFacilitator({ endpoints: [config.outside] });
  const ending = new AbortController();
  const evm = nativeEvmSuite();
  const undo: (() => Promise<unknown>)[] = [];
  let running: Running | undefined;
  let failure: unknown;
  let closing: Promise<void> | undefined;
  const warn = (message: string) => (error: unknown) => logger.warn({ err: describe(error) }, message);

  undo.push(() => Promise.resolve(followed?.stop()));

  const begin = async (): Promise<Running> => {
    // The first gateway's development chain is this one's too; another chain each of them is told of by its operator.
    if (owner && config.chain.kind === "embedded")
      return over({
        ...(await askChain(owner)),
        accounts: developmentAccounts(keystore),
        development: true,
        close: () => Promise.resolve(),
      });
    const place = await openChainPlace(config.chain, {
      directory: at("chain", chainFolder(config.chain)),
      keystore,
      payTo: config.payTo,
      onEvent: (event) =>
        logger.warn("cause" in event ? { type: event.type, err: describe(event.cause) } : event, "embedded chain"),
    });
    try {
      const opened = await over(place);
      undo.push(() => place.close());
      return opened;
    } catch (error) {
      await place.close().catch(warn("embedded chain did not close cleanly"));
      throw error;
    }
  };

  let ledger: OpenLedger | undefined;
  const over = async (place: ChainPlace): Promise<Running> => {
    const { database, url } = await modules.database;
    ledger = await openLedger(config, {
      ...modules,
      evm,
      listings,
      place,
      database,
      databaseUrl: url,
      facilitating,
      outside,
      signal: ending.signal,
    });
    running = { place, database, ...ledger };
    modules.onRunning();
    return running;
  };

  /** Begins the embedded chain anew, with a ledger that knows nothing of the old one. Callers come one after the other. */
  let resetting: Promise<Running> | undefined;
  const reset = (): Promise<Running> => {
    resetting ??= (async () => {
      const { place, database } = await ready();
      if (!place.faucet) throw new AssayError("chain_not_development", "This chain is not the gateway's own.");
      running = undefined;
      await ledger?.close();
      await place.faucet.reset();
      await forgetChain(database, place.deployments.network, now());
      beginning = over(place);
      return beginning;
    })().finally(() => {
      resetting = undefined;
    });
    return resetting;
  };

  let beginning: Promise<Running> | undefined;
  let again: NodeJS.Timeout | undefined;
  let waitMs = FIRST_RETRY_MS;
  const ready = (): Promise<Running> => {
    if (beginning) return beginning;
    const begun = begin();
    beginning = begun;
    begun.then(
      () => {
        failure = undefined;
        waitMs = FIRST_RETRY_MS;
      },
      (error: unknown) => {
        failure = error;
        if (closing) return;
        logger.error({ err: describe(error) }, "payments did not start");
        if (isAssayError(error) && FOR_GOOD.has(error.code)) return;
        again = setTimeout(() => {
          if (beginning === begun) beginning = undefined;
          void ready().catch(() => undefined);
        }, waitMs);
        again.unref();
        waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
      },
    );
    return begun;
  };
  const begins = (): void => void ready().catch(() => undefined);
  if (priced) begins();
  else if (config.eager) again = setTimeout(begins, EAGER_AFTER_MS).unref();

  const there = (): Running => {
    if (running && !closing) return running;
    const hints = ["What has no price is answered all the same."];
    if (failure === undefined) throw new AssayError("payments_starting", "Payments are still starting.", { hints });
    throw new AssayError("payment_unavailable", "Payments did not start.", { hints, cause: failure });
  };

  const reports = ledgerReports({
    ready,
    reset,
    open: () => running,
    configured,
    failed: () => failure !== undefined,
    blobs: modules.blobs,
    log,
    suite,
    now,
  });

  return {
    listings,
    describeListing: (listing) => {
      const digest = listingDigest(listing);
      return running ? { digest, payTo: payToOf(evm, listing, running.place.payTo) } : { digest };
    },
    decimalsOf: (asset) => decimals.get(asset),
    allFree: () => !priced,
    desk: {
      quote(use) {
        if (running && !closing) return running.desk.quote(use);
        const asksForMoney = use.subjects.some((subject) => {
          const listing = listings.get(subject);
          return listing !== undefined && !isFreeListing(listing);
        });
        if (!asksForMoney) return undefined;
        void ready().catch(() => undefined);
        return there().desk.quote(use);
      },
      take: (quote, headers, request) => there().desk.take(quote, headers, request),
      async refund(use, headers, signal) {
        const { refund } = there().desk;
        if (refund) return refund(use, headers, signal);
        throw new AssayError("payment_unavailable", "Channels are not offered here.");
      },
    },
    async individual(receipt) {
      const { desk, database, settler, place } = there();
      if (!settler) throw new AssayError("settler_gone", "Receipts are anchored by the gateway that settles.");
      await desk.ingested(receipt.logIndex + 1);
      const { payments } = await listPayments(database, place.deployments.tokens, {
        receiptId: receipt.receiptId,
        limit: 1,
      });
      const [payment] = payments;
      if (!payment?.amount) throw new AssayError("payment_not_found", "The receipt's payment is not in the ledger.");
      const { transaction, blob } = await settler.prepareIndividual({
        executionDigest: hexToBytes(receipt.executionDigest),
        serviceDigest: hexToBytes(receipt.serviceDigest),
        paymentId: hexToBytes(payment.paymentId.slice(2)),
        amountAtomic: BigInt(payment.amount.amountAtomic),
        logIndex: receipt.logIndex,
      });
      const blobId = bytesToBase64Url(blob);
      return {
        headers: { "x-settlement-tx-hash": transaction, "x-settlement-walrus-blob-id": blobId },
        event: { settlementTransaction: transaction, settlementBlobId: blobId },
      };
    },
    async anchor(executionDigest) {
      if (!running) return undefined;
      const { database, place } = running;
      return anchorProof(
        {
          database,
          suite: evm,
          deployments: place.deployments,
          getBlob: (sha256) => blobIfThere(modules.blobs, sha256),
        },
        executionDigest,
      );
    },
    // Between what a second gateway appends at once there may be records of others: it reads the log instead.
    ingest: (decoded, next) => (modules.settles ? running?.desk.ingest(decoded, next) : undefined),
    v1: (required) => paymentRequiredV1(evm, required),
    routes(api, { auth, session }) {
      // The gateway that owns the log lets others have its prices and its chain.
      if (modules.settles)
        addSharedMoney(api, {
          session,
          listings,
          assets: tokens.map(({ symbol, decimals: digits }) => ({ symbol, decimals: digits })),
          configured,
          place: async () => (await ready()).place,
        });
      mountLedgerApi(api, { auth, ledger: reports });
      addFacilitatorRoutes(api, {
        facilitator: deferFacilitator(ready),
        ...(facilitating.known ? { callers: facilitating.known } : {}),
        onError: (error, operation) => logger.warn({ operation, err: describe(error) }, "facilitator"),
      });
    },
    ready,
    trusted: () => running && trustedChain(running.place.deployments),
    begun: () => beginning !== undefined,
    status: () => running?.desk.status() ?? { open: 0, lag: 0 },
    close() {
      closing ??= (async () => {
        clearTimeout(again);
        ending.abort();
        await beginning?.catch(() => undefined);
        await ledger?.close();
        for (const step of undo.splice(0).toReversed()) await step().catch(warn("payments did not close cleanly"));
      })();
      return closing;
    },
  };
}

/** A development chain under a public chain's number is for this machine alone, whichever gateway of it has the chain. */
function refuseShared({ chainId, development }: SharedPrices["configured"], host: string): void {
  if (development && chainId !== 31337 && !isLoopbackHost(host))
    refuseDevelopment({ chainId, rpcUrl: `http://${host}` });
}

function anyPriced(listings: Pick<Listings, "list">): boolean {
  return listings.list().some((listing) => !isFreeListing(listing));
}

/** Where payments for a listing alone go: to its splitter, or to whoever is paid otherwise. */
function payToOf(evm: Pick<EvmSuite, "keccak256">, { payees = [] }: Listing, rest: Address): Address {
  if (payees.length === 0) return rest;
  const left = 10_000 - payees.reduce((sum, { basisPoints }) => sum + basisPoints, 0);
  return splitAddressOf(evm.keccak256, left === 0 ? payees : [...payees, { address: rest, basisPoints: left }]);
}

/** What a verifier has to know of a chain: which contracts on it are believed. */
function trustedChain({ network, paymentBatcher, receiptAnchor, splitFactory }: Deployments): Trust["chains"][number] {
  return { chain: network, contracts: { paymentBatcher, receiptAnchor, splitFactory } };
}

function chainFolder(chain: ChainConfig): string {
  return chain.kind === "embedded" ? String(chain.profile) : "elsewhere";
}
