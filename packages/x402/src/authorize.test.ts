import { describe, expect, test } from "vitest";
import { authorizeExact, authorizePermit2612, authorizeUpto, authorizeVoucher, channelFor } from "./authorize.ts";
import { checkPayment } from "./check.ts";
import { EIP2612_GAS_SPONSORING, offeredExtensions } from "./extensions.ts";
import { nobleEvmSigner, nobleEvmSuite as suite } from "./noble.ts";
import { encodePayment, parsePaymentHeader } from "./payload.ts";
import { encodePaymentRequired, parsePaymentRequired, paymentRequiredV1 } from "./required.ts";
import type { Address, PaymentRequired, PaymentRequirements } from "./types.ts";

const NOW_S = 1_800_000_000;
const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const signer = nobleEvmSigner(new Uint8Array(32).fill(3));
const exact: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:8453",
  amount: "1000",
  asset: at("a"),
  payTo: at("b"),
  maxTimeoutSeconds: 900,
  extra: { name: "USD Coin", version: "2" },
};
const upto: PaymentRequirements = {
  ...exact,
  scheme: "upto",
  extra: { ...exact.extra, assetTransferMethod: "permit2", facilitatorAddress: at("c") },
};
const required: PaymentRequired = {
  x402Version: 2,
  resource: { url: "https://a.example/" },
  accepts: [upto, exact],
  extensions: offeredExtensions({ eip2612: true, identifier: "optional" }),
};
const base = { suite, signer, nowS: NOW_S, nonce: new Uint8Array(32).fill(8) };

describe("from a quote to its payment", () => {
  test("version 2: sponsored, named, repeated word for word", async () => {
    const quote = parsePaymentRequired({ header: encodePaymentRequired(suite, required) });
    const [requirement] = quote.required.accepts;
    const sponsored = await authorizePermit2612({ ...base, requirement: requirement! }, 1000n, 0n);
    const payload = await authorizeUpto(
      { ...base, requirement: requirement!, identifier: "pay_0123456789abcdef" },
      sponsored,
    );
    const [accepted] = quote.wire.accepts;
    const { resource, extensions } = quote.wire;
    const { name, value } = encodePayment(suite, payload, {
      accepted: accepted!,
      resource: resource!,
      extensions: extensions!,
    });
    expect(name).toBe("PAYMENT-SIGNATURE");
    const received = parsePaymentHeader("payment-signature", value);
    expect(received).toEqual(payload);
    expect(checkPayment(suite, received, upto, NOW_S)).toMatchObject({
      ok: true,
      payer: signer.address,
      amountAtomic: 1000n,
      deadlineS: NOW_S + 900,
      signer: "ecdsa",
      questions: [],
    });
    expect(sponsored.amount).toBe(1000n);
  });

  test("version 1", async () => {
    const quote = parsePaymentRequired({ body: JSON.stringify(paymentRequiredV1(suite, required)) });
    const [requirement] = quote.required.accepts;
    const payload = await authorizeExact({ ...base, requirement: requirement!, version: quote.version });
    const { name, value } = encodePayment(suite, payload);
    expect(name).toBe("X-PAYMENT");
    const received = parsePaymentHeader("x-payment", value);
    expect(received).toEqual({ ...payload, version: 1 });
    expect(checkPayment(suite, received, exact, NOW_S)).toMatchObject({ ok: true, payer: signer.address });
  });

  test("the same payment is never signed for more, for longer or for another", async () => {
    const payload = await authorizeExact({ ...base, requirement: exact });
    const refused = (change: Partial<PaymentRequirements>): unknown =>
      checkPayment(suite, payload, { ...exact, ...change }, NOW_S, { payerCode: "none" });
    for (const change of [
      { amount: "1001" },
      { payTo: at("d") },
      { asset: at("d") },
      { network: "eip155:1" as const },
    ]) {
      expect(refused(change)).toMatchObject({ ok: false });
    }
    expect(checkPayment(suite, payload, exact, NOW_S + 895)).toMatchObject({ ok: false });
    expect(checkPayment(suite, payload, exact, NOW_S + 894)).toMatchObject({ ok: true });
  });
});

describe("what cannot be signed", () => {
  const { facilitatorAddress: _, ...bare } = upto.extra;
  test.each<[string, () => unknown]>([
    [
      "EIP-3009 without the token's domain",
      () => authorizeExact({ ...base, requirement: { ...exact, extra: { name: "", version: "" } } }),
    ],
    [
      "a permit without the token's domain",
      () => authorizePermit2612({ ...base, requirement: { ...exact, extra: { name: "x", version: "" } } }, 1n, 0n),
    ],
    ["upto without who settles it", () => authorizeUpto({ ...base, requirement: { ...upto, extra: bare } })],
    [
      "a channel without who signs for its receiver",
      () => Promise.resolve().then(() => channelFor(exact, signer.address)),
    ],
  ])("%s", async (__, sign) => {
    await expect(sign()).rejects.toMatchObject({ code: "payment_quote_malformed" });
  });

  test("a nonce of another length, and a voucher beyond its type", async () => {
    await expect(authorizeExact({ ...base, nonce: new Uint8Array(31), requirement: exact })).rejects.toThrow(
      /31 bytes/,
    );
    const requirement: PaymentRequirements = {
      ...exact,
      scheme: "batch-settlement",
      extra: { ...exact.extra, receiverAuthorizer: at("e") },
    };
    const channel = channelFor(requirement, signer.address);
    expect(channel.withdrawDelay).toBe(900);
    await expect(authorizeVoucher({ ...base, requirement, channel, maxClaimable: -1n })).rejects.toThrow(
      /out of the range/,
    );
  });
});

test("a sponsored permit that does not fit the payment is refused with its reason", async () => {
  const permit = await authorizePermit2612({ ...base, requirement: upto }, 1000n, 0n);
  const judge = async (sponsored: typeof permit): Promise<unknown> => {
    const verdict = checkPayment(suite, await authorizeUpto({ ...base, requirement: upto }, sponsored), upto, NOW_S);
    return verdict.ok ? "ok" : verdict.code;
  };
  const more = await authorizePermit2612({ ...base, requirement: upto }, 1001n, 0n);
  expect(await judge(permit)).toBe("ok");
  expect(await judge(more)).toBe("permit2_2612_amount_mismatch");
  expect(await judge({ ...permit, amount: (1n << 256n) - 1n })).toBe("permit2_2612_amount_mismatch");
  expect(await judge({ ...permit, owner: at("d") })).toBe("eip2612_from_mismatch");
  expect(await judge({ ...permit, asset: at("d") })).toBe("eip2612_asset_mismatch");
  expect(await judge({ ...permit, spender: at("d") })).toBe("eip2612_spender_not_permit2");
  expect(await judge({ ...permit, deadline: BigInt(NOW_S + 5) })).toBe("eip2612_deadline_expired");
  expect(await judge({ ...permit, nonce: 1n })).toBe("invalid_eip2612_signature");
});

test("extensions are offered where they are, and not elsewhere", () => {
  expect(offeredExtensions({ eip2612: false, identifier: "none" })).toEqual({});
  expect(offeredExtensions({ eip2612: true, identifier: "required" })).toMatchObject({
    [EIP2612_GAS_SPONSORING]: { info: { version: "1" } },
    "payment-identifier": { info: { required: true } },
  });
});
