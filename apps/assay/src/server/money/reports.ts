import { AssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { nativeEvmSuite } from "@assay/driver-chain";
import type { BlobStore, ChainDocument, LogSink, PaymentDocument } from "@assay/protocol";
import type { LedgerReports } from "@assay/service-gateway";
import {
  chainReads,
  isBatchBlob,
  listBatches,
  listPayments,
  moneyOf,
  retryPayment,
  settleNow,
  showBatch,
  showPayment,
  verifyBatch,
} from "@assay/service-ledger";
import type { PaymentFilter } from "@assay/service-ledger";
import { rootAt, tileHashReader, tilePath } from "@assay/tlog";
import type { TileId } from "@assay/tlog";
import type { Address, Hex } from "@assay/x402";
import { blobIfThere } from "./blob-if-there.ts";
import type { Running } from "./money.ts";

export type ReportModules = {
  /** Opens chain and ledger when they are not open. */
  readonly ready: () => Promise<Running>;
  /** Begins the embedded chain anew. Throws `chain_not_development`. */
  readonly reset: () => Promise<Running>;
  readonly open: () => Running | undefined;
  /** What is known of the chain before it is open. */
  readonly configured: Pick<ChainDocument, "network" | "chainId" | "development">;
  readonly failed: () => boolean;
  readonly blobs: Pick<BlobStore, "get">;
  readonly log: Pick<LogSink, "checkpoint" | "resource">;
  readonly suite: CryptoSuite;
  readonly now: () => number;
};

/** How long an order to settle waits for what it ordered, milliseconds. */
const SETTLE_WAIT_MS = 10_000;
const ETHER = { symbol: "ETH", decimals: 18, address: "0x0000000000000000000000000000000000000000" } as const;
/** What is not known of a chain that is not open. */
const UNKNOWN = { rpcUrl: null, blockNumber: null, assets: [], contracts: {}, payTo: null };

/** What the operator and the curious may ask of ledger and chain. */
export function ledgerReports(modules: ReportModules): LedgerReports {
  const { ready, reset, open, configured, failed, blobs, log, suite, now } = modules;
  /** The log's root at a size that it has had, from its tiles; undefined when it never was that large. */
  const rootOfLog = async (size: number): Promise<Uint8Array | undefined> => {
    const { size: current } = await log.checkpoint();
    if (size > current) return undefined;
    const tile = async (id: TileId): Promise<Uint8Array> => {
      const bytes = await log.resource(tilePath(id));
      if (bytes) return bytes;
      throw new AssayError("log_tile_missing", `The log lacks its tile ${tilePath(id)}.`);
    };
    return rootAt(size, tileHashReader(current, tile, suite), suite);
  };

  const shown = async ({ database, place }: Running, paymentId: string): Promise<PaymentDocument | undefined> =>
    showPayment(database, place.deployments.tokens, paymentId);

  const faucet = async (): Promise<Running & { readonly faucet: NonNullable<Running["place"]["faucet"]> }> => {
    const running = await ready();
    if (running.place.faucet) return { ...running, faucet: running.place.faucet };
    throw new AssayError("chain_not_development", "This chain is not the gateway's own.", {
      hints: ["Its money is worth something: nobody gives it away here."],
    });
  };

  return {
    async payments(asked) {
      const { database, place } = await ready();
      const { payments, next } = await listPayments(database, place.deployments.tokens, asked as PaymentFilter);
      return { payments: [...payments], next };
    },
    payment: async (paymentId) => shown(await ready(), paymentId),
    async retry(paymentId) {
      const running = await ready();
      const before = await shown(running, paymentId);
      if (!before) return undefined;
      if (!(await retryPayment(running.database, paymentId as Hex, now())))
        throw new AssayError("payment_not_retryable", `The payment is ${before.state}: there is nothing to try again.`);
      running.settler?.kick(paymentId as Hex);
      return shown(running, paymentId);
    },
    async settle() {
      const { database, settler } = await ready();
      if (!settler) throw new AssayError("settler_gone", "Payments are settled by the gateway that owns the log.");
      const done = await settleNow(database, settler, SETTLE_WAIT_MS);
      return { ...done, transactions: [...done.transactions] };
    },
    async batches(asked) {
      const { database, place } = await ready();
      const { batches, next } = await listBatches(database, place.deployments.network, asked);
      return { batches: [...batches], next };
    },
    async batch(number) {
      const { database, place } = await ready();
      return showBatch(database, place.deployments.network, number);
    },
    async verifyBatch(number) {
      const { database, chain, place } = await ready();
      const found = await verifyBatch(
        {
          database,
          chain: chainReads(chain),
          suite: nativeEvmSuite(),
          deployments: place.deployments,
          logRoot: rootOfLog,
          getBlob: (sha256) => blobIfThere(blobs, sha256),
        },
        number,
      );
      return found && { ...found, checks: [...found.checks] };
    },
    async batchBlob(sha256) {
      const { database, place } = await ready();
      const known = await isBatchBlob(database, place.deployments.network, sha256);
      return known ? blobIfThere(blobs, sha256) : undefined;
    },
    async chain() {
      const running = open();
      if (!running) {
        if (!failed()) void ready().catch(() => undefined);
        return { ...configured, ...UNKNOWN, state: failed() ? "down" : "starting" };
      }
      const { place, chain } = running;
      const { tokens, network, chainId, schemes: _offered, ...contracts } = place.deployments;
      const blockNumber = await chain.blockNumber().catch(() => undefined);
      return {
        network,
        chainId,
        development: place.development,
        state: blockNumber === undefined ? "down" : "running",
        // Another node's address may hold a credential.
        rpcUrl: place.development ? place.rpcUrl : null,
        blockNumber: blockNumber ?? null,
        assets: tokens.map(({ symbol, address, decimals, name, version, eip2612 }) => ({
          symbol,
          address,
          decimals,
          name,
          version,
          permit: eip2612,
        })),
        contracts,
        payTo: place.payTo,
      };
    },
    async fund(address, asset, amount) {
      const { faucet: from, place, chain } = await faucet();
      const token = asset === "ETH" ? ETHER : place.deployments.tokens.find(({ symbol }) => symbol === asset);
      if (!token || (asset !== "ETH" && asset !== "USDC" && asset !== "ASY"))
        throw new AssayError("chain_fund_refused", `The faucet has no ${asset.slice(0, 32)}.`, {
          hints: ["It gives ETH, USDC and ASY."],
        });
      const amountAtomic = atomic(amount, token.decimals);
      const to = address.toLowerCase() as Address;
      await from.fund(to, { asset, amountAtomic });
      const balance =
        asset === "ETH"
          ? await chain.balance(to)
          : (await chain.payerFacts({ payer: to, asset: token.address })).balance;
      const assets = [token];
      return {
        address: to,
        funded: moneyOf(assets, token.address, amountAtomic),
        balance: moneyOf(assets, token.address, balance ?? 0n),
      };
    },
    async reset() {
      await faucet();
      const { place, chain } = await reset();
      const { network, chainId } = place.deployments;
      return { network, chainId, blockNumber: await chain.blockNumber() };
    },
  };
}

/** `12.5` with 6 decimals is `12500000n`. Throws `chain_fund_refused` for more digits than the asset has. */
function atomic(amount: string, decimals: number): bigint {
  const [whole = "0", fraction = ""] = amount.split(".");
  const digits = fraction.replace(/0+$/, "");
  if (digits.length > decimals)
    throw new AssayError(
      "chain_fund_refused",
      `The asset has ${decimals} digits after the point, not ${digits.length}.`,
    );
  return BigInt(whole + digits.padEnd(decimals, "0"));
}
