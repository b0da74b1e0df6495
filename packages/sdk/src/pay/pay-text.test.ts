import { describe, expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { ServiceClaims } from "@assay/receipts";
import { makeTextGateway } from "@assay/testkit";
import type { GatewayScript } from "@assay/testkit";
import { encodePaymentRequired, encodeSettlementResponse, parsePaymentHeader, paymentIdOf, toHex } from "@assay/x402";
import { nobleEvmSigner, nobleEvmSuite } from "@assay/x402/noble";
import { Assay, ReceiptError, verifiedFetch } from "../index.ts";
import type { AssayOptions } from "../index.ts";
import { requirementOf, SELLER, USDC } from "../testing/seller.ts";
import { createPayer } from "./payer.ts";
import { spendLimit } from "./policy.ts";

// A payment in a conversation: the 402, the header of the answer, and the receipt that has to name the payment.

const URL_OF = "http://gateway.test";
const ask = { model: "acme/llm", messages: [{ role: "user" as const, content: "What is 17 + 25?" }] };
const signer = nobleEvmSigner(new Uint8Array(32).fill(7));
const requirement = requirementOf("exact", "2000");

type Payment = NonNullable<ServiceClaims["payment"]>;

/** The claims of a gateway that took the payment in `header`. */
function claimsOf(header: string, changes: Partial<Payment> = {}): Partial<ServiceClaims> {
  const payload = parsePaymentHeader("payment-signature", header);
  const amountAtomic = "2000";
  return {
    price: { amountAtomic, asset: USDC.symbol, rateSource: `listing:${"0".repeat(64)}`, unit: "1" },
    payment: {
      payer: signer.address,
      paymentId: toHex(paymentIdOf(nobleEvmSuite, payload, requirement)),
      scheme: "exact",
      network: USDC.network,
      amountAtomic,
      asset: USDC.address,
      settlement: "batch",
      payTo: SELLER,
      ...changes,
    },
  };
}

async function priced(
  options: Partial<AssayOptions> = {},
  changes: Partial<Payment> | "none" = {},
  script: GatewayScript = {},
) {
  const gateway = await makeTextGateway(
    {
      ...script,
      intercept: ({ path, headers }) => {
        if (!path.startsWith("/v1/chat") || headers.has("payment-signature")) return undefined;
        const required = { x402Version: 2 as const, resource: { url: URL_OF + path }, accepts: [requirement] };
        return new Response('{"error":{"message":"Pay.","type":"x","param":null,"code":"payment_required"}}', {
          status: 402,
          headers: { "payment-required": encodePaymentRequired(nobleEvmSuite, required) },
        });
      },
      headers: (headers) => {
        const { name, value } = encodeSettlementResponse(nobleEvmSuite, 2, {
          success: true,
          transaction: "",
          network: USDC.network,
          payer: signer.address,
        });
        headers.set(name, value);
      },
      service: ({ headers }) => (changes === "none" ? {} : claimsOf(headers.get("payment-signature") ?? "", changes)),
    },
    URL_OF,
  );
  const payer = createPayer({
    signer,
    suite: nobleEvmSuite,
    policy: { assets: [spendLimit(USDC, { perCall: "0.01", perHour: "1" })] },
    sleep: () => Promise.resolve(),
  });
  const common = { fetch: gateway.fetch, trust: gateway.trust, now: () => gateway.now, suite: nodeSuite };
  return { gateway, payer, common, assay: new Assay({ url: URL_OF, ...common, payer, ...options }) };
}

const failure = async (work: Promise<unknown>): Promise<{ code: string; verdict: string | undefined }> => {
  try {
    await work;
  } catch (error) {
    const verdict = error instanceof ReceiptError ? error.verdict?.code : undefined;
    return { code: isAssayError(error) ? error.code : String(error), verdict };
  }
  return { code: "none", verdict: undefined };
};

describe("a paid conversation", () => {
  test("is answered, and its receipt names the payment that was signed", async () => {
    const { assay, gateway } = await priced();
    const answer = await assay.chat(ask);
    expect(answer).toMatchObject({
      text: "The answer is 42.",
      verified: true,
      payment: { payer: signer.address, scheme: "exact", payTo: SELLER, charged: { amountAtomic: 2000n } },
    });
    const again = await assay.chat(ask);
    expect(again.payment?.paymentId).not.toBe(answer.payment?.paymentId);
    // Asked once, paid unasked afterwards.
    expect(gateway.calls.filter(({ path }) => path.startsWith("/v1/chat"))).toHaveLength(3);
  });

  test("as a stream as well", async () => {
    const { assay } = await priced();
    const answer = await assay.chat.stream(ask).final();
    expect(answer).toMatchObject({ text: "The answer is 42.", verified: true, payment: { capAtomic: 2000n } });
  });

  const wrong: [string, Partial<Payment> | "none"][] = [
    ["no payment", "none"],
    ["another payer", { payer: SELLER }],
    ["another payment", { paymentId: `0x${"1".repeat(64)}` }],
    ["another scheme", { scheme: "upto" }],
    ["another network", { network: "eip155:1" }],
    ["another asset", { asset: "ASY" }],
    ["somebody else paid", { payTo: signer.address }],
    ["more than was signed", { amountAtomic: "2001" }],
    ["less than the answer said", { amountAtomic: "1" }],
    ["an amount that is none", { amountAtomic: "lots" }],
  ];
  test.each(wrong)("a receipt with %s fails", async (_what, changes) => {
    const { assay } = await priced({}, changes);
    expect(await failure(assay.chat(ask))).toEqual({ code: "receipt_failed", verdict: "payment_mismatch" });
    expect(await failure(assay.chat.stream(ask).final())).toEqual({
      code: "receipt_failed",
      verdict: "payment_mismatch",
    });
  });

  test("without a payer the 402 is the gateway's own error", async () => {
    const { common } = await priced();
    const assay = new Assay({ url: URL_OF, ...common });
    expect((await failure(assay.chat(ask))).code).toBe("payment_required");
  });

  test("the limit of the client and of the call hold, and nothing is sent for less", async () => {
    const { assay, gateway, common, payer } = await priced();
    expect((await failure(assay.chat(ask, { maxSpend: "0.001" }))).code).toBe("spend_over_call");
    const careful = new Assay({ url: URL_OF, ...common, payer, maxSpend: "0.0019" });
    expect((await failure(careful.chat(ask))).code).toBe("spend_over_call");
    expect(gateway.calls.filter(({ headers }) => headers.has("payment-signature"))).toHaveLength(0);
    expect((await assay.chat(ask, { maxSpend: "0.002" })).text).toBe("The answer is 42.");
  });

  test("verifiedFetch pays for unchanged clients, and holds what it is not charged for back", async () => {
    const { common, payer } = await priced();
    const init = { method: "POST", body: JSON.stringify(ask), headers: { "content-type": "application/json" } };
    const response = await verifiedFetch({ ...common, payer })(`${URL_OF}/v1/chat/completions`, init);
    expect([response.status, response.headers.get("assay-verified")]).toEqual([200, "true"]);
    const other = await priced({}, "none");
    const refused = await verifiedFetch({ ...other.common, payer: other.payer })(`${URL_OF}/v1/chat/completions`, init);
    expect([refused.status, refused.headers.get("assay-verdict")]).toEqual([502, "payment_mismatch"]);
    const dear = verifiedFetch({ ...common, payer, maxSpend: "0.001" })(`${URL_OF}/v1/chat/completions`, init);
    expect((await failure(dear)).code).toBe("spend_over_call");
  });
});
