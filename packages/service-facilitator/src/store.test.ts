import { expect, test } from "vitest";
import { createMemoryStore } from "./store.ts";
import type { SettlementRecord } from "./store.ts";

const record = (key: string, createdAtMs = 0): SettlementRecord => ({
  key,
  caller: "shop",
  digest: "00",
  network: "eip155:31337",
  sender: "0x00",
  jobId: `job ${key}`,
  createdAtMs,
});
const result = { transaction: "0x01" };

test("a key is claimed once, and its result is kept", async () => {
  const store = createMemoryStore({ keepMs: 1000, maxRecords: 10, now: () => 0 });
  const claims = await Promise.all([1, 2, 3].map(() => store.claim(record("a"))));
  expect(claims.filter((known) => known === undefined)).toHaveLength(1);
  await store.finish("a", result);
  expect(await store.claim(record("a"))).toMatchObject({ key: "a", result });
  await store.drop("a");
  expect(await store.get("a")).toMatchObject({ result });
});

test("what had no effect is forgotten and can be claimed anew", async () => {
  const store = createMemoryStore({ keepMs: 1000, maxRecords: 10, now: () => 0 });
  await store.claim(record("a"));
  await store.drop("a");
  expect(await store.get("a")).toBeUndefined();
  expect(await store.claim(record("a"))).toBeUndefined();
  await store.finish("b", result);
  expect(await store.get("b")).toBeUndefined();
});

test("results go when they are old or too many, the oldest first; what is open stays until it is old", async () => {
  let nowMs = 0;
  const store = createMemoryStore({ keepMs: 1000, maxRecords: 3, now: () => nowMs });
  await store.claim(record("open"));
  for (const key of ["a", "b"]) {
    await store.claim(record(key));
    await store.finish(key, result);
  }
  expect(store.size()).toBe(3);
  await store.claim(record("c"));
  expect(await store.get("a")).toBeUndefined();
  expect(await store.get("b")).toBeDefined();
  nowMs = 999;
  await store.claim(record("d", nowMs));
  expect(await store.get("b")).toBeUndefined();
  expect(await store.get("open")).toBeDefined();
  await expect(store.claim(record("e", nowMs))).rejects.toMatchObject({ code: "facilitator_overloaded" });
  // A known key is still answered.
  expect(await store.claim(record("open"))).toMatchObject({ key: "open" });
  nowMs = 1001;
  await store.claim(record("e", nowMs));
  expect(await store.get("open")).toBeUndefined();
});
