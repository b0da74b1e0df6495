import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
import {
  createChain,
  createSender,
  evmSigner,
  memoryJournal,
  nativeEvmSuite,
  openEmbeddedChain,
} from "@assay/driver-chain";
import type { ChainProfile, EmbeddedChain } from "@assay/driver-chain";
import type { Address } from "@assay/x402";
import { createCallers } from "../callers.ts";
import { createFacilitator } from "../facilitator.ts";
import type { FacilitatorOptions } from "../facilitator.ts";
import type { ServedChain } from "../plan.ts";
import { addFacilitatorRoutes } from "../routes.ts";
import type { Facilitator, JsonObject } from "../types.ts";

export const key = (): `0x${string}` => `0x${randomBytes(32).toString("hex")}`;
export const token = "a-token-of-decent-length";
const suite = nativeEvmSuite();

/** Lower case, as inside. */
export const lower = (address: string): Address => address.toLowerCase() as Address;

export type Shop = Awaited<ReturnType<typeof openShop>>;

/** A facilitator over HTTP on a chain of its own, with stock clients and servers of x402 around it. */
export async function openShop(
  profile: ChainProfile,
  more: Partial<ServedChain> = {},
  options: FacilitatorOptions = {},
) {
  const directory = await mkdtemp(join(tmpdir(), "assay-facilitator-"));
  const receiver = privateKeyToAccount(key()).address;
  const authorizer = evmSigner(randomBytes(32));
  const operator = lower(privateKeyToAccount(key()).address);
  const embedded: EmbeddedChain = await openEmbeddedChain({
    directory,
    profile,
    keys: { deployer: lower(privateKeyToAccount(key()).address), operators: [operator], submitter: operator },
  });
  const { rpcUrl, network, deployments } = embedded;
  const chain = createChain({
    url: rpcUrl,
    chainId: profile,
    ...(more.factories ? { factories: more.factories } : {}),
  });
  const senders = [randomBytes(32), randomBytes(32)].map((privateKey) =>
    createSender({ chain, signer: evmSigner(privateKey), journal: memoryJournal(), options: { pollMs: 20 } }),
  );
  for (const { address } of senders) await embedded.fund(address, { asset: "ETH", amountAtomic: 10n ** 18n });
  const served: ServedChain = { network, chain, senders, tokens: deployments.tokens, authorizer, ...more };
  const facilitator = createFacilitator({ suite, chains: [served] }, options);
  const { url, server } = await listen(facilitator, receiver);
  const publicClient = createPublicClient({ transport: http(rpcUrl) });

  const authorization = { Authorization: `Bearer ${token}` };
  const client = (at = url): HTTPFacilitatorClient =>
    new HTTPFacilitatorClient({
      url: at,
      createAuthHeaders: async () => ({ verify: authorization, settle: authorization, supported: {} }),
    });
  const tokenOf = (symbol: string) => {
    const found = deployments.tokens.find((one) => one.symbol === symbol);
    if (!found) throw new Error(`There is no ${symbol}.`);
    return found;
  };
  const balanceOf = (symbol: string, owner: string): Promise<bigint> =>
    publicClient.readContract({
      abi: erc20Abi,
      address: tokenOf(symbol).address,
      functionName: "balanceOf",
      args: [owner as Address],
    });

  /** A new account with money, and the stock client over it. */
  async function payer(symbol: "USDC" | "ASY", amountAtomic: bigint) {
    const account = privateKeyToAccount(key());
    await embedded.fund(account.address.toLowerCase() as Address, { asset: symbol, amountAtomic });
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
      const wallet = createWalletClient({ account, transport: http(rpcUrl) });
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

  /** The stock server over a facilitator by HTTP. */
  async function server402(at = url) {
    const batch = new BatchServer(receiver);
    const resources = new x402ResourceServer(client(at))
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

  return {
    embedded,
    chain,
    served,
    facilitator,
    url,
    receiver,
    authorizer,
    publicClient,
    client,
    tokenOf,
    balanceOf,
    payer,
    shop: server402,
    close: async (): Promise<void> => {
      server.close();
      for (const sender of senders) await sender.close();
      await embedded.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A facilitator's routes at a free port of this machine, for a caller that may have `receiver` paid. */
export async function listen(
  facilitator: Facilitator,
  receiver: string,
): Promise<{ readonly url: string; readonly server: ServerType }> {
  const app = new OpenAPIHono();
  addFacilitatorRoutes(app, {
    facilitator,
    callers: createCallers([
      { id: "shop", tokenSha256: createHash("sha256").update(token).digest("hex"), payTo: [lower(receiver)] },
    ]),
  });
  const server = await new Promise<ServerType>((resolve) => {
    const listening = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }, () => resolve(listening));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/facilitator`, server };
}
