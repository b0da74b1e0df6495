import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDecimal } from "./decimal.ts";
import { costFromDecimal, costOf, costToDecimal, isFree, isPrice, priceOf } from "./price.ts";

const usd = { asset: "USDC" };

describe("decimals", () => {
  it.each(["", "-1", "+1", "1e3", "01", ".5", "1.", "1,5", " 1", "1.1234567890123456789", `1${"0".repeat(30)}`, "NaN"])(
    "refuses %j",
    (text) => {
      expect(() => parseDecimal(text, "It")).toThrow(expect.objectContaining({ code: "decimal_invalid" }));
    },
  );

  it("reads exactly", () => {
    expect(parseDecimal("0.1", "It") + parseDecimal("0.2", "It")).toBe(parseDecimal("0.3", "It"));
    expect(parseDecimal("0.000000000000000001", "It")).toBe(1n);
  });
});

describe("priceOf", () => {
  it("multiplies a listing with what was used", () => {
    const price = { ...usd, perCall: "0.001", perMillionInputTokens: "2.5", perMillionOutputTokens: "10" };
    expect(priceOf(price, { inputTokens: 1000, outputTokens: 100 })).toStrictEqual({
      amountAtomic: "4500",
      asset: "USDC",
      rateSource: "listing",
      unit: "1e-6",
    });
  });

  it("rounds a part of an atomic unit up, and nothing to nothing", () => {
    const price = { ...usd, perMillionInputTokens: "0.000001" };
    expect(priceOf(price, { inputTokens: 1, outputTokens: 0 }).amountAtomic).toBe("1");
    expect(priceOf(price, { inputTokens: 0, outputTokens: 0 }).amountAtomic).toBe("0");
    expect(priceOf({ ...usd, decimals: 0, perCall: "0.1" }, { inputTokens: 0, outputTokens: 0 }).amountAtomic).toBe(
      "1",
    );
  });

  it.each([-1, 1.5, Number.NaN, Infinity])("refuses %d tokens", (inputTokens) => {
    expect(() => priceOf(usd, { inputTokens, outputTokens: 0 })).toThrow(
      expect.objectContaining({ code: "decimal_invalid" }),
    );
  });

  it.each([-1, 19, 1.5])("refuses an asset of %d decimals", (decimals) => {
    expect(() => priceOf({ ...usd, decimals }, { inputTokens: 0, outputTokens: 0 })).toThrow(
      expect.objectContaining({ code: "decimal_invalid" }),
    );
  });

  it("writes costs exactly", () => {
    expect(costToDecimal(0n)).toBe("0");
    expect(costToDecimal(10n ** 24n * 12n)).toBe("12");
    expect(costToDecimal(1n)).toBe(`0.${"0".repeat(23)}1`);
    expect(costToDecimal(costFromDecimal("3.25", "It"))).toBe("3.25");
  });

  it("knows a listing that is none", () => {
    expect(isPrice({ ...usd, perCall: "0.5" })).toBe(true);
    for (const faulty of [{ perCall: "007" }, { perMillionInputTokens: "-1" }, { decimals: 19 }, { decimals: -1 }])
      expect(isPrice({ ...usd, ...faulty })).toBe(false);
  });

  it("tells free from nearly free", () => {
    expect(isFree({ ...usd, perCall: "0", perMillionInputTokens: "0.0" })).toBe(true);
    expect(isFree({ ...usd, perMillionOutputTokens: "0.000000000000000001" })).toBe(false);
  });

  it("never charges more for less, and never more than a limit that held", () => {
    const rate = fc
      .bigInt(0n, 10n ** 12n)
      .map((n) => `${n / 10n ** 6n}.${(n % 10n ** 6n).toString().padStart(6, "0")}`);
    const count = fc.nat(10_000_000);
    fc.assert(
      fc.property(rate, rate, rate, count, count, count, count, (perCall, input, output, a, b, c, d) => {
        const price = { ...usd, perCall, perMillionInputTokens: input, perMillionOutputTokens: output };
        const used = { inputTokens: a, outputTokens: b };
        const most = { inputTokens: a + c, outputTokens: b + d };
        const bill = BigInt(priceOf(price, used).amountAtomic);
        expect(bill).toBeLessThanOrEqual(BigInt(priceOf(price, most).amountAtomic));
        // An amount of six decimals that is at least the exact cost is at least the rounded bill.
        expect(bill * 10n ** 18n).toBeGreaterThanOrEqual(costOf(price, used));
        expect(bill * 10n ** 18n - costOf(price, used)).toBeLessThan(10n ** 18n);
      }),
    );
    expect(costFromDecimal("1", "It")).toBe(10n ** 24n);
  });
});
