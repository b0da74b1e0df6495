import { randomUUID } from "node:crypto";
import { AssayError, bytesToBase64Url, hexToBytes } from "@assay/core";
import { splitAddressOf } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { FileKeystore } from "@assay/driver-crypto";
import { createChain, isLoopbackHost, nativeEvmSuite, refuseDevelopment } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import type { BlobStore, DurableReceipt, Listing, Listings, LogSink, PaymentDesk } from "@assay/protocol";
import { PROFILE, receiptSubject } from "@assay/receipts";
import type { OpenMap, Trust } from "@assay/receipts";
import { decodeRecord, describe } from "@assay/service-gateway";
import type { DecodedRecord, IndividualFacts, LedgerReports, Recorder } from "@assay/service-gateway";
import {
  anchorProof,
  createDesk,
  isFreeListing,
  listPayments,
  listingDigest,
  openListings,
  startSettler,
} from "@assay/service-ledger";
import type { Desk, Settler, SettlementDraft, SettlerOptions } from "@assay/service-ledger";
import type { CryptoSuite } from "@assay/core";
import type { Callers, Facilitator } from "@assay/service-facilitator";
import type { Address, EvmSuite } from "@assay/x402";
import type { Logger } from "pino";
import { readFileIfThere, writeFileAtomic } from "../files.ts";
import { blobIfThere } from "./blob-if-there.ts";
import { channelReader } from "./channel-facts.ts";
import { knownTokens, openChainPlace } from "./chain-place.ts";
import type { ChainConfig, ChainPlace } from "./chain-place.ts";
import { deferFacilitator, openFacilitator, readFacilitatorSettings } from "./facilitate.ts";
import { ledgerReports } from "./reports.ts";

/** What payments are set up with. */
export type MoneyConfig = {
  readonly chain: ChainConfig;
  /** Who is paid for what has no payees; an account of this installation when absent on the embedded chain. */
  readonly payTo?: Address;
  /** The settler's program, and the arguments its thread needs. */
  readonly settler: { readonly entry: string; readonly nodeArgs?: readonly string[] };
  readonly settling?: SettlerOptions;
  /** Whether the chain is opened at once; otherwise when something has a price, or somebody asks for it. */
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
  /** Resolves once the index has what is in the log now. */
  readonly indexed: () => Promise<unknown>;
  /** Whether this process settles: a second gateway leaves it to the one that owns the log. */
  readonly settles: boolean;
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
  /** Refuses with `payment_unavailable` what has a price while chain and ledger are not there. */
  readonly desk: PaymentDesk;
  readonly individual: (receipt: DurableReceipt) => Promise<IndividualFacts>;
  /** Where an execution is anchored: what its bundle takes along. */
  readonly anchor: (executionDigest: string) => Promise<OpenMap | undefined>;
  /** Takes records as they become durable, in log order. */
  readonly ingest: (decoded: readonly DecodedRecord[], next: number) => void;
  readonly reports: LedgerReports;
  /** Verifies and settles payments of others; waits until chain and ledger are there. */
  readonly facilitator: Facilitator;
  /** Who may have payments settled with a token, by configuration. */
  readonly facilitatorCallers: Callers | undefined;
  /** Opens what is not open yet; resolves once payments are taken, rejects when they never will be. */
  readonly ready: () => Promise<Running>;
  /** The chain as trust files name it; undefined before it is open. */
  readonly trusted: () => Trust["chains"][number] | undefined;
  /** Whether it is being opened, or is open. */
  readonly begun: () => boolean;
  readonly status: () => { readonly open: number; readonly lag: number };
  readonly close: () => Promise<void>;
};

/** Chain, desk and settler once all of them are there. */
export type Running = {
  readonly place: ChainPlace;
  readonly chain: Chain;
  readonly desk: Desk;
  readonly database: Database;
  readonly settler: Settler | undefined;
  /** Settles what others bring. */
  readonly facilitator: Facilitator;
};

/**
 * Opens prices, and begins to open chain, ledger and settler behind them: nothing that is free waits for any of these.
 * Throws `listings_document_invalid`, `chain_file_invalid`, and `development_key_refused` for an embedded chain under a
 * public chain's number while the gateway is reachable from elsewhere: what its payers sign would be good there too.
 */
export async function openMoney(config: MoneyConfig, modules: MoneyModules): Promise<Money> {
  const { at, keystore, log, suite, now, logger } = modules;
  if (config.chain.kind === "embedded" && config.chain.profile !== 31337 && !isLoopbackHost(modules.host))
    refuseDevelopment({ chainId: config.chain.profile, rpcUrl: `http://${modules.host}` });
  const tokens = await knownTokens(config.chain);
  const decimals = new Map(tokens.map((token) => [token.symbol, token.decimals]));
  const listings = await openListings(
    {
      read: async () => {
        const text = await readFileIfThere(at("prices.json"));
        return text === undefined ? undefined : new TextEncoder().encode(text);
      },
      write: (bytes) => writeFileAtomic(at("prices.json"), bytes),
    },
    { now, assets: tokens },
  );
  const facilitating = await readFacilitatorSettings(at("facilitator.json"));
  const evm = nativeEvmSuite();
  const undo: (() => Promise<unknown>)[] = [];
  let running: Running | undefined;
  let failure: unknown;
  let closing: Promise<void> | undefined;
  const warn = (message: string) => (error: unknown) => logger.warn({ err: describe(error) }, message);

  const begin = async (): Promise<Running> => {
    const place = await openChainPlace(config.chain, {
      directory: at("chain", chainFolder(config.chain)),
      keystore,
      payTo: config.payTo,
      onEvent: (event) =>
        logger.warn("cause" in event ? { type: event.type, err: describe(event.cause) } : event, "embedded chain"),
    });
    undo.push(() => place.close());
    const { database, url } = await modules.database;
    const { deployments, accounts } = place;
    const chain = createChain({ url: place.rpcUrl, chainId: deployments.chainId });
    let settler: Settler | undefined;
    const desk = createDesk(
      {
        database,
        listings,
        suite: evm,
        chain: {
          payerFacts: chain.payerFacts,
          isValidSignature: chain.isValidSignature,
          isValidUndeployed: chain.isValidUndeployed,
          channel: channelReader(evm, chain, deployments.batchSettlement),
        },
        now,
        refund: async (channelId, amountAtomic) => {
          if (settler) return settler.refund(channelId, amountAtomic);
          throw new AssayError("settler_gone", "Channels are refunded by the gateway that settles.");
        },
        onDue: () => undefined,
        onEvent: (event) =>
          logger.error("error" in event ? { ...event, error: undefined, err: describe(event.error) } : event, "ledger"),
      },
      {
        deployments,
        payTo: place.payTo,
        receiverAuthorizer: accounts.authorizer.address,
        gateway: gatewayName(modules),
        bootId: randomUUID(),
        ...(config.maxUnsettledPerPayer ? { maxUnsettledPerPayer: config.maxUnsettledPerPayer } : {}),
      },
    );
    undo.push(() => desk.close());
    await desk.start(log, (record) => decodeRecord(suite, record));
    if (modules.settles) {
      await modules.indexed();
      settler = await startSettler({
        entry: config.settler.entry,
        ...(config.settler.nodeArgs ? { nodeArgs: config.settler.nodeArgs } : {}),
        databaseUrl: url,
        rpcUrl: place.rpcUrl,
        deployments,
        keys: {
          operator: accounts.settler.key,
          authorizer: accounts.authorizer.key,
          submitter: accounts.submitter.key,
        },
        options: config.settling ?? {},
        putBlob: async (bytes) => void (await modules.blobs.put(bytes)),
        checkpoint: async (atLeast) => {
          const { size, root } = await log.checkpoint({ atLeast });
          return { size, root };
        },
        onSettled: (drafts) => writeSupplements(modules, drafts),
        onEvent: (event) => {
          const quiet = event.type === "transaction" || event.type === "batch_built" || event.type === "batch_posted";
          if (quiet) logger.debug(event, "settler");
          else logger.warn(event, "settler");
        },
      });
      const started = settler;
      undo.push(() => started.close());
    }
    const { facilitator, close: closeFacilitator } = await openFacilitator({
      settings: facilitating,
      place,
      account: accounts.facilitator,
      chain,
      database,
      suite: evm,
      now,
    });
    undo.push(closeFacilitator);
    running = { place, chain, desk, database, settler, facilitator };
    modules.onRunning();
    return running;
  };

  let beginning: Promise<Running> | undefined;
  const ready = (): Promise<Running> => {
    if (beginning) return beginning;
    // What was opened before a failure is closed with the rest.
    beginning = begin().catch((error: unknown) => {
      failure = error;
      if (!closing) logger.error({ err: describe(error) }, "payments did not start");
      throw error;
    });
    beginning.catch(() => undefined);
    return beginning;
  };
  if (config.eager || listings.list().some((listing) => !isFreeListing(listing))) void ready();

  const there = (): Running => {
    if (running && !closing) return running;
    throw new AssayError(
      "payment_unavailable",
      failure === undefined ? "Payments are still starting." : "Payments did not start.",
      {
        hints: ["What has no price is answered all the same."],
        ...(failure === undefined ? {} : { cause: failure }),
      },
    );
  };

  return {
    listings,
    describeListing: (listing) => {
      const digest = listingDigest(listing);
      return running ? { digest, payTo: payToOf(evm, listing, running.place.payTo) } : { digest };
    },
    decimalsOf: (asset) => decimals.get(asset),
    desk: {
      quote(use) {
        if (running && !closing) return running.desk.quote(use);
        const priced = use.subjects.some((subject) => {
          const listing = listings.get(subject);
          return listing !== undefined && !isFreeListing(listing);
        });
        if (!priced) return undefined;
        void ready();
        return there().desk.quote(use);
      },
      take: (quote, headers, request) => there().desk.take(quote, headers, request),
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
    ingest: (decoded, next) => running?.desk.ingest(decoded, next),
    reports: ledgerReports({
      ready,
      open: () => running,
      failed: () => failure !== undefined,
      blobs: modules.blobs,
      log,
      suite,
      now,
    }),
    facilitator: deferFacilitator(ready),
    facilitatorCallers: facilitating.known,
    ready,
    trusted: () => running && trustedChain(running.place.deployments),
    begun: () => beginning !== undefined,
    status: () => running?.desk.status() ?? { open: 0, lag: 0 },
    close() {
      closing ??= (async () => {
        await beginning?.catch(() => undefined);
        for (const step of undo.splice(0).toReversed()) await step().catch(warn("payments did not close cleanly"));
      })();
      return closing;
    },
  };
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

/** The owner of the log and its second gateways share rows: each releases only what it left itself. */
function gatewayName({ settles, host }: Pick<MoneyModules, "settles" | "host">): string {
  return settles ? "owner" : `peer-${host}`;
}

/** Logs settlements as supplements of the receipts' service statements. */
async function writeSupplements(
  { recorder, now }: Pick<MoneyModules, "recorder" | "now">,
  drafts: readonly SettlementDraft[],
): Promise<readonly number[]> {
  const written = await Promise.all(
    drafts.map(({ supplementId, receiptId, refersTo, body }) => {
      const issuedAtMs = now();
      return recorder.state({
        kind: "supplement",
        subject: receiptSubject(hexToBytes(receiptId)),
        issuedAtMs,
        visibility: "private",
        claims: { profile: PROFILE.supplement, supplementId, refersTo, kind: "settlement", issuedAtMs, body },
      });
    }),
  );
  return written.map(({ logIndex }) => logIndex);
}
