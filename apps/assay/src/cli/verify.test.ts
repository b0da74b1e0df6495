import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodeSuite } from "@assay/driver-crypto";
import { ANCHOR_TYPE, encodeBundle, trustView, viewReceipt } from "@assay/receipts";
import type { OpenMap } from "@assay/receipts";
import { MOCK_KINDS, makeReceipt } from "@assay/testkit";
import type { MockReceipt } from "@assay/testkit";
import { nobleEvmSuite } from "@assay/x402/noble";
import { makeFakeHome } from "./testing/fake-world.ts";
import type { FakeHome } from "./testing/fake-world.ts";

let home: FakeHome;
let mock: MockReceipt;
const at = (name: string): string => join(home.home, name);
const asOf = (): string => new Date(mock.now).toISOString();

beforeAll(async () => {
  mock = await makeReceipt();
  home = makeFakeHome({ now: () => mock.now });
  writeFileSync(at("answer.receipt"), mock.bytes);
  writeFileSync(at("trust.json"), JSON.stringify(trustView(mock.trust)));
  writeFileSync(at("nobody.json"), '{"version":1}');
});
afterAll(() => home.remove());

describe("the verdict decides the exit code", () => {
  test("verified: 0, with evidence, the four questions and what is still trusted", async () => {
    const { code, out, err } = await home.run(["verify", "answer.receipt"]);
    expect(code).toBe(0);
    expect(out).toContain("● Verified here.");
    for (const words of ["Who acted", "Which model", "How to verify", "Could it have been altered", "Still trusted"])
      expect(out).toContain(words);
    expect(out).toContain("Does not prove  That the signer ran the model");
    expect(out).toMatch(/◇ proof/);
    expect(out).toMatch(/□ attestation/);
    expect(err).toBe("");
  });

  test("inconclusive: 11, when nothing that is trusted vouches for it, and when there is no trust at all", async () => {
    const { code, out } = await home.run(["verify", "answer.receipt", "--trust", "nobody.json"]);
    expect(code).toBe(11);
    expect(out).toContain("Not decided");
    expect(out).toMatch(/◌ keyset/);
    const bare = makeFakeHome({ now: () => mock.now });
    try {
      const none = await bare.run(["verify", at("answer.receipt")]);
      expect(none.code).toBe(11);
      expect(none.err).toContain("No trust file");
    } finally {
      bare.remove();
    }
  });

  test("failed: 10, with the check that failed and what it compared", async () => {
    const broken = mock.bytes.slice();
    const last = broken.length - 40;
    broken[last] = (broken[last] ?? 0) ^ 1;
    writeFileSync(at("broken.receipt"), broken);
    const { code, out } = await home.run(["verify", "broken.receipt"]);
    expect(code).toBe(10);
    expect(out).toContain("✕ This receipt does not hold.");
    const text = await home.run(["verify", "trust.json"]);
    expect(text.code).toBe(10);
    expect(text.out).toContain("not a receipt");
  });

  test.each(MOCK_KINDS.map((kind) => [kind]))("a %s receipt is never verified without its own checks", async (kind) => {
    const { bytes, trust, now } = await makeReceipt({ kind });
    writeFileSync(at(`${kind}.receipt`), bytes);
    writeFileSync(at(`${kind}.json`), JSON.stringify(trustView(trust)));
    const { code, out } = await home.run(["verify", `${kind}.receipt`, "--trust", `${kind}.json`], { now: () => now });
    const unchecked = ["tee", "zkml", "zkml-pending"].includes(kind);
    expect([code, out.includes("● Verified here.")]).toEqual(unchecked ? [11, false] : [0, true]);
  });
});

describe("an anchor is followed to its root without any chain", () => {
  test("one that leads there stays open, one that does not fails", async () => {
    const taken = viewReceipt(nodeSuite, mock.bytes);
    if (!("view" in taken)) throw new Error("The receipt cannot be read.");
    const { execution, service, bundle } = taken.view;
    const { keccak256 } = nobleEvmSuite;
    const leaf = {
      executionDigest: execution.statement.digest,
      serviceDigest: service?.statement.digest ?? new Uint8Array(32),
      paymentId: new Uint8Array(32),
      amountAtomic: "0",
      logIndex: bundle.log?.[0]?.index ?? 0,
    };
    // abi.encode of the five, hashed twice: the root of a batch that has this leaf alone.
    const encoded = new Uint8Array(160);
    encoded.set(leaf.executionDigest, 0);
    encoded.set(leaf.serviceDigest, 32);
    new DataView(encoded.buffer).setBigUint64(152, BigInt(leaf.logIndex));
    const hash = new Uint8Array(32);
    const entry = {
      submitter: `0x${"11".repeat(20)}`,
      firstLeaf: 0,
      leafCount: 1,
      logSize: 1,
      root: keccak256(keccak256(encoded)),
      logRoot: hash,
      blob: hash,
      prev: hash,
    };
    const anchor = {
      type: ANCHOR_TYPE,
      network: "eip155:31337",
      contract: `0x${"22".repeat(20)}`,
      entry,
      leaf,
      proof: [],
    };
    const judged = async (changed: OpenMap): Promise<readonly [code: number, row: string | undefined]> => {
      writeFileSync(at("anchored.receipt"), encodeBundle({ ...mock.bundle, anchors: [changed] }));
      const { code, out } = await home.run(["verify", "anchored.receipt", "--json"]);
      const { checks } = JSON.parse(out) as { checks: readonly { check: string; code: string }[] };
      return [code, checks.find(({ check }) => check === "anchor")?.code];
    };
    expect(await judged(anchor)).toEqual([0, "anchor_unchecked"]);
    expect(await judged({ ...anchor, entry: { ...entry, root: hash } })).toEqual([10, "anchor_proof_invalid"]);
    expect(await judged({ ...anchor, signature: new Uint8Array(65) })).toEqual([10, "anchor_signature_invalid"]);
    expect(await judged({ ...anchor, leaf: { ...leaf, amountAtomic: "1" } })).toEqual([10, "anchor_leaf_mismatch"]);
  });
});

describe("what verification is given", () => {
  test("a policy that is not met fails it; one that cannot be is refused", async () => {
    writeFileSync(at("tee-only.policy"), '{"modes":["tee"]}');
    expect(await home.run(["verify", "answer.receipt", "--policy", "tee-only.policy"])).toMatchObject({ code: 10 });
    writeFileSync(at("wrong.policy"), '{"modes":["gold"],"maxAgeMs":-1,"color":"red"}');
    const wrong = await home.run(["verify", "answer.receipt", "--policy", "wrong.policy"]);
    expect(wrong.code).toBe(2);
    expect(wrong.err).toContain("modes.0");
    expect(wrong.err).toContain("maxAgeMs");
    expect(wrong.err).toContain("color");
    writeFileSync(at("text.policy"), "modes: tee");
    expect(await home.run(["verify", "answer.receipt", "--policy", "text.policy"])).toMatchObject({ code: 2, out: "" });
  });

  test("another time: before it was issued it fails, at its time it holds", async () => {
    expect(await home.run(["verify", "answer.receipt", "--at", "2020-01-01"])).toMatchObject({ code: 10 });
    expect(await home.run(["verify", "answer.receipt", "--at", asOf()], { now: () => 0 })).toMatchObject({ code: 0 });
  });

  test("standard input instead of a file", async () => {
    expect(await home.run(["verify", "-"], { input: mock.bytes })).toMatchObject({ code: 0 });
    expect(await home.run(["verify", "-"])).toMatchObject({ code: 10 });
  });

  test.each([
    ["no file", ["verify", "missing.receipt"], 1],
    ["a folder", ["verify", "/"], 1],
    ["no trust file", ["verify", "answer.receipt", "--trust", "missing.json"], 1],
    ["a trust file that is none", ["verify", "answer.receipt", "--trust", "answer.receipt"], 1],
    ["no argument", ["verify"], 2],
    ["two files", ["verify", "a", "b"], 2],
    ["an unknown flag", ["verify", "answer.receipt", "--trst", "x"], 2],
    ["a time that is none", ["verify", "answer.receipt", "--at", "yesterday"], 2],
    ["re-execution without a model", ["verify", "answer.receipt", "--reexecute"], 2],
    ["a model without re-execution", ["verify", "answer.receipt", "--model", "x"], 2],
  ])("%s is refused", async (_name, args, code) => {
    const ran = await home.run(args);
    expect({ code: ran.code, out: ran.out }).toEqual({ code, out: "" });
    expect(ran.err).toMatch(/^✕ /);
  });

  test("a receipt that failed is not re-executed: its model would be anybody's", async () => {
    const { code, out } = await home.run([
      "verify",
      "answer.receipt",
      "--reexecute",
      "--model",
      "/",
      "--at",
      "2020-01-01",
    ]);
    expect(code).toBe(10);
    expect(out).not.toContain("re-execution");
  });

  test("re-execution with something that is not the receipt's model is refused", async () => {
    writeFileSync(at("other.onnx"), "not a model");
    const { code, err } = await home.run(["verify", "answer.receipt", "--reexecute", "--model", "other.onnx"]);
    expect(code).toBe(1);
    expect(err).toContain("model_mismatch");
    const { bytes, trust, now } = await makeReceipt({ kind: "paid-chat" });
    writeFileSync(at("chat.receipt"), bytes);
    writeFileSync(at("chat.json"), JSON.stringify(trustView(trust)));
    const chat = await home.run(
      ["verify", "chat.receipt", "--trust", "chat.json", "--reexecute", "--model", "other.onnx"],
      {
        now: () => now,
      },
    );
    expect(chat.code).toBe(1);
    expect(chat.err).toContain("reexecution_impossible");
  });

  test("a receipt that discloses nothing cannot be re-executed", async () => {
    const closed = await makeReceipt({ open: false });
    writeFileSync(at("closed.receipt"), closed.bytes);
    const { code, err } = await home.run(["verify", "closed.receipt", "--reexecute", "--model", "other.onnx"]);
    expect(code).toBe(1);
    expect(err).toContain("opening_missing");
  });
});

describe("for programs and plain terminals", () => {
  test("--json is one object with every row, and keeps the exit code", async () => {
    const { code, out } = await home.run(["verify", "answer.receipt", "--trust", "nobody.json", "--json"]);
    expect(code).toBe(11);
    const verdict = JSON.parse(out) as { [key: string]: unknown };
    expect(Object.keys(verdict)).toEqual([
      "status",
      "code",
      "receiptId",
      "executionDigest",
      "checks",
      "answers",
      "proves",
      "doesNotProve",
      "residualTrust",
      "trustFile",
    ]);
    expect(verdict).toMatchObject({ status: "inconclusive", code: "keyset_not_trusted", trustFile: at("nobody.json") });
    expect(verdict["checks"]).toHaveLength(10);
  });

  test("an error with --json is the API's error body, on stdout", async () => {
    const { out, err } = await home.run(["verify", "missing.receipt", "--json"]);
    expect(JSON.parse(out)).toMatchObject({ code: "file_unreadable", docs: "/errors/file_unreadable.md" });
    expect(err).toBe("");
  });

  test("plain ASCII where nothing else can be shown, colour only where it is wanted", async () => {
    const plain = await home.run(["verify", "answer.receipt"], { unicode: false });
    expect(plain.out).toContain("* Verified here.");
    expect(Array.from(plain.out).every((char) => char.charCodeAt(0) < 128)).toBe(true);
    expect(plain.out).not.toContain("\u001b");
    const coloured = await home.run(["verify", "answer.receipt"], { colour: true });
    expect(coloured.out).toContain("\u001b[32m●\u001b[39m");
  });

  test("--facts shows what was compared; without it a check that held is one line", async () => {
    const short = await home.run(["verify", "answer.receipt"]);
    const long = await home.run(["verify", "answer.receipt", "--facts"]);
    expect(short.out).not.toContain("urn:assay:node:alpha seq 41");
    expect(long.out).toContain("urn:assay:node:alpha seq 41");
  });

  test("text of the receipt's makers cannot move the cursor", async () => {
    const hostile = await makeReceipt({ execution: { modelName: "acme/\u001b[2Jnet\u202e" } });
    writeFileSync(at("hostile.receipt"), hostile.bytes);
    const { out } = await home.run(["verify", "hostile.receipt"]);
    expect(out).toContain("acme/\u{fffd}[2Jnet\u{fffd}");
    expect(out).not.toContain("\u001b");
    const shown = await home.run(["receipt", "show", "./hostile.receipt"]);
    expect(shown.out).not.toContain("\u001b");
  });
});

describe("receipts kept as files", () => {
  test("show says what it states and not that it holds", async () => {
    const { code, out } = await home.run(["receipt", "show", "./answer.receipt"]);
    expect(code).toBe(0);
    expect(out).toContain("acme/digits version 3");
    expect(out).toContain("label  INT64 [1]");
    expect(out).toContain("assay verify ");
    expect(out).not.toContain("Verified");
  });

  test("open discloses the named fields and nothing else, and still verifies", async () => {
    const { code } = await home.run([
      "receipt",
      "open",
      "./answer.receipt",
      "--field",
      "output/label",
      "--save",
      "part.receipt",
    ]);
    expect(code).toBe(0);
    const verified = await home.run(["verify", "part.receipt", "--facts"]);
    expect(verified.code).toBe(0);
    expect(verified.out).toContain("response output/label/data opened");
    expect(verified.out).not.toMatch(/request (?:all|model|input)/);
    const bytes = readFileSync(at("part.receipt"));
    expect(bytes.includes(Buffer.from(mock.masterSalt))).toBe(false);
  });

  test.each([
    ["a field that is not there", ["--field", "output/nothing"], 2],
    ["a side that is none of its fields", ["--field", "request:output/label"], 2],
    ["no field at all", [], 2],
  ])("open refuses %s", async (_name, flags, code) => {
    expect(await home.run(["receipt", "open", "./answer.receipt", ...flags])).toMatchObject({ code, out: "" });
  });

  test("open needs an opening to pick from", async () => {
    writeFileSync(at("closed2.receipt"), (await makeReceipt({ open: false })).bytes);
    const { code, err } = await home.run(["receipt", "open", "./closed2.receipt", "--field", "model"]);
    expect([code, err.includes("opening_missing")]).toEqual([1, true]);
  });

  test("export writes the same bytes, the JSON view and a proof, without a server", async () => {
    const { bytes } = await home.run(["receipt", "export", "./answer.receipt"]);
    expect(Buffer.compare(bytes, mock.bytes)).toBe(0);
    const json = await home.run(["receipt", "export", "./answer.receipt", "--format", "json"]);
    expect(JSON.parse(json.out)).toHaveProperty("executionDigest");
    const proof = await home.run(["receipt", "export", "./answer.receipt", "--format", "tlog-proof"]);
    expect(proof.out).toMatch(/^c2sp\.org\/tlog-proof@v1\n/);
    expect((await home.run(["log", "prove", "./answer.receipt"])).out).toBe(proof.out);
  });

  test("bytes are not written to a terminal, and a proof is not made up", async () => {
    const terminal = await home.run(["receipt", "export", "./answer.receipt"], { isTerminal: true });
    expect([terminal.code, terminal.out]).toEqual([2, ""]);
    const { log: _log, checkpoints: _checkpoints, ...rest } = mock.bundle;
    writeFileSync(at("unlogged.receipt"), encodeBundle(rest));
    const missing = await home.run(["receipt", "export", "./unlogged.receipt", "--format", "tlog-proof"]);
    expect([missing.code, missing.out]).toEqual([1, ""]);
    expect(missing.err).toContain("proof_missing");
    expect(await home.run(["receipt", "export", "./answer.receipt", "--format", "pdf"])).toMatchObject({ code: 2 });
  });

  test("trust show names every key, log and revocation in words", async () => {
    const { code, out } = await home.run(["trust", "show"]);
    expect(code).toBe(0);
    expect(out).toContain("urn:assay:node:alpha");
    expect(out).toContain("2 of 2 witnesses");
    expect((await home.run(["trust", "show", "answer.receipt"])).code).toBe(1);
  });
});
