import { randomBytes } from "node:crypto";
import { canonicalJson, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { createSender, evmSigner, memoryJournal, nativeEvmSuite, paymentCall } from "@assay/driver-chain";
import type { Sender, TxJournal } from "@assay/driver-chain";
import { authorizeExact, paymentDocument, requirementsToJson } from "@assay/x402";
import type { Hex, PaymentRequirements } from "@assay/x402";
import { createWalletClient, erc20Abi, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createFacilitator } from "./facilitator.ts";
import { createMemoryStore } from "./store.ts";
import type { SettlementStore } from "./store.ts";
import { key, lower, openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";
import type { Facilitator, FacilitatorCaller, SettleResult } from "./types.ts";

const suite = nativeEvmSuite();
let open: Shop;
let shop: FacilitatorCaller;
let sender: Sender;
let privateKey: Uint8Array;
let journal: TxJournal;
let store: SettlementStore;
let facilitator: Facilitator;

beforeAll(async () => {
  open = await openShop(31337);
  shop = { id: "shop", payTo: [lower(open.receiver)] };
  privateKey = randomBytes(32);
  journal = memoryJournal();
  store = createMemoryStore({ keepMs: 3_600_000, maxRecords: 10_000, now: () => Date.now() });
  start();
  await open.embedded.fund(sender.address, { asset: "ETH", amountAtomic: 10n ** 18n });
});
afterAll(async () => {
  await sender?.close();
  await open?.close();
});

/** As a new process would: what is remembered is in journal and store. */
function start(change: Partial<Pick<Sender, "submit">> = {}): void {
  sender = createSender({ chain: open.chain, signer: evmSigner(privateKey), journal, options: { pollMs: 20 } });
  facilitator = createFacilitator({ suite, store, chains: [{ ...open.served, senders: [{ ...sender, ...change }] }] });
}

const wire = (value: unknown): JsonValue => parseJson(canonicalJson(value as JsonValue));

type Payer = { readonly key: Hex; readonly signer: ReturnType<typeof evmSigner> };
async function payer(amountAtomic: bigint): Promise<Payer> {
  const secret = key();
  const signer = evmSigner(Buffer.from(secret.slice(2), "hex"));
  await open.embedded.fund(signer.address, { asset: "USDC", amountAtomic });
  return { key: secret, signer };
}

async function approve({ key: secret, signer }: Payer): Promise<void> {
  await open.embedded.fund(signer.address, { asset: "ETH", amountAtomic: 10n ** 18n });
  const wallet = createWalletClient({ account: privateKeyToAccount(secret), transport: http(open.embedded.rpcUrl) });
  const hash = await wallet.writeContract({
    chain: null,
    abi: erc20Abi,
    address: open.tokenOf("USDC").address,
    functionName: "approve",
    args: [open.embedded.deployments.permit2, 10n ** 9n],
  });
  await open.publicClient.waitForTransactionReceipt({ hash, pollingInterval: 20 });
}

async function sign({ signer }: Payer, amount: bigint, permit2 = false) {
  const { address, name, version } = open.tokenOf("USDC");
  const requirement: PaymentRequirements = {
    scheme: "exact",
    network: open.embedded.network,
    amount: String(amount),
    asset: address,
    payTo: lower(open.receiver),
    maxTimeoutSeconds: 900,
    extra: { name, version, ...(permit2 ? { assetTransferMethod: "permit2" } : {}) },
  };
  const nowS = Math.floor(Date.now() / 1000);
  const payload = await authorizeExact({ suite, signer, requirement, nonce: randomBytes(32), nowS });
  return {
    payload,
    document: wire(paymentDocument(suite, payload)),
    requirements: wire(requirementsToJson(suite, requirement)),
  };
}
type Signed = Awaited<ReturnType<typeof sign>>;

const settle = ({ document, requirements }: Signed): Promise<SettleResult> =>
  facilitator.settle(document, requirements, { caller: shop });
const gasOf = async (transaction: string): Promise<bigint> =>
  (await open.chain.receipt(transaction as Hex))?.gasUsed ?? 0n;
const transactions = (results: readonly SettleResult[]): readonly string[] => [
  ...new Set(results.map(({ transaction }) => transaction)),
];

test("payments at the same time share transactions, and each hears where its money moved", async () => {
  const before = await open.balanceOf("USDC", open.receiver);
  const alone = await settle(await sign(await payer(100n), 100n));
  expect(alone).toMatchObject({ success: true });
  const signed = await Promise.all(Array.from({ length: 50 }, async () => sign(await payer(100n), 100n)));
  const results = await Promise.all(signed.map(settle));
  expect(results.every(({ success }) => success)).toBe(true);
  expect((await open.balanceOf("USDC", open.receiver)) - before).toBe(5_100n);
  const hashes = transactions(results);
  expect(hashes.length).toBeLessThan(25);
  for (const [i, { transaction, payer: paidBy }] of results.entries()) {
    expect(paidBy?.toLowerCase()).toBe(payerOf(signed[i]));
    const receipt = await open.chain.receipt(transaction as Hex);
    expect(receipt?.logs.some(({ topics }) => topics[1]?.endsWith(payerOf(signed[i]).slice(2)))).toBe(true);
  }
  let together = 0n;
  for (const hash of hashes) together += await gasOf(hash);
  const one = await gasOf(alone.transaction);
  console.log(`gas of a payment: ${one} alone, ${together / 50n} among 50 in ${hashes.length} transactions`);
  expect(together / 50n).toBeLessThan(one);
  // Asked again, each hears the same.
  const again = await Promise.all(signed.map(settle));
  expect(again).toEqual(results.map((result) => ({ ...result, extra: { replayed: true } })));
});

function payerOf(signed: Signed | undefined): string {
  const payment = signed?.payload.payment;
  return payment?.kind === "eip3009" ? payment.authorization.from : "";
}

test("one that cannot move beside others fails alone, with the reason that it would have heard alone", async () => {
  const poor = await payer(100n);
  const both = [await sign(poor, 60n), await sign(poor, 70n)];
  const others = await Promise.all(Array.from({ length: 6 }, async () => sign(await payer(50n), 50n)));
  const results = await Promise.all([...both, ...others].map(settle));
  expect(results.slice(2).every(({ success }) => success)).toBe(true);
  const [won, lost] = results.slice(0, 2).toSorted((a, b) => Number(b.success) - Number(a.success));
  expect(won).toMatchObject({ success: true });
  expect(lost).toMatchObject({ success: false, errorReason: "invalid_exact_evm_insufficient_balance" });
});

test("payments through Permit2 go together, and two alike one after the other", async () => {
  const rich = await payer(1_000n);
  await approve(rich);
  const other = await payer(1_000n);
  await approve(other);
  const alike = [await sign(rich, 10n, true), await sign(rich, 10n, true), await sign(rich, 10n)];
  const results = await Promise.all([...alike, await sign(other, 10n, true), await sign(rich, 11n, true)].map(settle));
  expect(results.map(({ success }) => success)).toEqual([true, true, true, true, true]);
  expect(transactions(results.slice(0, 3))).toHaveLength(3);
  expect(await open.balanceOf("USDC", rich.signer.address)).toBe(959n);
});

test("what somebody else brought to the chain meanwhile counts, by that transaction", async () => {
  const first = await sign(await payer(20n), 20n);
  const others = await Promise.all(Array.from({ length: 3 }, async () => sign(await payer(20n), 20n)));
  const { payment } = first.payload;
  if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
  let brought = "";
  await sender.close();
  start({
    // The moment before ours is sent.
    async submit(job) {
      if (brought === "") {
        const { to, data } = paymentCall(payment, open.tokenOf("USDC").address, 0n);
        const account = privateKeyToAccount(key());
        await open.embedded.fund(lower(account.address), { asset: "ETH", amountAtomic: 10n ** 18n });
        const wallet = createWalletClient({ account, transport: http(open.embedded.rpcUrl) });
        brought = await wallet.sendTransaction({ chain: null, to, data });
        await open.publicClient.waitForTransactionReceipt({ hash: brought as Hex, pollingInterval: 20 });
      }
      return sender.submit(job);
    },
  });
  const results = await Promise.all([first, ...others].map(settle));
  expect(results.every(({ success }) => success)).toBe(true);
  expect(results[0]?.transaction).toBe(brought);
});

test("a group that a dead process never sent is begun anew, and one that it sent is seen through", async () => {
  const signed = await Promise.all(Array.from({ length: 4 }, async () => sign(await payer(30n), 30n)));
  await sender.close();
  const claimed: string[] = [];
  const { claim } = store;
  store = {
    ...store,
    claim(record) {
      claimed.push(record.jobId);
      return claim(record);
    },
  };
  // It dies between writing down who is in the group and sending it.
  start({ submit: () => new Promise(() => undefined) });
  for (const one of signed) settle(one).catch(() => undefined);
  await expect.poll(() => claimed.length).toBe(4);
  expect(claimed.filter((jobId) => jobId.includes("#")).length).toBeGreaterThan(1);
  await sender.close();
  start();
  const results = await Promise.all(signed.map(settle));
  expect(results.every(({ success }) => success)).toBe(true);

  const more = await Promise.all(Array.from({ length: 4 }, async () => sign(await payer(30n), 30n)));
  await sender.close();
  // And here between sending it and hearing of it.
  start({
    async submit(job) {
      await sender.submit(job);
      return new Promise(() => undefined);
    },
  });
  const before = claimed.length;
  for (const one of more) settle(one).catch(() => undefined);
  await expect.poll(() => claimed.length - before).toBe(4);
  await expect.poll(async () => open.balanceOf("USDC", payerOf(more[3]))).toBe(0n);
  await sender.close();
  start();
  const seen = await Promise.all(more.map(settle));
  expect(seen.every(({ success }) => success)).toBe(true);
  for (const [i, { transaction }] of seen.entries()) {
    const receipt = await open.chain.receipt(transaction as Hex);
    expect(receipt?.logs.some(({ topics }) => topics[1]?.endsWith(payerOf(more[i]).slice(2)))).toBe(true);
  }
});
