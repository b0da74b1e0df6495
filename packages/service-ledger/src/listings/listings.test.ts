import type { JsonValue } from "@assay/core";
import type { Listing, MeteredUse } from "@assay/protocol";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { amountOf, isFreeListing, MAX_DECIMALS } from "./amounts.ts";
import { listingDigest, listingJson, MAX_PAYEES, parseListing } from "./listing.ts";
import { MAX_LISTINGS, openListings } from "./store.ts";
import type { ListingFile } from "./store.ts";

const code = (value: string): Error => expect.objectContaining({ code: value }) as Error;
const base = { subject: "model:me/net", asset: "USDC", owner: "key:1", changedAtMs: 1 } as const;
const listing = (rates: Partial<Listing>): Listing => ({ ...base, ...rates });
const address = (n: number): `0x${string}` => `0x${n.toString(16).padStart(40, "0")}`;

describe("amounts", () => {
  it("are exact, and rounded up once", () => {
    expect(amountOf(listing({ perCall: "0.002" }), 6, {})).toBe(2000n);
    expect(amountOf(listing({ perMillionInputTokens: "1" }), 6, { inputTokens: 1 })).toBe(1n);
    expect(amountOf(listing({ perMillionInputTokens: "0.1" }), 6, { inputTokens: 1 })).toBe(1n);
    expect(
      amountOf(listing({ perMillionInputTokens: "0.1", perMillionOutputTokens: "0.1" }), 6, {
        inputTokens: 5,
        outputTokens: 5,
      }),
    ).toBe(1n);
    expect(amountOf(listing({ perSecond: "0.001" }), 6, { milliseconds: 1500 })).toBe(1500n);
    expect(amountOf(listing({ perSecond: "0.001" }), 6, { milliseconds: 0.01 })).toBe(1n);
    expect(amountOf(listing({ perGigabyteDay: "1" }), 6, { byteDays: 1_000_000_000 })).toBe(1_000_000n);
    expect(amountOf(listing({ perGigabyteDay: "1" }), 18, { byteDays: 1 })).toBe(1_000_000_000n);
    expect(amountOf(listing({}), 6, { inputTokens: 10 })).toBe(0n);
  });

  it("never fall when more is used, and never lose a unit to the parts", () => {
    const decimal = fc.tuple(fc.nat(1000), fc.nat(999_999)).map(([a, b]) => `${a}.${String(b).padStart(6, "0")}`);
    const use = fc.record({
      inputTokens: fc.nat(),
      outputTokens: fc.nat(),
      milliseconds: fc.nat(),
      byteDays: fc.nat(),
    });
    fc.assert(
      fc.property(
        fc.record({
          perCall: decimal,
          perMillionInputTokens: decimal,
          perMillionOutputTokens: decimal,
          perSecond: decimal,
          perGigabyteDay: decimal,
        }),
        use,
        use,
        fc.integer({ min: 0, max: MAX_DECIMALS }),
        (rates, a, b, decimals) => {
          const price = listing(rates);
          const more: MeteredUse = {
            inputTokens: a.inputTokens + b.inputTokens,
            outputTokens: a.outputTokens + b.outputTokens,
            milliseconds: a.milliseconds + b.milliseconds,
            byteDays: a.byteDays + b.byteDays,
          };
          expect(amountOf(price, decimals, more) >= amountOf(price, decimals, a)).toBe(true);
          expect(amountOf(price, decimals, more) <= amountOf(price, decimals, a) + amountOf(price, decimals, b)).toBe(
            true,
          );
        },
      ),
    );
  });

  it("refuse what cannot be priced", () => {
    for (const use of [
      { inputTokens: -1 },
      { outputTokens: 1.5 },
      { byteDays: Number.NaN },
      { milliseconds: Infinity },
    ])
      expect(() => amountOf(listing({ perCall: "1" }), 6, use)).toThrow(code("decimal_invalid"));
    for (const decimals of [-1, 1.5, MAX_DECIMALS + 1])
      expect(() => amountOf(listing({ perCall: "1" }), decimals, {})).toThrow(code("decimal_invalid"));
    expect(() => amountOf(listing({ perCall: "-1" }), 6, {})).toThrow(code("decimal_invalid"));
    expect(isFreeListing(listing({ perCall: "0", perSecond: "0.0" }))).toBe(true);
    expect(isFreeListing(listing({ perGigabyteDay: "0.000000000000000001" }))).toBe(false);
  });
});

describe("a listing", () => {
  it("is read back as it was, and its digest changes with each of its members", () => {
    const full = listing({
      perCall: "0.1",
      perSecond: "1",
      payees: [{ address: address(1), basisPoints: 10_000 }],
    });
    expect(parseListing(listingJson(full))).toEqual(full);
    const digests = [
      full,
      ...(["0.2"] as const).map((perCall) => ({ ...full, perCall })),
      { ...full, owner: "key:2" },
      { ...full, changedAtMs: 2 },
    ];
    expect(new Set(digests.map(listingDigest)).size).toBe(digests.length);
    expect(listingDigest(full)).toMatch(/^[0-9a-f]{64}$/);
  });

  it("refuses everything else", () => {
    const bad: readonly JsonValue[] = [
      null,
      [],
      "x",
      { ...base, subject: "me/net" },
      { ...base, subject: "model:" },
      { ...base, subject: "model:a b" },
      { ...base, subject: "service:money" },
      { ...base, asset: "" },
      { ...base, asset: "US DC" },
      { ...base, owner: "" },
      { ...base, changedAtMs: -1 },
      { ...base, changedAtMs: "1" },
      { ...base, perCall: 1 },
      { ...base, perCall: "1e3" },
      { ...base, perCall: "-1" },
      { ...base, perToken: "1" },
      { ...base, payees: {} },
      { ...base, payees: [{ address: "0x1", basisPoints: 1 }] },
      { ...base, payees: [{ address: address(0), basisPoints: 1 }] },
      { ...base, payees: [{ address: address(1), basisPoints: 0 }] },
      { ...base, payees: [{ address: address(1), basisPoints: 1.5 }] },
      { ...base, payees: [{ address: address(1), basisPoints: 1, name: "x" }] },
      { ...base, payees: [address(1)] },
      { ...base, payees: [1, 1].map((n) => ({ address: address(n), basisPoints: 1 })) },
      { ...base, payees: [1, 2].map((n) => ({ address: address(n), basisPoints: 5001 })) },
      {
        ...base,
        payees: Array.from({ length: MAX_PAYEES + 1 }, (_, n) => ({ address: address(n + 1), basisPoints: 1 })),
      },
    ];
    for (const json of bad) expect(() => parseListing(json), JSON.stringify(json)).toThrow(code("listing_invalid"));
  });
});

describe("the price list", () => {
  const options = { assets: [{ symbol: "USDC", decimals: 6 }], now: () => 7 };
  const memory = (bytes?: Uint8Array): ListingFile & { readonly held: () => Uint8Array | undefined } => {
    let held = bytes;
    return {
      held: () => held,
      read: () => Promise.resolve(held),
      write: (next) => {
        held = next;
        return Promise.resolve();
      },
    };
  };

  it("keeps what was put over a restart, and gives what was removed no price", async () => {
    const file = memory();
    const listings = await openListings(file, options);
    await listings.put({ subject: "service:storage", asset: "USDC", owner: "op", perGigabyteDay: "0.01" });
    const put = await listings.put({ ...base, perCall: "0.002" });
    expect(put).toEqual({ ...base, perCall: "0.002", changedAtMs: 7 });
    const again = await openListings(file, options);
    expect(again.get("model:me/net")).toEqual(put);
    expect(again.list().map(({ subject }) => subject)).toEqual(["model:me/net", "service:storage"]);
    expect(await again.remove("model:me/net")).toBe(true);
    expect(await again.remove("model:me/net")).toBe(false);
    expect((await openListings(file, options)).get("model:me/net")).toBeUndefined();
  });

  it.each<[string, Partial<Listing>, RegExp]>([
    ["proofs, which nothing here makes", { subject: "service:proving", perCall: "1" }, /Nothing here makes proofs/],
    ["an opening by the day", { subject: "service:openings", perGigabyteDay: "1" }, /the gigabyte and day/],
    ["an opening by the second", { subject: "service:openings", perSecond: "1" }, /the second/],
    [
      "an opening with payees",
      { subject: "service:openings", perCall: "1", payees: [{ address: address(1), basisPoints: 1 }] },
      /payees/,
    ],
    ["a receipt anchored by itself by the second", { subject: "service:anchoring", perSecond: "1" }, /the second/],
    [
      "a receipt anchored by itself with payees",
      { subject: "service:anchoring", perCall: "1", payees: [{ address: address(1), basisPoints: 1 }] },
      /service:anchoring has no payees/,
    ],
    ["storage by the token", { subject: "service:storage", perMillionInputTokens: "1" }, /the token/],
    ["an audit by the day", { subject: "service:audit", perGigabyteDay: "1" }, /the gigabyte and day/],
    ["a model by the day", { perGigabyteDay: "1", perCall: "1" }, /^A model is not sold/],
  ])("refuses a price that nobody would be asked for: %s", async (_what, wrong, words) => {
    const listings = await openListings(memory(), options);
    await expect(listings.put({ ...base, ...wrong })).rejects.toThrow(
      expect.objectContaining({ code: "listing_invalid", message: expect.stringMatching(words) as string }) as Error,
    );
    expect(listings.list()).toEqual([]);
  });

  it("takes what is measured of each service, and what an older version stored", async () => {
    const file = memory();
    const listings = await openListings(file, options);
    for (const sold of [
      { subject: "service:openings", perCall: "1" },
      { subject: "service:anchoring", perCall: "1" },
      { subject: "service:storage", perCall: "1", perGigabyteDay: "1" },
      { subject: "service:verification", perSecond: "1" },
      { subject: "service:audit", perCall: "1" },
      { subject: "model:me/net", perMillionInputTokens: "1", perMillionOutputTokens: "1", perSecond: "1" },
    ] as const)
      expect((await listings.put({ asset: "USDC", owner: "op", ...sold })).subject).toBe(sold.subject);
    const stored = { version: 1, listings: [{ ...base, subject: "service:proving", perCall: "1" }] };
    const old = await openListings(memory(new TextEncoder().encode(JSON.stringify(stored))), options);
    expect(await old.remove("service:proving")).toBe(true);
  });

  it("changes nothing when the disk refuses", async () => {
    const file = memory();
    const listings = await openListings({ read: file.read, write: () => Promise.reject(new Error("full")) }, options);
    await expect(listings.put({ ...base, perCall: "1" })).rejects.toThrow("full");
    expect(listings.list()).toEqual([]);
  });

  it("refuses an unknown token, what is no listing, and one listing too many", async () => {
    const listings = await openListings(memory(), options);
    await expect(listings.put({ ...base, asset: "DOGE", perCall: "1" })).rejects.toThrow(code("listing_asset_unknown"));
    await expect(listings.put({ ...base, perCall: "much" })).rejects.toThrow(code("listing_invalid"));
    expect(listings.list()).toEqual([]);
    const full = {
      version: 1,
      listings: Array.from({ length: MAX_LISTINGS }, (_, n) => ({ ...base, subject: `model:a/${n}` })),
    };
    const at = await openListings(memory(new TextEncoder().encode(JSON.stringify(full))), options);
    await expect(at.put({ ...base, subject: "model:a/more" })).rejects.toThrow(code("listings_full"));
    await expect(at.put({ ...base, subject: "model:a/1", perCall: "1" })).resolves.toBeDefined();
  });

  it("does not start over with a file that it cannot read", async () => {
    for (const text of ["", "{", "[]", "{}", '{"version":2,"listings":[]}', '{"version":1,"listings":[{}]}', "null"])
      await expect(openListings(memory(new TextEncoder().encode(text)), options)).rejects.toThrow(
        code("listings_document_invalid"),
      );
  });
});
