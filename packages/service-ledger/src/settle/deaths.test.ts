import { randomUUID } from "node:crypto";
import { PGlite } from "@electric-sql/pglite";
import { createSender } from "@assay/driver-chain";
import type { Sender, TxJournal } from "@assay/driver-chain";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chainReads } from "./chain-reads.ts";
import { createClaimHandler, createDepositHandler } from "./channel-jobs.ts";
import type { JobHandler } from "./engine.ts";
import { createTxJournal } from "./journal.ts";
import { createPayHandler } from "./pay.ts";
import type { JobOutcome, TransactionSender } from "./ports.ts";
import { createRefundHandler, refundJob } from "./refunds.ts";
import { claimForJob } from "./rows.ts";
import { transactionSender } from "./sender.ts";
import { charge, openWorld, payer, signDeposit, signExact, signUpto, signVoucher } from "./testing/world.ts";
import { approvePermit2, suite, usdcOf } from "./testing/world.ts";
import type { World } from "./testing/world.ts";

// A process may die at any moment: before what it waits for has happened, or after it and before it heard of that. Each job
// is killed at each of these moments in turn, taken up by a new process with nothing but the database, and has to come to
// the same end as one that was never killed.

let world: World;
let database: Database;
const senders: Sender[] = [];

beforeAll(async () => {
  world = await openWorld();
  database = databaseFromPglite(new PGlite());
  await migrateDatabase(database);
});

afterAll(async () => {
  for (const sender of senders) await sender.close();
  await database?.close();
  await world?.close();
});

class Death extends Error {}
type When = "before" | "after";

/** Counts what is waited for, and dies at the `at`-th. What a dead process would still do never happens. */
function mortal(at: number, when: When) {
  let count = 0;
  let alive = false;
  const dead = (): boolean => alive && count >= at;
  return {
    dead,
    live: () => {
      alive = true;
    },
    wrap: <T extends object>(parts: T): T => {
      const wrapped = Object.entries(parts).map(([name, part]: [string, unknown]) => {
        if (typeof part !== "function") return [name, part];
        const call = async (...given: unknown[]): Promise<unknown> => {
          if (dead()) throw new Death();
          if (alive) count++;
          if (dead() && when === "before") throw new Death();
          const result: unknown = await (part as (...values: unknown[]) => unknown)(...given);
          if (dead()) throw new Death();
          return result;
        };
        return [name, call];
      });
      return Object.fromEntries(wrapped) as T;
    },
  };
}

/** A process: its sender has a memory of its own, and all are killed together. */
async function processOf(at: number, when: When) {
  const { wrap, dead, live } = mortal(at, when);
  const journal: TxJournal = wrap(createTxJournal(database));
  const { chain, operator } = world;
  const made = createSender({ chain, signer: operator.signer, journal, options: { pollMs: 5, resendMs: 50 } });
  senders.push(made);
  const sender: TransactionSender = transactionSender(made);
  await made.start();
  live();
  const modules = {
    // What is done inside of a transaction is done as a whole or not at all.
    database: wrap({ ...database, query: (sql, values) => database.query(sql, values) } satisfies Database),
    chain: wrap(chainReads(chain)),
    sender: wrap(sender),
    authorizer: operator.signer,
    contracts: world.embedded.deployments,
    suite,
    now: () => Date.now(),
    onEvent: () => undefined,
  };
  return { modules, sender, dead, close: () => made.close() };
}
type Modules = Awaited<ReturnType<typeof processOf>>["modules"];

/** What became of a job's transaction, unless the process dies meanwhile. */
async function ended(process: Awaited<ReturnType<typeof processOf>>, jobId: string): Promise<JobOutcome> {
  for (let turns = 0; turns < 10_000; turns++) {
    if (process.dead()) throw new Death();
    const found = await process.sender.outcome(jobId);
    if (found.state !== "pending" && found.state !== "mined") return found;
    await new Promise((resolve) => {
      setTimeout(resolve, 3);
    });
  }
  throw new Error("The transaction did not end.");
}

/** Does a job as the engine does, in steps whose results are kept; a process that dies is followed by one that does not. */
async function run(jobId: string, create: (modules: Modules) => JobHandler, at: number, when: When): Promise<boolean> {
  const kept: { sent?: boolean; outcome?: JobOutcome } = {};
  let died = false;
  for (const limit of [at, Number.POSITIVE_INFINITY]) {
    const process = await processOf(limit, when);
    try {
      const handler = create(process.modules);
      kept.sent ??= await handler.submit(jobId);
      kept.outcome ??= !kept.sent ? { state: "none" } : await ended(process, jobId);
      await handler.apply(jobId, kept.outcome);
      return died;
    } catch (error) {
      if (!process.dead()) throw error;
      died = true;
    } finally {
      await process.close();
    }
  }
  throw new Error("The job did not end.");
}

/** Kills a job at its first moment, its second, and so on, until there is none left; each time with payments of its own. */
async function atEveryMoment(when: When, once: (at: number) => Promise<boolean>): Promise<void> {
  let at = 1;
  while (await once(at)) at++;
  // One that is never killed is no test.
  expect(at).toBeGreaterThan(5);
}

async function stateOf(id: Hex): Promise<unknown> {
  const { rows } = await database.query("SELECT state FROM assay.payments WHERE payment_id = decode($1, 'hex')", [
    id.slice(2),
  ]);
  return rows[0]?.["state"];
}
const took = async (jobId: string, ids: readonly Hex[]): Promise<void> => {
  await claimForJob(database, jobId, ids, Date.now());
};
const earned = (): Promise<bigint> => usdcOf(world, world.receiver.address);

describe.each<When>(["before", "after"])("killed %s anything that it waits for", (when) => {
  it("payments move once, and one that cannot move hinders none", { timeout: 240_000 }, async () => {
    const from = await payer(world, 1_000_000n);
    await approvePermit2(world, from.address);
    await atEveryMoment(when, async (at) => {
      const before = await earned();
      const poor = await payer(world, 1n);
      const good = [
        await charge(database, await signExact(world, from, 10n)),
        await charge(database, await signUpto(world, from, 50n), { amount: 20n }),
      ];
      const bad = await charge(database, await signExact(world, poor, 10n));
      const jobId = `pay-${randomUUID()}`;
      await took(jobId, [...good, bad]);
      const died = await run(jobId, createPayHandler, at, when);
      for (const id of good) expect(await stateOf(id), `at ${at}`).toBe("settled");
      expect(await stateOf(bad), `at ${at}`).toMatch(/^(?:failed|due)$/);
      expect((await earned()) - before, `at ${at}`).toBe(30n);
      return died;
    });
  });

  it("a channel is opened once, claimed once, and its rest given back once", { timeout: 240_000 }, async () => {
    let steps: readonly number[] = [1, 0, 0];
    // Each part is killed at each of its moments, with a channel of its own.
    for (const part of [0, 1, 2]) {
      let at = 1;
      for (let died = true; died; at++) {
        steps = [0, 1, 2].map((one) => (one === part ? at : Number.POSITIVE_INFINITY));
        const before = await earned();
        const from = await payer(world, 1_000n);
        const deposit = await signDeposit(world, from, 1_000n, 10n);
        const channelId: Hex = `0x${Buffer.from(deposit.channelId ?? []).toString("hex")}`;
        const opening = await charge(database, deposit, { amount: 10n });
        const jobs = [`deposit-${randomUUID()}`, `claim-${randomUUID()}`, refundJob(channelId, undefined)] as const;
        const ends: boolean[] = [];
        await took(jobs[0], [opening]);
        ends.push(await run(jobs[0], createDepositHandler, steps[0] ?? 0, when));
        expect(await usdcOf(world, from.address), `at ${at}`).toBe(0n);
        await took(jobs[1], [opening]);
        ends.push(await run(jobs[1], createClaimHandler, steps[1] ?? 0, when));
        expect(await stateOf(opening), `at ${at}`).toBe("settled");
        const last = await charge(database, await signVoucher(world, from, 40n), { amount: 30n });
        ends.push(await run(jobs[2], createRefundHandler, steps[2] ?? 0, when));
        expect(await stateOf(last), `at ${at}`).toBe("settled");
        expect((await earned()) - before, `at ${at}`).toBe(40n);
        expect(await usdcOf(world, from.address), `at ${at}`).toBe(960n);
        died = ends[part] ?? false;
      }
      expect(at).toBeGreaterThan(5);
    }
  });
});
