import { getAddress } from "viem";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openShop } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

let open: Shop;
beforeAll(async () => {
  open = await openShop(31337);
});
afterAll(() => open?.close());

/** What a stock server declares so that its clients sign a permit in place of an approval. */
const sponsoring = { eip2612GasSponsoring: { info: { description: "", version: "1" }, schema: {} } };

describe("the stock server and client", () => {
  test("exact by EIP-3009: verified, settled, and settled again alike", async () => {
    const { stock, account } = await open.payer("USDC", 5000n);
    const { resources, quote, pay } = await open.shop();
    const requirements = await quote("exact", "USDC", "1000");
    const payload = await pay(stock, requirements, { bazaar: { info: { input: { type: "http" } }, schema: {} } });
    const verified = await resources.verifyPayment(payload, requirements);
    expect(verified).toMatchObject({ isValid: true, payer: account.address });
    const before = await open.balanceOf("USDC", open.receiver);
    const settled = await resources.settlePayment(payload, requirements);
    expect(settled).toMatchObject({ success: true, network: open.embedded.network, payer: account.address });
    expect(settled.transaction).toMatch(/^0x[0-9a-f]{64}$/);
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
    const again = await open.client().settle(payload, requirements);
    expect(again).toMatchObject({ success: true, transaction: settled.transaction, extra: { replayed: true } });
    expect(await open.balanceOf("USDC", open.receiver)).toBe(before + 1000n);
    expect(await open.client().verify(payload, requirements)).toMatchObject({
      isValid: false,
      invalidReason: "invalid_exact_evm_nonce_already_used",
    });
    const page = await (await fetch(`${open.url}/discovery/resources?limit=5`)).json();
    expect(page).toMatchObject({ items: [{ resource: "https://shop.example/weather", type: "http" }] });
  });

  test("exact by Permit2, the approval sponsored by EIP-2612", async () => {
    const { stock } = await open.payer("ASY", 10n ** 18n);
    const { resources, quote, pay } = await open.shop();
    const requirements = await quote("exact", "ASY", "1000000", { assetTransferMethod: "permit2" });
    const payload = await pay(stock, requirements, sponsoring);
    expect(payload.extensions).toMatchObject({ eip2612GasSponsoring: { info: { amount: "1000000" } } });
    expect(await resources.verifyPayment(payload, requirements)).toMatchObject({ isValid: true });
    const before = await open.balanceOf("ASY", open.receiver);
    expect(await resources.settlePayment(payload, requirements)).toMatchObject({ success: true });
    expect(await open.balanceOf("ASY", open.receiver)).toBe(before + 1000000n);
  });

  test("upto: less than the most is taken, by the facilitator that the payer named", async () => {
    const { stock, approve } = await open.payer("ASY", 10n ** 18n);
    await approve();
    const { resources, quote, pay } = await open.shop();
    const requirements = await quote("upto", "ASY", "5000000");
    expect(requirements.extra["facilitatorAddress"]).toMatch(/^0x/);
    const payload = await pay(stock, requirements);
    expect(await resources.verifyPayment(payload, requirements)).toMatchObject({ isValid: true });
    const before = await open.balanceOf("ASY", open.receiver);
    const settled = await resources.settlePayment(payload, requirements, undefined, undefined, { amount: "1234567" });
    expect(settled).toMatchObject({ success: true, amount: "1234567" });
    expect(await open.balanceOf("ASY", open.receiver)).toBe(before + 1234567n);
    // The same payment is not taken for another amount, and the rest of it is gone.
    const more = await open.client().settle(payload, { ...requirements, amount: "2000000" });
    expect(more).toMatchObject({ success: false, errorReason: "permit2_invalid_nonce", transaction: "" });
    const same = await open.client().settle(payload, { ...requirements, amount: "1234567" });
    expect(same).toMatchObject({ success: true, transaction: settled.transaction });
    expect(await open.balanceOf("ASY", open.receiver)).toBe(before + 1234567n);
  });

  test("upto for nothing needs no transaction; for more than the most it is refused", async () => {
    const { stock, approve } = await open.payer("ASY", 10n ** 18n);
    await approve();
    const { quote, pay } = await open.shop();
    const requirements = await quote("upto", "ASY", "5000000");
    const payload = await pay(stock, requirements);
    expect(await open.client().settle(payload, { ...requirements, amount: "5000001" })).toMatchObject({
      success: false,
      errorReason: "invalid_upto_evm_payload_settlement_exceeds_amount",
    });
    expect(await open.client().settle(payload, { ...requirements, amount: "0" })).toMatchObject({
      success: true,
      transaction: "",
      amount: "0",
    });
  });

  test("channels: deposit, vouchers, claim, sweep and refund, as the stock server sends them", async () => {
    const { stock, batch: channelClient, account } = await open.payer("USDC", 100_000n);
    const { resources, batch, quote, pay } = await open.shop();
    const requirements = await quote("batch-settlement", "USDC", "1000");
    expect(requirements.extra["receiverAuthorizer"]).toBe(getAddress(open.authorizer.address));
    const balance = await open.balanceOf("USDC", open.receiver);
    for (let request = 0; request < 3; request++) {
      const payload = await pay(stock, requirements);
      expect(payload.payload["type"]).toBe(request === 0 ? "deposit" : "voucher");
      expect(await resources.verifyPayment(payload, requirements)).toMatchObject({ isValid: true });
      const settled = await resources.settlePayment(payload, requirements, undefined, undefined, { amount: "700" });
      expect(settled).toMatchObject({ success: true });
      await stock.handlePaymentResponse({ paymentPayload: payload, requirements, settleResponse: settled });
    }
    const manager = batch.createChannelManager(open.client(), open.embedded.network, open.tokenOf("USDC").address);
    const { claims, settle } = await manager.claimAndSettle();
    expect(claims).toHaveLength(1);
    expect(settle?.transaction).toMatch(/^0x/);
    expect(await open.balanceOf("USDC", open.receiver)).toBe(balance + 2100n);
    await expect(manager.settle()).rejects.toThrow("invalid_batch_settlement_evm_nothing_to_settle");
    const left = await open.balanceOf("USDC", account.address);
    const refunds = await manager.refund();
    expect(refunds).toHaveLength(1);
    expect(await open.balanceOf("USDC", account.address)).toBe(100_000n - 2100n);
    expect(left).toBeLessThan(100_000n - 2100n);
    expect(channelClient.scheme).toBe("batch-settlement");
  });
});
