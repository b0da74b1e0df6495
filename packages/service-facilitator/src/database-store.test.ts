import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { createDatabaseStore } from "./database-store.ts";
import type { SettlementRecord } from "./store.ts";

let database: Database;
let nowMs = 10_000;
beforeAll(async () => {
  database = databaseFromPglite(await PGlite.create());
  await migrateDatabase(database);
});
afterAll(() => database.close());

const record = (key: string, createdAtMs = nowMs): SettlementRecord => ({
  key,
  caller: "shop",
  digest: "00",
  network: "eip155:31337",
  sender: `0x${"11".repeat(20)}`,
  jobId: `job ${key} ${createdAtMs}`,
  createdAtMs,
});
const store = () => createDatabaseStore(database, { keepMs: 1000, now: () => nowMs });
const result = { transaction: `0x${"22".repeat(32)}`, amount: "7", extra: { channelState: { balance: "9" } } };

test("a key is claimed once, by whichever process, and its result outlives it", async () => {
  const claims = await Promise.all(
    [1, 2, 3, 4].map((process) => store().claim({ ...record("a"), jobId: `job of ${process}` })),
  );
  expect(claims.filter((known) => known === undefined)).toHaveLength(1);
  const first = claims.find((known) => known !== undefined) ?? record("nobody");
  expect(first).toMatchObject({ key: "a", caller: "shop", createdAtMs: nowMs });
  await store().finish("a", result);
  expect(await store().get("a")).toEqual({ ...first, result });
  await store().drop("a");
  expect(await store().claim(record("a"))).toEqual({ ...first, result });
});

test("what had no effect is forgotten", async () => {
  await store().claim(record("b"));
  await store().drop("b");
  expect(await store().get("b")).toBeUndefined();
  expect(await store().claim({ ...record("b"), jobId: "job b again" })).toBeUndefined();
  await store().finish("nobody", result);
  expect(await store().get("nobody")).toBeUndefined();
});

test("old rows are not answered, and are taken away", async () => {
  for (let i = 0; i < 150; i++) await store().claim(record(`old ${i}`));
  nowMs += 1001;
  expect(await store().get("old 0")).toBeUndefined();
  // The key of an old row can be claimed at once, whichever rows are swept first.
  expect(await store().claim(record("old 149"))).toBeUndefined();
  await store().claim(record("new"));
  await store().claim(record("newer"));
  const { rows } = await database.query("SELECT key FROM assay.facilitator_settlements ORDER BY key");
  expect(rows.map(({ key }) => key)).toEqual(["new", "newer", "old 149"]);
});
