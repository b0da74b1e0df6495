import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  admitVoucher,
  applyChain,
  applyCharge,
  applyDeposit,
  applyRefund,
  channelStateOf,
  claimable,
  judgeDeposit,
  judgeRefund,
  openAccount,
  resyncFor,
} from "./channel.ts";
import type { ChannelAccount } from "./channel.ts";
import { nextVoucher, resyncFrom } from "./payer-channel.ts";

const signature = (value: bigint): Uint8Array => new Uint8Array([Number(value & 255n), 1]);
const voucher = (maxClaimable: bigint): { maxClaimable: bigint; signature: Uint8Array } => ({
  maxClaimable,
  signature: signature(maxClaimable),
});
const fresh = openAccount({ balance: 100n, totalClaimed: 0n });
const id = new Uint8Array(32).fill(7);

function admitted(account: ChannelAccount, maxClaimable: bigint, amount: bigint): ChannelAccount {
  const verdict = admitVoucher(account, voucher(maxClaimable), amount);
  if (!verdict.ok) throw new Error(verdict.code);
  return verdict.account;
}

const code = (verdict: { ok: boolean; code?: string; wait?: boolean }): unknown =>
  verdict.ok ? "ok" : [verdict.code!.replace("invalid_batch_settlement_evm_", ""), verdict.wait];

describe("vouchers", () => {
  test("concurrent requests are admitted together, and charged each on its own", () => {
    const first = admitted(fresh, 10n, 10n);
    const second = admitted(first, 20n, 10n);
    expect(second).toMatchObject({ reserved: 20n, signed: 20n, charged: 0n });
    const done = applyCharge(applyCharge(second, 10n, 3n), 10n, 0n);
    expect(done).toMatchObject({ reserved: 0n, charged: 3n, signed: 20n });
    expect(claimable(done)).toEqual({ totalClaimed: 3n, maxClaimable: 20n, signature: signature(20n) });
  });

  test("a voucher that was overtaken is as good as the higher one, which is kept with its request", () => {
    const late = admitted(fresh, 20n, 10n);
    const early = admitVoucher(late, voucher(10n), 10n);
    expect(early).toEqual({
      ok: true,
      account: { ...late, reserved: 20n },
      cover: { maxClaimable: 20n, signature: signature(20n) },
    });
    const both = admitted(late, 10n, 10n);
    expect(code(admitVoucher(both, voucher(9n), 10n))).toEqual(["cumulative_amount_mismatch", true]);
    const charged = applyCharge(both, 10n, 0n);
    expect(admitted(charged, 9n, 10n)).toMatchObject({ signed: 20n, signature: signature(20n), reserved: 20n });
    // What was claimed under the higher one does not speak against the lower.
    const claimed = applyChain(applyCharge(applyCharge(both, 10n, 9n), 10n, 2n), { ...both, totalClaimed: 11n });
    expect(admitted(claimed, 9n, 9n)).toMatchObject({ reserved: 9n, signed: 20n });
    // What the payer took out of the channel is promised no more.
    expect(code(admitVoucher({ ...late, withdrawing: 85n }, voucher(10n), 10n))).toEqual([
      "cumulative_exceeds_balance",
      false,
    ]);
  });

  test.each<[string, ChannelAccount, bigint, bigint, unknown]>([
    ["an empty channel", openAccount({ balance: 0n, totalClaimed: 0n }), 1n, 1n, ["channel_not_found", false]],
    ["more than the balance", fresh, 101n, 1n, ["cumulative_exceeds_balance", false]],
    [
      "more than what is not being withdrawn",
      { ...fresh, withdrawing: 60n },
      41n,
      1n,
      ["cumulative_exceeds_balance", false],
    ],
    [
      "what is claimed already",
      openAccount({ balance: 100n, totalClaimed: 9n }),
      9n,
      1n,
      ["cumulative_below_claimed", false],
    ],
    ["too little for the request", fresh, 9n, 10n, ["cumulative_amount_mismatch", false]],
    [
      "too little after what was charged",
      { ...fresh, charged: 5n, signed: 5n },
      14n,
      10n,
      ["cumulative_amount_mismatch", false],
    ],
    [
      "too little, whatever is in flight",
      { ...fresh, charged: 5n, reserved: 9n, signed: 14n },
      14n,
      10n,
      ["cumulative_amount_mismatch", false],
    ],
    [
      "too little as long as others are in flight",
      { ...fresh, charged: 5n, reserved: 9n, signed: 14n },
      15n,
      10n,
      ["cumulative_amount_mismatch", true],
    ],
  ])("%s is refused", (_, account, maxClaimable, amount, expected) => {
    expect(code(admitVoucher(account, voucher(maxClaimable), amount))).toEqual(expected);
  });

  test("charging more than was reserved is a fault of the program", () => {
    const account = admitted(fresh, 10n, 10n);
    for (const [reserved, charged] of [
      [10n, 11n],
      [11n, 1n],
      [10n, -1n],
    ] as const) {
      expect(() => applyCharge(account, reserved, charged)).toThrow(
        expect.objectContaining({ code: "payment_overcharged" }),
      );
    }
    expect(() => admitVoucher(fresh, voucher(1n), -1n)).toThrow(/less than nothing/);
  });
});

type Step =
  | { readonly do: "admit"; readonly amount: bigint; readonly slack: bigint }
  | { readonly do: "end"; readonly which: number; readonly share: number }
  | { readonly do: "deposit"; readonly amount: bigint }
  | { readonly do: "claim" }
  | { readonly do: "refund"; readonly amount: bigint };

test("in any interleaving no claim exceeds a voucher or the balance, and no charge what is kept with those before", () => {
  const amount = fc.bigInt(0n, 40n);
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ do: fc.constant("admit" as const), amount, slack: fc.bigInt(-30n, 10n) }),
    // A share below nothing is a request that is given back: what was kept with it is gone.
    fc.record({ do: fc.constant("end" as const), which: fc.nat(), share: fc.double({ min: -1, max: 1, noNaN: true }) }),
    fc.record({ do: fc.constant("deposit" as const), amount }),
    fc.record({ do: fc.constant("claim" as const) }),
    fc.record({ do: fc.constant("refund" as const), amount: fc.bigInt(1n, 60n) }),
  );
  fc.assert(
    fc.property(fc.bigInt(0n, 200n), fc.array(step, { maxLength: 60 }), (deposited, steps) => {
      let account = openAccount({ balance: deposited, totalClaimed: 0n });
      let funds = deposited;
      let paidOut = 0n;
      let highest = 0n;
      let total = 0n;
      let durable = 0n;
      const flying: { readonly amount: bigint; readonly cover: bigint }[] = [];
      for (const one of steps) {
        if (one.do === "admit") {
          const max = account.charged + account.reserved + one.amount + one.slack;
          const verdict = admitVoucher(account, voucher(max), one.amount);
          if (verdict.ok) {
            account = verdict.account;
            flying.push({ amount: one.amount, cover: verdict.cover.maxClaimable });
            const { maxClaimable: kept, signature: signed } = verdict.cover;
            if (kept > 0n) expect(signed).toEqual(signature(kept));
            if (max > highest) highest = max;
          } else if (one.slack >= 0n && account.balance > 0n && max > account.totalClaimed) {
            expect(max).toBeGreaterThan(account.balance);
          }
        } else if (one.do === "end" && flying.length > 0) {
          const [ended] = flying.splice(one.which % flying.length, 1);
          const { amount: reserved, cover } = ended!;
          const charged = one.share < 0 ? 0n : BigInt(Math.floor(Number(reserved) * one.share));
          account = applyCharge(account, reserved, charged);
          total += charged;
          if (one.share >= 0 && cover > durable) durable = cover;
        } else if (one.do === "deposit") {
          account = applyDeposit(account, one.amount);
          funds += one.amount;
        } else if (one.do === "claim") {
          const claim = claimable(account);
          if (claim !== undefined) {
            expect(claim.maxClaimable).toBe(highest);
            expect(claim.totalClaimed).toBeLessThanOrEqual(highest);
            expect(claim.totalClaimed).toBeLessThanOrEqual(account.balance);
            account = applyChain(account, { ...account, totalClaimed: claim.totalClaimed });
          }
        } else if (one.do === "refund") {
          const verdict = judgeRefund(account, voucher(account.charged), one.amount);
          if (verdict.ok) {
            expect(flying.every(({ amount: reserved }) => reserved === 0n)).toBe(true);
            if (verdict.claim) account = applyChain(account, { ...account, totalClaimed: verdict.claim.totalClaimed });
            account = applyRefund(account, verdict.amountAtomic);
            paidOut += verdict.amountAtomic;
            // What is left covers all that was charged; a later voucher may promise no more than that.
            expect(account.balance).toBeGreaterThanOrEqual(account.charged);
          }
        }
        expect(account.charged).toBe(total);
        expect(account.charged).toBeLessThanOrEqual(durable);
        expect(account.reserved).toBe(flying.reduce((sum, { amount: reserved }) => sum + reserved, 0n));
        expect(account.charged + account.reserved).toBeLessThanOrEqual(account.signed);
        expect(account.charged + account.reserved).toBeLessThanOrEqual(account.balance);
        expect(account.balance + paidOut).toBe(funds);
      }
    }),
    { numRuns: 400 },
  );
});

describe("what a payer is told", () => {
  test("a corrective 402 shows the payer its own voucher, and one more request is admitted at once", () => {
    let account = admitted(fresh, 30n, 10n);
    account = applyCharge(account, 10n, 4n);
    account = admitted(account, 30n, 10n);
    const extra = resyncFor(account, id);
    expect(extra).toMatchObject({
      channelState: { chargedCumulativeAmount: "14", balance: "100" },
      voucherState: { signedMaxClaimable: "30", signature: "0x1e01" },
    });
    expect(channelStateOf(account, id).chargedCumulativeAmount).toBe("4");
    const believed = resyncFrom(extra, id, (max, signed) => max === 30n && signed === "0x1e01")!;
    const next = nextVoucher({ ...believed, inFlight: 0n }, 10n);
    expect(next).toEqual({ maxClaimable: 24n, depositAtomic: 0n });
    expect(admitVoucher(account, voucher(next.maxClaimable), 10n).ok).toBe(true);
  });

  test("the voucher that a corrective 402 leads to is one that was never signed before", () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 50n),
        fc.bigInt(0n, 50n),
        fc.bigInt(0n, 50n),
        fc.bigInt(1n, 60n),
        (charged, reserved, more, amount) => {
          const signed = charged + reserved + more;
          const account = { ...fresh, balance: 1000n, charged, reserved, signed, signature: signature(signed) };
          const { channelState, voucherState } = resyncFor(account, id, amount);
          const base = BigInt(channelState!.chargedCumulativeAmount);
          expect(voucherState).toBeDefined();
          expect(base).toBeLessThanOrEqual(signed);
          expect(base + amount).toBeGreaterThan(signed);
          expect(admitVoucher(account, voucher(base + amount), amount).ok).toBe(true);
        },
      ),
    );
    const used = { ...fresh, charged: 10n, signed: 20n, signature: signature(20n) };
    expect(resyncFor(used, id, 10n).channelState?.chargedCumulativeAmount).toBe("11");
    expect(resyncFor(used, id, 11n).channelState?.chargedCumulativeAmount).toBe("10");
  });

  test("without a voucher for as much nothing is shown as proof", () => {
    expect(resyncFor(fresh, id)).not.toHaveProperty("voucherState");
    expect(resyncFor({ ...fresh, charged: 9n, signed: 5n, signature: signature(5n) }, id)).not.toHaveProperty(
      "voucherState",
    );
  });

  test("a payer believes its own signature alone", () => {
    const extra = resyncFor({ ...fresh, charged: 5n, signed: 9n, signature: signature(9n) }, id);
    expect(resyncFrom(extra, id, () => true)).toEqual({ charged: 5n, balance: 100n });
    expect(resyncFrom(extra, id, () => false)).toBeUndefined();
    expect(resyncFrom(extra, new Uint8Array(32), () => true)).toBeUndefined();
    expect(resyncFrom({ channelState: extra.channelState! }, id, () => true)).toBeUndefined();
    const inflated = { ...extra, channelState: { ...extra.channelState!, chargedCumulativeAmount: "10" } };
    expect(resyncFrom(inflated, id, () => true)).toBeUndefined();
  });

  test("a payer with requests in flight signs for all of them, so that it never hears that the channel is busy", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.bigInt(1n, 20n), fc.nat(3)), { maxLength: 30 }), (requests) => {
        let account = openAccount({ balance: 10_000n, totalClaimed: 0n });
        let payer = { balance: 10_000n, charged: 0n, inFlight: 0n };
        const flying: bigint[] = [];
        for (const [amount, ends] of requests) {
          const { maxClaimable } = nextVoucher(payer, amount);
          const verdict = admitVoucher(account, voucher(maxClaimable), amount);
          expect(verdict.ok).toBe(true);
          if (verdict.ok) account = verdict.account;
          payer = { ...payer, inFlight: payer.inFlight + amount };
          flying.push(amount);
          for (let i = 0; i < ends && flying.length > 0; i++) {
            const reserved = flying.shift()!;
            account = applyCharge(account, reserved, reserved / 2n);
            payer = { ...payer, charged: account.charged, inFlight: payer.inFlight - reserved };
          }
        }
      }),
    );
  });

  test("what is missing in the channel is to be deposited", () => {
    expect(nextVoucher({ balance: 25n, charged: 10n, inFlight: 10n }, 10n)).toEqual({
      maxClaimable: 30n,
      depositAtomic: 5n,
    });
  });
});

describe("refunds and deposits", () => {
  const used = applyCharge(admitted(fresh, 30n, 30n), 30n, 20n);

  test("what was charged is claimed, and the rest given back", () => {
    expect(judgeRefund(used, voucher(20n))).toEqual({
      ok: true,
      amountAtomic: 80n,
      refundNonce: 0n,
      claim: { totalClaimed: 20n, maxClaimable: 30n, signature: signature(30n) },
    });
    expect(judgeRefund(used, voucher(20n), 7n)).toMatchObject({ amountAtomic: 7n });
    expect(judgeRefund(used, voucher(20n), 1000n)).toMatchObject({ amountAtomic: 80n });
    const claimed = applyChain(used, { ...used, totalClaimed: 20n });
    expect(judgeRefund(claimed, voucher(20n))).not.toHaveProperty("claim");
    expect(applyRefund(claimed, 80n)).toMatchObject({ balance: 20n, refundNonce: 1n });
  });

  test.each<[string, ChannelAccount, bigint, bigint | undefined, unknown]>([
    ["an empty channel", { ...fresh, balance: 0n }, 0n, undefined, ["channel_not_found", false]],
    ["requests in flight", { ...used, reserved: 1n }, 20n, undefined, ["channel_busy", true]],
    ["a voucher below what was charged", used, 19n, undefined, ["cumulative_amount_mismatch", false]],
    ["a voucher above the balance", used, 101n, undefined, ["cumulative_exceeds_balance", false]],
    ["a refund of nothing", used, 20n, 0n, ["refund_amount_invalid", false]],
    ["nothing left", { ...used, charged: 100n, signed: 100n }, 100n, undefined, ["refund_no_balance", false]],
  ])("%s is refused", (_, account, maxClaimable, amount, expected) => {
    expect(code(judgeRefund(account, voucher(maxClaimable), amount))).toEqual(expected);
  });

  test("a first deposit has a least size, and a later one has none", () => {
    const extra = { minDeposit: "50" };
    expect(judgeDeposit(undefined, 49n, extra)).toMatchObject({
      code: "invalid_batch_settlement_evm_deposit_below_min_deposit",
    });
    expect(judgeDeposit({ ...fresh, balance: 0n }, 49n, extra)).toBeDefined();
    expect(judgeDeposit(undefined, 50n, extra)).toBeUndefined();
    expect(judgeDeposit(fresh, 1n, extra)).toBeUndefined();
    expect(judgeDeposit(undefined, 1n, {})).toBeUndefined();
  });

  test("what was claimed by others than this account counts as charged", () => {
    const seen = applyChain(fresh, { ...fresh, totalClaimed: 40n });
    expect(seen.charged).toBe(40n);
    expect(claimable(seen)).toBeUndefined();
    expect(code(admitVoucher(seen, voucher(45n), 10n))).toEqual(["cumulative_amount_mismatch", false]);
    expect(code(admitVoucher(seen, voucher(50n), 10n))).toBe("ok");
  });
});
