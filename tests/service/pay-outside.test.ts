import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { createWalletClient, erc20Abi, getAddress, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createChain, evmSigner, nativeEvmSuite, openEmbeddedChain } from "@assay/driver-chain";
import type { EmbeddedChain } from "@assay/driver-chain";
import { createPayer, paidFetch, spendLimit } from "@assay/sdk";
import { createChainChecks } from "@assay/service-ledger";
import { toHex } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { viewOf } from "./chat-world.ts";
import { mintToken, openHome } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";

// Payments are settled by a facilitator that others wrote, on a chain that is not the gateway's own.

const AUTHORIZATION = "Bearer an-outside-token";
const PRICED = encodeURIComponent("model:demo/digits");
const hex = (): Hex => toHex(new Uint8Array(randomBytes(32)));
const addressOf = (key: Hex): Address => privateKeyToAccount(key).address.toLowerCase() as Address;

/** What the facilitator does with the next payments: its work, its work without an answer, or a lie about it. */
let conduct: "honest" | "silent" | "lying" = "honest";
const settles: string[] = [];

let directory: string;
let chain: EmbeddedChain;
let reference: Server;
let home: ServerHome;
const facilitatorKey = hex();
const receiver = addressOf(hex());

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "assay-outside-"));
  const keys = { settler: hex(), submitter: hex(), authorizer: hex(), facilitator: hex() };
  chain = await openEmbeddedChain({
    directory: join(directory, "chain"),
    profile: 31337,
    keys: { deployer: addressOf(hex()), operators: [addressOf(keys.settler)], submitter: addressOf(keys.submitter) },
  });
  mkdirSync(join(directory, "keys"));
  for (const [name, key] of Object.entries(keys))
    writeFileSync(join(directory, "keys", `${name}.hex`), key.slice(2), { mode: 0o600 });
  const { chainId, paymentBatcher, receiptAnchor, splitFactory, tokens } = chain.deployments;
  const file = join(directory, "chain.json");
  writeFileSync(file, JSON.stringify({ chainId, paymentBatcher, receiptAnchor, splitFactory, tokens }));
  reference = await openReference();
  const { port } = reference.address() as AddressInfo;
  home = await openHome({
    ...sourceChild(),
    seed: true,
    money: {
      chain: { kind: "rpc", url: chain.rpcUrl, file, keys: join(directory, "keys"), payTo: receiver },
      outside: { url: `http://127.0.0.1:${port}`, authorization: AUTHORIZATION },
      settler: { entry: join(fileURLToPath(new URL("../..", import.meta.url)), "apps/assay/dist/settler.js") },
      settling: { tickMs: 50, pollMs: 50 },
      eager: true,
    },
  });
  await home.server.money?.ready();
});
afterAll(async () => {
  await home?.close();
  reference?.closeAllConnections();
  reference?.close();
  await chain?.close();
  rmSync(directory, { recursive: true, force: true });
});

/** The reference facilitator of x402 over HTTP. */
async function openReference(): Promise<Server> {
  const account = privateKeyToAccount(facilitatorKey);
  await chain.fund(addressOf(facilitatorKey), { asset: "ETH", amountAtomic: 10n ** 18n });
  const wallet = createWalletClient({ account, transport: http(chain.rpcUrl), pollingInterval: 20 }).extend(
    publicActions,
  );
  const signer = toFacilitatorEvmSigner({
    address: account.address,
    ...wallet,
    writeContract: (args: object) => wallet.writeContract({ ...args, chain: null } as never),
    sendTransaction: (args: object) => wallet.sendTransaction({ ...args, chain: null } as never),
  } as never);
  const facilitator = new x402Facilitator()
    .register(chain.network, new ExactEvmScheme(signer))
    .register(chain.network, new UptoEvmScheme(signer));
  let last: unknown;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (request.headers.authorization !== AUTHORIZATION) {
        response.writeHead(401).end();
        return;
      }
      if (request.url === "/supported") {
        response.end(JSON.stringify(facilitator.getSupported()));
        return;
      }
      settles.push(conduct);
      const { paymentPayload, paymentRequirements } = JSON.parse(Buffer.concat(chunks).toString()) as never;
      if (conduct === "lying") {
        response.end(JSON.stringify(last));
        return;
      }
      const silent = conduct === "silent";
      void facilitator.settle(paymentPayload, paymentRequirements).then(
        (settled) => {
          last = settled;
          if (silent) response.destroy();
          else response.end(JSON.stringify(settled));
        },
        () => response.writeHead(500).end("{}"),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const dollars = () => {
  const usdc = chain.deployments.tokens.find(({ symbol }) => symbol === "USDC");
  if (!usdc) throw new Error("There are no dollars.");
  return usdc;
};
const reader = () => createWalletClient({ transport: http(chain.rpcUrl) }).extend(publicActions);
const balanceOf = (owner: string): Promise<bigint> =>
  reader().readContract({
    abi: erc20Abi,
    address: dollars().address,
    functionName: "balanceOf",
    args: [getAddress(owner)],
  });

/** Somebody with dollars, and whether Permit2 may move them: then payments are metered. */
async function customer(metered: boolean) {
  const key = hex();
  const signer = evmSigner(Buffer.from(key.slice(2), "hex"));
  await chain.fund(signer.address, { asset: "USDC", amountAtomic: 1_000_000n });
  const { address, name, version } = dollars();
  if (metered) {
    await chain.fund(signer.address, { asset: "ETH", amountAtomic: 10n ** 18n });
    const wallet = createWalletClient({ account: privateKeyToAccount(key), transport: http(chain.rpcUrl) });
    const hash = await wallet.writeContract({
      chain: null,
      abi: erc20Abi,
      address,
      functionName: "approve",
      args: [chain.deployments.permit2, 1_000_000n],
    });
    await reader().waitForTransactionReceipt({ hash });
  }
  const asset = { symbol: "USDC", network: chain.network, address, decimals: 6, domain: { name, version } } as const;
  const payer = createPayer({
    signer,
    suite: nativeEvmSuite(),
    policy: { assets: [spendLimit(asset, { perCall: "0.1", perHour: "1" })], hosts: [new URL(home.server.url).host] },
    rpcUrl: chain.rpcUrl,
    channels: "never",
  });
  const pay = paidFetch(undefined, payer);
  return {
    address: signer.address,
    async call(): Promise<{
      readonly scheme: string | undefined;
      readonly paymentId: string;
      readonly receiptId: string;
      readonly grant: string;
    }> {
      const data = Array.from({ length: 64 }, () => 0);
      const response = await pay(`${home.server.url}/v2/models/demo%2Fdigits/infer`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ inputs: [{ name: "image", datatype: "FP32", shape: [1, 1, 8, 8], data }] }),
      });
      const text = await response.text();
      expect([response.status, text]).toEqual([200, text]);
      const paid = payer.paymentOf(response);
      return {
        scheme: paid?.scheme,
        paymentId: paid?.paymentId ?? "",
        receiptId: response.headers.get("assay-receipt-id") ?? "",
        grant: response.headers.get("assay-grant") ?? "",
      };
    },
  };
}

async function rowOf(paymentId: string) {
  const { database } = (await home.server.money?.ready()) ?? {};
  const rows = await database?.query(
    `SELECT state, error_code, amount_atomic::text AS amount, encode(tx_hash, 'hex') AS tx, supplement_index IS NOT NULL AS stated
     FROM assay.payments WHERE payment_id = decode($1, 'hex')`,
    [paymentId.slice(2)],
  );
  return rows?.rows[0] ?? {};
}
const SETTLES_WITHIN = { timeout: 40_000, interval: 100 };
const settled = async (paymentId: string) => {
  await expect.poll(() => rowOf(paymentId), SETTLES_WITHIN).toMatchObject({ state: "settled", stated: true });
  return rowOf(paymentId);
};

test("payments are quoted and settled as the facilitator says, and the chain shows it", async () => {
  const token = await mintToken(home.server.url, home.operator);
  const priced = await fetch(`${home.server.url}/v1/prices/${PRICED}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ asset: "USDC", perCall: "0.001", perSecond: "0.0001" }),
  });
  expect(priced.status).toBe(200);
  const [exact, metered] = [await customer(false), await customer(true)];
  const payments = [await exact.call(), await metered.call(), await metered.call()];
  expect(payments.map(({ scheme }) => scheme)).toEqual(["exact", "upto", "upto"]);
  let sum = 0n;
  const checks = createChainChecks({
    chain: createChain({ url: chain.rpcUrl, chainId: chain.chainId }),
    deployments: chain.deployments,
  });
  for (const { paymentId, receiptId, grant } of payments) {
    const { amount, tx } = await settled(paymentId);
    sum += BigInt(String(amount));
    const { from, status } = await reader().getTransactionReceipt({ hash: `0x${String(tx)}` });
    expect([from.toLowerCase(), status]).toEqual([addressOf(facilitatorKey), "success"]);
    // The receipt leads to that transaction once the index has its settlement, and the transaction to that payment.
    const checked = async () => {
      const bundle = await fetch(`${home.server.url}/v1/receipts/${receiptId}/bundle?waitMs=5000`, {
        headers: { "assay-grant": grant },
      });
      return checks.payment(viewOf(new Uint8Array(await bundle.arrayBuffer())), {} as never);
    };
    await expect.poll(checked, SETTLES_WITHIN).toMatchObject({ status: "pass", code: "payment_settled" });
  }
  expect(await balanceOf(receiver)).toBe(sum);
  expect((await balanceOf(exact.address)) + (await balanceOf(metered.address))).toBe(2_000_000n - sum);
});

test("an answer that never came changes nothing: the payment is found on the chain, and made once", async () => {
  const before = await balanceOf(receiver);
  conduct = "silent";
  const [exact, metered] = [await customer(false), await customer(true)];
  const payments = [await exact.call(), await metered.call()];
  let sum = 0n;
  for (const { paymentId } of payments) sum += BigInt(String((await settled(paymentId))["amount"]));
  conduct = "honest";
  expect(await balanceOf(receiver)).toBe(before + sum);
});

test("a facilitator that names another payment's transaction is not believed", async () => {
  const before = await balanceOf(receiver);
  conduct = "lying";
  const { paymentId } = await (await customer(true)).call();
  await expect
    .poll(() => rowOf(paymentId), SETTLES_WITHIN)
    .toMatchObject({ state: "failed", error_code: "transaction_mismatch", tx: null });
  expect(await balanceOf(receiver)).toBe(before);
  // It does its work at the next try.
  conduct = "honest";
  const { amount } = await settled(paymentId);
  expect(await balanceOf(receiver)).toBe(before + BigInt(String(amount)));
});
