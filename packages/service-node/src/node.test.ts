import { randomBytes } from "node:crypto";
import { bytesToHex, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import type { ModelRuntime, RunRequest, RuntimeFacts, Tensor } from "@assay/protocol";
import { PROFILE, commitFields, decodeClaims, tensorFields } from "@assay/receipts";
import { describe, expect, test } from "vitest";
import { createNode, timeOrderedId } from "./node.ts";
import type { NodeModel } from "./node.ts";

const facts: RuntimeFacts = {
  profile: "portable",
  engine: "onnxruntime-web",
  engineVersion: "1.0.0",
  engineSha256: "ab".repeat(32),
  cpuClass: "cd".repeat(32),
  threads: 1,
  graphOptimization: "all",
  casts: [],
};
const model: NodeModel = {
  name: "demo/net",
  version: 3,
  manifestDigest: "12".repeat(32),
  path: "/models/net/model.onnx",
  sha256: "34".repeat(32),
};
const tensor = (name: string, values: readonly number[]): Tensor => ({
  name,
  datatype: "FP32",
  shape: [values.length],
  data: new Uint8Array(Float32Array.from(values).buffer),
});

// The runtime has a suite of its own over real engines; here only what the node makes of its answers is of interest.
function runtimeOf(outputs: readonly Tensor[], given: RuntimeFacts = facts): ModelRuntime & { asked: RunRequest[] } {
  const asked: RunRequest[] = [];
  return {
    asked,
    prepare: () => Promise.reject(new Error("not used")),
    run: (request) => {
      asked.push(request);
      return Promise.resolve({ outputs, facts: given, engineMs: 1.2345, batchedRequests: 2 });
    },
    stats: () => ({ children: 0, sessions: 0, sessionBytes: 0, queued: 0, restarts: 0 }),
    close: () => Promise.resolve(),
  };
}
const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));
const nodeOver = (runtime: ModelRuntime) =>
  createNode({ runtime, suite: nodeSuite, now: () => 1_795_255_200_000, random });

describe("an execution", () => {
  test("claims what was run, and its roots can be computed again from what was asked and answered", async () => {
    const inputs = [tensor("x", [1, 2]), tensor("z", [])];
    const outputs = [tensor("y", [3])];
    const execution = await nodeOver(runtimeOf(outputs)).execute({
      requestedName: "demo/net@3",
      model,
      profile: "portable",
      inputs,
      outputs: ["y"],
      clientNonce: new Uint8Array(8).fill(7),
      preprocessingDigest: new Uint8Array(32).fill(9),
      principal: { caller: "ed25519:aa", authentication: "token" },
    });
    const claims = decodeClaims("execution", execution.claims);
    expect(claims).toMatchObject({
      profile: PROFILE.execution,
      modelName: "demo/net",
      modelVersion: "3",
      modelDigestScheme: "sha256-manifest",
      modelDigestCheck: "hashed-at-load",
      mode: "vanilla",
      kind: "onnx",
      issuedAtMs: 1_795_255_200_000,
      principal: { caller: "ed25519:aa", authentication: "token" },
      parameters: { outputs: ["y"] },
      usage: { inputBytes: 8, outputBytes: 4 },
      finishReason: "stop",
      engineUs: 1235,
    });
    expect(bytesToHex(claims.modelDigest ?? new Uint8Array())).toBe(model.manifestDigest);
    expect(claims.clientNonce).toEqual(new Uint8Array(8).fill(7));
    expect(claims.preprocessingDigest).toEqual(new Uint8Array(32).fill(9));
    const asked = commitFields(nodeSuite, execution.masterSalt, "request", [
      { name: "model", value: utf8ToBytes("demo/net@3") },
      ...inputs.flatMap((one) => tensorFields("input", one)),
    ]);
    const answered = commitFields(
      nodeSuite,
      execution.masterSalt,
      "response",
      outputs.flatMap((one) => tensorFields("output", one)),
    );
    expect({ root: claims.requestRoot, count: claims.requestFields }).toEqual({ root: asked.root, count: asked.count });
    expect({ root: claims.responseRoot, count: claims.responseFields }).toEqual({
      root: answered.root,
      count: answered.count,
    });
    expect(execution.outputs).toBe(outputs);
    expect(bytesToHex(execution.receiptId)).toBe(bytesToHex(claims.receiptId));
  });

  test("another name, input or output gives another root; two executions never share salt or id", async () => {
    const inputs = [tensor("x", [1, 2])];
    const execution = await nodeOver(runtimeOf([tensor("y", [3])])).execute({
      requestedName: "demo/net",
      model,
      profile: "portable",
      inputs,
    });
    const claims = decodeClaims("execution", execution.claims);
    const rootOf = (name: string, values: readonly number[]): Uint8Array =>
      commitFields(nodeSuite, execution.masterSalt, "request", [
        { name: "model", value: utf8ToBytes(name) },
        ...tensorFields("input", tensor("x", values)),
      ]).root;
    expect(rootOf("demo/net", [1, 2])).toEqual(claims.requestRoot);
    expect(rootOf("demo/net@3", [1, 2])).not.toEqual(claims.requestRoot);
    expect(rootOf("demo/net", [1, 2.0000002])).not.toEqual(claims.requestRoot);
    const again = await nodeOver(runtimeOf([tensor("y", [3])])).execute({
      requestedName: "demo/net",
      model,
      profile: "portable",
      inputs,
    });
    expect(again.masterSalt).not.toEqual(execution.masterSalt);
    expect(again.receiptId).not.toEqual(execution.receiptId);
    expect(decodeClaims("execution", again.claims).requestRoot).not.toEqual(claims.requestRoot);
  });

  test("what nobody gave is not claimed", async () => {
    const execution = await nodeOver(runtimeOf([])).execute({
      requestedName: "demo/net",
      model,
      profile: "portable",
      inputs: [],
    });
    const claims = decodeClaims("execution", execution.claims);
    for (const name of ["clientNonce", "principal", "parameters", "preprocessingDigest"])
      expect(Object.keys(claims)).not.toContain(name);
    expect(claims.usage).toMatchObject({ inputBytes: 0, outputBytes: 0 });
  });

  test("the runtime's facts stand in the claims, and casts that were added", async () => {
    const cast = runtimeOf([], { ...facts, profile: "native", casts: ["x: BF16->FP32"] });
    const execution = await nodeOver(cast).execute({ requestedName: "demo/net", model, profile: "native", inputs: [] });
    expect(decodeClaims("execution", execution.claims).runtime).toMatchObject({
      profile: "native",
      engine: "onnxruntime-web",
      engineVersion: "1.0.0",
      threads: 1,
      graphOptimization: "all",
      casts: ["x: BF16->FP32"],
    });
  });

  test("the runtime is asked for the model's files, the outputs, and within the caller's patience", async () => {
    const runtime = runtimeOf([]);
    const { signal } = new AbortController();
    const files = [{ path: "w.bin", sha256: "56".repeat(32) }];
    await nodeOver(runtime).execute({
      requestedName: "demo/net",
      model: { ...model, files },
      profile: "native",
      inputs: [],
      outputs: ["y"],
      timeoutMs: 5,
      signal,
    });
    expect(runtime.asked).toEqual([
      {
        model: {
          manifestDigest: model.manifestDigest,
          path: model.path,
          sha256: model.sha256,
          profile: "native",
          files,
        },
        inputs: [],
        outputs: ["y"],
        timeoutMs: 5,
        signal,
      },
    ]);
  });

  test("what the runtime refuses is passed on as it is, and nothing is drafted", async () => {
    const refusal = new Error("no");
    const runtime = { ...runtimeOf([]), run: () => Promise.reject(refusal) };
    await expect(
      nodeOver(runtime).execute({ requestedName: "demo/net", model, profile: "portable", inputs: [] }),
    ).rejects.toBe(refusal);
  });
});

describe("receipt ids", () => {
  test("they are UUIDs of version 7, in the order of their milliseconds", () => {
    for (const nowMs of [0, 1, 1_795_255_200_000, 2 ** 48 - 1]) {
      const id = timeOrderedId(nowMs, new Uint8Array(10).fill(0xff));
      expect(bytesToHex(id)).toMatch(/^[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
      expect(Number.parseInt(bytesToHex(id.slice(0, 6)), 16)).toBe(nowMs);
    }
    const earlier = bytesToHex(timeOrderedId(1000, new Uint8Array(10).fill(0xff)));
    const later = bytesToHex(timeOrderedId(1001, new Uint8Array(10)));
    expect(earlier < later).toBe(true);
  });
});
