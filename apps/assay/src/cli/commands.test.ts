import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AssayError } from "@assay/core";
import { trustView } from "@assay/receipts";
import type { Fetch } from "@assay/sdk";
import { makeReceipt } from "@assay/testkit";
import { buildCli } from "./application.ts";
import { pageOf } from "./command.ts";
import { checkNode } from "./doctor-checks.ts";
import { examine } from "./commands/doctor.ts";
import { createOutput } from "./output.ts";
import { styleFor } from "./style.ts";
import { makeFakeHome } from "./testing/fake-world.ts";
import type { FakeHome } from "./testing/fake-world.ts";
import type { World } from "./world.ts";

let home: FakeHome;
beforeEach(() => {
  home = makeFakeHome();
});
afterEach(() => home.remove());

/** A gateway that answers every request alike. */
function answering(status: number, body: unknown, headers: Record<string, string> = {}): Fetch {
  return () =>
    Promise.resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers }));
}
const problem = (code: string, hints: string[] = []) => ({ error: "It was refused.", code, hints, docs: "" });
const elsewhere = ["--url", "http://gateway.test"];

describe("exit codes of what a gateway answers", () => {
  test.each([
    [402, "payment_required", 12],
    [403, "policy_denied", 13],
    [404, "model_not_found", 1],
    [409, "model_deprecated", 1],
    [500, "internal_error", 1],
    [502, "model_aborted", 14],
    [503, "runtime_overloaded", 14],
    [504, "model_timeout", 14],
  ])("%i %s: exit %i", async (status, code, exit) => {
    const ran = await home.run(["model", "show", "a/b", ...elsewhere], {
      fetch: signingIn(answering(status, problem(code))),
    });
    expect({ code: ran.code, out: ran.out }).toEqual({ code: exit, out: "" });
    expect(ran.err).toContain(`${code} – docs/errors/${code}.md`);
  });

  test("nothing answers: 14, and the next command is the last line", async () => {
    const { code, err } = await home.run(["model", "ls", ...elsewhere], {
      fetch: () => Promise.reject(new TypeError("connection refused")),
    });
    expect(code).toBe(14);
    expect(err.trimEnd().split("\n").at(-1)).toBe("  assay start");
    expect(err).not.toContain("connection refused");
  });

  test("--debug shows the chain of causes", async () => {
    const { err } = await home.run(["model", "ls", ...elsewhere, "--debug"], {
      fetch: () => Promise.reject(new TypeError("connection refused")),
    });
    expect(err).toContain("caused by TypeError: connection refused");
  });

  test("an answer that is not the API's is said to be malformed", async () => {
    const html = await home.run(["model", "show", "a/b", ...elsewhere], { fetch: answering(200, "<html>") });
    expect([html.code, html.err.includes("response_malformed")]).toEqual([1, true]);
    const odd = await home.run(["model", "show", "a/b", ...elsewhere], { fetch: answering(200, { name: 7 }) });
    expect([odd.code, odd.err.includes("response_malformed")]).toEqual([1, true]);
  });

  test("an interrupt ends with 130 and says nothing more", async () => {
    const stop = new AbortController();
    const { code, out, err } = await home.run(["model", "show", "a/b", ...elsewhere], {
      interrupt: stop.signal,
      fetch: (_url, init) => {
        stop.abort(new Error("stopped"));
        return Promise.reject(init.signal?.reason as Error);
      },
    });
    expect({ code, out, err }).toEqual({ code: 130, out: "", err: "" });
  });
});

/** Answers sign-in like a gateway and everything else by `fetch`. */
function signingIn(fetch: Fetch): Fetch {
  return (url, init) => {
    if (url.endsWith("/v1/auth/challenge"))
      return answering(200, { challenge: "abc", expiresAt: "2099-01-01T00:00:00Z" })(url, init);
    if (url.endsWith("/v1/auth/token"))
      return answering(200, { token: "assay_t", expiresAt: "2099-01-01T00:00:00Z", owner: "ed25519:00" })(url, init);
    return fetch(url, init);
  };
}

describe("usage", () => {
  test.each([
    [["vrify", "x"], 'There is no command "vrify".', "Did you mean verify?"],
    [["model", "pul"], 'There is no command "pul".', "Did you mean pull?"],
    [["model", "show"], "name", ""],
    [["model", "push", "x"], "name", ""],
    [["run", "a/b", "--profile", "fast"], "fast", ""],
    [["run", "a/b", "--nonce", "12"], "nonce", "8 to 64 bytes"],
    [["run", "a/b", "--retention", "client-encrypted"], "client-encrypted", ""],
    [["receipt", "ls", "--limit", "0"], "limit", "1 to 1000"],
    [["start", "--port", "70000"], "port", "65535"],
    [["log", "witness", "--listen", "x"], "listen", "65535"],
    [["log", "monitor", "http://x", "--interval-ms", "5"], "interval", "100 milliseconds"],
    [["key", "show", "extra"], "Too many arguments", ""],
  ])("%j is refused with 2", async (args, what, hint) => {
    const { code, out, err } = await home.run(args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(what);
    expect(err).toContain(hint);
    expect(err).toMatch(/^✕ /);
  });

  test.each([
    [["model", "show", "digits", ...elsewhere], "model_name_invalid"],
    [["model", "rollback", "a/b", ...elsewhere], "usage_invalid"],
    [["model", "push", "x.onnx", "--name", "a/b@3", ...elsewhere], "usage_invalid"],
    [["model", "ls", "--url", "gateway"], "gateway_url_invalid"],
    [["model", "ls", "--url", "ftp://gateway"], "gateway_url_invalid"],
    [["model", "ls", "--url", "http://me:secret@gateway"], "gateway_url_invalid"],
    [["start", "--host", "0.0.0.0"], "usage_invalid"],
    [["log", "monitor", "http://gateway.test", "--once"], "usage_invalid"],
    [["log", "witness"], "usage_invalid"],
  ])("%j is refused as %s", async (args, code) => {
    const ran = await home.run(args);
    expect({ code: ran.code, out: ran.out }).toEqual({ code: 2, out: "" });
    expect(ran.err).toContain(code);
    expect(ran.err).not.toContain("secret");
  });

  test("every command has help with two examples that are its own", async () => {
    const { root } = buildCli("0", plainStyles());
    const routes = [...commandsOf(root, [])];
    expect(routes.length).toBeGreaterThan(15);
    for (const [route, target] of routes) {
      const page = pageOf(target);
      expect(page?.examples.length, route.join(" ")).toBeGreaterThanOrEqual(2);
      // `node --join` is `node join --join`: a default command is named by its route map alone.
      const names = [route.join(" "), ...(route.join(" ") === "node join" ? ["node"] : [])];
      for (const example of page?.examples ?? [])
        expect(
          names.some((name) => example.startsWith(`${name} `) || example === name),
          example,
        ).toBe(true);
      const { code, out } = await home.run([...route, "--help"]);
      expect(code).toBe(0);
      expect(out).toContain(`  assay ${route.join(" ")}`);
      for (const part of ["Usage", "Examples", "Flags", "JSON", "--json", "--quiet", "--debug"])
        expect(out).toContain(part);
    }
  });

  test("no command at all shows what there is, and --version the version", async () => {
    const { code, out } = await home.run([]);
    expect(code).toBe(0);
    for (const name of ["start", "run", "verify", "model", "receipt", "trust", "log", "doctor", "db", "key"])
      expect(out).toMatch(new RegExp(`^  ${name} `, "m"));
    expect((await home.run(["receipt"])).out).toContain("export");
    expect((await home.run(["--version"])).out).toBe("0.0.0-test\n");
  });
});

type Target = ReturnType<typeof buildCli>["root"];
function* commandsOf(target: Target, route: readonly string[]): Generator<readonly [readonly string[], Target]> {
  if (!("getAllEntries" in target)) yield [route, target];
  else for (const entry of target.getAllEntries()) yield* commandsOf(entry.target, [...route, entry.name.original]);
}
function plainStyles() {
  const style = styleFor({ write: () => undefined, isTerminal: false, columns: 100, colour: false, unicode: true });
  return { answer: style, errors: style };
}

describe("which gateway is asked", () => {
  const listed = { models: [] };

  test("the flag before the environment, the environment before anything else", async () => {
    const asked: string[] = [];
    const fetch = signingIn((url, init) => {
      asked.push(url);
      return answering(200, listed)(url, init);
    });
    await home.run(["model", "ls", "--url", "http://flag.test"], { fetch, url: "http://environment.test" });
    await home.run(["model", "ls"], { fetch, url: "http://environment.test", usualUrl: "http://usual.test" });
    expect(asked).toEqual(["http://flag.test/v1/models", "http://environment.test/v1/models"]);
  });

  test("then the one of this home, then the usual address, and one that does not answer is passed over", async () => {
    writeFileSync(join(home.home, "gateway.json"), '{"url":"http://home.test","pid":1}');
    const asked: string[] = [];
    const only =
      (host: string): Fetch =>
      (url, init) => {
        asked.push(url);
        return url.startsWith(host)
          ? signingIn(answering(200, listed))(url, init)
          : Promise.reject(new TypeError("no"));
      };
    expect(
      await home.run(["model", "ls"], { fetch: only("http://home.test"), usualUrl: "http://usual.test" }),
    ).toMatchObject({
      code: 0,
    });
    expect(asked.every((url) => url.startsWith("http://home.test"))).toBe(true);
    asked.length = 0;
    expect(
      await home.run(["model", "ls"], { fetch: only("http://usual.test"), usualUrl: "http://usual.test" }),
    ).toMatchObject({
      code: 0,
    });
    expect(asked.slice(0, 2)).toEqual(["http://home.test/livez", "http://usual.test/livez"]);
  });

  test("a broken gateway file is no address, and a home that is in use is said to be", async () => {
    writeFileSync(join(home.home, "gateway.json"), "{");
    const held = () => Promise.reject(new AssayError("log_locked", "The log is held by process 4711."));
    const { code, err } = await home.run(["model", "ls"], { startServer: held });
    expect(code).toBe(1);
    expect(err).toContain("home_in_use");
    expect(err).toContain("process 4711");
    expect((await home.run(["start"], { startServer: held })).err).toContain("home_in_use");
    expect((await home.run(["db", "rebuild"], { startServer: held })).err).toContain("home_in_use");
  });

  test("one that was started for a command is closed after it, also when it fails", async () => {
    let closed = 0;
    const startServer: World["startServer"] = (options) => {
      expect(options).toMatchObject({ host: "127.0.0.1", port: 0, quiet: true });
      return Promise.resolve({
        url: "http://own.test",
        databaseReady: Promise.resolve(),
        rebuildIndex: () => Promise.resolve({ before: "a", after: "b" }),
        close: () => {
          closed++;
          return Promise.resolve();
        },
      });
    };
    const good = { startServer, fetch: signingIn(answering(200, listed)) };
    expect(await home.run(["model", "ls"], good)).toMatchObject({ code: 0 });
    expect(
      await home.run(["model", "ls"], { startServer, fetch: signingIn(answering(500, problem("internal_error"))) }),
    ).toMatchObject({
      code: 1,
    });
    const rebuilt = await home.run(["db", "rebuild"], { startServer });
    expect([closed, rebuilt.code, rebuilt.out.includes("differed")]).toEqual([3, 0, true]);
  });

  test("signing in waits for a database that is still starting, and fails with it", async () => {
    const startServer: World["startServer"] = () =>
      Promise.resolve({
        url: "http://own.test",
        databaseReady: Promise.reject(new AssayError("database_unavailable", "The database did not start.")),
        rebuildIndex: () => Promise.reject(new Error("not here")),
        close: () => Promise.resolve(),
      });
    const { code, err } = await home.run(["model", "ls"], { startServer, fetch: signingIn(answering(200, listed)) });
    expect([code, err.includes("database_unavailable")]).toEqual([1, true]);
  });
});

describe("answers go to stdout, the rest to stderr", () => {
  const model = {
    name: "a/b",
    version: 2,
    manifestDigest: "11".repeat(32),
    status: "released",
    visibility: "public",
    sizeBytes: 1500,
    releasedAt: "2026-11-21T10:00:00.000Z",
    owner: "ed25519:00",
  };

  test("model ls: a table, an empty list that teaches a command, and JSON", async () => {
    const fetch = signingIn(answering(200, { models: [model] }));
    const { out } = await home.run(["model", "ls", ...elsewhere], { fetch });
    expect(out.split("\n")[1]).toMatch(/^a\/b +2 +released +1\.5 kB +2026-11-21 10:00:00 UTC/);
    const json = await home.run(["model", "ls", ...elsewhere, "--json"], { fetch });
    expect(JSON.parse(json.out)).toEqual({ models: [model] });
    const none = await home.run(["model", "ls", ...elsewhere], { fetch: signingIn(answering(200, { models: [] })) });
    expect(none.out).toContain("assay model push");
  });

  test("progress is for terminals, and --quiet silences it and notes", async () => {
    const fetch = signingIn(answering(200, { models: [] }));
    const startServer: World["startServer"] = () =>
      Promise.resolve({
        url: "http://own.test",
        databaseReady: Promise.resolve(),
        rebuildIndex: () => Promise.resolve({ before: "", after: "" }),
        close: () => Promise.resolve(),
      });
    expect((await home.run(["model", "ls"], { fetch, startServer })).err).toBe("");
    const shown = await home.run(["model", "ls"], { fetch, startServer, isTerminal: true });
    expect(shown.err).toContain("starting one for this command");
    expect(shown.err.endsWith("\r\u001b[2K")).toBe(true);
    expect((await home.run(["model", "ls", "--quiet"], { fetch, startServer, isTerminal: true })).err).toBe("");
  });

  test("trust export writes a trust file that can be used, and warns that it is the gateway's word", async () => {
    const { trust } = await makeReceipt();
    const { code, out, err } = await home.run(["trust", "export", ...elsewhere], {
      fetch: answering(200, trustView(trust)),
    });
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(trustView(trust));
    expect(err).toContain("says of itself");
    const bad = await home.run(["trust", "export", ...elsewhere], { fetch: answering(200, { version: 2 }) });
    expect([bad.code, bad.out]).toEqual([1, ""]);
  });

  test("key show makes the owner's key once, private to its owner, and prints only the public half", async () => {
    const first = await home.run(["key", "show", "--json"]);
    const second = await home.run(["key", "show", "--json"]);
    expect(second.out).toBe(first.out);
    const shown = JSON.parse(first.out) as { owner: string; namespace: string; path: string };
    expect(shown.owner).toBe(`ed25519:${shown.namespace}${shown.owner.slice(24)}`);
    expect(statSync(shown.path).mode & 0o777).toBe(0o600);
    expect(first.out).not.toContain(readFileSync(shown.path).toString("hex"));
    chmodSync(shown.path, 0o644);
    expect((await home.run(["key", "show"])).err).toContain("key_file_permissions");
  });

  test("a checkpoint that no trusted key signed is inconclusive, and nonsense is refused", async () => {
    const { bundle } = await makeReceipt();
    const [note = ""] = bundle.checkpoints ?? [];
    const { code, out } = await home.run(["log", "checkpoint", ...elsewhere], { fetch: answering(200, note) });
    expect([code, out.trimEnd()]).toEqual([11, note.trimEnd()]);
    expect((await home.run(["log", "checkpoint", ...elsewhere], { fetch: answering(200, "nonsense") })).code).toBe(1);
  });

  test("a checkpoint of a trusted log is verified, and a changed one fails", async () => {
    const { bundle, trust } = await makeReceipt();
    const [note = ""] = bundle.checkpoints ?? [];
    writeFileSync(join(home.home, "trust.json"), JSON.stringify(trustView(trust)));
    expect(await home.run(["log", "checkpoint", ...elsewhere], { fetch: answering(200, note) })).toMatchObject({
      code: 0,
    });
    const changed = note.replace("\n701\n", "\n702\n");
    expect(changed).not.toBe(note);
    expect(await home.run(["log", "checkpoint", ...elsewhere], { fetch: answering(200, changed) })).toMatchObject({
      code: 10,
    });
  });
});

describe("receipts that are not here", () => {
  test.each(["0193", "zzzz", "00".repeat(20), ""])("%j is unknown", async (id) => {
    const { code, err } = await home.run(["receipt", "show", id]);
    expect([code, err.includes("receipt_unknown")]).toEqual([1, true]);
  });

  test("an id that nobody lets you read is unknown, whatever the gateway says", async () => {
    for (const status of [401, 403, 404]) {
      const fetch = signingIn(answering(status, problem("receipt_not_yours")));
      const { code, err } = await home.run(["receipt", "show", "00".repeat(16), ...elsewhere], { fetch });
      expect([code, err.includes("receipt_unknown")]).toEqual([1, true]);
    }
  });

  test("a beginning that fits two receipts is ambiguous", async () => {
    mkdirSync(join(home.home, "receipts"));
    for (const end of ["a", "b"]) writeFileSync(join(home.home, "receipts", `${"0".repeat(31)}${end}.receipt`), "x");
    const { code, err } = await home.run(["receipt", "show", "0000"]);
    expect([code, err.includes("receipt_ambiguous")]).toEqual([2, true]);
    const one = await home.run(["receipt", "show", `${"0".repeat(31)}a`]);
    expect([one.code, one.err.includes("receipt_unreadable")]).toEqual([1, true]);
  });

  test("pull refuses a folder with something in it before it asks anybody", async () => {
    mkdirSync(join(home.home, "digits"));
    writeFileSync(join(home.home, "digits", "mine"), "");
    const { code, err } = await home.run(["model", "pull", "demo/digits", ...elsewhere]);
    expect([code, err.includes("file_exists")]).toEqual([1, true]);
    expect(existsSync(join(home.home, "digits", "mine"))).toBe(true);
  });

  test("push refuses what is no model before it asks anybody", async () => {
    mkdirSync(join(home.home, "empty"));
    for (const path of ["missing.onnx", "empty"]) {
      expect((await home.run(["model", "push", path, "--name", "a/b", ...elsewhere])).code).toBe(1);
    }
  });
});

describe("doctor", () => {
  let world: World;
  let written: string;
  let own: FakeHome;
  beforeAll(() => {
    own = makeFakeHome();
  });
  afterAll(() => own.remove());
  beforeEach(() => {
    written = "";
    const sink = {
      write: (data: string | Uint8Array) => void (written += String(data)),
      isTerminal: false,
      columns: 80,
      colour: false,
      unicode: true,
    };
    world = { stdout: sink, stderr: sink, version: "0" } as unknown as World;
  });
  const cli = (json: boolean) => ({ world, output: createOutput(world, { json, quiet: false }) });

  test("a check that fails or throws makes it fail and hides no other", async () => {
    const checks = [
      { name: "good", run: () => Promise.resolve({ status: "pass" as const, message: "Fine." }) },
      { name: "odd", run: () => Promise.resolve({ status: "warn" as const, message: "Nearly.", hint: "Do this." }) },
    ];
    expect(await examine(cli(false), checks)).toBe(0);
    expect(written).toContain("Do this.");
    expect(await examine(cli(true), [...checks, { name: "bad", run: () => Promise.reject(new Error("boom")) }])).toBe(
      1,
    );
    const report = JSON.parse(written.slice(written.indexOf("{"))) as { healthy: boolean; checks: object[] };
    expect(report.healthy).toBe(false);
    expect(report.checks[2]).toMatchObject({ name: "bad", status: "fail" });
    expect(report.checks).toHaveLength(3);
  });

  test.each([
    ["18.20.0", "fail"],
    ["20.18.9", "fail"],
    ["20.19.0", "pass"],
    ["24.0.0", "pass"],
  ])("Node.js %s: %s", (version, status) => expect(checkNode(version).status).toBe(status));
});
