import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { createPublicClient, erc20Abi, getAddress, http } from "viem";
import { afterAll, beforeAll, expect, test } from "vitest";
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import { startEmbeddedPostgres } from "@assay/driver-postgres";
import type { EmbeddedPostgres } from "@assay/driver-postgres";
import { createPayer, paidFetch, spendLimit } from "@assay/sdk";
import { authorizeExact, encodePayment, parsePaymentRequired } from "@assay/x402";
import type { Address } from "@assay/x402";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { ask, mintToken, openHome } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";

// Two gateways over one database and one chain: both take payments, and the first one settles them.

const repository = fileURLToPath(new URL("../..", import.meta.url));
const settler = { entry: join(repository, "apps/assay/dist/settler.js") };
const PRICED = `/v1/prices/${encodeURIComponent("model:demo/digits")}`;
const PRICE = 2_000n;
const suite = nativeEvmSuite();

let directory: string;
let postgres: EmbeddedPostgres;
let first: ServerHome;
let second: ServerHome;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-pay-peer-"));
  postgres = await startEmbeddedPostgres({ directory: join(directory, "database") });
  first = await openHome({
    ...sourceChild(),
    seed: true,
    databaseUrl: postgres.url,
    money: {
      chain: { kind: "embedded", profile: 31337 },
      settler,
      settling: { afterMs: 100, claimAfterMs: 200, tickMs: 50, pollMs: 50 },
      eager: true,
    },
  });
  await first.server.money?.ready();
  const token = await mintToken(first.server.url, first.operator);
  const invited = await ask(first.server.url, "/v1/nodes/invites", { token, json: {} });
  second = await openHome({
    ...sourceChild(),
    databaseUrl: postgres.url,
    peer: { url: first.server.url, invite: String(invited.body["invite"]) },
    // Its own would be another chain: it takes the first one's.
    money: { chain: { kind: "embedded", profile: 31337 }, settler },
  });
  await second.server.databaseReady;
  const priced = await fetch(first.server.url + PRICED, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ asset: "USDC", perCall: "0.002" }),
  });
  if (!priced.ok) throw new Error(`The price was refused: ${await priced.text()}`);
});
afterAll(async () => {
  await second?.close();
  await first?.close();
  await postgres?.close();
  rmSync(directory, { recursive: true, force: true });
});

const running = async () => {
  const { money } = first.server;
  if (!money) throw new Error("The first gateway has no money.");
  return money.ready();
};
const dollars = async () => {
  const usdc = (await running()).place.deployments.tokens.find(({ symbol }) => symbol === "USDC");
  if (!usdc) throw new Error("There are no dollars.");
  return usdc;
};
async function customer() {
  const signer = evmSigner(new Uint8Array(randomBytes(32)));
  const { place } = await running();
  await place.faucet?.fund(signer.address, { asset: "USDC", amountAtomic: 1_000_000n });
  return signer;
}
const balanceOf = async (owner: Address): Promise<bigint> => {
  const { place } = await running();
  return createPublicClient({ transport: http(place.rpcUrl) }).readContract({
    abi: erc20Abi,
    address: (await dollars()).address,
    functionName: "balanceOf",
    args: [getAddress(owner)],
  });
};
const infer = (at: ServerHome, headers: Readonly<Record<string, string>> = {}, fetching = fetch) =>
  fetching(`${at.server.url}/v2/models/demo%2Fdigits/infer`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({
      inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data: Array.from({ length: 64 }, () => 0) }],
    }),
  });
const statesOf = async (payer: Address) => {
  const { database } = await running();
  const { rows } = await database.query(
    `SELECT state, count(*)::int AS payments, count(DISTINCT receipt_id)::int AS receipts,
       count(supplement_index)::int AS stated, sum(amount_atomic)::text AS amount
     FROM assay.payments WHERE payer = $1 GROUP BY state`,
    [payer],
  );
  return rows;
};
const SOON = { timeout: 30_000, interval: 100 };

test("the second gateway has the first one's prices and chain, and sets neither", async () => {
  await expect.poll(async () => (await infer(second)).status, SOON).toBe(402);
  await second.server.money?.ready();
  const [here, there] = await Promise.all(
    [first, second].map(async (at) => {
      const header = (await infer(at)).headers.get("payment-required") ?? "";
      return parsePaymentRequired({ header }).required.accepts;
    }),
  );
  expect(there).toEqual(here);
  const token = await mintToken(second.server.url, second.operator);
  const refused = await fetch(second.server.url + PRICED, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ asset: "USDC", perCall: "0.001" }),
  });
  expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([409, "prices_elsewhere"]);
  for (const path of ["prices", "chain"])
    expect((await ask(first.server.url, `/internal/money/${path}`)).status).toBe(401);
});

test("one payment that goes to both at once runs once, and is settled once", async () => {
  for (let round = 0; round < 5; round++) {
    const signer = await customer();
    const quote = parsePaymentRequired({ header: (await infer(first)).headers.get("payment-required") ?? "" });
    const requirement = quote.required.accepts.find(({ scheme }) => scheme === "exact");
    if (!requirement) throw new Error("Nothing exact is offered.");
    const nowS = Math.floor(Date.now() / 1000);
    const payload = await authorizeExact({ suite, signer, requirement, nonce: new Uint8Array(randomBytes(32)), nowS });
    const { name, value } = encodePayment(suite, payload);
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, i) => infer(i % 2 === 0 ? first : second, { [name]: value })),
    );
    const bodies = await Promise.all(answers.map((answer) => answer.json() as Promise<{ code?: string }>));
    const fresh = answers.filter(({ status, headers }) => status === 200 && headers.get("assay-replayed") !== "true");
    expect(fresh).toHaveLength(1);
    // The others hear that it is under way, that it was answered, or have the answer again where it was given.
    for (const [i, { status }] of answers.entries())
      if (status !== 200)
        expect([status, bodies[i]?.code]).toEqual([
          409,
          expect.stringMatching(/^(payment_in_flight|answer_not_kept)$/),
        ]);
    await expect
      .poll(() => statesOf(signer.address), SOON)
      .toEqual([{ state: "settled", payments: 1, receipts: 1, stated: 1, amount: PRICE.toString() }]);
    expect(await balanceOf(signer.address)).toBe(1_000_000n - PRICE);
  }
});

test("a channel is one, whichever gateway its vouchers go to", async () => {
  const signer = await customer();
  const { address, name, version } = await dollars();
  const { place } = await running();
  const asset = {
    symbol: "USDC",
    network: place.deployments.network,
    address,
    decimals: 6,
    domain: { name, version },
  } as const;
  const payer = createPayer({
    signer,
    suite,
    policy: {
      assets: [spendLimit(asset, { perCall: "0.1", perHour: "1" })],
      hosts: [first, second].map(({ server }) => new URL(server.url).host),
    },
    rpcUrl: place.rpcUrl,
    channels: "always",
  });
  const pay = paidFetch(undefined, payer) as typeof fetch;
  const CALLS = 20;
  for (let i = 0; i < 2; i++) expect((await infer(i === 0 ? first : second, {}, pay)).status).toBe(200);
  const answers = await Promise.all(
    Array.from({ length: CALLS - 2 }, (_, i) => infer(i % 2 === 0 ? first : second, {}, pay)),
  );
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(await payer.channels()).toHaveLength(1);
  await expect
    .poll(() => statesOf(signer.address), SOON)
    .toEqual([
      { state: "settled", payments: CALLS, receipts: CALLS, stated: CALLS, amount: (BigInt(CALLS) * PRICE).toString() },
    ]);
});
