import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import {
  commitFields,
  decodeBundle,
  disclosed,
  encodeBundle,
  tensorFields,
  trustView,
  viewReceipt,
} from "@assay/receipts";
import type { CommittedTensor, FieldValue } from "@assay/receipts";
import { openBundle } from "@assay/sdk";
import { fixedSeed, makeReceipt, MOCK_TIME_MS } from "@assay/testkit";
import { startServer } from "../server/start-server.ts";
import { makeFakeHome } from "./testing/fake-world.ts";
import type { FakeHome, Ran } from "./testing/fake-world.ts";
import type { RunningServer, World } from "./world.ts";

const repository = fileURLToPath(new URL("../../../..", import.meta.url));
const sample = (name: string): string => join(repository, "models/digits/samples", `${name}.png`);
const tiny = join(repository, "models/bench/tiny-mlp.onnx");

let home: FakeHome;
let server: RunningServer;
const starting: World["startServer"] = async ({ host, port }) => {
  const started = await startServer({
    home: home.home,
    host,
    port,
    version: "0.0.0-test",
    childEntry: join(repository, "packages/driver-ort/src/child/main.ts"),
    nodeArgs: ["--conditions=assay-source", "--import", "tsx"],
    logLevel: "silent",
  });
  started.databaseReady.catch(() => undefined);
  return started;
};
const at = (name: string): string => join(home.home, name);
const overTcp: Partial<World> = { fetch: (url, init) => fetch(url, init) };
const assay = (...args: readonly string[]): Promise<Ran> => home.run([...args, "--debug"], overTcp);

type RunJson = {
  receiptId: string;
  path: string;
  outputs: { name: string; data: number[] }[];
  verdict: { status: string };
};
const runJson = async (...args: readonly string[]): Promise<RunJson> => {
  const ran = await assay("run", "demo/digits", ...args, "--json");
  expect(ran.err, ran.err).toBe("");
  return JSON.parse(ran.out) as RunJson;
};

beforeAll(async () => {
  home = makeFakeHome();
  server = await starting({ host: "127.0.0.1", port: 0, quiet: true });
  // What `assay start` leaves for the other commands of its home.
  writeFileSync(at("gateway.json"), JSON.stringify({ url: server.url, pid: process.pid }));
  await server.databaseReady;
});
afterAll(async () => {
  await server.close();
  home.remove();
});

describe("run", () => {
  test("answers, keeps the receipt and verifies it, with nothing configured", async () => {
    const { code, out, err } = await assay("run", "demo/digits", "--input", `image=@${sample("seven")}`);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/label {2}INT64 \[1\] {2}7/);
    expect(out).toContain("● Verified here.");
    const [, path = ""] = /Kept at {2}(\S+)/.exec(out) ?? [];
    expect(existsSync(path)).toBe(true);
    expect(await assay("verify", path)).toMatchObject({ code: 0 });
  });

  test("the receipt carries the nonce and, when told to, who asked; a fresh run has another id", async () => {
    const nonce = "00112233445566778899aabbccddeeff";
    const first = await runJson(
      "--input",
      `image=@${sample("two")}`,
      "--nonce",
      nonce,
      "--identify",
      "--save",
      "mine.receipt",
    );
    const second = await runJson("--input", `image=@${sample("two")}`);
    expect(first.outputs).toEqual(second.outputs);
    expect(first.receiptId).not.toBe(second.receiptId);
    const { out } = await assay("receipt", "show", first.receiptId);
    expect(out).toContain(nonce);
    expect(out).toMatch(/Asked by +ed25519:[0-9a-f]{64} \(token\)/);
    expect((await assay("receipt", "show", second.receiptId)).out).toMatch(/Asked by +an anonymous caller/);
    expect(Buffer.compare(readFileSync(at("mine.receipt")), readFileSync(first.path))).toBe(0);
    writeFileSync(at("nonce.policy"), JSON.stringify({ clientNonce: nonce }));
    expect(await assay("verify", first.path, "--policy", "nonce.policy")).toMatchObject({ code: 0 });
    expect(await assay("verify", second.path, "--policy", "nonce.policy")).toMatchObject({ code: 10 });
  });

  test("only the outputs that were asked for come back and are committed to", async () => {
    const { outputs, path } = await runJson("--input", `image=@${sample("one")}`, "--output", "label");
    expect(outputs.map(({ name }) => name)).toEqual(["label"]);
    expect(await assay("verify", path)).toMatchObject({ code: 0 });
  });

  test.each([
    ["no input", [], 2],
    ["an input the model has not", ["--input", "sound=1"], 2],
    ["a file that is not there", ["--input", "image=@missing.png"], 2],
    ["a picture of a kind that is not read", ["--input", "image=@x.jpg"], 2],
    ["an output the model has not", ["--input", `image=@${sample("one")}`, "--output", "nothing"], 2],
    ["a shape the model does not take", ["--input", "image=[[1,2],[3,4]]"], 2],
  ])("%s is refused and leaves no receipt", async (_name, args, code) => {
    const before = readdirSync(at("receipts")).length;
    const ran = await assay("run", "demo/digits", ...args);
    expect({ code: ran.code, out: ran.out }).toEqual({ code, out: "" });
    expect(readdirSync(at("receipts"))).toHaveLength(before);
  });

  test("a model that is not there", async () => {
    const { code, err } = await assay("run", "demo/nothing", "--input", "x=1");
    expect([code, err.includes("model_not_found")]).toEqual([1, true]);
  });
});

describe("re-execution", () => {
  beforeAll(async () => {
    const { code, err } = await assay("model", "pull", "demo/digits", "--to", "digits");
    if (code !== 0) throw new Error(err);
  });

  test("agrees byte for byte in both profiles, with the model as it was pulled", async () => {
    for (const profile of ["portable", "native"]) {
      const { path } = await runJson("--input", `image=@${sample("five")}`, "--profile", profile);
      const { code, out, err } = await assay("verify", path, "--reexecute", "--model", "digits");
      expect({ code, err }).toEqual({ code: 0, err: "" });
      expect(out).toContain("● re-execution   Run again here, all 3 outputs are the same byte for byte.");
      expect(await assay("verify", path, "--reexecute", "--model", "digits/model.onnx")).toMatchObject({ code: 0 });
    }
  });

  test("a model that was changed, or is another, is not run", async () => {
    const { path } = await runJson("--input", `image=@${sample("six")}`);
    cpSync(at("digits"), at("changed"), { recursive: true });
    writeFileSync(at("changed/model.onnx"), Buffer.concat([readFileSync(at("digits/model.onnx")), Buffer.from("x")]));
    for (const model of ["changed", tiny, "missing"]) {
      const { code, out } = await assay("verify", path, "--reexecute", "--model", model);
      expect({ code, out }).toEqual({ code: 1, out: "" });
    }
  });

  test("an output that is not what the model gives fails with its name and the difference", async () => {
    // A signer can sign what it likes: the mock's own statement names this real model and a made-up answer.
    const { path } = await runJson("--input", `image=@${sample("six")}`);
    const { bytes, trust } = await lyingReceipt(readFileSync(path));
    writeFileSync(at("lie.receipt"), bytes);
    writeFileSync(at("lie.json"), trust);
    const inItsTime = { now: () => MOCK_TIME_MS + 1000 };
    const args = ["verify", "lie.receipt", "--trust", "lie.json"];
    expect(await home.run(args, inItsTime)).toMatchObject({ code: 0 });
    const { code, out } = await home.run([...args, "--reexecute", "--model", "digits", "--facts"], inItsTime);
    expect(code).toBe(10);
    expect(out).toContain("✕ re-execution");
    expect(out).toContain("output label differs: the largest difference is 1");
    expect(out).toContain("✕ This receipt does not hold.");
  });
});

describe("receipts", () => {
  test("are listed here and at the gateway, the latest first, without releases and keysets", async () => {
    const last = await runJson("--input", `image=@${sample("nine")}`);
    const here = JSON.parse((await assay("receipt", "ls", "--json")).out) as { receipts: { receiptId: string }[] };
    expect(here.receipts[0]).toMatchObject({ receiptId: last.receiptId, model: "demo/digits", mode: "vanilla" });
    const there = JSON.parse((await assay("receipt", "ls", "--remote", "--limit", "2", "--json")).out) as typeof here;
    expect(there.receipts).toHaveLength(2);
    expect(there.receipts[0]).toMatchObject({ receiptId: last.receiptId, model: "demo/digits" });
    const none = JSON.parse((await assay("receipt", "ls", "--model", "no/such", "--json")).out) as typeof here;
    expect(none.receipts).toEqual([]);
  });

  test("one that is not kept here comes from the gateway, closed, and verifies", async () => {
    const { receiptId, path } = await runJson("--input", `image=@${sample("four")}`);
    const whole = readFileSync(path);
    rmSync(path);
    const { bytes } = await assay("receipt", "export", receiptId);
    const { openings: _openings, evidence: _evidence, ...rest } = decodeBundle(whole);
    const { checkpoints: _before, log: _log, ...closed } = rest;
    const { checkpoints: _after, log: _proof, ...fetched } = decodeBundle(bytes);
    // Its checkpoint may be a later one; everything that was signed is the same.
    expect(encodeBundle(fetched)).toEqual(encodeBundle(closed));
    writeFileSync(at("fetched.receipt"), bytes);
    expect(await assay("verify", "fetched.receipt")).toMatchObject({ code: 0 });
    expect((await assay("receipt", "show", "./fetched.receipt")).out).toContain("not disclosed");
  });

  test("a receipt is fetched again into its file, beside what only its holder has; another's is not", async () => {
    const { receiptId, path } = await runJson("--input", `image=@${sample("four")}`);
    const whole = decodeBundle(readFileSync(path));
    const { log: _log, checkpoints: _checkpoints, ...early } = whole;
    writeFileSync(path, encodeBundle(early));
    expect(await assay("receipt", "refresh", receiptId)).toMatchObject({ code: 0 });
    const { openings, evidence, log } = decodeBundle(readFileSync(path));
    expect([openings, evidence, log?.length]).toEqual([whole.openings, whole.evidence, 1]);
    expect(await assay("verify", path)).toMatchObject({ code: 0 });

    const other = await runJson("--input", `image=@${sample("three")}`);
    // A file under another receipt's id: the gateway's answer is about another execution.
    writeFileSync(other.path, encodeBundle(whole));
    rmSync(path);
    const refused = await assay("receipt", "refresh", other.receiptId);
    expect({ code: refused.code, told: refused.err.includes("receipt_replaced") }).toEqual({ code: 10, told: true });
    expect(readFileSync(other.path)).toEqual(Buffer.from(encodeBundle(whole)));
  });

  test("cose comes from the gateway; air is refused for what no enclave made", async () => {
    const { receiptId } = await runJson("--input", `image=@${sample("three")}`);
    const cose = await assay("receipt", "export", receiptId, "--format", "cose");
    expect([cose.code, cose.bytes[0]]).toEqual([0, 0xd2]);
    const air = await assay("receipt", "export", receiptId, "--format", "air");
    expect({ code: air.code, out: air.out, told: air.err.includes("air_requires_tee") }).toEqual({
      code: 1,
      out: "",
      told: true,
    });
  });
});

describe("models", () => {
  test("are pushed, listed, shown, pulled, rolled back and deprecated", async () => {
    const first = await assay("model", "push", tiny, "--name", "bench/tiny", "--json");
    expect(JSON.parse(first.out)).toMatchObject({ name: "bench/tiny", version: 1, files: 1 });
    cpSync(tiny, at("tiny/model.onnx"), { recursive: true });
    writeFileSync(at("tiny/README.md"), "# Tiny\n");
    const second = await assay("model", "push", "tiny", "--name", "bench/tiny", "--task", "benchmark", "--json");
    expect(JSON.parse(second.out)).toMatchObject({ version: 2, files: 2 });
    expect((await assay("model", "ls", "bench/")).out).toMatch(/^bench\/tiny +2 +released/m);
    expect((await assay("model", "show", "bench/tiny")).out).toContain("# Tiny");
    expect(await assay("model", "pull", "bench/tiny@1", "--to", "old")).toMatchObject({ code: 0 });
    expect(readdirSync(at("old")).sort()).toEqual(["manifest.json", "tiny-mlp.onnx"]);
    expect(readFileSync(at("old/tiny-mlp.onnx"))).toEqual(readFileSync(tiny));
    expect(await assay("model", "rollback", "bench/tiny@1")).toMatchObject({ code: 0 });
    expect((await assay("model", "show", "bench/tiny")).out).toContain("bench/tiny version 1, released");
    expect(await assay("model", "deprecate", "bench/tiny@1")).toMatchObject({ code: 0 });
    expect((await assay("run", "bench/tiny@9", "--input", "x=1")).err).toContain("version_not_found");
  });

  test("what is no model is refused by the gateway, and nothing is released", async () => {
    writeFileSync(at("bad.onnx"), "this is no protobuf");
    const { code, out } = await assay("model", "push", "bad.onnx", "--name", "bench/bad");
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect((await assay("model", "show", "bench/bad")).err).toContain("model_not_found");
  });

  test("a private model is there for its owner and for nobody else", async () => {
    expect(await assay("model", "push", tiny, "--name", "bench/secret", "--private")).toMatchObject({ code: 0 });
    expect(await assay("model", "show", "bench/secret")).toMatchObject({ code: 0 });
    // Its input is x, FP32 [any, 16].
    writeFileSync(at("zeros.bin"), new Uint8Array(4 * 16));
    const ran = await assay("run", "bench/secret", "--input", "x=@zeros.bin");
    expect(ran.err, ran.err).toBe("");
    expect(ran.out).toContain("● Verified here.");
    const stranger = makeFakeHome(overTcp);
    try {
      const shown = await stranger.run(["model", "show", "bench/secret", "--url", server.url]);
      expect([shown.code, shown.out]).toEqual([1, ""]);
      const pushed = await stranger.run(["model", "push", tiny, "--name", "bench/tiny", "--url", server.url]);
      expect([pushed.code, pushed.out]).toEqual([13, ""]);
    } finally {
      stranger.remove();
    }
  });
});

describe("the log", () => {
  test("is checked, proved and followed", async () => {
    const checkpoint = await assay("log", "checkpoint", "--json");
    expect(JSON.parse(checkpoint.out)).toMatchObject({ status: "verified" });
    const round = await assay("log", "monitor", server.url, "--once", "--json");
    expect(round.code).toBe(0);
    expect(JSON.parse(round.out)).toMatchObject({ verdict: "consistent" });
    const down = await assay("log", "monitor", "http://127.0.0.1:1", "--once");
    expect([down.code, down.out.includes("unreachable")]).toEqual([14, true]);
  });

  test("trust export of the gateway is what the home trusts", async () => {
    const { out } = await assay("trust", "export");
    expect(JSON.parse(out)).toEqual(JSON.parse(readFileSync(at("trust.json"), "utf8")));
  });

  test("to a stranger who trusts nothing the same receipt is inconclusive; with the trust file it verifies", async () => {
    const { path } = await runJson("--input", `image=@${sample("zero")}`);
    const stranger = makeFakeHome();
    try {
      expect(await stranger.run(["verify", path])).toMatchObject({ code: 11 });
      expect(await stranger.run(["verify", path, "--trust", at("trust.json")])).toMatchObject({ code: 0 });
    } finally {
      stranger.remove();
    }
  });
});

test("with nothing running a command starts a gateway, and leaves nothing behind that holds the home", async () => {
  await server.close();
  rmSync(at("gateway.json"));
  const alone = { ...overTcp, startServer: starting };
  const ran = await home.run(["run", "demo/digits", "--input", `image=@${sample("eight")}`, "--json"], alone);
  expect(JSON.parse(ran.out)).toMatchObject({ verdict: { status: "verified" } });
  expect(existsSync(at("gateway.json"))).toBe(false);
  const rebuilt = await home.run(["db", "rebuild", "--json"], alone);
  expect(JSON.parse(rebuilt.out)).toMatchObject({ equal: true });
  server = await starting({ host: "127.0.0.1", port: 0, quiet: true });
  const held = await home.run(["model", "ls"], alone);
  expect([held.code, held.err.includes("home_in_use")]).toEqual([1, true]);
});

test("doctor really starts a database and runs a model in both profiles", async () => {
  const { code, out } = await assay("doctor", "--json");
  const { checks } = JSON.parse(out) as { checks: { name: string; status: string; message: string }[] };
  expect(checks.filter(({ status }) => status === "fail")).toEqual([]);
  const said = new Map(checks.map(({ name, message }) => [name, message]));
  expect(said.get("portable")).toContain("onnxruntime-web");
  expect(said.get("native")).toContain("onnxruntime-node");
  expect(said.get("database")).toContain("starts and answers");
  expect(said.get("log")).toMatch(/^\d+ entries signed by assay\.local/);
  expect(code).toBe(0);
});

/**
 * A receipt that is signed, logged and internally true, and states another label than the model of `honest` gives: what
 * only re-execution can find. With the trust file that vouches for its signers.
 */
async function lyingReceipt(honest: Uint8Array): Promise<{ bytes: Uint8Array; trust: string }> {
  const taken = viewReceipt(nodeSuite, honest);
  if (!("view" in taken)) throw new TypeError("the honest receipt cannot be read");
  const { claims } = taken.view.execution;
  const { tensors } = disclosed(taken.view);
  const inputs = tensors.filter(({ side }) => side === "request");
  const outputs = tensors
    .filter(({ side }) => side === "response")
    .map((tensor) => {
      const data = tensor.data.slice();
      if (tensor.name === "label") data[0] = (data[0] ?? 0) + 1;
      return { ...tensor, data };
    });
  const masterSalt = fixedSeed("lying salt");
  const side = (prefix: "input" | "output", of: readonly CommittedTensor[]): FieldValue[] =>
    of.flatMap((tensor) => tensorFields(prefix, tensor));
  const modelAsked = claims.modelName ?? "";
  const asked = [{ name: "model", value: new TextEncoder().encode(modelAsked) }, ...side("input", inputs)];
  const request = commitFields(nodeSuite, masterSalt, "request", asked);
  const response = commitFields(nodeSuite, masterSalt, "response", side("output", outputs));
  const mock = await makeReceipt({
    open: false,
    execution: {
      ...(claims.modelName === undefined ? {} : { modelName: claims.modelName }),
      ...(claims.modelDigest ? { modelDigest: claims.modelDigest } : {}),
      ...(claims.runtime ? { runtime: claims.runtime } : {}),
      requestRoot: request.root,
      requestFields: request.count,
      responseRoot: response.root,
      responseFields: response.count,
    },
  });
  const known = { masterSalt, modelAsked, inputs, outputs } as Parameters<typeof openBundle>[1];
  return { bytes: openBundle(mock.bytes, known), trust: JSON.stringify(trustView(mock.trust)) };
}
