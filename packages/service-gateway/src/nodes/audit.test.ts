import { randomBytes } from "node:crypto";
import { AssayError, bytesToHex, hexToBytes } from "@assay/core";
import { nodeSuite as suite } from "@assay/driver-crypto";
import type { Tensor } from "@assay/protocol";
import { PROFILE, commitFields, encodeClaims, receiptSubject, tensorFields } from "@assay/receipts";
import type { SupplementClaims } from "@assay/receipts";
import { describe, expect, test } from "vitest";
import type { GatewayDraft } from "../recorder.ts";
import { createAuditor } from "./audit.ts";
import type { AuditJob, AuditorModules, AuditorOptions } from "./audit.ts";
import { compareTensors } from "./compare.ts";

const AUDITED = "urn:assay:node:audited";
const CLASS = "ab".repeat(32);
const fp32 = (values: readonly number[], name = "y"): Tensor => ({
  name,
  datatype: "FP32",
  shape: [values.length],
  data: new Uint8Array(Float32Array.from(values).buffer),
});

function job(
  answer: readonly Tensor[],
  changes: { readonly profile?: string; readonly assurance?: string; readonly text?: true } = {},
): AuditJob {
  const receiptId = new Uint8Array(randomBytes(16));
  const masterSalt = new Uint8Array(randomBytes(32));
  const tree = commitFields(
    suite,
    masterSalt,
    "response",
    answer.flatMap((tensor) => tensorFields("output", tensor)),
  );
  const claims = encodeClaims("execution", {
    profile: PROFILE.execution,
    receiptId,
    requestRoot: tree.root,
    responseRoot: tree.root,
    requestFields: tree.count,
    responseFields: tree.count,
    mode: "vanilla",
    kind: "chat",
    issuedAtMs: 1,
    runtime: { profile: changes.profile ?? "portable", cpuClass: hexToBytes(CLASS) },
    finishReason: "stop",
  });
  const model = {
    name: "demo/net",
    version: 1,
    manifestDigest: "12".repeat(32),
    visibility: "public" as const,
    owner: "ed25519:aa",
    path: "/nowhere",
    sha256: "34".repeat(32),
  };
  return {
    executionDigest: suite.sha256(receiptId),
    node: AUDITED,
    claims,
    subject: receiptSubject(receiptId),
    masterSalt,
    owner: "ed25519:aa",
    assurance: changes.assurance ?? "vanilla",
    work: changes.text
      ? {
          kind: "text",
          body: new Uint8Array(10),
          parsed: {} as never,
          target: { engine: "local", model: { name: "m" }, modelName: "m" },
          responseFields: [],
        }
      : { kind: "tensor", requestedName: "demo/net", model, inputs: [fp32([1], "x")], answer },
  };
}

function setup(modules: Partial<AuditorModules> = {}, options: Partial<AuditorOptions> = {}) {
  const stated: SupplementClaims[] = [];
  const drafts: GatewayDraft[] = [];
  const marked: string[] = [];
  const errors: unknown[] = [];
  const auditor = createAuditor(
    {
      recorder: {
        state: (draft) => {
          drafts.push(draft);
          if (draft.kind === "supplement") stated.push(draft.claims);
          return Promise.resolve({ logIndex: 1, statement: {} as never });
        },
      },
      registry: {
        bySubject: (subject) => (subject === AUDITED ? ({ key: "k" } as never) : undefined),
        audited: (key, result) => marked.push(`${key} ${result}`),
        save: () => Promise.resolve(),
      },
      suite,
      now: () => 5,
      random: (bytes) => new Uint8Array(randomBytes(bytes)),
      secret: new Uint8Array(32).fill(1),
      onError: (error) => errors.push(error),
      ...modules,
    },
    { share: 1, retryMs: 1, ...options },
  );
  return { auditor, stated, drafts, marked, errors };
}
const again = (outputs: readonly Tensor[], cpuClass = CLASS, auditor = "urn:assay:node:other") => ({
  tensor: () => Promise.resolve({ auditor, outputs, cpuClass, execution: new Uint8Array(32).fill(3) }),
});

describe("an audit", () => {
  test("that finds the same bytes agrees, and its root under the receipt's salts is the receipt's", async () => {
    const { auditor, stated, drafts, marked } = setup(again([fp32([1, 2])]));
    const audited = job([fp32([1, 2])]);
    expect(auditor.offer(audited)).toBe(true);
    await auditor.idle();
    expect(stated).toMatchObject([
      {
        kind: "audit",
        refersTo: audited.executionDigest,
        body: {
          result: "agree",
          rule: "portable-bytes",
          audited: AUDITED,
          auditor: "urn:assay:node:other",
          execution: new Uint8Array(32).fill(3),
          largestDifference: "0",
          compared: 2,
        },
      },
    ]);
    const root = commitFields(suite, audited.masterSalt, "response", tensorFields("output", fp32([1, 2]))).root;
    expect(bytesToHex(stated[0]?.body["responseRoot"] as Uint8Array)).toBe(bytesToHex(root));
    expect(drafts).toMatchObject([{ subject: audited.subject, owner: "ed25519:aa", visibility: "private" }]);
    expect(encodeClaims("supplement", stated[0] as SupplementClaims).length).toBeGreaterThan(0);
    expect(marked).toEqual(["k agree"]);
  });

  test.each([
    ["portable", CLASS, [1, 2.0000002], "disagree", "portable-bytes"],
    ["native", CLASS, [1, 2.0000002], "disagree", "native-bytes-within-class"],
    ["native", "cd".repeat(32), [1, 2.0000002], "agree", "native-tolerance"],
    ["native", "cd".repeat(32), [1, 2.1], "disagree", "native-tolerance"],
    ["native", "cd".repeat(32), [1, Number.NaN], "disagree", "native-tolerance"],
  ])("of %s on %s over %j: %s by %s", async (profile, cpuClass, values, result, rule) => {
    const { auditor, stated, marked } = setup(again([fp32(values)], cpuClass));
    auditor.offer(job([fp32([1, 2])], { profile }));
    await auditor.idle();
    expect(stated[0]?.body).toMatchObject({ result, rule });
    expect(marked).toEqual([`k ${result}`]);
  });

  test.each<[string, Partial<AuditorModules>, Parameters<typeof job>[1], string]>([
    ["nobody else can run it", { tensor: () => Promise.resolve(undefined) }, {}, "no other node"],
    ["no other node is wired", {}, {}, "no other node"],
    ["the audited node audits itself", again([fp32([1])], CLASS, AUDITED), {}, "no other node"],
    [
      "the auditor fails",
      { tensor: () => Promise.reject(new AssayError("runtime_closed", "x")) },
      {},
      "runtime_closed",
    ],
    ["an upstream ran it, which has no rule", again([]), { profile: "upstream" }, "no rule"],
  ])("is impossible when %s, and says so", async (_what, modules, changes, reason) => {
    const { auditor, stated, marked } = setup(modules);
    auditor.offer(job([fp32([1])], changes));
    await auditor.idle();
    expect(stated[0]?.body).toMatchObject({ result: "impossible", reason });
    expect(marked).toEqual(["k impossible"]);
  });

  test("of a text goes by the engine's re-check", async () => {
    const found = { auditor: "urn:assay:node:other", agrees: false, largestDifference: "0.4", tolerance: "0.001" };
    const { auditor, stated } = setup({ text: () => Promise.resolve(found) });
    auditor.offer(job([], { profile: "llm", text: true }));
    await auditor.idle();
    expect(stated[0]?.body).toMatchObject({
      result: "disagree",
      rule: "llm-prefill",
      largestDifference: "0.4",
      tolerance: "0.001",
    });
  });

  test("that cannot be logged is tried again, then dropped and counted, and marks nobody", async () => {
    let failures = 2;
    const state = (): Promise<never> | Promise<{ logIndex: number; statement: never }> =>
      failures-- > 0
        ? Promise.reject(new AssayError("log_full", "x"))
        : Promise.resolve({ logIndex: 1, statement: {} as never });
    const { auditor, marked, errors } = setup({ ...again([fp32([1])]), recorder: { state } }, { tries: 3 });
    auditor.offer(job([fp32([1])]));
    await auditor.idle();
    expect([marked, errors.length]).toEqual([["k agree"], 0]);
    failures = 100;
    auditor.offer(job([fp32([1])]));
    await auditor.idle();
    expect(marked).toHaveLength(1);
    expect(auditor.stats()).toMatchObject({ agreed: 1, dropped: 1 });
  });
});

describe("what is audited", () => {
  test("is a share that nobody without the secret can tell, and always the same", () => {
    const { auditor } = setup({}, { share: 0.25 });
    const other = setup({ secret: new Uint8Array(32).fill(2) }, { share: 0.25 }).auditor;
    const receipts = Array.from({ length: 4000 }, () => ({
      executionDigest: new Uint8Array(randomBytes(32)),
      mode: "vanilla",
      assurance: "vanilla",
    }));
    const chosen = receipts.filter(auditor.wants);
    // Twenty standard deviations around a thousand.
    expect(Math.abs(chosen.length - 1000)).toBeLessThan(550);
    expect(receipts.filter(auditor.wants)).toEqual(chosen);
    expect(receipts.filter(other.wants)).not.toEqual(chosen);
  });

  test("is every receipt that promises an audit, and none that proves itself", () => {
    const { auditor } = setup({}, { share: 0 });
    const executionDigest = new Uint8Array(32);
    expect(auditor.wants({ executionDigest, mode: "vanilla", assurance: "vanilla" })).toBe(false);
    expect(auditor.wants({ executionDigest, mode: "vanilla", assurance: "vanilla+audit" })).toBe(true);
    expect(auditor.wants({ executionDigest, mode: "tee", assurance: "vanilla+audit" })).toBe(false);
    const all = setup({}, { share: 1 }).auditor;
    expect(all.wants({ executionDigest, mode: "vanilla", assurance: "vanilla" })).toBe(true);
    expect(all.wants({ executionDigest, mode: "zkml", assurance: "vanilla" })).toBe(false);
  });

  test("waits in memory within limits of number and bytes, and what is dropped is counted", async () => {
    const hang = { tensor: () => new Promise<never>(() => undefined) };
    const { auditor } = setup(hang, { maxJobs: 2 });
    expect([1, 2, 3].map((i) => auditor.offer(job([fp32([i])])))).toEqual([true, true, false]);
    const small = setup(hang, { maxBytes: 1000 }).auditor;
    expect(small.offer(job([fp32(Array.from({ length: 1000 }, () => 0))]))).toBe(false);
    expect([auditor.stats().dropped, small.stats().dropped]).toEqual([1, 1]);
  });

  test("is let go when the auditor closes", async () => {
    const { auditor, stated } = setup({
      tensor: (_work, _except, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true });
        }),
    });
    auditor.offer(job([fp32([1])]));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    await auditor.close();
    expect(stated).toEqual([]);
    expect(auditor.offer(job([fp32([1])]))).toBe(false);
  });
});

describe("comparing answers", () => {
  const tolerance = { kind: "tolerance", relative: 1e-3, absolute: 1e-5 } as const;
  const int = (values: readonly number[]): Tensor => ({
    name: "y",
    datatype: "INT32",
    shape: [values.length],
    data: new Uint8Array(Int32Array.from(values).buffer),
  });
  test("another name, shape, datatype or number of outputs is never equal", () => {
    const y = fp32([1, 2]);
    for (const other of [
      [],
      [y, y],
      [fp32([1, 2], "z")],
      [{ ...y, shape: [2, 1] }],
      [{ ...y, datatype: "INT32" as const }],
      [{ ...y, data: y.data.slice(4) }],
    ])
      expect(compareTensors([y], other, tolerance).equal).toBe(false);
  });
  test("numbers that are no fractions are equal or not", () => {
    expect(compareTensors([int([1, 2])], [int([1, 2])], tolerance).equal).toBe(true);
    expect(compareTensors([int([100_000])], [int([100_001])], tolerance).equal).toBe(false);
  });
  test("halves, brain floats and doubles are compared as what they say", () => {
    const raw = (datatype: Tensor["datatype"], bytes: readonly number[]): Tensor => ({
      name: "y",
      datatype,
      shape: [1],
      data: new Uint8Array(bytes),
    });
    // 1.0 and its next neighbour in each.
    expect(compareTensors([raw("FP16", [0, 0x3c])], [raw("FP16", [1, 0x3c])], tolerance).largestDifference).toBe(
      2 ** -10,
    );
    expect(compareTensors([raw("BF16", [0x80, 0x3f])], [raw("BF16", [0x81, 0x3f])], tolerance).largestDifference).toBe(
      2 ** -7,
    );
    const double = (value: number): Tensor => raw("FP64", [...new Uint8Array(Float64Array.of(value).buffer)]);
    expect(compareTensors([double(1)], [double(1 + 2 ** -40)], tolerance)).toMatchObject({ equal: true });
    expect(compareTensors([raw("FP16", [1, 0])], [raw("FP16", [0, 0x80])], tolerance).largestDifference).toBe(2 ** -24);
  });
  test("an infinity against a number is infinitely far, and two of a kind are equal", () => {
    const [a, b] = [fp32([Number.POSITIVE_INFINITY]), fp32([Number.POSITIVE_INFINITY])];
    expect(compareTensors([a], [b], tolerance)).toMatchObject({ equal: true, largestDifference: 0 });
    expect(compareTensors([a], [fp32([1])], tolerance)).toMatchObject({
      equal: false,
      largestDifference: Number.POSITIVE_INFINITY,
    });
    expect(compareTensors([fp32([0])], [fp32([-0])], { kind: "bytes" }).equal).toBe(false);
  });
});
