import type { CryptoSuite } from "@assay/core";
import type { FileKeystore } from "@assay/driver-crypto";
import type { Database } from "@assay/driver-postgres";
import type { BlobStore, DurableReceipt, Listing, Listings, LogSink, PaymentDesk } from "@assay/protocol";
import type { OpenMap, Trust } from "@assay/receipts";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type {
  Auth,
  DecodedRecord,
  IndividualFacts,
  NodeRegistry,
  PaymentModules,
  Recorder,
} from "@assay/service-gateway";
import type { SettlerOptions } from "@assay/service-ledger";
import type { Address } from "@assay/x402";
import type { Logger } from "pino";
import type { ChainConfig, ChainPlace } from "./chain-place.ts";
import type { OpenLedger } from "./open-ledger.ts";
import type { OutsideConfig } from "./outside.ts";
import type { AskOwner } from "./peer.ts";

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
  /** Whether a listing of what is asked for charges anything. */
  readonly mayCost: NonNullable<PaymentModules["mayCost"]>;
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
  /** Payments under way, copies that wait for one of them, and records that the rows lack. */
  readonly status: () => { readonly open: number; readonly waiting: number; readonly lag: number };
  readonly close: () => Promise<void>;
};

/** Chain, desk and settler once all of them are there. */
export type Running = Omit<OpenLedger, "close"> & { readonly place: ChainPlace; readonly database: Database };
