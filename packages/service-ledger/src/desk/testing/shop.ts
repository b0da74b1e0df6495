import { createHash, randomBytes } from "node:crypto";
import type { Database } from "@assay/driver-postgres";
import type {
  ListingSubject,
  Listing,
  MeteredUse,
  OpenPayment,
  PaymentHeaders,
  PricedUse,
  StoredRecord,
} from "@assay/protocol";
import { encodePayment } from "@assay/x402";
import type { Address, EvmSigner, Hex, PaymentPayload, PaymentRequirements, Scheme } from "@assay/x402";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";
import { createDesk } from "../desk.ts";
import type { Desk } from "../desk.ts";
import type { PaidRecord } from "../ingest.ts";
import type { ChannelFacts, DeskChain, DeskEvent, DeskModules, DeskOptions, FactsFound } from "../modules.ts";
import type { DeskQuote } from "../terms.ts";

// What the desk's tests share: a gateway's part with a log in memory, a chain that says what it is told to say, payers.

export const suite = nobleEvmSuite;
export const addressAt = (n: number): Address => `0x${n.toString(16).padStart(40, "0")}`;
export const USDC = {
  symbol: "USDC",
  address: addressAt(0xc0ffee),
  decimals: 6,
  name: "USDC",
  version: "2",
  eip3009: true,
  eip2612: true,
} as const;
export const ASY = {
  symbol: "ASY",
  address: addressAt(0xa57),
  decimals: 18,
  name: "Assay",
  version: "1",
  eip3009: false,
  eip2612: true,
} as const;
export const OPERATOR = addressAt(0x0b);
const BATCHER = addressAt(0xba7c);

/** A log in memory: what was appended is durable. */
type TestLog = {
  readonly records: PaidRecord[];
  readonly size: () => number;
  readonly readRange: (from: number, limit: number) => Promise<readonly StoredRecord[]>;
  readonly decode: (record: StoredRecord) => PaidRecord;
};

function createLog(): TestLog {
  const records: PaidRecord[] = [];
  const nothing = new Uint8Array();
  return {
    records,
    size: () => records.length,
    readRange: (from, limit) =>
      Promise.resolve(
        records.slice(from, from + limit).map(({ logIndex }) => ({
          index: logIndex,
          entry: nothing,
          claims: nothing,
          opening: nothing,
          erased: false,
        })),
      ),
    decode(record) {
      const found = records[record.index];
      if (!found) throw new RangeError("no such record");
      return found;
    },
  };
}

/** A chain that says what it was told. */
type TestChain = DeskChain & {
  /** Replaces what is said of payers; `down` makes every question fail. */
  facts: Partial<FactsFound>;
  channelFacts: Partial<ChannelFacts>;
  down: Error | undefined;
  valid: boolean;
  asked: number;
};

function createTestChain(): TestChain {
  const answer = <T>(value: () => T): Promise<T> => {
    chain.asked++;
    return chain.down ? Promise.reject(chain.down) : Promise.resolve(value());
  };
  const chain: TestChain = {
    facts: {},
    channelFacts: {},
    down: undefined,
    valid: false,
    asked: 0,
    payerFacts: () =>
      answer(() => ({
        balance: 10n ** 30n,
        allowance: 10n ** 30n,
        authorizationUsed: false,
        permit2NonceUsed: false,
        permitNonce: 0n,
        payerCodeBytes: 0,
        ...chain.facts,
      })),
    isValidSignature: () => answer(() => chain.valid),
    isValidUndeployed: () => answer(() => chain.valid),
    channel: () =>
      answer(() => ({
        balance: 0n,
        totalClaimed: 0n,
        withdrawAmount: 0n,
        withdrawRequestedAt: 0,
        refundNonce: 0n,
        ...chain.channelFacts,
      })),
  };
  return chain;
}

export type Shop = {
  readonly desk: Desk;
  readonly log: TestLog;
  readonly chain: TestChain;
  readonly events: DeskEvent[];
  readonly due: Hex[];
  readonly listings: Map<ListingSubject, Listing>;
  readonly clock: { nowMs: number };
  readonly quote: (use?: Partial<PricedUse>) => DeskQuote;
  /** What a 402 for a quote offers by a scheme. */
  readonly offer: (quote: DeskQuote, scheme: Scheme) => PaymentRequirements;
  readonly take: (
    quote: DeskQuote,
    headers: PaymentHeaders,
    body?: string,
    signal?: AbortSignal,
  ) => ReturnType<Desk["take"]>;
  /** Charges an open payment, appends its record and tells the desk, as a gateway does. */
  readonly finish: (
    open: OpenPayment,
    used?: MeteredUse,
  ) => Promise<{ readonly charged: bigint; readonly logIndex: number }>;
};

export const listing = (changes: Partial<Listing> = {}): Listing => ({
  subject: "model:me/net",
  asset: "USDC",
  perCall: "0.001",
  perMillionOutputTokens: "1",
  owner: "key:author",
  changedAtMs: 1,
  ...changes,
});

/** A started desk over a database, and everything around it. Give `over` another shop's parts to share them. */
export async function openShop(
  database: Database,
  changes: {
    readonly options?: Partial<DeskOptions>;
    readonly modules?: Partial<DeskModules>;
    readonly over?: Pick<Shop, "log" | "chain" | "listings" | "clock">;
    readonly start?: boolean;
  } = {},
): Promise<Shop> {
  const over = changes.over;
  const log = over?.log ?? createLog();
  const chain = over?.chain ?? createTestChain();
  const listings = over?.listings ?? new Map<ListingSubject, Listing>([["model:me/net", listing()]]);
  const clock = over?.clock ?? { nowMs: 1_790_000_000_000 };
  const events: DeskEvent[] = [];
  const due: Hex[] = [];
  const desk = createDesk(
    {
      database,
      listings,
      suite,
      chain,
      now: () => clock.nowMs,
      onDue: (ids) => due.push(...ids),
      onEvent: (event) => events.push(event),
      ...changes.modules,
    },
    {
      deployments: { network: "eip155:31337", chainId: 31337, paymentBatcher: BATCHER, tokens: [USDC, ASY] },
      payTo: OPERATOR,
      receiverAuthorizer: addressAt(0xa0),
      gateway: "gateway",
      bootId: randomBytes(8).toString("hex"),
      ...changes.options,
    },
  );
  if (changes.start !== false) await desk.start(log, log.decode);
  return {
    desk,
    log,
    chain,
    events,
    due,
    listings,
    clock,
    quote(use) {
      const quote = desk.quote({
        subjects: ["model:me/net"],
        most: { inputTokens: 1000, outputTokens: 1000 },
        resource: { url: "http://127.0.0.1/v1/chat/completions" },
        ...use,
      });
      if (!quote) throw new TypeError("The use is free.");
      return quote as DeskQuote;
    },
    offer(quote, scheme) {
      const found = quote.terms.accepts.find((requirement) => requirement.scheme === scheme);
      if (!found) throw new TypeError(`${scheme} is not offered.`);
      return found;
    },
    take: (quote, headers, body = "body", signal = new AbortController().signal) =>
      desk.take(quote, headers, { fingerprint: fingerprintOf(body), signal }),
    async finish(open, used = { inputTokens: 1000, outputTokens: 500 }) {
      const charge = open.charge("model:me/net", used);
      const logIndex = log.records.length;
      const receiptId = randomBytes(16).toString("hex");
      const [executionDigest, serviceDigest] = [randomBytes(32).toString("hex"), randomBytes(32).toString("hex")];
      const record = {
        logIndex,
        row: { receiptId, executionDigest, serviceDigest, issuedAtMs: clock.nowMs },
        payment: charge.instruction,
      };
      log.records.push(record);
      charge.durable({ receiptId, logIndex, executionDigest, serviceDigest });
      desk.ingest([record], logIndex + 1);
      await Promise.resolve();
      return { charged: charge.amountAtomic, logIndex };
    },
  };
}

function fingerprintOf(body: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(body).digest());
}

export function newPayer(): EvmSigner {
  return nobleEvmSigner(new Uint8Array(randomBytes(32)));
}

/** A payment's headers, as a client sends them. */
export function headersOf(payload: PaymentPayload, more: PaymentHeaders = {}): PaymentHeaders {
  const { name, value } = encodePayment(suite, payload);
  return { [name === "X-PAYMENT" ? "x-payment" : "payment-signature"]: value, ...more };
}
