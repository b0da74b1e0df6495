import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Listing, PricedUse } from "@assay/protocol";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MoneyConfig, MoneyModules } from "./money.ts";
import { openPrices } from "./prices.ts";
import type { Prices } from "./prices.ts";

let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "assay-prices-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** The prices of this home, over the embedded chain. */
function open(): Promise<Prices> {
  const config = { chain: { kind: "embedded", profile: 31337 }, settler: { entry: "" } } satisfies MoneyConfig;
  const modules: Pick<MoneyModules, "at" | "host" | "now" | "logger"> = {
    at: (...parts) => join(home, ...parts),
    host: "127.0.0.1",
    now: () => 1_700_000_000_000,
    logger: pino({ level: "silent" }),
  };
  return openPrices(config, modules as MoneyModules, () => {
    throw new Error("Nobody else has prices.");
  });
}

const listing = (
  subject: Listing["subject"],
  rate: Pick<Listing, "perCall" | "perGigabyteDay">,
): Omit<Listing, "changedAtMs"> => ({ subject, asset: "USDC", owner: "me", ...rate });

describe("prices of a home", () => {
  it("say of each use whether it may cost anything, as they are set and removed", async () => {
    const prices = await open();
    expect(prices.allFree()).toBe(true);
    expect(prices.mayCost({ subjects: ["model:a/b"] })).toBe(false);
    await prices.listings.put(listing("model:a/b", { perCall: "0.002" }));
    expect(prices.allFree()).toBe(false);
    expect(prices.mayCost({ subjects: ["model:a/b"] })).toBe(true);
    expect(prices.mayCost({ subjects: ["model:a/c", "model:a/b"] })).toBe(true);
    expect(prices.mayCost({ subjects: ["model:a/c"] })).toBe(false);
    expect(prices.mayCost({ subjects: [] })).toBe(false);
    await prices.listings.remove("model:a/b");
    expect(prices.mayCost({ subjects: ["model:a/b"] })).toBe(false);
    expect(prices.allFree()).toBe(true);
  });

  it("count what is charged beside an answer that is free", async () => {
    const prices = await open();
    const use = {
      subjects: ["model:a/free"],
      besides: [{ subject: "service:storage", used: { byteDays: 1 } }],
    } as const satisfies Pick<PricedUse, "subjects" | "besides">;
    expect(prices.mayCost(use)).toBe(false);
    await prices.listings.put(listing("service:storage", { perGigabyteDay: "0.05" }));
    expect(prices.mayCost(use)).toBe(true);
    expect(prices.mayCost({ subjects: use.subjects })).toBe(false);
  });

  it("take a listing of nothing for free, and are the same when they are opened again", async () => {
    const prices = await open();
    await prices.listings.put(listing("model:a/nothing", { perCall: "0" }));
    expect(prices.mayCost({ subjects: ["model:a/nothing"] })).toBe(false);
    const again = await open();
    expect(again.mayCost({ subjects: ["service:storage"] })).toBe(true);
    expect(again.mayCost({ subjects: ["model:a/nothing"] })).toBe(false);
  });
});
