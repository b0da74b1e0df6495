import { rm } from "node:fs/promises";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSettler } from "./start.ts";
import type { Settler } from "./start.ts";
import { memoryHost, openDatabase, quickSettings, sourceEntry } from "./testing/host.ts";
import { charge, openWorld, payer, signExact, statesOf, until } from "./testing/world.ts";
import type { World } from "./testing/world.ts";

/** Longer than a test may take: whatever happens before is because somebody asked for it. */
const NEVER_MS = 3_600_000;

let world: World;
let server: EmbeddedPostgres;
let database: Database;
let settler: Settler;
const host = memoryHost();

beforeAll(async () => {
  world = await openWorld();
  ({ server, database } = await openDatabase(world));
  settler = await startSettler({
    ...quickSettings(world, server.url, { tickMs: NEVER_MS, afterMs: 0 }),
    ...sourceEntry(),
    putBlob: host.putBlob,
    checkpoint: host.checkpoint,
    onSettled: host.writeSupplements,
  });
  // Its first look is over when it has seen the chain.
  await until(async () => (await settler.status()).head !== null);
});

afterAll(async () => {
  await settler?.close();
  await database?.close();
  await server?.close();
  await world?.close();
  if (world) await rm(world.directory, { recursive: true, force: true });
});

describe("a settler that does not look by itself", () => {
  it("settles what became due when it is told so, and states it in the log", async () => {
    const from = await payer(world, 10_000n);
    await charge(database, await signExact(world, from, 7n));
    settler.wake();
    await until(async () => (await statesOf(database))["settled"] === 1);
    // The end of a job has its supplement written without anybody's asking.
    await until(() => Promise.resolve(host.drafts.length === 1));
  });

  it("looks once for many that became due one after the other, and misses none", async () => {
    const from = await payer(world, 10_000n);
    for (let i = 0; i < 5; i++) {
      await charge(database, await signExact(world, from, 7n));
      settler.wake();
    }
    await until(async () => (await statesOf(database))["settled"] === 6);
    expect(await statesOf(database)).toEqual({ settled: 6 });
  });
});
