import { PGlite } from "@electric-sql/pglite";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createCatalogue, createMemoryCatalogue } from "./catalogue.ts";
import type { CatalogueStore } from "./catalogue.ts";
import { createDatabaseCatalogue } from "./database-catalogue.ts";
import type { DiscoveredResource } from "./types.ts";

const requirements = { scheme: "exact", network: "eip155:31337", asset: "0x01", amount: "5" };
const payload = (url: string, more: Record<string, string> = {}) => ({
  x402Version: 2,
  resource: { url, ...more },
  accepted: requirements,
  extensions: { bazaar: { info: { input: { type: "http", method: "GET" } }, schema: {} } },
});
const own: DiscoveredResource = {
  resource: "http://127.0.0.1/v1/chat/completions",
  type: "http",
  x402Version: 2,
  accepts: [requirements],
  lastUpdated: new Date(0).toISOString(),
};

let database: Database;
beforeAll(async () => {
  database = databaseFromPglite(await PGlite.create());
  await migrateDatabase(database);
});
afterAll(() => database.close());

async function inDatabase(maxResources?: number): Promise<CatalogueStore> {
  await database.query("DELETE FROM assay.facilitator_resources");
  return createDatabaseCatalogue(database, { now: () => 0, ...(maxResources === undefined ? {} : { maxResources }) });
}

describe.each<[string, (maxResources?: number) => Promise<CatalogueStore>]>([
  ["in memory", async (maxResources) => createMemoryCatalogue(maxResources)],
  ["in a database", inDatabase],
])("a catalogue %s", (_where, open) => {
  test("learns what was settled for, newest first, and lists its operator's own before", async () => {
    const catalogue = createCatalogue({ now: () => 1000, own: () => [own], store: await open() });
    await catalogue.learn(payload("https://a.example/x", { description: "Weather" }), requirements, "shop");
    await catalogue.learn(payload("https://b.example/x"), requirements, "shop");
    await catalogue.learn(
      { ...payload("https://a.example/x"), accepted: { ...requirements, scheme: "upto" } },
      {},
      "shop",
    );
    await catalogue.learn(
      { ...payload("https://a.example/x"), accepted: { ...requirements, amount: "7" } },
      {},
      "shop",
    );
    const page = await catalogue.page();
    expect(page.items.map(({ resource }) => resource)).toEqual([
      own.resource,
      "https://a.example/x",
      "https://b.example/x",
    ]);
    expect(page.items[1]?.accepts).toEqual([
      { ...requirements, amount: "7" },
      { ...requirements, scheme: "upto" },
    ]);
    expect(page.pagination).toEqual({ limit: 20, offset: 0, total: 3 });
  });

  test("pages, bounded", async () => {
    const catalogue = createCatalogue({ now: () => 0, store: await open() });
    for (let i = 0; i < 130; i++) await catalogue.learn(payload(`https://a.example/${i}`), requirements, "shop");
    expect((await catalogue.page({ limit: 500 })).items).toHaveLength(100);
    expect((await catalogue.page({ limit: 0 })).items).toHaveLength(1);
    expect((await catalogue.page({ limit: 50, offset: 120 })).items.map(({ resource }) => resource)).toHaveLength(10);
    expect((await catalogue.page({ offset: 1000 })).items).toEqual([]);
    expect((await catalogue.page({ type: "mcp" })).pagination.total).toBe(0);
  });

  test("a resource belongs to whoever settled for it first", async () => {
    const catalogue = createCatalogue({ now: () => 0, store: await open() });
    await catalogue.learn(payload("https://a.example/x", { description: "mine" }), requirements, "shop");
    await catalogue.learn(payload("https://a.example/x", { description: "stolen" }), requirements, "thief");
    expect((await catalogue.page()).items[0]?.metadata).toMatchObject({ description: "mine" });
  });

  test("keeps at most so many, the one longest without a payment going first", async () => {
    const catalogue = createCatalogue({ now: () => 0, store: await open(2) });
    for (const name of ["a", "b"]) await catalogue.learn(payload(`https://${name}.example/`), requirements, "shop");
    await catalogue.learn(payload("https://a.example/"), requirements, "shop");
    await catalogue.learn(payload("https://c.example/"), requirements, "shop");
    expect((await catalogue.page()).items.map(({ resource }) => resource)).toEqual([
      "https://c.example/",
      "https://a.example/",
    ]);
  });

  test.each([
    ["no resource", { x402Version: 2 }],
    ["no text for a payload", "x"],
    ["no extension", { ...payload("https://a.example/"), extensions: {} }],
    ["a URL that is none", payload("a.example")],
    ["a URL of another kind", payload("file:///etc/passwd")],
    ["credentials in the URL", payload("https://me:secret@a.example/")],
    ["a long URL", payload(`https://a.example/${"x".repeat(2050)}`)],
    ["a large entry", payload("https://a.example/", { description: "x".repeat(9000) })],
  ])("does not take up %s", async (_, value) => {
    const catalogue = createCatalogue({ now: () => 0, store: await open() });
    await catalogue.learn(value, requirements, "shop");
    expect((await catalogue.page()).pagination.total).toBe(0);
  });
});

test("a catalogue in a database outlives its process, and a resource its owner in it", async () => {
  await createCatalogue({ now: () => 0, store: await inDatabase() }).learn(
    payload("https://a.example/", { description: "mine \0\\u0000" }),
    requirements,
    "shop",
  );
  const next = createCatalogue({ now: () => 0, store: createDatabaseCatalogue(database, { now: () => 5 }) });
  await next.learn(payload("https://a.example/", { description: "stolen" }), requirements, "thief");
  expect((await next.page()).items).toMatchObject([
    { resource: "https://a.example/", metadata: { description: "mine \0\\u0000" } },
  ]);
  // Whoever looked before the owner was there does not take it over either.
  const [entry] = (await next.page()).items;
  if (!entry) throw new Error("There is no entry.");
  await createDatabaseCatalogue(database, { now: () => 9 }).put("thief", { ...entry, metadata: {} });
  expect((await next.page()).items[0]?.metadata).toMatchObject({ description: "mine \0\\u0000" });
});
