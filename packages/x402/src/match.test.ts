import { expect, test } from "vitest";
import { matchRequirement } from "./match.ts";
import { paymentIdOf, paymentParty } from "./party.ts";
import { nobleEvmSuite as suite } from "./noble.ts";
import type { Address, Payment, PaymentPayload, PaymentRequirements } from "./types.ts";

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const exact: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:31337",
  amount: "1000",
  asset: at("a"),
  payTo: at("b"),
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const permit2: PaymentRequirements = {
  ...exact,
  asset: at("c"),
  extra: { ...exact.extra, assetTransferMethod: "permit2" },
};
const upto: PaymentRequirements = { ...permit2, scheme: "upto" };
const elsewhere: PaymentRequirements = { ...exact, network: "eip155:8453" };
const offered = [upto, exact, permit2, elsewhere];
const payment: Payment = {
  kind: "eip3009",
  authorization: {
    from: at("d"),
    to: at("b"),
    value: 1000n,
    validAfter: 0n,
    validBefore: 9n,
    nonce: new Uint8Array(32),
  },
  signature: new Uint8Array(65),
};
const paying = (accepted: PaymentRequirements): PaymentPayload => ({
  version: 2,
  scheme: accepted.scheme,
  network: accepted.network,
  payment,
  accepted,
});

test("a payment is for what it repeats", () => {
  for (const requirement of offered) {
    expect(matchRequirement(paying(requirement), offered)).toEqual({ ok: true, requirement });
  }
});

test("a payment that repeats another price or payee is for the closest, which the check then refuses it for", () => {
  const changed = {
    ...exact,
    amount: "1",
    payTo: at("e"),
    maxTimeoutSeconds: 1,
    extra: { name: "Evil", version: "9" },
  };
  expect(matchRequirement(paying(changed), offered)).toEqual({ ok: true, requirement: exact });
  const dearer = { ...exact, amount: "2000" };
  expect(matchRequirement(paying(dearer), [exact, dearer])).toEqual({ ok: true, requirement: dearer });
});

test("version 1 says whom it pays how much", () => {
  const { accepted: _, ...rest } = paying(exact);
  const v1: PaymentPayload = { ...rest, version: 1 };
  const cheaper = { ...exact, amount: "999" };
  expect(matchRequirement(v1, [permit2, cheaper, exact])).toEqual({ ok: true, requirement: exact });
  expect(matchRequirement(v1, [permit2, cheaper])).toEqual({ ok: true, requirement: cheaper });
  expect(matchRequirement(v1, [permit2])).toMatchObject({ ok: false, code: "invalid_payment_requirements" });
});

test("what is not offered at all is refused with what is missing", () => {
  const code = (accepted: PaymentRequirements, among = offered): unknown => matchRequirement(paying(accepted), among);
  expect(code({ ...exact, network: "eip155:1" })).toMatchObject({ ok: false, code: "invalid_network" });
  expect(code({ ...exact, scheme: "batch-settlement" })).toMatchObject({ ok: false, code: "invalid_scheme" });
  expect(code({ ...exact, asset: at("f") })).toMatchObject({ ok: false, code: "invalid_payment_requirements" });
  expect(code(exact, [])).toMatchObject({ ok: false, code: "invalid_network" });
});

test("a payment's id names what is spent once, and nothing else", () => {
  const id = (change: Partial<PaymentPayload>, requirement = exact): string =>
    paymentIdOf(suite, { ...paying(exact), ...change }, requirement).join();
  const same = id({});
  expect(id({ payment: { ...payment, signature: new Uint8Array(3) } as Payment })).toBe(same);
  expect(id({}, { ...exact, amount: "5", payTo: at("9") })).toBe(same);
  expect(id({ network: "eip155:1" })).not.toBe(same);
  expect(id({}, { ...exact, asset: at("9") })).not.toBe(same);
  const channel = {
    payer: at("1"),
    payerAuthorizer: at("1"),
    receiver: at("b"),
    receiverAuthorizer: at("2"),
    token: at("a"),
    withdrawDelay: 900,
    salt: new Uint8Array(32),
  };
  const voucher = { channelId: new Uint8Array(32), maxClaimable: 5n, signature: new Uint8Array(65) };
  const ids = [
    id({ payment: { kind: "voucher", channel, voucher } }),
    id({ payment: { kind: "voucher", channel, voucher: { ...voucher, maxClaimable: 6n } } }),
    id({ payment: { kind: "refund", channel, voucher } }),
    id({ payment: { kind: "refund", channel, voucher, amount: 5n } }),
    same,
  ];
  expect(new Set(ids).size).toBe(ids.length);
});

test("who pays is who signs, and with what is the requirement's word", () => {
  expect(paymentParty(payment, exact)).toEqual({ payer: at("d"), asset: at("a") });
});
