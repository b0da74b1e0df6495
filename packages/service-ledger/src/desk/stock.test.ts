import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createChain, openEmbeddedChain } from "@assay/driver-chain";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import { paymentRequiredV1 } from "@assay/x402";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { toClientEvmSigner } from "@x402/evm";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDatabase } from "../settle/testing/host.ts";
import { account, approvePermit2, payer, suite } from "../settle/testing/world.ts";
import type { Account, World } from "../settle/testing/world.ts";
import { createDeskChain } from "./chain.ts";
import { openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

// Clients that others wrote, unmodified, before this desk. What lies between is a gateway of a few lines in this process.

let world: World;
let server: EmbeddedPostgres;
let database: Database;
let shop: Shop;
const url = "http://127.0.0.1/v1/chat/completions";

beforeAll(async () => {
  world = await openBaseSepolia();
  ({ server, database } = await openDatabase(world));
  shop = await openShop(database, {
    modules: {
      chain: createDeskChain(world.chain, world.embedded.deployments),
      now: () => Date.now(),
      refund: () => Promise.resolve({ transaction: `0x${"ab".repeat(32)}`, amountAtomic: 1n }),
    },
    options: {
      deployments: world.embedded.deployments,
      payTo: world.receiver.address,
      receiverAuthorizer: world.operator.address,
    },
  });
});

afterAll(async () => {
  await shop?.desk.close();
  await database?.close();
  await server?.close();
  await world?.close();
  if (world) await rm(world.directory, { recursive: true, force: true });
});

/** A chain under the id that such clients know by default, with the token that they know there. */
async function openBaseSepolia(): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), "assay-stock-"));
  const [operator, submitter, deployer, receiver] = [account(), account(), account(), account()];
  const embedded = await openEmbeddedChain({
    directory: join(directory, "chain"),
    profile: 84532,
    keys: { deployer: deployer.address, operators: [operator.address], submitter: submitter.address },
  });
  const chain = createChain({ url: embedded.rpcUrl, chainId: embedded.chainId });
  return { chain, embedded, operator, submitter, receiver, directory, close: () => embedded.close() };
}

/** What the gateway was asked, with its answer's status. */
const seen: { readonly method: string; readonly status: number; readonly code: string }[] = [];

/** A gateway around the desk: quote, take, work, charge, answer. */
async function gateway(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  const body = await request.text();
  const headers = {
    "payment-signature": request.headers.get("payment-signature") ?? undefined,
    "x-payment": request.headers.get("x-payment") ?? undefined,
    "idempotency-key": request.headers.get("idempotency-key") ?? undefined,
  };
  const respond = (status: number, code: string, more: Readonly<Record<string, string>>, text: unknown): Response => {
    seen.push({ method: request.method, status, code });
    return new Response(JSON.stringify(text), { status, headers: more });
  };
  const quote = shop.quote();
  const taken =
    request.method === "GET" && shop.desk.refund
      ? await shop.desk.refund(quote.use, headers, request.signal)
      : await shop.take(quote, headers, body, request.signal);
  if (taken.kind === "problem") {
    const { status, code, headers: more, required } = taken.problem;
    return respond(status, code, more, required ? paymentRequiredV1(suite, required) : {});
  }
  if (taken.kind === "done") return respond(taken.status, "refunded", taken.headers, taken.body);
  if (taken.kind === "replay") return respond(200, "replayed", {}, {});
  const charge = taken.charge("model:me/net", { inputTokens: 10, outputTokens: 500 });
  const logIndex = shop.log.records.length;
  const [receiptId, digest] = [randomBytes(16).toString("hex"), randomBytes(32).toString("hex")];
  const row = { receiptId, executionDigest: digest, serviceDigest: digest, issuedAtMs: Date.now() };
  const record = { logIndex, row, payment: charge.instruction };
  shop.log.records.push(record);
  charge.durable({ receiptId, logIndex, executionDigest: digest, serviceDigest: digest });
  shop.desk.ingest([record], logIndex + 1);
  return respond(200, taken.scheme, charge.headers, { answer: 42 });
}

function signerOf({ key }: Account) {
  const account = privateKeyToAccount(key);
  const reader = createPublicClient({ transport: http(world.embedded.rpcUrl) });
  return toClientEvmSigner(account, {
    readContract: (parameters) => reader.readContract(parameters as Parameters<typeof reader.readContract>[0]),
  });
}

const post = (fetch: typeof globalThis.fetch, body: string): Promise<Response> => fetch(url, { method: "POST", body });

describe("a stock client", () => {
  it("pays by exact", async () => {
    const from = await payer(world, 100_000n);
    const client = new x402Client().register("eip155:*", new ExactEvmScheme(signerOf(from)));
    const answer = await post(wrapFetchWithPayment(gateway, client), "exact");
    expect([answer.status, await answer.json()]).toEqual([200, { answer: 42 }]);
    expect(seen.at(-1)?.code).toBe("exact");
  });

  it("pays by upto, once Permit2 is approved", async () => {
    const from = await payer(world, 100_000n);
    await approvePermit2(world, from.address);
    const client = new x402Client().register("eip155:*", new UptoEvmScheme(signerOf(from)));
    const answer = await post(wrapFetchWithPayment(gateway, client), "upto");
    expect([answer.status, seen.at(-1)?.code]).toEqual([200, "upto"]);
  });

  it("pays by upto without an approval, with the signed one that is offered", async () => {
    const from = await payer(world, 100_000n);
    const client = new x402Client().register("eip155:*", new UptoEvmScheme(signerOf(from)));
    const answer = await post(wrapFetchWithPayment(gateway, client), "sponsored");
    expect([answer.status, seen.at(-1)?.code]).toEqual([200, "upto"]);
  });

  it("opens a channel, goes on with vouchers, and never waits for a block", async () => {
    const from = await payer(world, 1_000_000n);
    const scheme = new BatchSettlementEvmScheme(signerOf(from));
    const fetch = wrapFetchWithPayment(gateway, new x402Client().register("eip155:*", scheme));
    const from0 = seen.length;
    for (let i = 0; i < 4; i++) expect((await post(fetch, `call ${i}`)).status).toBe(200);
    const answers = seen.slice(from0).map(({ code }) => code);
    expect(answers.filter((code) => code === "batch-settlement")).toHaveLength(4);
    // Each call is one quote and one payment: what the desk says of the channel is what the client counts with.
    expect(answers).toHaveLength(8);
    await shop.desk.ingested(shop.log.size());
    const { rows } = await database.query("SELECT charged::text, balance::text FROM assay.channels WHERE payer = $1", [
      from.address,
    ]);
    expect(rows).toEqual([{ charged: "6000", balance: expect.anything() as string }]);
  });

  it("calls side by side on one channel, and each call succeeds", async () => {
    const from = await payer(world, 1_000_000n);
    const scheme = new BatchSettlementEvmScheme(signerOf(from));
    const fetch = wrapFetchWithPayment(gateway, new x402Client().register("eip155:*", scheme));
    expect((await post(fetch, "first")).status).toBe(200);
    // The deposit has to be on the chain before such a client believes what a corrective 402 says of its channel.
    const answers = await Promise.all(Array.from({ length: 4 }, (_, i) => post(fetch, `beside ${i}`)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  });
});
