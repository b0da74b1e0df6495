import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import type { ServerType } from "@hono/node-server";
import { OpenAPIHono } from "@hono/zod-openapi";
import { x402Client } from "@x402/core/client";
import { HTTPFacilitatorClient, x402ResourceServer } from "@x402/core/server";
import type { PaymentPayload, PaymentRequirements } from "@x402/core/types";
import { BatchSettlementEvmScheme as BatchClient } from "@x402/evm/batch-settlement/client";
import { BatchSettlementEvmScheme as BatchServer } from "@x402/evm/batch-settlement/server";
import { ExactEvmScheme as ExactClient } from "@x402/evm/exact/client";
import { ExactEvmScheme as ExactServer } from "@x402/evm/exact/server";
import { UptoEvmScheme as UptoClient } from "@x402/evm/upto/client";
import { UptoEvmScheme as UptoServer } from "@x402/evm/upto/server";
import { createPublicClient, createWalletClient, erc20Abi, getAddress, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createChain, evmSigner, nativeEvmSuite, openEmbeddedChain } from "@assay/driver-chain";
import type { Chain, EmbeddedChain } from "@assay/driver-chain";
import type { Address } from "@assay/x402";
import { createCallers } from "./callers.ts";
import { createFacilitator } from "./facilitator.ts";
import { addFacilitatorRoutes } from "./routes.ts";
import type { Sender } from "./sender.ts";
import type { JsonObject } from "./types.ts";

const key = (): `0x${string}` => `0x${randomBytes(32).toString("hex")}`;
const token = "a-token-of-decent-length";
const deployer = privateKeyToAccount(key());
const submitter = privateKeyToAccount(key());
const senderKeys = [key(), key()] as const;
const receiver = privateKeyToAccount(key()).address;
const suite = nativeEvmSuite();
const authorizer = evmSigner(randomBytes(32));

let directory: string;
let embedded: EmbeddedChain;
let chain: Chain;
let server: ServerType;
let url: string;

/** A sender of one key without a memory, for a chain that takes every transaction at once. */
function simpleSender(privateKey: `0x${string}`): Sender {
  const account = privateKeyToAccount(privateKey);
  const wallet = createWalletClient({ account, transport: http(embedded.rpcUrl) });
  const jobs = new Map<string, Promise<`0x${string}`>>();
  let last: Promise<unknown> = Promise.resolve();
  return {
    address: account.address.toLowerCase() as Address,
    submit: async ({ jobId, to, data, gasLimit }) => {
      const job =
        jobs.get(jobId) ??
        last.then(() =>
          wallet.sendTransaction({
            chain: null,
            to,
            data: `0x${Buffer.from(data).toString("hex")}`,
            ...(gasLimit === undefined ? {} : { gas: gasLimit }),
          }),
        );
      jobs.set(jobId, job);
      last = job.catch(() => undefined);
      await job;
    },
    outcome: async (jobId) => {
      const hash = await jobs.get(jobId);
      const receipt = hash && (await chain.receipt(hash));
      if (!receipt) return { state: "pending", ...(hash ? { transaction: hash } : {}) };
      return { state: receipt.ok ? "mined" : "reverted", receipt };
    },
  };
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "assay-facilitator-"));
  embedded = await openEmbeddedChain({
    directory,
    profile: 31337,
    keys: {
      deployer: deployer.address.toLowerCase() as Address,
      operators: [submitter.address.toLowerCase() as Address],
      submitter: submitter.address.toLowerCase() as Address,
    },
  });
  chain = createChain({ url: embedded.rpcUrl, chainId: 31337 });
  const senders = senderKeys.map(simpleSender);
  for (const { address } of senders) await embedded.fund(address, { asset: "ETH", amountAtomic: 10n ** 18n });
  const app = new OpenAPIHono();
  addFacilitatorRoutes(app, {
    facilitator: createFacilitator({
      suite,
      chains: [{ network: embedded.network, chain, senders, tokens: embedded.deployments.tokens, authorizer }],
    }),
    callers: createCallers([
      {
        id: "shop",
        tokenSha256: createHash("sha256").update(token).digest("hex"),
        payTo: [receiver.toLowerCase() as Address],
      },
    ]),
  });
  await new Promise<void>((resolve) => {
    server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }, () => resolve());
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/facilitator`;
});

afterAll(async () => {
  server?.close();
  await embedded?.close();
  await rm(directory, { recursive: true, force: true });
});

const authorization = { Authorization: `Bearer ${token}` };
const client = (): HTTPFacilitatorClient =>
  new HTTPFacilitatorClient({
    url,
    createAuthHeaders: async () => ({ verify: authorization, settle: authorization, supported: {} }),
  });
const tokenOf = (symbol: string) => {
  const found = embedded.deployments.tokens.find((one) => one.symbol === symbol);
  if (!found) throw new Error(`There is no ${symbol}.`);
  return found;
};
const balanceOf = (symbol: string, owner: string): Promise<bigint> =>
  createPublicClient({ transport: http(embedded.rpcUrl) }).readContract({
    abi: erc20Abi,
    address: tokenOf(symbol).address,
    functionName: "balanceOf",
    args: [owner as Address],
  });

/** A new account with money, and the stock client over it. */
async function payer(symbol: "USDC" | "ASY", amountAtomic: bigint) {
  const account = privateKeyToAccount(key());
  await embedded.fund(account.address.toLowerCase() as Address, { asset: symbol, amountAtomic });
  const publicClient = createPublicClient({ transport: http(embedded.rpcUrl) });
  const signer = {
    address: account.address,
    signTypedData: (message: never) => account.signTypedData(message),
    readContract: (args: never) => publicClient.readContract(args),
  } as unknown as ConstructorParameters<typeof ExactClient>[0];
  const batch = new BatchClient(signer, { depositPolicy: { depositMultiplier: 5 } });
  const stock = new x402Client()
    .register(embedded.network, new ExactClient(signer))
    .register(embedded.network, new UptoClient(signer))
    .register(embedded.network, batch)
    .setSpendControls(false);
  const approve = async (): Promise<void> => {
    await embedded.fund(account.address.toLowerCase() as Address, { asset: "ETH", amountAtomic: 10n ** 18n });
    const wallet = createWalletClient({ account, transport: http(embedded.rpcUrl) });
    const hash = await wallet.writeContract({
      chain: null,
      abi: erc20Abi,
      address: tokenOf(symbol).address,
      functionName: "approve",
      args: [embedded.deployments.permit2, amountAtomic],
    });
    await publicClient.waitForTransactionReceipt({ hash, pollingInterval: 50 });
  };
  return { account, stock, batch, approve };
}

/** The stock server over our facilitator by HTTP. */
async function shop() {
  const batch = new BatchServer(receiver);
  const resources = new x402ResourceServer(client())
    .register(embedded.network, new ExactServer())
    .register(embedded.network, new UptoServer())
    .register(embedded.network, batch);
  await resources.initialize();
  const quote = async (scheme: string, symbol: "USDC" | "ASY", amount: string, extra: JsonObject = {}) => {
    const { address, name, version } = tokenOf(symbol);
    const [requirements] = await resources.buildPaymentRequirements({
      scheme,
      network: embedded.network,
      payTo: receiver,
      price: { asset: getAddress(address), amount, extra: { name, version, ...extra } },
      maxTimeoutSeconds: 900,
    });
    if (!requirements) throw new Error("There is no quote.");
    return requirements;
  };
  const pay = (
    stock: x402Client,
    requirements: PaymentRequirements,
    extensions?: Record<string, unknown>,
  ): Promise<PaymentPayload> =>
    stock.createPaymentPayload({
      x402Version: 2,
      resource: { url: "https://shop.example/weather", description: "Weather", mimeType: "application/json" },
      accepts: [requirements],
      ...(extensions ? { extensions } : {}),
    });
  return { resources, batch, quote, pay };
}

describe("the stock server and client", () => {
  test("exact by EIP-3009: verified, settled, and settled again alike", async () => {
    const { stock, account } = await payer("USDC", 5000n);
    const { resources, quote, pay } = await shop();
    const requirements = await quote("exact", "USDC", "1000");
    const payload = await pay(stock, requirements, { bazaar: { info: { input: { type: "http" } }, schema: {} } });
    const verified = await resources.verifyPayment(payload, requirements);
    expect(verified).toMatchObject({ isValid: true, payer: account.address });
    const before = await balanceOf("USDC", receiver);
    const settled = await resources.settlePayment(payload, requirements);
    expect(settled).toMatchObject({ success: true, network: embedded.network, payer: account.address });
    expect(settled.transaction).toMatch(/^0x[0-9a-f]{64}$/);
    expect(await balanceOf("USDC", receiver)).toBe(before + 1000n);
    const again = await client().settle(payload, requirements);
    expect(again).toMatchObject({ success: true, transaction: settled.transaction, extra: { replayed: true } });
    expect(await balanceOf("USDC", receiver)).toBe(before + 1000n);
    expect(await client().verify(payload, requirements)).toMatchObject({
      isValid: false,
      invalidReason: "invalid_exact_evm_nonce_already_used",
    });
    const page = await (await fetch(`${url}/discovery/resources?limit=5`)).json();
    expect(page).toMatchObject({ items: [{ resource: "https://shop.example/weather", type: "http" }] });
  });
});
