// Payments that the published clients of @x402/evm make of our quotes, unmodified.
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/client";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, test } from "vitest";
import { admitVoucher, applyCharge, channelStateOf, openAccount, resyncFor } from "./channel.ts";
import { checkPayment } from "./check.ts";
import { offeredExtensions } from "./extensions.ts";
import { encodeHeader } from "./header.ts";
import { toHex } from "./hex.ts";
import { matchRequirement } from "./match.ts";
import { nobleEvmSuite as suite } from "./noble.ts";
import { parsePaymentHeader } from "./payload.ts";
import { paymentRequiredDocument, paymentRequiredV1 } from "./required.ts";
import { requirementsToJson } from "./requirements.ts";
import type { Address, PaymentPayload, PaymentRequired, PaymentRequirements } from "./types.ts";

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const account = privateKeyToAccount(toHex(new Uint8Array(32).fill(7)));
const payer = account.address.toLowerCase();
const exact: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:84532",
  amount: "1000",
  asset: at("a"),
  payTo: at("b"),
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const permit2: PaymentRequirements = { ...exact, extra: { ...exact.extra, assetTransferMethod: "permit2" } };
const upto: PaymentRequirements = {
  ...permit2,
  scheme: "upto",
  extra: { ...permit2.extra, facilitatorAddress: at("c") },
};
const batch: PaymentRequirements = {
  ...exact,
  scheme: "batch-settlement",
  extra: { ...exact.extra, receiverAuthorizer: at("d"), withdrawDelay: 900, minDeposit: "10000" },
};
const required: PaymentRequired = {
  x402Version: 2,
  resource: { url: "https://a.example/" },
  accepts: [upto, batch, exact],
  extensions: offeredExtensions({ eip2612: true, identifier: "optional" }),
};

const nowS = (): number => Math.floor(Date.now() / 1000);

/** The chain that a stock client asks: the channel's state, and a token whose next nonce is 4 and that allows Permit2 nothing. */
function signer(channel: { balance: bigint; totalClaimed: bigint } = { balance: 0n, totalClaimed: 0n }): never {
  return {
    address: account.address,
    signTypedData: (typed: never) => account.signTypedData(typed),
    readContract: ({ functionName, args }: { functionName: string; args: readonly unknown[] }) => {
      if (functionName === "nonces") return Promise.resolve(4n);
      if (functionName === "allowance") return Promise.resolve(0n);
      if (functionName === "channels") return Promise.resolve([channel.balance, channel.totalClaimed]);
      return Promise.reject(new Error(`${functionName}(${args.length})`));
    },
  } as never;
}

type Made = { readonly payload: object; readonly extensions?: object };

/** What the stock library sends: the requirement repeated word for word, the quote's extensions and its own. */
function received(requirement: PaymentRequirements, made: Made): PaymentPayload {
  const document = {
    x402Version: 2,
    resource: required.resource,
    accepted: requirementsToJson(suite, requirement),
    payload: made.payload,
    extensions: { ...required.extensions, ...made.extensions },
  };
  return parsePaymentHeader("payment-signature", encodeHeader("PAYMENT-SIGNATURE", document));
}

function judged(payload: PaymentPayload, requirement: PaymentRequirements): unknown {
  expect(matchRequirement(payload, [upto, batch, exact, permit2])).toEqual({ ok: true, requirement });
  return checkPayment(suite, payload, requirement, nowS(), { payerCode: "none" });
}

const wire = (requirement: PaymentRequirements): never => requirementsToJson(suite, requirement) as never;
const context = { extensions: required.extensions } as never;

describe("stock clients", () => {
  test("pay by exact with EIP-3009", async () => {
    const made = await new ExactEvmScheme(signer()).createPaymentPayload(2, wire(exact), context);
    expect(judged(received(exact, made), exact)).toMatchObject({
      ok: true,
      payer,
      amountAtomic: 1000n,
      signer: "ecdsa",
    });
  });

  test("pay by exact and upto through Permit2, with a permit of exactly the amount", async () => {
    for (const [scheme, requirement] of [
      [new ExactEvmScheme(signer()), permit2],
      [new UptoEvmScheme(signer()), upto],
    ] as const) {
      const made = await scheme.createPaymentPayload(2, wire(requirement), context);
      const payload = received(requirement, made);
      expect(payload.payment).toMatchObject({ sponsored: { amount: 1000n, nonce: 4n } });
      expect(judged(payload, requirement)).toMatchObject({ ok: true, payer, amountAtomic: 1000n });
    }
  });

  test("pay by version 1", async () => {
    const [quoted] = paymentRequiredV1(suite, required)["accepts"] as never[];
    const made = await new ExactEvmSchemeV1(signer()).createPaymentPayload(1, quoted!);
    const payload = parsePaymentHeader("x-payment", encodeHeader("X-PAYMENT", made));
    expect(payload).toMatchObject({ version: 1, network: "eip155:84532" });
    expect(judged(payload, exact)).toMatchObject({ ok: true, payer });
  });

  test("open a channel, use it, lose count, and are put right by one corrective 402", async () => {
    const chain = { balance: 0n, totalClaimed: 0n };
    const scheme = new BatchSettlementEvmScheme(signer(chain));
    const made = await scheme.createPaymentPayload(2, wire(batch), context);
    const opened = received(batch, made);
    expect(judged(opened, batch)).toMatchObject({ ok: true, payer, amountAtomic: 1000n });
    if (opened.payment.kind !== "deposit") throw new Error("The first payment is not a deposit.");
    const { voucher, amount } = opened.payment;
    expect(amount).toBe(10_000n);
    let ledger = openAccount({ balance: amount, totalClaimed: 0n });
    chain.balance = amount;
    const first = admitVoucher(ledger, voucher, 1000n);
    if (!first.ok) throw new Error(first.message);
    ledger = applyCharge(first.account, 1000n, 300n);
    await scheme.schemeHooks.onPaymentResponse?.({
      paymentPayload: made,
      requirements: wire(batch),
      settleResponse: {
        success: true,
        transaction: "",
        network: batch.network,
        extra: { chargedAmount: "300", channelState: channelStateOf(ledger, voucher.channelId) },
      },
    } as never);

    const second = received(batch, await scheme.createPaymentPayload(2, wire(batch), context));
    expect(judged(second, batch)).toMatchObject({ ok: true, payer });
    if (second.payment.kind !== "voucher") throw new Error("The second payment is not a voucher.");
    expect(second.payment.voucher.maxClaimable).toBe(1300n);
    const admitted = admitVoucher(ledger, second.payment.voucher, 1000n);
    if (!admitted.ok) throw new Error(admitted.message);
    ledger = admitted.account;

    // Its answer never arrives, another request is still in flight, and the client signs from the old count.
    const third = received(batch, await scheme.createPaymentPayload(2, wire(batch), context));
    if (third.payment.kind !== "voucher") throw new Error("The third payment is not a voucher.");
    const refused = admitVoucher(ledger, third.payment.voucher, 1000n);
    expect(refused).toMatchObject({ ok: false, code: "invalid_batch_settlement_evm_cumulative_amount_mismatch" });
    const extra = { ...batch.extra, ...resyncFor(ledger, voucher.channelId, 1000n) };
    const corrective = paymentRequiredDocument(suite, {
      ...required,
      error: "invalid_batch_settlement_evm_cumulative_amount_mismatch",
      accepts: [{ ...batch, extra }],
    });
    expect(await scheme.processCorrectivePaymentRequired(corrective as never)).toBe(true);
    const retried = received(batch, await scheme.createPaymentPayload(2, wire(batch), context));
    if (retried.payment.kind !== "voucher") throw new Error("The retry is not a voucher.");
    expect(judged(retried, batch)).toMatchObject({ ok: true });
    expect(admitVoucher(ledger, retried.payment.voucher, 1000n)).toMatchObject({ ok: true });
  });
});
