import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { batchSettlement } from "@assay/contracts";
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import { createPayer, paidFetch, spendLimit } from "@assay/sdk";
import { channelOutcome, parseSettlementResponse } from "@assay/x402";
import type { Hex } from "@assay/x402";
import { createPublicClient, http } from "viem";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { mintToken, openHome } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";

// One client with many requests under way on one channel: its vouchers arrive in whatever order the network likes.

const REQUESTS = 500;
const AT_ONCE = 50;
/** Vouchers overtake each other by this much, milliseconds. */
const SHUFFLE_MS = 40;
/** A request that waited for others on its channel would take longer than this, and up to thirty seconds. */
const LONGEST_MS = 10_000;
const DOLLAR = 1_000_000n;
const NETWORK = "eip155:31337";

let home: ServerHome;

beforeAll(async () => {
  home = await openHome({
    ...sourceChild(),
    seed: true,
    money: {
      chain: { kind: "embedded", profile: 31337 },
      settler: { entry: join(fileURLToPath(new URL("../..", import.meta.url)), "apps/assay/dist/settler.js") },
      settling: { afterMs: 100, claimAfterMs: 500, tickMs: 50, pollMs: 50 },
      eager: true,
    },
  });
});
afterAll(() => home?.close());

test("hundreds of requests on one channel, fifty at a time, are all answered at once and settled", async () => {
  const { url, money } = home.server;
  if (!money) throw new Error("The server has no money.");
  const { place, database } = await money.ready();
  const token = await mintToken(url, home.operator);
  const priced = await fetch(`${url}/v1/prices/${encodeURIComponent("model:demo/digits")}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    // Less is charged than a voucher has to cover, so that what is promised runs ahead of what is charged.
    body: JSON.stringify({ asset: "USDC", perCall: "0.0005", perSecond: "0.0001" }),
  });
  expect(priced.status).toBe(200);

  const signer = evmSigner(new Uint8Array(randomBytes(32)));
  await place.faucet?.fund(signer.address, { asset: "USDC", amountAtomic: 50n * DOLLAR });
  const usdc = place.deployments.tokens.find(({ symbol }) => symbol === "USDC");
  if (!usdc) throw new Error("There are no dollars.");
  const { address, name, version } = usdc;
  const asset = { symbol: "USDC", network: NETWORK, address, decimals: 6, domain: { name, version } } as const;
  const payer = createPayer({
    signer,
    suite: nativeEvmSuite(),
    policy: { assets: [spendLimit(asset, { perCall: "0.1", perHour: "50" })], hosts: [new URL(url).host] },
    rpcUrl: place.rpcUrl,
    channels: "always",
  });
  const statuses: number[] = [];
  const shuffled: typeof fetch = async (...asked) => {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * SHUFFLE_MS));
    const response = await fetch(...asked);
    statuses.push(response.status);
    return response;
  };
  const pay = paidFetch(shuffled, payer);
  let charged = 0n;
  const ask = async (i: number): Promise<number> => {
    // All of one length: a price may depend on it, and a client asks once for each.
    const data = Array.from({ length: 64 }, (_, at) => (at === i % 64 ? 1000 + i : 0));
    const begin = performance.now();
    const response = await pay(`${url}/v2/models/demo%2Fdigits/infer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data }] }),
    });
    await response.arrayBuffer();
    expect(response.status).toBe(200);
    const said = channelOutcome(parseSettlementResponse(response.headers.get("payment-response") ?? ""));
    charged += said.chargedAtomic ?? 0n;
    return performance.now() - begin;
  };

  await ask(0);
  expect(statuses.splice(0)).toEqual([402, 200]);
  let next = 1;
  const took: number[] = [];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next <= REQUESTS) took.push(await ask(next++));
    }),
  );
  expect(statuses).toEqual(Array.from({ length: REQUESTS }, () => 200));
  expect(Math.max(...took)).toBeLessThan(LONGEST_MS);

  const channels = await payer.channels();
  expect(channels).toHaveLength(1);
  const channelId = channels[0]?.channelId as Hex;
  await expect
    .poll(
      async () =>
        (
          await database.query(
            `SELECT state, count(*)::int AS payments, count(DISTINCT receipt_id)::int AS receipts,
               sum(amount_atomic)::text AS amount FROM assay.payments WHERE payer = $1 GROUP BY state`,
            [signer.address],
          )
        ).rows,
      { timeout: 60_000, interval: 200 },
    )
    .toEqual([{ state: "settled", payments: REQUESTS + 1, receipts: REQUESTS + 1, amount: charged.toString() }]);
  const chain = createPublicClient({ transport: http(place.rpcUrl) });
  const [, totalClaimed] = await chain.readContract({
    abi: batchSettlement.abi,
    address: place.deployments.batchSettlement,
    functionName: "channels",
    args: [channelId],
  });
  expect(totalClaimed).toBe(charged);
}, 180_000);
