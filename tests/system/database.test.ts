import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assay, assayJson, eventually, makeHome, metric, needed, root, startGateway } from "./harness.ts";
import type { Gateway, Home } from "./harness.ts";

const sample = (name: string): string => join(root, `models/digits/samples/${name}.png`);
type Ran = { readonly verdict: { readonly status: string } };

const digits = ["zero", "one", "two", "three"];

describe("a gateway over a PostgreSQL of one's own", () => {
  let admin: Client;
  let rows: Client;
  let home: Home;
  let gateway: Gateway | undefined;
  const name = `assay_system_${randomBytes(6).toString("hex")}`;

  beforeAll(async () => {
    const given = new URL(needed("ASSAY_TEST_DATABASE_URL"));
    admin = new Client({ connectionString: given.href });
    await admin.connect();
    await admin.query(`CREATE DATABASE ${name}`);
    given.pathname = `/${name}`;
    rows = new Client({ connectionString: given.href });
    await rows.connect();
    home = makeHome({ DATABASE_URL: given.href });
  });
  afterAll(async () => {
    await gateway?.stop();
    await rows.end();
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await admin.end();
    home.remove();
  });

  const executions = async (): Promise<number> => {
    const { rows: found } = await rows.query<{ count: string }>(
      "SELECT count(*) FROM assay.receipts WHERE kind = 'execution'",
    );
    return Number(found[0]?.count);
  };
  const caughtUp = async (url: string): Promise<number | undefined> =>
    eventually(
      () => metric(url, "assay_index_lag_records"),
      (lag) => lag === 0,
    );

  const ask = (who: Home, digit: string): Ran =>
    assayJson(who, "run", "demo/digits", "--input", `image=@${sample(digit)}`, "--identify") as Ran;
  const listed = (who: Home): unknown[] =>
    (assayJson(who, "receipt", "ls", "--remote") as { receipts: unknown[] }).receipts;

  it("answers, and the server's tables hold what the log holds", async () => {
    gateway = await startGateway(home);
    for (const digit of digits) expect(ask(home, digit).verdict.status).toBe("verified");
    expect(await caughtUp(gateway.url)).toBe(0);
    // One more than was asked here: a start shows one inference of its own.
    expect(await executions()).toBe(digits.length + 1);
    expect(existsSync(join(home.path, "database/data"))).toBe(false);
  });

  it("lists to an owner the receipts that name its key, and to the operator all of them", async () => {
    const url = gateway?.url ?? "";
    const guest = makeHome({ ASSAY_URL: url });
    try {
      writeFileSync(join(guest.path, "trust.json"), assay(guest, "trust", "export").stdout);
      expect(ask(guest, "four").verdict.status).toBe("verified");
      expect(await caughtUp(url)).toBe(0);
      expect(listed(guest)).toHaveLength(1);
      expect(listed(home)).toHaveLength(digits.length + 2);
    } finally {
      guest.remove();
    }
  });

  it("loses nothing to SIGKILL", async () => {
    await gateway?.kill();
    gateway = await startGateway(home);
    expect(await caughtUp(gateway.url)).toBe(0);
    expect(await executions()).toBe(digits.length + 3);
    expect(listed(home)).toHaveLength(digits.length + 3);
  });

  it("makes the same tables again from the log alone", async () => {
    await gateway?.stop();
    gateway = undefined;
    const rebuilt = assay(home, "db", "rebuild", "--json");
    expect(rebuilt.code, rebuilt.stderr).toBe(0);
    expect(await executions()).toBe(digits.length + 3);
    // Tables that lost a row are made whole, and the difference is said.
    await rows.query("DELETE FROM assay.receipts WHERE log_index IN (SELECT min(log_index) FROM assay.receipts)");
    const repaired = JSON.parse(assay(home, "db", "rebuild", "--json").stdout) as { before: string; after: string };
    expect(repaired.before).not.toBe(repaired.after);
    expect(await executions()).toBe(digits.length + 3);
  });

  it("refuses to serve the same home from another kind of database", () => {
    const { DATABASE_URL: _, ...others } = home.env;
    const ran = assay({ ...home, env: others }, "db", "rebuild");
    expect(ran.code).not.toBe(0);
    expect(ran.stderr).toContain("database_mode_changed");
  });
});
