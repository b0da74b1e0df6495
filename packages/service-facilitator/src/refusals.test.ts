import { randomBytes } from "node:crypto";
import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AssayError, canonicalJson, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { evmSigner, nativeEvmSuite, paymentCall } from "@assay/driver-chain";
import { authorizeExact, paymentDocument, requirementsToJson } from "@assay/x402";
import type { PaymentRequirements } from "@assay/x402";
import { createFacilitator } from "./facilitator.ts";
import type { PaymentSender } from "./plan.ts";
import { createMemoryStore } from "./store.ts";
import { key, lower, openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";
import type { Facilitator, FacilitatorCaller, JsonObject } from "./types.ts";

const suite = nativeEvmSuite();
let open: Shop;
let shop: FacilitatorCaller;
beforeAll(async () => {
  // The likeness of Base Sepolia, which x402 v1 has a name for.
  open = await openShop(84532);
  shop = { id: "shop", payTo: [lower(open.receiver)] };
});
afterAll(() => open?.close());

/** JSON as it comes over the wire. */
const wire = (value: unknown): JsonValue => parseJson(canonicalJson(value as JsonValue));
const nowS = (): number => Math.floor(Date.now() / 1000);

function requirement(more: Partial<PaymentRequirements> = {}): PaymentRequirements {
  const { address, name, version } = open.tokenOf("USDC");
  return {
    scheme: "exact",
    network: open.embedded.network,
    amount: "1000",
    asset: address,
    payTo: lower(open.receiver),
    maxTimeoutSeconds: 900,
    extra: { name, version },
    ...more,
  };
}

/** A payment by EIP-3009 of a new account, as it comes over the wire. */
async function paid(
  required: PaymentRequirements = requirement(),
  options: { readonly nowS?: number; readonly fundAtomic?: bigint; readonly privateKey?: Uint8Array } = {},
) {
  const signer = evmSigner(options.privateKey ?? randomBytes(32));
  const fundAtomic = options.fundAtomic ?? 10_000n;
  if (fundAtomic > 0n) await open.embedded.fund(signer.address, { asset: "USDC", amountAtomic: fundAtomic });
  const payload = await authorizeExact({
    suite,
    signer,
    requirement: required,
    nonce: randomBytes(32),
    nowS: options.nowS ?? nowS(),
  });
  return {
    signer,
    payload,
    document: wire(paymentDocument(suite, payload)) as JsonObject,
    requirements: wire(requirementsToJson(suite, required)) as JsonObject,
  };
}
const inner = (document: JsonObject, change: (payload: JsonObject) => JsonObject): JsonObject => ({
  ...document,
  payload: change(document["payload"] as JsonObject),
});
const authorization = (document: JsonObject, more: JsonObject): JsonObject =>
  inner(document, (payload) => ({
    ...payload,
    authorization: { ...(payload["authorization"] as JsonObject), ...more },
  }));

/** Refused by both, with the same reason. */
async function refused(
  document: JsonValue,
  requirements: JsonValue,
  reason: string,
  by: Facilitator = open.facilitator,
) {
  expect(await by.verify(document, requirements)).toMatchObject({ isValid: false, invalidReason: reason });
  expect(await by.settle(document, requirements, { caller: shop })).toMatchObject({
    success: false,
    errorReason: reason,
    transaction: "",
  });
}

describe("documents", () => {
  test("that cannot be read are refused with x402's reasons", async () => {
    const { document, requirements } = await paid();
    await refused(
      inner(document, () => ({})),
      requirements,
      "invalid_payload",
    );
    await refused(authorization(document, { value: "-1" }), requirements, "invalid_payload");
    await refused(authorization(document, { nonce: "0x00" }), requirements, "invalid_payload");
    await refused(authorization(document, { from: "somebody" }), requirements, "invalid_payload");
    await refused({ ...document, x402Version: 3 }, requirements, "invalid_x402_version");
    await refused(document, { ...requirements, scheme: "prepaid" }, "unsupported_scheme");
    await refused(document, { ...requirements, network: "solana:mainnet" }, "invalid_network");
    await refused(document, { ...requirements, network: "eip155:1" }, "invalid_network");
    await refused(document, { ...requirements, amount: "1.5" }, "invalid_payment_requirements");
    await refused(document, { ...requirements, payTo: "0x00" }, "invalid_payment_requirements");
    await refused("payment", requirements, "invalid_payload");
    await refused(document, [], "invalid_payment_requirements");
  });

  test("of a chain or token that is not served", async () => {
    const elsewhere = await paid(requirement({ network: "eip155:8453" }), { fundAtomic: 0n });
    await refused(elsewhere.document, elsewhere.requirements, "invalid_network");
    const foreign = await paid(requirement({ asset: `0x${"44".repeat(20)}` }), { fundAtomic: 0n });
    await refused(foreign.document, foreign.requirements, "invalid_payment_requirements");
  });

  test("of a scheme whose contract is not on the chain, which is not offered either", async () => {
    const by = createFacilitator({ suite, chains: [{ ...open.served, schemes: ["upto"] }] });
    const { kinds } = await by.supported();
    expect(kinds.map(({ scheme }) => scheme)).toEqual(["upto"]);
    const { document, requirements } = await paid();
    await refused(document, requirements, "unsupported_scheme", by);
    expect(await open.facilitator.verify(document, requirements)).toMatchObject({ isValid: true });
  });
});

describe("payments", () => {
  test("that are early, late, too little, or for somebody else", async () => {
    const { document, requirements } = await paid();
    await refused(
      document,
      { ...requirements, amount: "1001" },
      "invalid_exact_evm_payload_authorization_value_mismatch",
    );
    const thief = `0x${"66".repeat(20)}`;
    expect(await open.facilitator.verify(document, { ...requirements, payTo: thief })).toMatchObject({
      invalidReason: "invalid_exact_evm_recipient_mismatch",
    });
    const late = await paid(requirement(), { nowS: nowS() - 1000 });
    await refused(late.document, late.requirements, "invalid_exact_evm_payload_authorization_valid_before");
    const early = await paid(requirement(), { nowS: nowS() + 1000 });
    await refused(early.document, early.requirements, "invalid_exact_evm_payload_authorization_valid_after");
  });

  test("that were changed after they were signed", async () => {
    const { document, requirements, payload } = await paid();
    for (const changed of [
      authorization(document, { from: `0x${"77".repeat(20)}` }),
      authorization(document, { validBefore: String(nowS() + 800) }),
      authorization(document, { nonce: `0x${"00".repeat(32)}` }),
      inner(document, (value) => ({ ...value, signature: `0x${"11".repeat(64)}1b` })),
    ]) {
      const verified = await open.facilitator.verify(changed, requirements);
      expect(verified.isValid).toBe(false);
      expect(verified.invalidReason).toMatch(
        /^invalid_exact_evm_(signature|transaction_simulation_failed|insufficient_balance)$/,
      );
      const settled = await open.facilitator.settle(changed, requirements, { caller: shop });
      expect(settled).toMatchObject({ success: false, transaction: "" });
    }
    expect(payload.payment.kind).toBe("eip3009");
  });

  test("in a token whose domain the requirement gives wrongly", async () => {
    const named = await paid(requirement({ extra: { name: "US Dollar", version: "2" } }));
    await refused(named.document, named.requirements, "invalid_exact_evm_token_name_mismatch");
    const versioned = await paid(requirement({ extra: { name: open.tokenOf("USDC").name, version: "3" } }));
    await refused(versioned.document, versioned.requirements, "invalid_exact_evm_token_version_mismatch");
    const { address, name, version } = open.tokenOf("ASY");
    const asy = await paid(requirement({ asset: address, extra: { name, version } }));
    await refused(asy.document, asy.requirements, "invalid_exact_evm_eip3009_not_supported");
  });

  test("without the money, and with a nonce that is gone", async () => {
    const poor = await paid(requirement(), { fundAtomic: 999n });
    await refused(poor.document, poor.requirements, "invalid_exact_evm_insufficient_balance");
    const { document, requirements, payload } = await paid();
    // Somebody else brings the authorization to the token before us.
    await bring(payload);
    await refused(document, requirements, "invalid_exact_evm_nonce_already_used");
  });

  test("by Permit2 without an allowance, and for another facilitator", async () => {
    const { stock } = await open.payer("ASY", 10n ** 18n);
    const { quote, pay } = await open.shop();
    const exact = await quote("exact", "ASY", "1000", { assetTransferMethod: "permit2" });
    await refused(wire(await pay(stock, exact)), wire(exact), "permit2_allowance_required");
    const upto = await quote("upto", "ASY", "1000");
    await refused(wire(await pay(stock, upto)), wire(upto), "permit2_allowance_required");
    const foreign = { ...upto, extra: { ...upto.extra, facilitatorAddress: `0x${"55".repeat(20)}` } };
    await refused(wire(await pay(stock, foreign)), wire(foreign), "upto_facilitator_mismatch");
    const poor = await open.payer("ASY", 1n);
    await refused(wire(await pay(poor.stock, exact)), wire(exact), "permit2_insufficient_balance");
  });

  test("that would take more gas than is spent", async () => {
    const thrifty = createFacilitator({ suite, chains: [{ ...open.served, maxGas: 50_000n }] });
    const { document, requirements } = await paid();
    expect(await thrifty.settle(document, requirements, { caller: shop })).toMatchObject({
      success: false,
      errorReason: "invalid_exact_evm_transaction_simulation_failed",
    });
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
  });
});

/** Brings an authorization to its token from an account that has nothing to do with it. */
async function bring({ payment }: Awaited<ReturnType<typeof paid>>["payload"]): Promise<`0x${string}`> {
  if (payment.kind !== "eip3009") throw new Error("It is no authorization.");
  const account = privateKeyToAccount(key());
  await open.embedded.fund(lower(account.address), { asset: "ETH", amountAtomic: 10n ** 18n });
  const { to, data } = paymentCall(payment, open.tokenOf("USDC").address, 0n);
  const wallet = createWalletClient({ account, transport: http(open.embedded.rpcUrl) });
  const hash = await wallet.sendTransaction({ chain: null, to, data });
  await open.publicClient.waitForTransactionReceipt({ hash, pollingInterval: 20 });
  return hash;
}

describe("callers", () => {
  test("without a token have nothing settled but payments to open recipients", async () => {
    const { document, requirements } = await paid();
    await expect(open.facilitator.settle(document, requirements)).rejects.toMatchObject({ code: "token_required" });
    const response = await fetch(`${open.url}/settle`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ x402Version: 2, paymentPayload: document, paymentRequirements: requirements }),
    });
    expect(response.status).toBe(401);
    expect(await response.json()).toMatchObject({ errorReason: "token_required", success: false });
    const generous = createFacilitator({ suite, chains: [open.served] }, { openPayTo: [open.receiver] });
    expect(await generous.settle(document, requirements)).toMatchObject({ success: true });
    const other = await paid(requirement({ payTo: `0x${"88".repeat(20)}` }));
    await expect(generous.settle(other.document, other.requirements)).rejects.toMatchObject({ code: "token_required" });
  });

  test("have only their own recipients paid", async () => {
    const { document, requirements } = await paid(requirement({ payTo: `0x${"88".repeat(20)}` }));
    await expect(open.facilitator.settle(document, requirements, { caller: shop })).rejects.toMatchObject({
      code: "payee_refused",
    });
    await expect(open.client().settle(document as never, requirements as never)).rejects.toThrow("payee_refused");
    // The requirement may name the caller's recipient while the money goes elsewhere.
    const lying = { ...requirements, payTo: open.receiver };
    await expect(open.facilitator.settle(document, lying, { caller: shop })).rejects.toMatchObject({
      code: "payee_refused",
    });
  });

  test("are told nothing of what others had settled", async () => {
    const { document, requirements } = await paid();
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
    const other = await open.facilitator.settle(document, requirements, { caller: { id: "other", payTo: "any" } });
    expect(other).toMatchObject({
      success: false,
      errorReason: "invalid_exact_evm_nonce_already_used",
      transaction: "",
    });
  });
});

describe("once", () => {
  test("of many copies at the same time one is settled, and all are told its transaction", async () => {
    const { document, requirements } = await paid();
    const before = await open.balanceOf("USDC", open.receiver);
    const results = await Promise.all(
      Array.from({ length: 12 }, () => open.facilitator.settle(document, requirements, { caller: shop })),
    );
    expect(new Set(results.map(({ transaction }) => transaction)).size).toBe(1);
    expect(results.every(({ success }) => success)).toBe(true);
    expect(results.filter(({ extra }) => extra?.["replayed"] === true)).toHaveLength(11);
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
  });

  test("what is not in a block yet is pending, and its outcome is told to whoever asks again", async () => {
    const { document, requirements } = await paid();
    let seen = 0;
    let late = true;
    const [sender] = open.served.senders;
    const slow = createFacilitator(
      {
        suite,
        chains: [
          {
            ...open.served,
            senders: [
              {
                ...sender!,
                submit: (job) => {
                  seen++;
                  return sender!.submit(job);
                },
                wait: async (jobId, options) => {
                  if (!late) return sender!.wait(jobId, options);
                  const { hash, nonce } = (await sender!.outcome(jobId)) as { hash: `0x${string}`; nonce: number };
                  return { state: "pending", hash, nonce, attempts: 1 };
                },
              },
            ],
          },
        ],
      },
      { settleWaitMs: 1000 },
    );
    const pending = await slow.settle(document, requirements, { caller: shop });
    expect(pending).toMatchObject({ success: false, errorReason: "settlement_pending" });
    expect(pending.transaction).toMatch(/^0x[0-9a-f]{64}$/);
    late = false;
    const settled = await slow.settle(document, requirements, { caller: shop });
    expect(settled).toMatchObject({ success: true, transaction: pending.transaction });
    expect(settled.extra).toBeUndefined();
    expect(seen).toBe(2);
    expect(await slow.settle(document, requirements, { caller: shop })).toMatchObject({ extra: { replayed: true } });
    expect(seen).toBe(2);
  });

  test("an authorization that somebody else was faster with counts as settled", async () => {
    const { document, requirements, payload } = await paid();
    const before = await open.balanceOf("USDC", open.receiver);
    const [sender] = open.served.senders;
    let theirs = "";
    const raced = createFacilitator({
      suite,
      chains: [
        {
          ...open.served,
          senders: [
            {
              ...sender!,
              submit: async (job) => {
                theirs = await bring(payload);
                return sender!.submit(job);
              },
            },
          ],
        },
      ],
    });
    const settled = await raced.settle(document, requirements, { caller: shop });
    expect(settled).toMatchObject({ success: true, transaction: theirs });
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
  });

  test("a facilitator that was restarted goes on where the other was, and answers alike", async () => {
    const { document, requirements } = await paid();
    const before = await open.balanceOf("USDC", open.receiver);
    const store = createMemoryStore({ keepMs: 60_000, maxRecords: 10, now: Date.now });
    const [sender] = open.served.senders;
    const restarted = (change: Partial<PaymentSender>) =>
      createFacilitator({ suite, store, chains: [{ ...open.served, senders: [{ ...sender!, ...change }] }] });
    // Ends after the transaction was written down and before anybody was told.
    const dying = restarted({ wait: () => Promise.reject(new Error("killed")) });
    await expect(dying.settle(document, requirements, { caller: shop })).rejects.toThrow("killed");
    const settled = await restarted({}).settle(document, requirements, { caller: shop });
    expect(settled).toMatchObject({ success: true });
    const again = await restarted({}).settle(document, requirements, { caller: shop });
    expect(again).toMatchObject({ success: true, transaction: settled.transaction, extra: { replayed: true } });
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
    expect(store.size()).toBe(1);
  });

  test("what was never written down can be tried again", async () => {
    const { document, requirements } = await paid();
    const store = createMemoryStore({ keepMs: 60_000, maxRecords: 10, now: Date.now });
    const [sender] = open.served.senders;
    const unfunded = new AssayError("transaction_unfunded", "The account cannot pay for gas.");
    const failing = { ...sender!, submit: () => Promise.reject(unfunded) };
    const poor = createFacilitator({ suite, store, chains: [{ ...open.served, senders: [failing] }] });
    await expect(poor.settle(document, requirements, { caller: shop })).rejects.toBe(unfunded);
    expect(store.size()).toBe(0);
    const rich = createFacilitator({ suite, store, chains: [open.served] });
    expect(await rich.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
  });

  test("payments at the same time are shared out among the senders", async () => {
    const submitted = new Map<string, number>();
    const senders = open.served.senders.map((sender) => ({
      ...sender,
      submit: (job: Parameters<PaymentSender["submit"]>[0]) => {
        submitted.set(sender.address, (submitted.get(sender.address) ?? 0) + 1);
        return sender.submit(job);
      },
    }));
    const many = createFacilitator({ suite, chains: [{ ...open.served, senders }] });
    const payments = await Promise.all(Array.from({ length: 12 }, () => paid()));
    const before = await open.balanceOf("USDC", open.receiver);
    const results = await Promise.all(
      payments.map(({ document, requirements }) => many.settle(document, requirements, { caller: shop })),
    );
    expect(results.every(({ success }) => success)).toBe(true);
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 12_000n);
    // Each sends its six together, or in few groups.
    expect(submitted.size).toBe(2);
    for (const sent of submitted.values()) expect(sent).toBeLessThan(6);
  });

  test("more than may wait at the same time are refused", async () => {
    const full = createFacilitator({ suite, chains: [open.served] }, { maxPending: 1 });
    const [one, two] = await Promise.all([paid(), paid()]);
    const first = full.settle(one.document, one.requirements, { caller: shop });
    await expect(full.settle(two.document, two.requirements, { caller: shop })).rejects.toMatchObject({
      code: "facilitator_overloaded",
    });
    expect(await first).toMatchObject({ success: true });
    expect(await full.settle(two.document, two.requirements, { caller: shop })).toMatchObject({ success: true });
  });
});

test("those without a token get half of the places, so that they cannot keep out those with one", async () => {
  const full = createFacilitator({ suite, chains: [open.served] }, { maxPending: 4, openPayTo: [open.receiver] });
  const payments = await Promise.all(Array.from({ length: 5 }, () => paid()));
  const [one, two, three, four, five] = payments.map(({ document, requirements }) => [document, requirements] as const);
  if (!one || !two || !three || !four || !five) throw new Error("There are too few payments.");
  const theirs = [full.settle(...one), full.settle(...two)];
  await expect(full.settle(...three)).rejects.toMatchObject({ code: "facilitator_overloaded" });
  const ours = [full.settle(...four, { caller: shop }), full.settle(...five, { caller: shop })];
  for (const result of await Promise.all([...theirs, ...ours])) expect(result).toMatchObject({ success: true });
});

describe("version 1", () => {
  test("is verified and settled, and answered with its own name of the network", async () => {
    const { document, payload } = await paid();
    const v1 = wire(paymentDocument(suite, { ...payload, version: 1 }));
    const { amount, network, ...rest } = requirementsToJson(suite, requirement()) as Record<string, JsonValue>;
    const requirements = wire({ ...rest, maxAmountRequired: amount, network: "base-sepolia", resource: "https://a" });
    expect(network).toBe("eip155:84532");
    expect(await open.facilitator.verify(v1, requirements)).toMatchObject({ isValid: true });
    expect(await open.facilitator.settle(v1, requirements, { caller: shop })).toMatchObject({
      success: true,
      network: "base-sepolia",
    });
    expect(await open.facilitator.verify(document, wire(requirementsToJson(suite, requirement())))).toMatchObject({
      invalidReason: "invalid_exact_evm_nonce_already_used",
    });
    await refused(v1, { ...(requirements as JsonObject), network: "main-street" }, "invalid_network");
    const { kinds } = await open.facilitator.supported();
    expect(kinds).toContainEqual({ x402Version: 1, scheme: "exact", network: "base-sepolia" });
  });
});
