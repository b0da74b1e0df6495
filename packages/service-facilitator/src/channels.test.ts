import { randomBytes } from "node:crypto";
import { createWalletClient, encodeFunctionData, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { canonicalJson, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { testWalletFactory, testWalletFactoryAddress } from "@assay/contracts";
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeVoucher,
  channelConfigToJson,
  channelFor,
  channelIdOf,
  claimBatchDigest,
  fromHex,
  paymentDocument,
  refundDigest,
  requirementsToJson,
  toHex,
  wrapErc6492,
  ZERO_ADDRESS,
} from "@assay/x402";
import type { Address, ChannelConfig, EvmSigner, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { createFacilitator } from "./facilitator.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";
import { key, lower, openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";
import type { FacilitatorCaller, JsonObject } from "./types.ts";

const suite = nativeEvmSuite();
let open: Shop;
let shop: FacilitatorCaller;
beforeAll(async () => {
  open = await openShop(31337, { factories: [testWalletFactoryAddress] });
  shop = { id: "shop", payTo: [lower(open.receiver)] };
});
afterAll(() => open?.close());

const wire = (value: unknown): JsonValue => parseJson(canonicalJson(value as JsonValue));
const nowS = (): number => Math.floor(Date.now() / 1000);

function requirement(
  scheme: "exact" | "batch-settlement",
  more: Partial<PaymentRequirements> = {},
): PaymentRequirements {
  const { address, name, version } = open.tokenOf("USDC");
  return {
    scheme,
    network: open.embedded.network,
    amount: "1000",
    asset: address,
    payTo: lower(open.receiver),
    maxTimeoutSeconds: 900,
    extra: { name, version, ...(scheme === "exact" ? {} : { receiverAuthorizer: open.authorizer.address }) },
    ...more,
  };
}
const documents = (payload: PaymentPayload, required: PaymentRequirements): [JsonObject, JsonObject] => [
  wire(paymentDocument(suite, payload)) as JsonObject,
  wire(requirementsToJson(suite, required)) as JsonObject,
];

/** A channel of a new account with 10,000 in it. */
async function opened(required = requirement("batch-settlement")) {
  const signer = evmSigner(randomBytes(32));
  await open.embedded.fund(signer.address, { asset: "USDC", amountAtomic: 20_000n });
  const channel = channelFor(required, signer.address);
  const from = { suite, signer, requirement: required, channel, nowS: nowS() };
  const deposit = await authorizeDeposit(
    { ...from, maxClaimable: 1000n, nonce: randomBytes(32), payer: signer },
    10_000n,
  );
  const [document, requirements] = documents(deposit, required);
  const settled = await open.facilitator.settle(document, requirements, { caller: shop });
  expect(settled).toMatchObject({ success: true, amount: "10000", extra: { channelState: { balance: "10000" } } });
  const voucher = async (maxClaimable: bigint) => authorizeVoucher({ ...from, maxClaimable });
  return { signer, channel, deposit, document, requirements, voucher, required };
}

/** What a server sends about its channels. */
function serverDocuments(payload: JsonObject, more: JsonObject = {}): [JsonObject, JsonObject] {
  const requirements = {
    scheme: "batch-settlement",
    network: open.embedded.network,
    asset: open.tokenOf("USDC").address,
    amount: "0",
    payTo: open.receiver,
    maxTimeoutSeconds: 0,
    extra: {},
    ...more,
  };
  return [wire({ x402Version: 2, accepted: requirements, payload }) as JsonObject, wire(requirements) as JsonObject];
}
function claimOf(payload: PaymentPayload, totalClaimed: bigint): JsonObject {
  if (payload.payment.kind !== "voucher") throw new Error("It is no voucher.");
  const { channel, voucher } = payload.payment;
  return {
    voucher: { channel: channelConfigToJson(suite, channel), maxClaimableAmount: String(voucher.maxClaimable) },
    signature: toHex(voucher.signature),
    totalClaimed: String(totalClaimed),
  };
}

describe("vouchers", () => {
  test("hold as long as the channel covers them and they are new", async () => {
    const { voucher, required, channel } = await opened();
    const judged = async (maxClaimable: bigint, change: (document: JsonObject) => JsonObject = (same) => same) => {
      const [document, requirements] = documents(await voucher(maxClaimable), required);
      return open.facilitator.verify(change(document), requirements);
    };
    expect(await judged(2000n)).toMatchObject({ isValid: true, extra: { balance: "10000", totalClaimed: "0" } });
    expect(await judged(10_001n)).toMatchObject({
      invalidReason: "invalid_batch_settlement_evm_cumulative_exceeds_balance",
    });
    expect(await judged(0n)).toMatchObject({ invalidReason: "invalid_batch_settlement_evm_cumulative_below_claimed" });
    const higher = (document: JsonObject): JsonObject => {
      const inner = document["payload"] as JsonObject;
      return {
        ...document,
        payload: { ...inner, voucher: { ...(inner["voucher"] as JsonObject), maxClaimableAmount: "3000" } },
      };
    };
    expect(await judged(2000n, higher)).toMatchObject({
      invalidReason: "invalid_batch_settlement_evm_voucher_signature",
    });
    expect(channel.receiverAuthorizer).toBe(open.authorizer.address);
  });

  test("of a channel that nobody opened are refused, and none is settled by itself", async () => {
    const required = requirement("batch-settlement");
    const signer = evmSigner(randomBytes(32));
    const channel = channelFor(required, signer.address);
    const payload = await authorizeVoucher({
      suite,
      signer,
      requirement: required,
      channel,
      nowS: nowS(),
      maxClaimable: 1n,
    });
    const [document, requirements] = documents(payload, required);
    expect(await open.facilitator.verify(document, requirements)).toMatchObject({
      invalidReason: "invalid_batch_settlement_evm_channel_not_found",
    });
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({
      success: false,
      errorReason: "invalid_batch_settlement_evm_payload_type",
    });
  });

  test("a deposit is made once", async () => {
    const { document, requirements, deposit } = await opened();
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({
      success: true,
      extra: { replayed: true, channelState: { balance: "10000" } },
    });
    const forgetful = createFacilitator({ suite, chains: [open.served] });
    expect(await forgetful.settle(document, requirements, { caller: shop })).toMatchObject({
      success: false,
      errorReason: "invalid_batch_settlement_evm_deposit_simulation_failed",
    });
    expect(deposit.payment.kind).toBe("deposit");
  });
});

describe("claims, sweeps and refunds", () => {
  test("are signed for receivers of the caller's own list alone", async () => {
    const { voucher, ...deposit } = await opened();
    const claims = [claimOf(await voucher(3000n), 2500n)];
    const [document, requirements] = serverDocuments({ type: "claim", claims });
    for (const caller of [{ id: "anyone", payTo: "any" as const }]) {
      await expect(open.facilitator.settle(document, requirements, { caller })).rejects.toMatchObject({
        code: "payee_refused",
      });
    }
    await expect(open.facilitator.settle(document, requirements)).rejects.toMatchObject({ code: "token_required" });
    const generous = createFacilitator({ suite, chains: [open.served] }, { openPayTo: [open.receiver] });
    // Open recipients are for payments: claims and deposits of strangers would cost gas and pay nobody for sure.
    await expect(generous.settle(document, requirements)).rejects.toMatchObject({ code: "token_required" });
    await expect(generous.settle(deposit.document, deposit.requirements)).rejects.toMatchObject({
      code: "token_required",
    });
    await expect(
      generous.settle(document, requirements, { caller: { id: "anyone", payTo: "any" } }),
    ).rejects.toMatchObject({ code: "payee_refused" });
    const { authorizer: _, ...plain } = open.served;
    const unable = createFacilitator({ suite, chains: [plain] });
    expect(await unable.settle(document, requirements, { caller: shop })).toMatchObject({
      errorReason: "invalid_batch_settlement_evm_authorizer_not_configured",
    });
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({
      success: true,
      extra: { replayed: true },
    });
  });

  test("are anybody's to bring with the authorizer's own signature", async () => {
    const own = evmSigner(randomBytes(32));
    const { name, version } = open.tokenOf("USDC");
    const required = requirement("batch-settlement", { extra: { name, version, receiverAuthorizer: own.address } });
    const { voucher, channel } = await opened(required);
    const channelId = channelIdOf(suite, 31337, channel);
    const claims = [claimOf(await voucher(3000n), 2500n)];
    const entries = [{ channelId, maxClaimable: 3000n, totalClaimed: 2500n }];
    const signature = toHex(await own.signDigest(claimBatchDigest(suite, 31337, entries)));
    const unsigned = serverDocuments({ type: "claim", claims });
    expect(await open.facilitator.settle(...unsigned, { caller: shop })).toMatchObject({
      errorReason: "invalid_batch_settlement_evm_authorizer_address_mismatch",
    });
    const forged = toHex(await open.authorizer.signDigest(claimBatchDigest(suite, 31337, entries)));
    const wrong = serverDocuments({ type: "claim", claims, claimAuthorizerSignature: forged });
    expect(await open.facilitator.settle(...wrong, { caller: shop })).toMatchObject({
      errorReason: "invalid_batch_settlement_evm_claim_simulation_failed",
    });
    const signed = serverDocuments({ type: "claim", claims, claimAuthorizerSignature: signature });
    const caller = { id: "anyone", payTo: "any" as const };
    expect(await open.facilitator.settle(...signed, { caller })).toMatchObject({ success: true });
    const refund = {
      type: "refund",
      channelConfig: channelConfigToJson(suite, channel),
      voucher: { channelId: toHex(channelId), maxClaimableAmount: "3000", signature: "0x00" },
      amount: "1000000",
      refundNonce: "0",
      claims: [],
      refundAuthorizerSignature: toHex(await own.signDigest(refundDigest(suite, 31337, channelId, 0n, 1_000_000n))),
    };
    const before = await open.balanceOf("USDC", channel.payer);
    const refunded = await open.facilitator.settle(...serverDocuments(refund), { caller });
    // What was asked for is more than there is: what there is, is given.
    expect(refunded).toMatchObject({
      success: true,
      amount: "7500",
      extra: { channelState: { balance: "2500", totalClaimed: "2500", refundNonce: "1" } },
    });
    expect(await open.balanceOf("USDC", channel.payer)).toBe(before + 7500n);
    const again = { ...refund, refundNonce: "1" };
    expect(await open.facilitator.settle(...serverDocuments(again), { caller })).toMatchObject({
      errorReason: "invalid_batch_settlement_evm_refund_simulation_failed",
    });
  });

  test("that claim more than was signed or deposited are refused before they cost anything", async () => {
    const { voucher } = await opened();
    for (const claims of [[claimOf(await voucher(3000n), 3001n)], [claimOf(await voucher(20_000n), 15_000n)]]) {
      expect(
        await open.facilitator.settle(...serverDocuments({ type: "claim", claims }), { caller: shop }),
      ).toMatchObject({ success: false, errorReason: "invalid_batch_settlement_evm_claim_simulation_failed" });
    }
  });

  test("that are malformed or somebody else's are refused", async () => {
    const { voucher, channel } = await opened();
    const claim = claimOf(await voucher(3000n), 10n);
    const voucherPart = claim["voucher"] as JsonObject;
    const foreign: ChannelConfig = { ...channel, receiver: `0x${"99".repeat(20)}` };
    const reasons = async (payload: JsonObject, more: JsonObject = {}) =>
      (await open.facilitator.settle(...serverDocuments(payload, more), { caller: shop })).errorReason;
    const type = "invalid_batch_settlement_evm_payload_type";
    expect(await reasons({ type: "claim", claims: [] })).toBe(type);
    expect(await reasons({ type: "claim", claims: "all" })).toBe(type);
    expect(await reasons({ type: "claim", claims: [7] })).toBe(type);
    expect(await reasons({ type: "claim", claims: [{ ...claim, signature: "0x" }] })).toBe(type);
    expect(await reasons({ type: "claim", claims: [{ ...claim, totalClaimed: "-1" }] })).toBe(type);
    expect(await reasons({ type: "claim", claims: [{ ...claim, totalClaimed: String(1n << 128n) }] })).toBe(type);
    expect(
      await reasons({ type: "claim", claims: Array.from({ length: FACILITATOR_LIMITS.maxClaims + 1 }, () => claim) }),
    ).toBe(type);
    expect(await reasons({ type: "settle", receiver: "me", token: "0x00" })).toBe(type);
    expect(await reasons({ type: "burn" }, { maxTimeoutSeconds: 1 })).toBe("invalid_payload");
    expect(
      await reasons({
        type: "claim",
        claims: [{ ...claim, voucher: { ...voucherPart, channel: channelConfigToJson(suite, foreign) } }],
      }),
    ).toBe("invalid_batch_settlement_evm_receiver_mismatch");
    expect(await reasons({ type: "claim", claims: [claim] }, { asset: open.tokenOf("ASY").address })).toBe(
      "invalid_batch_settlement_evm_token_mismatch",
    );
    const sweep = { type: "settle", receiver: open.receiver, token: open.tokenOf("ASY").address };
    expect(await reasons(sweep)).toBe("invalid_batch_settlement_evm_token_mismatch");
    const asset = open.tokenOf("ASY").address;
    expect(await reasons(sweep, { asset })).toBe("invalid_batch_settlement_evm_nothing_to_settle");
    expect(await open.facilitator.verify(...serverDocuments({ type: "claim", claims: [claim] }))).toMatchObject({
      isValid: false,
      invalidReason: type,
    });
  });
});

describe("accounts with code", () => {
  /** A wallet contract of a new key: where it is, or will be, and what puts it there. */
  async function wallet(deployed: boolean) {
    const owner = evmSigner(randomBytes(32));
    const salt = toHex(randomBytes(32));
    const account = privateKeyToAccount(key());
    await open.embedded.fund(lower(account.address), { asset: "ETH", amountAtomic: 10n ** 18n });
    const { abi } = testWalletFactory;
    const address = lower(
      await open.publicClient.readContract({
        abi,
        address: testWalletFactoryAddress,
        functionName: "walletOf",
        args: [owner.address, salt],
      }),
    );
    const calldata = fromHex(encodeFunctionData({ abi, functionName: "createWallet", args: [owner.address, salt] }));
    if (deployed) {
      const hash = await createWalletClient({ account, transport: http(open.embedded.rpcUrl) }).sendTransaction({
        chain: null,
        to: testWalletFactoryAddress,
        data: toHex(calldata),
      });
      await open.publicClient.waitForTransactionReceipt({ hash, pollingInterval: 20 });
    }
    await open.embedded.fund(address, { asset: "USDC", amountAtomic: 10_000n });
    // Signs in the wallet's name.
    const signer = (wrap: (signature: Uint8Array) => Uint8Array = (same) => same): EvmSigner => ({
      address,
      signDigest: async (digest) => wrap(await owner.signDigest(digest)),
    });
    return { address, owner, signer, deployment: { factory: testWalletFactoryAddress as Address, calldata } };
  }
  const exact = async (signer: EvmSigner) => {
    const required = requirement("exact");
    return documents(
      await authorizeExact({ suite, signer, requirement: required, nonce: randomBytes(32), nowS: nowS() }),
      required,
    );
  };

  test("answer for themselves (EIP-1271)", async () => {
    const { signer, address } = await wallet(true);
    const [document, requirements] = await exact(signer());
    expect(await open.facilitator.verify(document, requirements)).toMatchObject({ isValid: true });
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
    expect(await open.balanceOf("USDC", address)).toBe(9000n);
    const stranger = { address, signDigest: (digest: Uint8Array) => evmSigner(randomBytes(32)).signDigest(digest) };
    const forged = await exact(stranger);
    expect(await open.facilitator.verify(...forged)).toMatchObject({ isValid: false });
    expect(await open.facilitator.settle(...forged, { caller: shop })).toMatchObject({
      success: false,
      transaction: "",
    });
  });

  test("come into being with their payment, by a factory that is allowed (ERC-6492)", async () => {
    const { signer, address, deployment } = await wallet(false);
    const [document, requirements] = await exact(signer((signature) => wrapErc6492(deployment, signature)));
    const strict = createFacilitator({ suite, chains: [{ ...open.served, factories: [] }] });
    expect(await strict.verify(document, requirements)).toMatchObject({ invalidReason: "eip6492_factory_not_allowed" });
    expect(await strict.settle(document, requirements, { caller: shop })).toMatchObject({
      errorReason: "eip6492_factory_not_allowed",
    });
    expect(await open.facilitator.verify(document, requirements)).toMatchObject({ isValid: true });
    expect((await open.chain.code(address)).length).toBe(0);
    expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
    expect((await open.chain.code(address)).length).toBeGreaterThan(0);
    expect(await open.balanceOf("USDC", address)).toBe(9000n);
  });

  test("sign their channels' vouchers, deployed or not", async () => {
    for (const deployed of [true, false]) {
      const { signer, deployment, owner, address } = await wallet(deployed);
      const required = requirement("batch-settlement");
      const channel = channelFor(required, address, new Uint8Array(32), ZERO_ADDRESS);
      const payer = signer(deployed ? undefined : (signature) => wrapErc6492(deployment, signature));
      const from = { suite, requirement: required, channel, nowS: nowS(), nonce: randomBytes(32), payer };
      const deposit = await authorizeDeposit({ ...from, signer: signer(), maxClaimable: 1000n }, 5000n);
      const [document, requirements] = documents(deposit, required);
      const stranger = { address, signDigest: (digest: Uint8Array) => evmSigner(randomBytes(32)).signDigest(digest) };
      const forged = documents(
        await authorizeDeposit({ ...from, signer: stranger, maxClaimable: 1000n }, 5000n),
        required,
      );
      expect(await open.facilitator.verify(...forged)).toMatchObject({
        invalidReason: "invalid_batch_settlement_evm_voucher_signature",
      });
      expect(await open.facilitator.verify(document, requirements)).toMatchObject({ isValid: true });
      expect(await open.facilitator.settle(document, requirements, { caller: shop })).toMatchObject({ success: true });
      // The key of a wallet's owner is not the wallet's payer: nothing falls back to ECDSA.
      const voucher = await authorizeVoucher({ ...from, signer: signer(), maxClaimable: 2000n });
      expect(await open.facilitator.verify(...documents(voucher, required))).toMatchObject({ isValid: true });
      expect(owner.address).not.toBe(address);
    }
  });
});
