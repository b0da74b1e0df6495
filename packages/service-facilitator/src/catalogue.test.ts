import { expect, test } from "vitest";
import { createCatalogue } from "./catalogue.ts";
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

test("learns what was settled for, newest first, and lists its operator's own before", () => {
  const catalogue = createCatalogue({ now: () => 1000, own: () => [own] });
  catalogue.learn(payload("https://a.example/x", { description: "Weather" }), requirements, "shop");
  catalogue.learn(payload("https://b.example/x"), requirements, "shop");
  catalogue.learn({ ...payload("https://a.example/x"), accepted: { ...requirements, scheme: "upto" } }, {}, "shop");
  catalogue.learn({ ...payload("https://a.example/x"), accepted: { ...requirements, amount: "7" } }, {}, "shop");
  const page = catalogue.page();
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

test("pages, bounded", () => {
  const catalogue = createCatalogue({ now: () => 0 });
  for (let i = 0; i < 130; i++) catalogue.learn(payload(`https://a.example/${i}`), requirements, "shop");
  expect(catalogue.page({ limit: 500 }).items).toHaveLength(100);
  expect(catalogue.page({ limit: 0 }).items).toHaveLength(1);
  expect(catalogue.page({ limit: 50, offset: 120 }).items.map(({ resource }) => resource)).toHaveLength(10);
  expect(catalogue.page({ offset: 1000 }).items).toEqual([]);
  expect(catalogue.page({ type: "mcp" }).pagination.total).toBe(0);
});

test("a resource belongs to whoever settled for it first", () => {
  const catalogue = createCatalogue({ now: () => 0 });
  catalogue.learn(payload("https://a.example/x", { description: "mine" }), requirements, "shop");
  catalogue.learn(payload("https://a.example/x", { description: "stolen" }), requirements, "thief");
  expect(catalogue.page().items[0]?.metadata).toMatchObject({ description: "mine" });
});

test("keeps at most so many, the one longest without a payment going first", () => {
  const catalogue = createCatalogue({ now: () => 0, maxResources: 2 });
  for (const name of ["a", "b"]) catalogue.learn(payload(`https://${name}.example/`), requirements, "shop");
  catalogue.learn(payload("https://a.example/"), requirements, "shop");
  catalogue.learn(payload("https://c.example/"), requirements, "shop");
  expect(catalogue.page().items.map(({ resource }) => resource)).toEqual(["https://c.example/", "https://a.example/"]);
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
])("does not take up %s", (_, value) => {
  const catalogue = createCatalogue({ now: () => 0 });
  catalogue.learn(value, requirements, "shop");
  expect(catalogue.page().pagination.total).toBe(0);
});
