import { describe, expect, it } from "vitest";
import { createFactsCache } from "../index.ts";
import type { FactsQuery, PayerFacts } from "../index.ts";

const payer = `0x${"aa".repeat(20)}` as const;
const other = `0x${"bb".repeat(20)}` as const;
const asset = `0x${"cc".repeat(20)}` as const;

function counting(): { asked: FactsQuery[]; payerFacts: (query: FactsQuery) => Promise<PayerFacts> } {
  const asked: FactsQuery[] = [];
  return {
    asked,
    payerFacts(query) {
      asked.push(query);
      const balance = BigInt(asked.length);
      return Promise.resolve({
        blockNumber: 1,
        timestampS: 1,
        balance,
        allowance: 0n,
        payerCodeBytes: 0,
        assetCodeBytes: 1,
      });
    },
  };
}

describe("the cache of facts", () => {
  it("asks once for one question within its age, and again after it", async () => {
    let now = 0;
    const chain = counting();
    const cache = createFactsCache(chain, { maxAgeMs: 100, nowMs: () => now });
    const both = await Promise.all([cache.payerFacts({ payer, asset }), cache.payerFacts({ payer, asset })]);
    expect(both.map(({ balance }) => balance)).toEqual([1n, 1n]);
    now = 99;
    expect((await cache.payerFacts({ payer: `0x${"AA".repeat(20)}`, asset })).balance).toBe(1n);
    now = 100;
    expect((await cache.payerFacts({ payer, asset })).balance).toBe(2n);
  });

  it("concludes nothing for another nonce, spender, asset or payer", async () => {
    const chain = counting();
    const cache = createFactsCache(chain);
    const questions: readonly FactsQuery[] = [
      { payer, asset },
      { payer: other, asset },
      { payer, asset: other },
      { payer, asset, spender: other },
      { payer, asset, permit2Nonce: 1n },
      { payer, asset, permit2Nonce: 2n },
      { payer, asset, authorizationNonce: new Uint8Array(32) },
      { payer, asset, authorizationNonce: new Uint8Array(32).fill(1) },
      { payer, asset, permitNonce: true },
    ];
    for (const question of questions) await cache.payerFacts(question);
    expect(chain.asked).toEqual(questions);
  });

  it("forgets a payer when told to, also what was under way, and nobody else", async () => {
    const chain = counting();
    const cache = createFactsCache(chain);
    const under = cache.payerFacts({ payer, asset });
    await cache.payerFacts({ payer: other, asset });
    cache.invalidate(`0x${"AA".repeat(20)}`);
    expect((await under).balance).toBe(1n);
    expect((await cache.payerFacts({ payer, asset })).balance).toBe(3n);
    expect((await cache.payerFacts({ payer: other, asset })).balance).toBe(2n);
  });

  it("keeps no failure, and no more than its entries", async () => {
    let fail = true;
    const chain = counting();
    const cache = createFactsCache(
      { payerFacts: (query) => (fail ? Promise.reject(new Error("away")) : chain.payerFacts(query)) },
      { maxEntries: 3 },
    );
    await expect(cache.payerFacts({ payer, asset })).rejects.toThrow("away");
    fail = false;
    expect((await cache.payerFacts({ payer, asset })).balance).toBe(1n);
    for (let i = 0n; i < 10n; i++) await cache.payerFacts({ payer, asset, permit2Nonce: i });
    expect(cache.size()).toBe(3);
    cache.invalidate(payer);
    expect(cache.size()).toBe(0);
  });
});
