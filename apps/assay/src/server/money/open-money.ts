import { AssayError, bytesToBase64Url, hexToBytes } from "@assay/core";
import { splitAddressOf } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import { isLoopbackHost, nativeEvmSuite, refuseDevelopment } from "@assay/driver-chain";
import type { DurableReceipt, Listing, PaymentDesk } from "@assay/protocol";
import type { Trust } from "@assay/receipts";
import { describe, mountLedgerApi } from "@assay/service-gateway";
import type { IndividualFacts } from "@assay/service-gateway";
import { anchorProof, listPayments, listingDigest } from "@assay/service-ledger";
import { addFacilitatorRoutes, createExternalFacilitator } from "@assay/service-facilitator";
import { paymentRequiredV1 } from "@assay/x402";
import type { Address, EvmSuite } from "@assay/x402";
import { blobIfThere } from "./blob-if-there.ts";
import { deferFacilitator, readFacilitatorSettings } from "./facilitate.ts";
import type { Money, MoneyConfig, MoneyModules, Running } from "./money.ts";
import { createOpening } from "./opening.ts";
import type { Opening } from "./opening.ts";
import { addSharedMoney } from "./peer.ts";
import { openPrices } from "./prices.ts";
import type { Prices } from "./prices.ts";
import { ledgerReports } from "./reports.ts";

/** While nothing has a price, the first answers come before the chain: both would share the processors. Milliseconds. */
const EAGER_AFTER_MS = 1_500;

/**
 * Opens prices, and begins to open chain, ledger and settler behind them: nothing that is free waits for any of these.
 * Throws `listings_document_invalid`, `chain_file_invalid`, and `development_key_refused` for an embedded chain under a
 * public chain's number while the gateway is reachable from elsewhere: what its payers sign would be good there too.
 */
export async function openMoney(config: MoneyConfig, modules: MoneyModules): Promise<Money> {
  const { at, log, suite, now, logger } = modules;
  if (config.chain.kind === "embedded" && config.chain.profile !== 31337 && !isLoopbackHost(modules.host))
    refuseDevelopment({ chainId: config.chain.profile, rpcUrl: `http://${modules.host}` });
  const facilitating = await readFacilitatorSettings(at("facilitator.json"));
  const prices = await openPrices(config, modules, () => opening.begin(0));
  const { listings, configured } = prices;
  const outside = config.outside && createExternalFacilitator({ endpoints: [config.outside] });
  const evm = nativeEvmSuite();
  const opening = createOpening(config, { ...modules, evm, prices, facilitating, outside });
  const { ready, reset, open } = opening;
  if (!prices.allFree()) opening.begin(0);
  else if (config.eager) opening.begin(EAGER_AFTER_MS);

  return {
    listings,
    describeListing: (listing) => {
      const digest = listingDigest(listing);
      const place = open()?.place;
      return place ? { digest, payTo: payToOf(evm, listing, place.payTo) } : { digest };
    },
    decimalsOf: prices.decimalsOf,
    allFree: prices.allFree,
    mayCost: prices.mayCost,
    desk: deferDesk(opening, prices),
    individual: (receipt) => anchorAlone(opening.there(), receipt),
    async anchor(executionDigest) {
      const running = open();
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
    ingest: (decoded, next) => (modules.settles ? open()?.desk.ingest(decoded, next) : undefined),
    v1: (required) => paymentRequiredV1(evm, required),
    routes(api, { auth, session }) {
      // The gateway that owns the log lets others have its prices and its chain.
      if (modules.settles)
        addSharedMoney(api, {
          session,
          listings,
          assets: prices.tokens.map(({ symbol, decimals }) => ({ symbol, decimals })),
          configured,
          place: async () => (await ready()).place,
        });
      const { failed } = opening;
      const { blobs } = modules;
      mountLedgerApi(api, {
        auth,
        ledger: ledgerReports({ ready, reset, open, configured, failed, blobs, log, suite, now }),
      });
      addFacilitatorRoutes(api, {
        facilitator: deferFacilitator(ready),
        ...(facilitating.known ? { callers: facilitating.known } : {}),
        onError: (error, operation) => logger.warn({ operation, err: describe(error) }, "facilitator"),
      });
    },
    ready,
    trusted: () => {
      const place = open()?.place;
      return place && trustedChain(place.deployments);
    },
    begun: opening.begun,
    status: () => open()?.desk.status() ?? { open: 0, waiting: 0, lag: 0 },
    async close() {
      prices.stop();
      await opening.close();
    },
  };
}

/** The desk behind an opening: what is free needs none, and what has a price has it opened. */
function deferDesk({ ready, usable, there }: Opening, { mayCost }: Prices): PaymentDesk {
  return {
    quote(use) {
      const running = usable();
      if (running) return running.desk.quote(use);
      if (!mayCost(use)) return undefined;
      void ready().catch(() => undefined);
      return there().desk.quote(use);
    },
    take: (quote, headers, request) => there().desk.take(quote, headers, request),
    async refund(use, headers, signal) {
      const { refund } = there().desk;
      if (refund) return refund(use, headers, signal);
      throw new AssayError("payment_unavailable", "Channels are not offered here.");
    },
  };
}

/** Anchors a receipt alone: what the answer to an `individual` call names. */
async function anchorAlone(
  { desk, database, settler, place }: Running,
  receipt: DurableReceipt,
): Promise<IndividualFacts> {
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
