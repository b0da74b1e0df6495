import { randomBytes } from "node:crypto";
import { PGlite } from "@electric-sql/pglite";
import { ExactEvmScheme } from "@x402/evm";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { nodeSuite } from "@assay/driver-crypto";
import type { Frame, Listing, ListingSubject, StoredRecord } from "@assay/protocol";
import { createDesk } from "@assay/service-ledger";
import type { Desk, DeskChain } from "@assay/service-ledger";
import { decodeRecord } from "@assay/service-gateway";
import { parseSettlementResponse, paymentRequiredV1 } from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openTextServer, scriptedExecutor } from "./text-server.ts";
import type { Script, TextServer } from "./text-server.ts";

// The gateway with the ledger's own desk and rows in a database, and a stock client of x402 that pays it. What the chain
// would say of payers is told here: they are rich, and nothing of theirs was used before.

let server: TextServer | undefined;
let database: Database;
let desk: Desk | undefined;

beforeAll(async () => {
  database = databaseFromPglite(await PGlite.create());
  await migrateDatabase(database);
});
afterAll(() => database.close());
beforeEach(() => database.exec("TRUNCATE assay.payments, assay.channels; UPDATE assay.ledger_state SET watermark = 0"));
afterEach(async () => {
  await server?.close();
  server = undefined;
  await desk?.close();
  desk = undefined;
});

const USDC = {
  symbol: "USDC",
  // The token that clients know on Base Sepolia, so that their defaults let them pay.
  address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
  decimals: 6,
  name: "USDC",
  version: "2",
  eip3009: true,
  eip2612: true,
} as const;
const rich: DeskChain = {
  payerFacts: () =>
    Promise.resolve({
      balance: 10n ** 30n,
      allowance: 10n ** 30n,
      authorizationUsed: false,
      permit2NonceUsed: false,
      permitNonce: 0n,
      payerCodeBytes: 0,
    }),
  isValidSignature: () => Promise.resolve(false),
  isValidUndeployed: () => Promise.resolve(false),
  channel: () => Promise.reject(new Error("no channel is asked for")),
};

const frame = (value: unknown): Frame => ({ data: JSON.stringify(value) });
const last = (value: unknown): Frame => ({ ...frame(value), final: true });
const hello: Script = async function* hello({ parsed }) {
  if (!parsed.stream) {
    yield await Promise.resolve(last({ object: "chat.completion", choices: [] }));
    return;
  }
  for (const content of ["Hel", "lo"])
    yield await Promise.resolve(frame({ choices: [{ index: 0, delta: { content }, finish_reason: null }] }));
  yield last({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
};

const LISTING: Listing = {
  subject: "model:a/b",
  asset: "USDC",
  perCall: "0.001",
  perMillionOutputTokens: "10",
  owner: "x",
  changedAtMs: 1,
};

function openDesk(): Desk {
  return createDesk(
    {
      database,
      listings: { get: (subject: ListingSubject) => (subject === LISTING.subject ? LISTING : undefined) },
      suite: nobleEvmSuite,
      chain: rich,
      now: Date.now,
    },
    {
      deployments: {
        network: "eip155:84532",
        chainId: 84_532,
        paymentBatcher: `0x${"ba".repeat(20)}`,
        tokens: [USDC],
      },
      payTo: `0x${"0b".repeat(20)}`,
      gateway: "one",
      bootId: randomBytes(8).toString("hex"),
    },
  );
}

const decode = (record: StoredRecord) => decodeRecord(nodeSuite, record);
const current = (): Desk => {
  if (!desk) throw new Error("There is no desk.");
  return desk;
};

async function open(): Promise<TextServer> {
  desk = openDesk();
  server = await openTextServer({
    candidates: [{ name: "one", executor: scriptedExecutor(hello) }],
    desk: { quote: (use) => current().quote(use), take: (...asked) => current().take(...asked) },
    ledger: {
      start: (log) => current().start(log, decode),
      ingest: (records, next) => current().ingest(records, next),
    },
    paid: { v1: (required) => paymentRequiredV1(nobleEvmSuite, required) },
  });
  return server;
}

/** As after a crash: another desk over the same log and rows, which are emptied first when they are to be made again. */
async function restart(at: TextServer, rebuild: boolean): Promise<void> {
  await desk?.close();
  if (rebuild) await database.exec("TRUNCATE assay.payments; UPDATE assay.ledger_state SET watermark = 0");
  desk = openDesk();
  await desk.start(at.log, decode);
}

const account = privateKeyToAccount(`0x${randomBytes(32).toString("hex")}`);
const payingBy = (scheme: ConstructorParameters<typeof Object>[0]) =>
  wrapFetchWithPaymentFromConfig(fetch, {
    schemes: [{ network: "eip155:84532", client: scheme as ExactEvmScheme }],
  });
const request = (stream: boolean): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }], stream }),
});
const rows = async (): Promise<readonly Readonly<Record<string, unknown>>[]> =>
  (
    await database.query(
      `SELECT state, scheme, payer, amount_atomic::text AS amount, encode(receipt_id, 'hex') AS receipt, log_index::int AS at
       FROM assay.payments ORDER BY log_index`,
      [],
    )
  ).rows;

describe("a stock client", () => {
  test.each([
    ["exact", new ExactEvmScheme(account), "1100"],
    ["upto", new UptoEvmScheme(account), "1010"],
  ] as const)(
    "pays by %s, gets its answer, and the payment is due with the receipt",
    async (scheme, client, amount) => {
      const at = await open();
      const response = await payingBy(client)(`${at.url}/v1/chat/completions`, request(false));
      expect(response.status).toBe(200);
      const settled = parseSettlementResponse(response.headers.get("payment-response") ?? "");
      expect(settled).toMatchObject({ success: true, transaction: "", amount, payer: account.address.toLowerCase() });
      await desk?.ingested(at.log.size());
      expect(await rows()).toEqual([
        {
          state: "due",
          scheme,
          payer: account.address.toLowerCase(),
          amount,
          receipt: response.headers.get("assay-receipt-id"),
          at: Number(response.headers.get("assay-log-index")),
        },
      ]);
      const { service } = await at.logged(response.headers.get("assay-receipt-id") ?? "");
      expect(service.payment).toMatchObject({ scheme, amountAtomic: amount, network: "eip155:84532" });
      expect(service.price?.rateSource).toMatch(/^listing:[0-9a-f]{64}$/);
    },
  );

  test("pays for a stream, which says at its end what it cost", async () => {
    const at = await open();
    const response = await payingBy(new UptoEvmScheme(account))(`${at.url}/v1/chat/completions`, request(true));
    expect(parseSettlementResponse(response.headers.get("payment-response") ?? "")).toMatchObject({ success: true });
    const event = /event: x402-settlement\ndata: (.*)\n/.exec(await response.text())?.[1] ?? "";
    const { paymentResponse, choices } = JSON.parse(event) as { paymentResponse: string; choices: unknown };
    expect(parseSettlementResponse(paymentResponse)).toMatchObject({ success: true, amount: "1030" });
    expect(choices).toEqual([{ index: 0, delta: {}, finish_reason: null }]);
  });

  test("is read a 402 in both versions", async () => {
    const at = await open();
    const response = await fetch(`${at.url}/v1/chat/completions`, request(false));
    expect(response.status).toBe(402);
    const body = (await response.json()) as { x402Version: number; accepts: readonly { scheme: string }[] };
    expect([body.x402Version, body.accepts.map(({ scheme }) => scheme)]).toEqual([1, ["exact"]]);
    const required = JSON.parse(atob(response.headers.get("payment-required") ?? "")) as {
      readonly accepts: readonly { readonly scheme: string }[];
    };
    expect(required.accepts.map(({ scheme }) => scheme)).toEqual(["upto", "exact"]);
  });
});

describe("the same payment", () => {
  /** Sends each request as the client did, and remembers what paid. */
  const recording = (): { readonly fetch: typeof fetch; readonly sent: Headers[] } => {
    const sent: Headers[] = [];
    return {
      sent,
      fetch: (input, init) => {
        const headers = new Headers(input instanceof Request ? input.headers : init?.headers);
        if (headers.has("payment-signature")) sent.push(headers);
        return fetch(input, init);
      },
    };
  };

  test.each([
    [false, false],
    [true, false],
    [true, true],
  ])(
    "gets the same answer 20 times, and after a restart (stream: %s, rows made again: %s)",
    async (stream, rebuild) => {
      const at = await open();
      const recorded = recording();
      const paying = wrapFetchWithPaymentFromConfig(recorded.fetch, {
        schemes: [{ network: "eip155:84532", client: new ExactEvmScheme(account) }],
      });
      const first = await paying(`${at.url}/v1/chat/completions`, request(stream));
      const body = await first.text();
      const payment = recorded.sent[0]?.get("payment-signature") ?? "";
      const again = (): Promise<Response> =>
        fetch(`${at.url}/v1/chat/completions`, {
          ...request(stream),
          headers: { "content-type": "application/json", "payment-signature": payment },
        });
      const copies = await Promise.all(Array.from({ length: 20 }, again));
      await restart(at, rebuild);
      for (const copy of [...copies, await again()]) {
        expect([copy.status, copy.headers.get("assay-replayed")]).toEqual([200, "true"]);
        expect(await copy.text()).toBe(body);
      }
      const other = await fetch(`${at.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", "payment-signature": payment },
        body: JSON.stringify({ model: "a/b", prompt: "x" }),
      });
      expect([other.status, ((await other.json()) as { code: string }).code]).toEqual([409, "payment_bound"]);
      await current().ingested(at.log.size());
      expect((await rows()).map(({ state }) => state)).toEqual(["due"]);
      expect(at.receipts).toHaveLength(1);
    },
  );
});
