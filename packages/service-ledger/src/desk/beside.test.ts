import { randomBytes } from "node:crypto";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import type { BesideUse, Charge, Listing } from "@assay/protocol";
import { splitAddressOf } from "@assay/contracts";
import { authorizeExact, authorizeUpto } from "@assay/x402";
import { PGlite } from "@electric-sql/pglite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeInstruction } from "../instruction.ts";
import { listingDigest } from "../listings/listing.ts";
import type { DeskQuote } from "./terms.ts";
import { addressAt, headersOf, listing, newPayer, openShop, OPERATOR, suite } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

// A service that is asked for beside an answer, which a kept opening is, has a listing of its own and one payment with it.

let database: Database;
let shop: Shop;

beforeAll(async () => {
  database = databaseFromPglite(await PGlite.create());
  await migrateDatabase(database);
});
afterAll(() => database.close());
beforeEach(async () => {
  await database.exec("TRUNCATE assay.payments, assay.channels; UPDATE assay.ledger_state SET watermark = 0");
  shop = await openShop(database);
  shop.listings.set("service:openings", OPENINGS);
});
afterEach(() => shop.desk.close());

const OPENINGS: Listing = {
  subject: "service:openings",
  asset: "USDC",
  perCall: "0.0005",
  owner: "op",
  changedAtMs: 1,
};
const KEPT: readonly BesideUse[] = [{ subject: "service:openings", used: {} }];
const resource = { url: "http://x" };

/** What is charged to a new payer, who pays a quote by `scheme`. */
async function charged(
  quote: DeskQuote,
  scheme: "exact" | "upto",
  outputTokens: number,
  kept: readonly BesideUse[] = KEPT,
): Promise<Charge> {
  const authorize = scheme === "exact" ? authorizeExact : authorizeUpto;
  const nowS = Math.floor(shop.clock.nowMs / 1000);
  const nonce = new Uint8Array(randomBytes(32));
  const payload = await authorize({ suite, signer: newPayer(), requirement: shop.offer(quote, scheme), nonce, nowS });
  const open = await shop.take(quote, headersOf(payload));
  if (open.kind !== "open") throw new Error(`not open: ${JSON.stringify(open)}`);
  return open.charge(quote.use.subjects[0] ?? "model:me/net", { outputTokens }, kept);
}
const amounts = ({ amountAtomic, price }: Charge): readonly [bigint, ...(readonly [string, string][])] => [
  amountAtomic,
  ...(price.parts ?? []).map((part) => [part.subject, part.amountAtomic] as [string, string]),
];

describe("a model that is sold by the token alone", () => {
  it("is not given away to whoever asks it with tensors", () => {
    const tensors = { subjects: ["model:me/net"], most: { milliseconds: 60_000 }, resource } as const;
    expect(shop.desk.quote(tensors)?.capAtomic).toBe(1000n);
    shop.listings.set("model:me/net", listing({ perCall: "0", perMillionOutputTokens: "1" }));
    expect(() => shop.desk.quote(tensors)).toThrow(expect.objectContaining({ code: "kind_unsupported" }) as Error);
    expect(shop.quote().capAtomic).toBe(1000n);
  });
});

describe("a service beside the answer", () => {
  it("adds its price to the quote, and is free without a listing", () => {
    expect(shop.quote().capAtomic).toBe(2000n);
    expect(shop.quote({ besides: KEPT }).capAtomic).toBe(2500n);
    expect(shop.quote({ besides: KEPT }).terms.accepts.map(({ amount }) => amount)).toEqual(["2500", "2500", "2500"]);
    shop.listings.set("service:openings", { ...OPENINGS, perCall: "0" });
    expect(shop.quote({ besides: KEPT }).capAtomic).toBe(2000n);
    shop.listings.delete("service:openings");
    expect(shop.quote({ besides: KEPT }).capAtomic).toBe(2000n);
  });

  it("adds to the dearest of several models, and not to each", () => {
    shop.listings.set("model:me/big", listing({ subject: "model:me/big", perCall: "0.01" }));
    expect(shop.quote({ subjects: ["model:me/net", "model:me/big"], besides: KEPT }).capAtomic).toBe(11_500n);
  });

  it("is refused in another token than the answer's, with what can be done", () => {
    shop.listings.set("service:openings", { ...OPENINGS, asset: "ASY" });
    expect(() => shop.quote({ besides: KEPT })).toThrow(
      expect.objectContaining({
        code: "payment_unavailable",
        message: expect.stringContaining("priced in USDC and service:openings in ASY") as string,
        hints: [expect.stringContaining("assay-retention") as string, expect.stringContaining("USDC") as string],
      }) as Error,
    );
    expect(shop.quote().capAtomic).toBe(2000n);
    // Where the model is free, its token is the only one.
    expect(shop.quote({ subjects: ["model:me/free"], besides: KEPT }).asset).toBe("ASY");
  });

  it("is charged with what was used by upto, with its whole price by exact, and the price names both parts", async () => {
    const quote = shop.quote({ besides: KEPT });
    const rates = (charge: Charge): unknown => charge.price.parts?.map(({ rateSource }) => rateSource);
    const upto = await charged(quote, "upto", 1);
    expect(amounts(upto)).toEqual([1501n, ["model:me/net", "1001"], ["service:openings", "500"]]);
    expect(upto.price).toMatchObject({ amountAtomic: "1501", rateSource: "parts", unit: "1e-6", asset: "USDC" });
    expect(upto.payment.amountAtomic).toBe("1501");
    expect(rates(upto)).toEqual([`listing:${listingDigest(listing())}`, `listing:${listingDigest(OPENINGS)}`]);
    expect(decodeInstruction(upto.instruction)).toMatchObject({
      amountAtomic: 1501n,
      capAtomic: 2500n,
      listing: listingDigest(listing()),
    });
    expect(amounts(await charged(quote, "exact", 1))).toEqual([
      2500n,
      ["model:me/net", "2000"],
      ["service:openings", "500"],
    ]);
  });

  it("lends nothing of its share of the quote to an answer that was longer than quoted", async () => {
    expect(amounts(await charged(shop.quote({ besides: KEPT }), "upto", 1_000_000))).toEqual([
      2500n,
      ["model:me/net", "2000"],
      ["service:openings", "500"],
    ]);
    expect((await charged(shop.quote({ besides: KEPT }), "upto", 1_000_000, [])).amountAtomic).toBe(2000n);
  });

  it("that could not be done in the end is not charged by upto", async () => {
    const charge = await charged(shop.quote({ besides: KEPT }), "upto", 1, []);
    expect(charge.amountAtomic).toBe(1001n);
    expect(charge.price).toMatchObject({ rateSource: `listing:${listingDigest(listing())}` });
    expect(charge.price.parts).toBeUndefined();
  });

  it("that was not quoted is not charged", async () => {
    expect((await charged(shop.quote(), "upto", 1, KEPT)).amountAtomic).toBe(1001n);
  });

  it("is charged alone beside a model that is free", async () => {
    const quote = shop.quote({ subjects: ["model:me/free"], besides: KEPT });
    expect(quote.capAtomic).toBe(500n);
    for (const scheme of ["exact", "upto"] as const) {
      const charge = await charged(quote, scheme, 10);
      expect(charge.price).toEqual({
        amountAtomic: "500",
        asset: "USDC",
        rateSource: `listing:${listingDigest(OPENINGS)}`,
        unit: "1e-6",
      });
    }
    const nothing = await charged(quote, "upto", 10, []);
    expect([nothing.amountAtomic, nothing.price.rateSource]).toEqual([0n, `listing:${listingDigest(OPENINGS)}`]);
    expect(shop.desk.quote({ subjects: ["model:me/free"], most: {}, resource })).toBeUndefined();
  });

  it("is shared by the payees of the answer: one payment has one recipient, and an author loses nothing by it", () => {
    const payees = [{ address: addressAt(7), basisPoints: 9_000 }];
    shop.listings.set("model:me/net", listing({ payees }));
    const split = [...payees, { address: OPERATOR, basisPoints: 1_000 }];
    const { payTo, payees: all } = shop.quote({ besides: KEPT }).terms;
    expect([payTo, all]).toEqual([splitAddressOf(suite.keccak256, split), split]);
    expect(shop.quote({ subjects: ["model:me/free"], besides: KEPT }).terms.payTo).toBe(OPERATOR);
  });
});
