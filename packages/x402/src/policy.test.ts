import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseRequirement, judgeQuote, SPEND_NOTHING } from "./policy.ts";
import type { AssetLimit, SpendPolicy, Spent } from "./policy.ts";
import type { Address, PaymentRequirements } from "./types.ts";
import { formatUnits, parseUnits } from "./units.ts";

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const usdc: AssetLimit = {
  network: "eip155:84532",
  address: at("a"),
  symbol: "USDC",
  decimals: 6,
  domain: { name: "USDC", version: "2" },
  perCallAtomic: 10_000n,
  perHourAtomic: 50_000n,
  perPayeeAtomic: 30_000n,
};
const policy: SpendPolicy = {
  assets: [usdc],
  hosts: ["api.example.com", "*.trusted.example", "localhost:8402"],
  networks: ["eip155:84532"],
  payees: [at("b")],
};
const requirement: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:84532",
  amount: "10000",
  asset: at("a"),
  payTo: at("b"),
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const channel: PaymentRequirements = {
  ...requirement,
  scheme: "batch-settlement",
  extra: { ...requirement.extra, receiverAuthorizer: at("c"), withdrawDelay: 900 },
};
const nothing: Spent = { hourAtomic: 0n, payeeHourAtomic: 0n };
const host = "api.example.com";

describe("quotes", () => {
  test("within the policy may be paid", () => {
    expect(judgeQuote(policy, nothing, { host, requirement })).toEqual({
      ok: true,
      amountAtomic: 10_000n,
      asset: usdc,
    });
    for (const allowed of ["API.example.com", "a.trusted.example", "a.b.trusted.example", "localhost:8402"]) {
      expect(judgeQuote(policy, nothing, { host: allowed, requirement }).ok).toBe(true);
    }
    expect(judgeQuote({ assets: [usdc] }, nothing, { host: "anything", requirement }).ok).toBe(true);
    expect(judgeQuote(policy, nothing, { host, requirement: channel, depositAtomic: 30_000n }).ok).toBe(true);
  });

  test.each<
    [
      string,
      Partial<PaymentRequirements>,
      Partial<{ host: string; spent: Spent; policy: Partial<SpendPolicy> }>,
      string,
    ]
  >([
    ["another host", {}, { host: "evil.example" }, "spend_host_refused"],
    ["a host that ends alike", {}, { host: "nottrusted.example" }, "spend_host_refused"],
    ["the bare host of a wildcard", {}, { host: "trusted.example" }, "spend_host_refused"],
    ["another port", {}, { host: "localhost:9" }, "spend_host_refused"],
    ["another network", { network: "eip155:8453" }, {}, "spend_network_refused"],
    ["an unknown token", { asset: at("d") }, {}, "spend_asset_unknown"],
    [
      "an unknown token by a known name",
      { asset: at("d"), extra: { name: "USDC", version: "2" } },
      {},
      "spend_asset_unknown",
    ],
    ["a known token by another name", { extra: { name: "USD Coin", version: "2" } }, {}, "spend_asset_unknown"],
    ["a known token elsewhere", { network: "eip155:1" }, { policy: { networks: ["eip155:1"] } }, "spend_asset_unknown"],
    ["any token, where none is known", {}, { policy: SPEND_NOTHING }, "spend_asset_unknown"],
    ["a foreign payee", { payTo: at("e") }, {}, "spend_payee_refused"],
    ["nobody as payee", { payTo: at("0") }, { policy: { payees: [at("0")] } }, "spend_payee_refused"],
    ["an authorization for years", { maxTimeoutSeconds: 31_536_000 }, {}, "spend_timeout_refused"],
    ["an authorization longer than allowed", {}, { policy: { maxTimeoutSeconds: 899 } }, "spend_timeout_refused"],
    ["one unit too much", { amount: "10001" }, {}, "spend_over_call"],
    ["all there is", { amount: ((1n << 256n) - 1n).toString() }, {}, "spend_over_call"],
    ["too much in an hour", {}, { spent: { hourAtomic: 40_001n, payeeHourAtomic: 0n } }, "spend_over_hour"],
    ["too much for one payee", {}, { spent: { hourAtomic: 20_001n, payeeHourAtomic: 20_001n } }, "spend_over_payee"],
  ])("%s is refused", (_, change, options, code) => {
    const asked = { host: options.host ?? host, requirement: { ...requirement, ...change } };
    const verdict = judgeQuote({ ...policy, ...options.policy }, options.spent ?? nothing, asked);
    expect(verdict).toMatchObject({ ok: false, code });
    expect((verdict as { message: string }).message).toMatch(/\.$/);
  });

  test("a limit of the call alone can only lower the policy's", () => {
    expect(judgeQuote(policy, nothing, { host, requirement, perCallAtomic: 9_999n })).toMatchObject({
      code: "spend_over_call",
    });
    const dear = { ...requirement, amount: "10001" };
    expect(judgeQuote(policy, nothing, { host, requirement: dear, perCallAtomic: 1_000_000n })).toMatchObject({
      code: "spend_over_call",
    });
  });

  test("a channel's deposit counts, and is not locked for long or held by nobody", () => {
    const ask = (
      extra: Partial<PaymentRequirements["extra"]>,
      depositAtomic: bigint,
      limit: Partial<AssetLimit> = {},
    ) => {
      const { receiverAuthorizer: _, ...rest } = channel.extra;
      const changed =
        "receiverAuthorizer" in extra && extra.receiverAuthorizer === undefined ? rest : { ...channel.extra, ...extra };
      return judgeQuote({ ...policy, assets: [{ ...usdc, ...limit }] }, nothing, {
        host,
        requirement: { ...channel, extra: changed },
        depositAtomic,
      });
    };
    expect(ask({}, 50_001n)).toMatchObject({ code: "spend_over_deposit" });
    expect(ask({}, 20_001n, { perDepositAtomic: 20_000n })).toMatchObject({ code: "spend_over_deposit" });
    expect(ask({}, 30_001n)).toMatchObject({ code: "spend_over_payee" });
    expect(ask({}, 50_000n, { perPayeeAtomic: 100_000n })).toMatchObject({ ok: true });
    expect(ask({ withdrawDelay: 86_401 }, 1n)).toMatchObject({ code: "spend_delay_refused" });
    expect(ask({ receiverAuthorizer: at("0") }, 1n)).toMatchObject({ code: "spend_payee_refused" });
    expect(ask({ receiverAuthorizer: undefined } as never, 1n)).toMatchObject({ code: "spend_payee_refused" });
  });

  test("no quote takes more than a limit, whatever it says", () => {
    const amount = fc.oneof(fc.bigInt(0n, 60_000n), fc.bigInt(0n, (1n << 256n) - 1n));
    fc.assert(
      fc.property(amount, amount, amount, amount, (price, deposit, hour, payee) => {
        const verdict = judgeQuote(
          policy,
          { hourAtomic: hour, payeeHourAtomic: payee },
          { host, requirement: { ...channel, amount: price.toString() }, depositAtomic: deposit },
        );
        const leaving = price > deposit ? price : deposit;
        const within =
          price <= 10_000n && deposit <= 50_000n && hour + leaving <= 50_000n && payee + leaving <= 30_000n;
        expect(verdict.ok).toBe(within);
      }),
    );
  });
});

describe("a choice", () => {
  const upto: PaymentRequirements = {
    ...requirement,
    scheme: "upto",
    extra: { ...requirement.extra, assetTransferMethod: "permit2", facilitatorAddress: at("f") },
  };
  const ask = () => ({ spent: nothing, question: { host } });
  const all = { schemes: ["batch-settlement", "upto", "exact"], methods: ["eip3009", "permit2"] } as const;

  test("follows the client's order of schemes, and then the quote's", () => {
    const accepts = [requirement, upto, channel, { ...requirement, amount: "1" }];
    expect(chooseRequirement(accepts, all, policy, ask)).toMatchObject({ ok: true, index: 2, requirement: channel });
    expect(chooseRequirement(accepts, { ...all, schemes: ["upto", "exact"] }, policy, ask)).toMatchObject({ index: 1 });
    expect(
      chooseRequirement(accepts, { ...all, methods: ["eip3009"], schemes: ["upto", "exact"] }, policy, ask),
    ).toMatchObject({
      index: 0,
    });
  });

  test("passes by what the policy refuses, and what cannot be signed", () => {
    const { facilitatorAddress: _, ...bare } = upto.extra;
    const accepts = [
      { ...channel, payTo: at("e") },
      { ...upto, extra: bare },
      { ...requirement, extra: { name: "", version: "" } },
      { ...requirement, amount: "20000" },
      requirement,
    ];
    expect(chooseRequirement(accepts, all, policy, ask)).toMatchObject({ ok: true, index: 4 });
    const none = chooseRequirement(accepts.slice(0, 4), all, policy, ask);
    expect(none).toMatchObject({ ok: false, code: "spend_payee_refused" });
    expect("refusals" in none && none.refusals.map(({ code }) => code)).toEqual([
      "spend_payee_refused",
      "spend_over_call",
    ]);
    expect(chooseRequirement([], all, policy, ask)).toMatchObject({ code: "spend_none_payable", refusals: [] });
    expect(chooseRequirement([requirement], { schemes: ["upto"], methods: ["permit2"] }, policy, ask)).toMatchObject({
      code: "spend_none_payable",
    });
  });
});

describe("units", () => {
  test("go both ways", () => {
    fc.assert(
      fc.property(fc.bigInt(0n, (1n << 256n) - 1n), fc.nat(36), (atomic, decimals) => {
        expect(parseUnits(formatUnits(atomic, decimals), decimals)).toBe(atomic);
      }),
    );
    expect(parseUnits("0.01", 6)).toBe(10_000n);
    expect(parseUnits("1.500000000", 1)).toBe(15n);
    expect(parseUnits("7", 0)).toBe(7n);
    expect(formatUnits(-1_500_000n, 6)).toBe("-1.5");
  });

  test.each(["", ".", "1.", ".5", "-1", "1e3", "0x1", "1,5", "1 ", "0.0000001", "9".repeat(79), `${1n << 256n}`])(
    "%s is refused",
    (text) => {
      expect(() => parseUnits(text, 6)).toThrow(expect.objectContaining({ code: "spend_amount_invalid" }));
    },
  );
});
