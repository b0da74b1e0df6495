import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectDatabase, startEmbeddedPostgres } from "@assay/driver-postgres";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { launchJobs } from "./jobs.ts";
import type { Jobs, JobsOptions } from "./jobs.ts";
import { until } from "./testing/world.ts";

let directory: string;
let server: EmbeddedPostgres;
let database: Database;
let jobs: Jobs | undefined;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "assay-jobs-"));
  server = await startEmbeddedPostgres({ directory: join(directory, "database") });
  database = connectDatabase({ url: server.url });
});

afterEach(async () => {
  await jobs?.close();
  jobs = undefined;
});

afterAll(async () => {
  await database?.close();
  await server?.close();
  await rm(directory, { recursive: true, force: true });
});

const launch = async (run: JobsOptions["run"], restAfterMs?: number): Promise<Jobs> => {
  jobs = await launchJobs({
    databaseUrl: server.url,
    run,
    onError: () => undefined,
    ...(restAfterMs === undefined ? {} : { restAfterMs }),
  });
  return jobs;
};

/** Connections that DBOS has. */
async function connections(): Promise<number> {
  const { rows } = await database.query(
    "SELECT COUNT(*) AS count FROM pg_stat_activity WHERE application_name LIKE 'dbos_transact%'",
  );
  return Number(rows[0]?.["count"]);
}

describe("durable jobs", () => {
  it("let go of the database when there are none, and run the next one all the same", async () => {
    const done: string[] = [];
    const { ensure, running } = await launch(async (jobId, step) => {
      await step("work", () => Promise.resolve());
      done.push(jobId);
    }, 20);
    for (const jobId of ["pay-rest-1", "pay-rest-2", "pay-rest-3"]) {
      await until(async () => (await connections()) === 0);
      expect(await ensure(jobId)).toBe(true);
      await until(async () => done.includes(jobId) && running() === 0);
    }
    expect(done).toEqual(["pay-rest-1", "pay-rest-2", "pay-rest-3"]);
  });

  it("listen to nobody while they run", async () => {
    let finish = (): void => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const { ensure, running } = await launch((_jobId, step) => step("work", () => finished));
    await ensure("pay-listens");
    const { rows } = await database.query(
      "SELECT COUNT(*) AS count FROM pg_stat_activity WHERE application_name LIKE 'dbos_transact%' AND query LIKE '%LISTEN%'",
    );
    expect(Number(rows[0]?.["count"])).toBe(0);
    expect(await connections()).toBeGreaterThan(0);
    finish();
    await until(() => Promise.resolve(running() === 0));
  });

  it("stay with a job that takes longer than they rest after", async () => {
    let finish = (): void => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    let ends = 0;
    const { ensure, prepare, running } = await launch(async (_jobId, step) => {
      await step("work", () => finished);
      ends++;
    }, 1);
    await ensure("pay-long");
    // Each time somebody asks, they would rest a millisecond later.
    for (let i = 0; i < 20; i++) {
      prepare();
      await connections();
    }
    expect(running()).toBe(1);
    expect(await connections()).toBeGreaterThan(0);
    finish();
    await until(() => Promise.resolve(ends === 1 && running() === 0));
  });

  it("do not rest before what an earlier process left was taken up", async () => {
    const first = await launch((_jobId, step) => step("work", () => new Promise<void>(() => {})));
    await first.ensure("pay-left");
    await until(() => Promise.resolve(first.running() === 1));
    first.leave();
    await first.close();
    let taken = "";
    // It is taken up a second after the launch, and nobody asks for it.
    await launch((jobId) => {
      taken = jobId;
      return Promise.resolve();
    }, 1);
    await until(() => Promise.resolve(taken === "pay-left"));
  });

  it("tell a database that is away when they are to begin again from a job that fails", async () => {
    const { ensure } = await launch(() => Promise.resolve(), 1);
    await until(async () => (await connections()) === 0);
    // What DBOS looks for first is not there: it gives up, as it does when nobody answers.
    await database.query("ALTER SCHEMA assay_jobs RENAME TO assay_jobs_away");
    await expect(ensure("pay-away")).rejects.toMatchObject({ code: "database_unavailable" });
    await database.query("ALTER SCHEMA assay_jobs_away RENAME TO assay_jobs");
    expect(await ensure("pay-away")).toBe(true);
  });
});
