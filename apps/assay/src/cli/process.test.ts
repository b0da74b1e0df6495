import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { trustView } from "@assay/receipts";
import { MOCK_TIME_MS, makeReceipt } from "@assay/testkit";

// The program as people start it: the launcher, which bundles what changed, in a process of its own.
const launcher = fileURLToPath(new URL("../../bin/assay.js", import.meta.url));

let home: string;
/** Programs that a test began and a failed expectation may have left running. */
const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "assay-process-"));
  const { bytes, trust } = await makeReceipt();
  writeFileSync(join(home, "answer.receipt"), bytes);
  writeFileSync(join(home, "trust.json"), JSON.stringify(trustView(trust)));
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

type Ended = { readonly code: number | null; readonly out: string; readonly err: string };
type Environment = Readonly<Record<string, string>>;

function launch(args: readonly string[], environment: Environment = {}) {
  const clean = { PATH: process.env["PATH"] ?? "", HOME: home, ASSAY_HOME: home, LANG: "C.UTF-8" };
  const child = spawn(process.execPath, [launcher, ...args], { cwd: home, env: { ...clean, ...environment } });
  running.add(child);
  child.once("close", () => running.delete(child));
  let [out, err] = ["", ""];
  const watchers: (() => void)[] = [];
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString();
    for (const watch of watchers) watch();
  });
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (code) => resolve({ code, out, err }));
  });
  const printed = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (out.includes(text)) resolve();
      };
      watchers.push(look);
      child.once("close", () => reject(new Error(`it ended before it printed ${text}: ${err}`)));
      look();
    });
  return { child, ended, printed };
}
const assay = (args: readonly string[], environment?: Environment): Promise<Ended> => launch(args, environment).ended;
const asOf = ["--at", new Date(MOCK_TIME_MS + 1000).toISOString()];

describe("exit codes of the process", () => {
  test.each([
    [["--version"], 0],
    [["nonsense"], 2],
    [["verify", "answer.receipt", ...asOf], 0],
    [["verify", "answer.receipt", "--at", "2020-01-01"], 10],
    [["verify", "missing.receipt"], 1],
    [["model", "ls", "--url", "http://127.0.0.1:1"], 14],
  ])("%j: %i", async (args, code) => expect(await assay(args)).toMatchObject({ code }));

  test("a wrong environment: 2, before anything is done, with every fault", async () => {
    const { code, out, err } = await assay(["key", "show"], { ASSAY_PORT: "x", ASSAY_URL: "y" });
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/ASSAY_PORT/);
    expect(err).toMatch(/ASSAY_URL/);
  });

  test("an interrupt while it follows a log: 130", async () => {
    const { child, ended, printed } = launch(["log", "monitor", "http://127.0.0.1:1", "--interval-ms", "600000"]);
    await printed("unreachable");
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130 });
  });

  test("a witness serves until it is told to end, and then ends in order: 0", async () => {
    const { child, ended, printed } = launch(["log", "witness", "--listen", "0"]);
    await printed("Cosigns");
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 0 });
  });
});

test("start: the first inference with its verdict, a gateway that other commands find, and an orderly end", async () => {
  const own = mkdtempSync(join(tmpdir(), "assay-start-"));
  const { child, ended, printed } = launch(["start", "--port", "0"], { ASSAY_HOME: own });
  try {
    await printed("assay verify");
    const listed = await assay(["model", "ls"], { ASSAY_HOME: own, ASSAY_PORT: "1" });
    expect(listed).toMatchObject({ code: 0, err: "" });
    expect(listed.out).toContain("demo/digits");
    const again = await assay(["start", "--port", "0"], { ASSAY_HOME: own });
    expect([again.code, again.err.includes("home_in_use")]).toEqual([1, true]);
    child.kill("SIGTERM");
    const { code, out, err } = await ended;
    expect(code).toBe(0);
    expect(out).toContain("● Verified here.");
    expect(err).toContain("Finishing what is under way.");
    expect(existsSync(join(own, "gateway.json"))).toBe(false);
  } finally {
    child.kill("SIGTERM");
    await ended;
    rmSync(own, { recursive: true, force: true });
  }
});

describe("streams", () => {
  test("a reader that goes away early is no error", async () => {
    const { child, ended } = launch(["verify", "answer.receipt", ...asOf]);
    child.stdout.destroy();
    expect((await ended).err).not.toContain("EPIPE");
  });

  test("no colour off a terminal; FORCE_COLOR brings it, NO_COLOR wins, a C locale gets ASCII", async () => {
    const args = ["verify", "answer.receipt", ...asOf];
    const [plain, forced, refused, ascii] = await Promise.all([
      assay(args),
      assay(args, { FORCE_COLOR: "1" }),
      assay(args, { FORCE_COLOR: "1", NO_COLOR: "1" }),
      assay(args, { LANG: "C", TERM: "dumb" }),
    ]);
    expect(plain.out).toContain("● Verified here.");
    expect(plain.out).not.toContain("\u001b[");
    expect(forced.out).toContain("\u001b[32m");
    expect(refused.out).not.toContain("\u001b[");
    expect(ascii.out).toContain("* Verified here.");
    expect(/\P{ASCII}/u.test(ascii.out)).toBe(false);
  });
});
