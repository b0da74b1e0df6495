import { once } from "node:events";
import { randomInt } from "node:crypto";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { afterAll, beforeAll, expect, it } from "vitest";
import { forkSettler, memoryHost, openDatabase, quickSettings } from "./testing/host.ts";
import type { SettlerProcess } from "./testing/host.ts";
import {
  approvePermit2,
  charge,
  openWorld,
  payer,
  signDeposit,
  signExact,
  signUpto,
  signVoucher,
  standing,
  statesOf,
  until,
  usdcOf,
} from "./testing/world.ts";
import type { World } from "./testing/world.ts";

let world: World;
let server: EmbeddedPostgres;
let database: Database;
let settler: SettlerProcess | undefined;

beforeAll(async () => {
  world = await openWorld();
  ({ server, database } = await openDatabase(world));
});

afterAll(async () => {
  settler?.child.kill("SIGKILL");
  await database?.close();
  await server?.close();
  await world?.close();
});

const KILLS = 6;
const ROUNDS = 12;

it("settles every due payment exactly once, whenever its process is killed", { timeout: 110_000 }, async () => {
  const host = memoryHost();
  const settings = quickSettings(world, server.url, { items: 7 });
  const rich = await payer(world, 10_000_000n);
  const channelPayer = await payer(world, 1_000_000n);
  await approvePermit2(world, rich.address);
  let due = 0n;
  let kills = 0;
  let signedFor = 0n;
  const ids: Hex[] = [];
  await charge(database, await signDeposit(world, channelPayer, 100_000n, 50n), { amount: 11n });
  due += 11n;
  signedFor = 50n;

  for (let round = 0; round < ROUNDS; round++) {
    settler = forkSettler(settings, host);
    const { child, started } = settler;
    const gone = once(child, "exit");
    for (let i = 0; i < 5; i++) {
      ids.push(await charge(database, await signExact(world, rich, 1_000n)));
      ids.push(await charge(database, await signUpto(world, rich, 900n), { amount: 700n }));
      signedFor += 100n;
      ids.push(await charge(database, await signVoucher(world, channelPayer, signedFor), { amount: 13n }));
      due += 1_713n;
    }
    if (kills < KILLS) {
      await started;
      // Anywhere between taking up the work and having done it.
      await new Promise((resolve) => {
        setTimeout(resolve, randomInt(0, 900));
      });
      child.kill("SIGKILL");
      await gone;
      kills++;
      continue;
    }
    await started;
    const isDone = async (): Promise<boolean> => {
      const states = await statesOf(database);
      return Object.keys(states).every((state) => state === "settled");
    };
    await until(isDone, 60_000).catch(async (cause: unknown) => {
      throw new Error(`Not settled: ${await standing(database)}`, { cause });
    });
    break;
  }

  expect(kills).toBe(KILLS);
  expect(await usdcOf(world, world.receiver.address)).toBe(due);
  const settledIds = await database.query("SELECT COUNT(*) AS count FROM assay.payments WHERE state = 'settled'");
  expect(Number(settledIds.rows[0]?.["count"])).toBe(ids.length + 1);
  // Each settlement is stated once: what an earlier process had logged and not put down may be stated by nobody else here,
  // because this log has no index; ids are what makes them one.
  await until(async () => {
    const { rows } = await database.query("SELECT COUNT(*) AS open FROM assay.payments WHERE supplement_index IS NULL");
    return Number(rows[0]?.["open"]) === 0;
  });
  const stated = new Set(host.drafts.map(({ body }) => `${body.paymentId} ${body.transaction}`));
  const distinct = new Set(host.drafts.map(({ supplementId }) => Buffer.from(supplementId).toString("hex")));
  expect(stated.size).toBe(ids.length + 1);
  expect(distinct.size).toBe(stated.size);
});
