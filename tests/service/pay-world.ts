import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createPublicClient, createWalletClient, erc20Abi, getAddress, http } from "viem";
import type { PublicClient } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import type { PrivateKeyAccount } from "viem/accounts";
import { batchSettlement, paymentBatcher } from "@assay/contracts";
import { base64UrlToBytes, bytesToHex } from "@assay/core";
import { createChain, evmSigner } from "@assay/driver-chain";
import { nodeSuite } from "@assay/driver-crypto";
import type { Listing, PaymentDocument } from "@assay/protocol";
import { parseTrust } from "@assay/receipts";
import type { ReceiptView, ServiceClaims, Verdict } from "@assay/receipts";
import { createChainChecks } from "@assay/service-ledger";
import { eventually } from "@assay/testkit/eventually";
import { createVerifier } from "@assay/verifier";
import type { Address, EvmSigner, Hex } from "@assay/x402";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { languageChild, viewOf } from "./chat-world.ts";
import { ask, mintToken, openHome } from "./running-server.ts";
import type { Json, ServerHome } from "./running-server.ts";

type Money = NonNullable<ServerHome["server"]["money"]>;
type Running = Awaited<ReturnType<Money["ready"]>>;

/** Somebody with a key, and what it was given in the beginning, by symbol. */
export type Payer = {
  readonly name: string;
  readonly key: Hex;
  readonly account: PrivateKeyAccount;
  readonly signer: EvmSigner;
  readonly address: Address;
  readonly funded: Readonly<Record<string, bigint>>;
};

/** What an answer said of itself: all that its caller has of it. */
export type Answered = {
  readonly payer: Payer;
  readonly scheme: "exact" | "upto" | "batch-settlement";
  readonly symbol: "USDC" | "ASY";
  /** `model:demo/chat`. */
  readonly subject: string;
  readonly receiptId: string;
  readonly grant: string;
  /** Amount that the answer named, atomic. */
  readonly amount: bigint;
  /** What PAYMENT-RESPONSE or the stream's event said, decoded. */
  readonly response: Settlement;
};

/** A payment's response as clients of x402 decode it. */
export type Settlement = {
  readonly success: boolean;
  readonly transaction: string;
  readonly network: string;
  readonly payer?: string;
  readonly amount?: string;
  readonly extra?: Readonly<Record<string, unknown>>;
};

/** A receipt whose payment is settled, with everything that is said about it. */
export type Settled = {
  readonly view: ReceiptView;
  readonly claim: NonNullable<ServiceClaims["payment"]>;
  readonly price: NonNullable<ServiceClaims["price"]>;
  readonly verdict: Verdict;
  readonly row: (name: Verdict["checks"][number]["check"]) => readonly [status: string, code: string];
  readonly payment: PaymentDocument;
};

/** A whole server with money, and clients' side of its chain. */
export type PayWorld = {
  readonly home: ServerHome;
  readonly url: string;
  readonly running: Running;
  readonly chain: PublicClient;
  readonly answers: readonly Answered[];
  readonly payer: (name: string, funds: Readonly<Record<string, bigint>>) => Promise<Payer>;
  readonly price: (subject: string, listing: Partial<Listing>) => Promise<Json>;
  readonly approve: (payer: Payer, symbol: "USDC" | "ASY", amount: bigint) => Promise<void>;
  readonly tokenOf: (symbol: string) => Running["place"]["deployments"]["tokens"][number];
  readonly balanceOf: (symbol: string, owner: string) => Promise<bigint>;
  readonly allowanceOf: (symbol: string, owner: string) => Promise<bigint>;
  /** Writes an answer down, so that it is in the sums at the end. */
  readonly note: (answered: Answered) => Answered;
  /** Waits until a payment is settled, and looks at receipt, verdict and ledger then. */
  readonly settled: (answered: Answered) => Promise<Settled>;
  readonly close: () => Promise<void>;
};

const repository = fileURLToPath(new URL("../..", import.meta.url));
/** Settling takes a group's time and a block; a loaded machine takes longer. */
const SETTLED_WITHIN_MS = 60_000;
const LOOK_MS = 50;

/** Quick everywhere: a test waits for what a day would bring. */
const quickSettling = {
  afterMs: 100,
  claimAfterMs: 200,
  tickMs: 50,
  pollMs: 50,
  payoutEveryMs: 500,
  anchorEveryMs: 300,
} as const;

/** Looks until there is something; fails after a minute. */
export function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  return eventually("what was waited for", look, SETTLED_WITHIN_MS, LOOK_MS);
}

/** Starts a server on a chain that calls itself Base Sepolia, with the demonstration models. */
export async function openPayWorld(): Promise<PayWorld> {
  const home = await openHome({
    ...sourceChild(),
    languageChild,
    seed: true,
    money: {
      chain: { kind: "embedded", profile: 84532 },
      settler: { entry: join(repository, "apps/assay/dist/settler.js") },
      settling: quickSettling,
      eager: true,
    },
  });
  try {
    return await worldOver(home);
  } catch (error) {
    await home.close();
    throw error;
  }
}

async function worldOver(home: ServerHome): Promise<PayWorld> {
  const { url, money } = home.server;
  if (!money) throw new Error("The server has no money.");
  const running = await money.ready();
  const { place } = running;
  const { deployments, faucet, rpcUrl } = place;
  if (!faucet) throw new Error("The chain has no faucet.");
  const token = await mintToken(url, home.operator);
  const chain = createPublicClient({ transport: http(rpcUrl), pollingInterval: LOOK_MS });
  const checks = createChainChecks({
    chain: createChain({ url: rpcUrl, chainId: deployments.chainId }),
    deployments,
  });
  const trust = parseTrust(await (await fetch(`${url}/v1/trust`)).text());
  const verify = createVerifier({ trust, suite: nodeSuite, checks });
  const answers: Answered[] = [];

  const tokenOf: PayWorld["tokenOf"] = (symbol) => {
    const found = deployments.tokens.find((one) => one.symbol === symbol);
    if (!found) throw new Error(`There is no ${symbol}.`);
    return found;
  };
  const balanceOf: PayWorld["balanceOf"] = (symbol, owner) =>
    chain.readContract({
      abi: erc20Abi,
      address: tokenOf(symbol).address,
      functionName: "balanceOf",
      args: [getAddress(owner)],
    });
  const bundleOf = async ({ receiptId, grant }: Answered): Promise<Uint8Array> => {
    const response = await fetch(`${url}/v1/receipts/${receiptId}/bundle?waitMs=5000`, {
      headers: { "assay-grant": grant },
    });
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (!response.ok) throw new Error(`No receipt: ${new TextDecoder().decode(bytes)}`);
    return bytes;
  };
  const paymentOf = async (id: string): Promise<PaymentDocument> => {
    const { status, body } = await ask(url, `/v1/payments/${id}`, { token });
    if (status !== 200) throw new Error(`No payment: ${JSON.stringify(body)}`);
    return body as unknown as PaymentDocument;
  };

  return {
    home,
    url,
    running,
    chain,
    answers,
    tokenOf,
    balanceOf,
    allowanceOf: (symbol, owner) =>
      chain.readContract({
        abi: erc20Abi,
        address: tokenOf(symbol).address,
        functionName: "allowance",
        args: [getAddress(owner), deployments.permit2],
      }),
    async payer(name, funds) {
      const bytes = new Uint8Array(randomBytes(32));
      const key: Hex = `0x${bytesToHex(bytes)}`;
      const signer = evmSigner(bytes);
      for (const [asset, amountAtomic] of Object.entries(funds))
        await faucet.fund(signer.address, { asset: asset as "USDC" | "ASY" | "ETH", amountAtomic });
      return { name, key, account: privateKeyToAccount(key), signer, address: signer.address, funded: funds };
    },
    async price(subject, listing) {
      const response = await fetch(`${url}/v1/prices/${encodeURIComponent(subject)}`, {
        method: "PUT",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(listing),
      });
      const body = (await response.json()) as Json;
      if (!response.ok) throw new Error(`A price was refused: ${JSON.stringify(body)}`);
      return body;
    },
    async approve({ account, address }, symbol, amount) {
      await faucet.fund(address, { asset: "ETH", amountAtomic: 10n ** 18n });
      const hash = await createWalletClient({ account, transport: http(rpcUrl) }).writeContract({
        chain: null,
        abi: erc20Abi,
        address: tokenOf(symbol).address,
        functionName: "approve",
        args: [deployments.permit2, amount],
      });
      await chain.waitForTransactionReceipt({ hash });
    },
    note(answered) {
      answers.push(answered);
      return answered;
    },
    async settled(answered) {
      const id = viewOf(await bundleOf(answered)).service?.claims.payment?.paymentId ?? "";
      const payment = await until(async () => {
        const now = await paymentOf(id);
        if (now.state === "dead") throw new Error(`A payment is dead: ${JSON.stringify(now.error)}`);
        return now.state === "settled" ? now : undefined;
      });
      // Its settlement is stated a moment later, and its batch is anchored after that.
      const bytes = await until(async () => {
        const bundle = await bundleOf(answered);
        const { supplements, bundle: parts } = viewOf(bundle);
        const stated = payment.transaction === null || supplements.some(({ claims }) => claims.kind === "settlement");
        const anchored = payment.settlement === "private" || (parts.anchors?.[0]?.["transaction"] ?? undefined);
        return stated && anchored ? bundle : undefined;
      });
      const view = viewOf(bytes);
      const verdict = await verify(bytes, Date.now());
      const { payment: claim, price } = view.service?.claims ?? {};
      if (!claim || !price) throw new Error("The receipt names no payment.");
      return {
        view,
        claim,
        price,
        verdict,
        payment,
        row(name) {
          const found = verdict.checks.find(({ check }) => check === name);
          return [found?.status ?? "none", found?.code ?? "none"];
        },
      };
    },
    close: () => home.close(),
  };
}

/** Times that the batcher says it settled a payment. */
export async function settledEvents({ chain, running }: PayWorld): Promise<ReadonlyMap<string, number>> {
  const logs = await chain.getContractEvents({
    abi: paymentBatcher.abi,
    address: running.place.deployments.paymentBatcher,
    eventName: "PaymentSettled",
    fromBlock: 0n,
  });
  const times = new Map<string, number>();
  for (const { args } of logs)
    if (args.ok === true) times.set(args.paymentId ?? "", (times.get(args.paymentId ?? "") ?? 0) + 1);
  return times;
}

/** What a channel holds and what was claimed of it, from its contract. */
export async function channelOf(
  { chain, running }: PayWorld,
  channelId: string,
): Promise<{ readonly balance: bigint; readonly totalClaimed: bigint }> {
  const [balance, totalClaimed] = await chain.readContract({
    abi: batchSettlement.abi,
    address: running.place.deployments.batchSettlement,
    functionName: "channels",
    args: [channelId as Hex],
  });
  return { balance, totalClaimed };
}

/** A blob's SHA-256 in hexadecimal, of the id that an answer names. */
export function blobDigest(id: string): string {
  return bytesToHex(base64UrlToBytes(id));
}
