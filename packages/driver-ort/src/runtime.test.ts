import { linkSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { ELEMENT_TYPE, encodeModelFile, floatTensor, pseudoRandom } from "@assay/onnx";
import type { GraphParts } from "@assay/onnx";
import type { Datatype, RuntimeProfile, Tensor } from "@assay/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeByteStrings } from "./byte-strings.ts";
import { createOrtRuntime } from "./index.ts";
import type { OrtRuntime } from "./index.ts";
import * as make from "./testing/models.ts";

const x16 = (rows: number, seed = 7): Tensor => make.fp32("x", [rows, 16], pseudoRandom(rows * 16, seed));
const bytes = (name: string, datatype: Datatype, shape: readonly number[], data: Uint8Array): Tensor => ({
  name,
  datatype,
  shape,
  data,
});
const words = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice();
const strings = (shape: readonly number[], elements: readonly string[]): Tensor =>
  bytes("x", "BYTES", shape, encodeByteStrings(elements));

/** Four elements of every datatype at its extremes, and the number ONNX gives the type. */
const EVERY: readonly [Datatype, number, Uint8Array][] = [
  ["BOOL", ELEMENT_TYPE.BOOL, Uint8Array.of(0, 1, 1, 0)],
  ["UINT8", ELEMENT_TYPE.UINT8, Uint8Array.of(0, 1, 128, 255)],
  ["UINT16", ELEMENT_TYPE.UINT16, words(Uint16Array.of(0, 1, 32768, 65535))],
  ["UINT32", ELEMENT_TYPE.UINT32, words(Uint32Array.of(0, 1, 2 ** 31, 2 ** 32 - 1))],
  ["UINT64", ELEMENT_TYPE.UINT64, words(BigUint64Array.of(0n, 1n, 2n ** 63n, 2n ** 64n - 1n))],
  ["INT8", ELEMENT_TYPE.INT8, words(Int8Array.of(0, -1, 127, -128))],
  ["INT16", ELEMENT_TYPE.INT16, words(Int16Array.of(0, -1, 32767, -32768))],
  ["INT32", ELEMENT_TYPE.INT32, words(Int32Array.of(0, -1, 2 ** 31 - 1, -(2 ** 31)))],
  ["INT64", ELEMENT_TYPE.INT64, words(BigInt64Array.of(0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)))],
  ["FP16", ELEMENT_TYPE.FLOAT16, words(Uint16Array.of(0, 0x3c00, 0xfbff, 0x7c00))],
  ["BF16", ELEMENT_TYPE.BFLOAT16, words(Uint16Array.of(0, 0x3f80, 0xff7f, 0x0001))],
  ["FP32", ELEMENT_TYPE.FLOAT, words(Float32Array.of(0, -1.5, 3.4e38, -Infinity))],
  ["FP64", ELEMENT_TYPE.DOUBLE, words(Float64Array.of(-0, 1e-310, 1.7e308, Infinity))],
  ["BYTES", ELEMENT_TYPE.STRING, encodeByteStrings(["", "a", "naïve ☕", "🦊".repeat(99)])],
];

/** Two inputs that must agree on a named axis, and two outputs. */
const pair: GraphParts = {
  inputs: [
    { name: "a", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] },
    { name: "b", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] },
  ],
  outputs: [
    { name: "sum", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] },
    { name: "difference", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] },
  ],
  nodes: [
    { opType: "Add", inputs: ["a", "b"], outputs: ["sum"] },
    { opType: "Sub", inputs: ["a", "b"], outputs: ["difference"] },
  ],
};

describe.each(["native", "portable"] as const)("%s", (profile: RuntimeProfile) => {
  let folder: make.ModelFolder;
  let runtime: OrtRuntime;

  beforeAll(() => {
    folder = make.modelFolder();
    runtime = createOrtRuntime({ ...make.sourceChild(), maxTensorBytes: 100_000, maxTensorElements: 20_000 });
  });
  afterAll(async () => {
    await runtime.close();
    folder.remove();
  });

  const model = (name: string, content: GraphParts | Uint8Array): ReturnType<make.ModelFolder["model"]> =>
    folder.model(name, content, profile);
  const refused = async (work: Promise<unknown>, code: string): Promise<void> => {
    await expect(work).rejects.toMatchObject({ code });
  };

  test("gives the numbers that the model's arithmetic gives, the same bits every time, with the engine's facts", async () => {
    const mlp = model("mlp.onnx", make.mlp());
    const prepared = await runtime.prepare(mlp);
    expect(prepared.metadata).toEqual({
      inputs: [{ name: "x", datatype: "FP32", shape: [-1, 16] }],
      outputs: [{ name: "y", datatype: "FP32", shape: [-1, 4] }],
      batchInvariant: true,
    });
    const { outputs, facts, engineMs, batchedRequests } = await runtime.run({ model: mlp, inputs: [x16(3)] });
    expect(outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape }))).toEqual([
      { name: "y", datatype: "FP32", shape: [3, 4] },
    ]);
    const expected = perceptron(pseudoRandom(48, 7));
    for (const [i, value] of make.numbers(outputs[0]).entries()) expect(value).toBeCloseTo(make.at(expected, i), 4);
    expect(facts).toEqual(prepared.facts);
    expect(facts).toMatchObject({
      profile,
      engine: profile === "native" ? "onnxruntime-node" : "onnxruntime-web",
      engineVersion: "1.30.0",
      threads: 1,
      graphOptimization: "all",
      casts: [],
    });
    expect(facts.engineSha256).toMatch(/^[0-9a-f]{64}$/);
    expect(facts.cpuClass).toMatch(/^[0-9a-f]{64}$/);
    expect(engineMs).toBeGreaterThan(0);
    expect(batchedRequests).toBe(1);
    const again = await runtime.run({ model: mlp, inputs: [x16(3)] });
    expect(again.outputs).toEqual(outputs);
  });

  test.each(EVERY)("carries %s: vector, scalar and empty", async (datatype, type, data) => {
    const vector = model(`${datatype}.onnx`, encodeModelFile(make.identity(type, ["n"])));
    const result = await runtime.run({ model: vector, inputs: [bytes("x", datatype, [4], data)] });
    expect(result.outputs).toEqual([bytes("y", datatype, [4], make.first(result.outputs).data)]);
    expect(Buffer.from(make.first(result.outputs).data).equals(data)).toBe(true);
    expect(result.facts.casts).toEqual(datatype === "BF16" ? ["x: BF16->FP32", "y: BF16->FP32"] : []);

    const empty = await runtime.run({ model: vector, inputs: [bytes("x", datatype, [0], new Uint8Array())] });
    expect(empty.outputs[0]).toMatchObject({ shape: [0] });
    expect(make.first(empty.outputs).data.length).toBe(0);

    const scalar = model(`${datatype}-scalar.onnx`, encodeModelFile(make.identity(type, [])));
    const one = datatype === "BYTES" ? encodeByteStrings(["one"]) : data.slice(0, data.length / 4);
    const single = await runtime.run({ model: scalar, inputs: [bytes("x", datatype, [], one)] });
    expect(single.outputs[0]).toMatchObject({ datatype, shape: [] });
    expect(Buffer.from(make.first(single.outputs).data).equals(one)).toBe(true);
  });

  test("writes every NaN with one bit pattern", async () => {
    const odd = words(Uint32Array.of(0x7fc0_0001, 0xffff_ffff, 0x7f80_0001, 0x3f80_0000));
    const echo = model("FP32.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.FLOAT, ["n"])));
    const { outputs } = await runtime.run({ model: echo, inputs: [bytes("x", "FP32", [4], odd)] });
    const same = words(Uint32Array.of(0x7fc0_0000, 0x7fc0_0000, 0x7fc0_0000, 0x3f80_0000));
    expect(Buffer.from(make.first(outputs).data).equals(same)).toBe(true);
  });

  test("gives the outputs asked for, in the order asked for", async () => {
    const both = model("pair.onnx", pair);
    const inputs = [make.fp32("b", [1, 2], [1, 2]), make.fp32("a", [1, 2], [5, 5])];
    const all = await runtime.run({ model: both, inputs });
    expect(all.outputs.map((output) => [output.name, make.numbers(output)])).toEqual([
      ["sum", [6, 7]],
      ["difference", [4, 3]],
    ]);
    const one = await runtime.run({ model: both, inputs, outputs: ["difference"] });
    expect(one.outputs.map((output) => output.name)).toEqual(["difference"]);
    const turned = await runtime.run({ model: both, inputs, outputs: ["difference", "sum"] });
    expect(turned.outputs.map((output) => output.name)).toEqual(["difference", "sum"]);
  });

  test("refuses requests that do not fit the model, before the engine sees them", async () => {
    const both = model("pair.onnx", pair);
    const a = make.fp32("a", [1, 2], [1, 2]);
    const b = make.fp32("b", [1, 2], [1, 2]);
    const run = async (inputs: Tensor[], outputs?: string[]): Promise<unknown> =>
      await runtime.run({ model: both, inputs, ...(outputs === undefined ? {} : { outputs }) });
    await refused(run([a]), "input_missing");
    await refused(run([]), "input_missing");
    await refused(run([a, b, make.fp32("c", [1], [1])]), "input_unexpected");
    await refused(run([a, b, a]), "input_unexpected");
    await refused(run([a, { ...b, datatype: "INT32" }]), "input_datatype");
    await refused(run([a, make.fp32("b", [2], [1, 2])]), "input_shape");
    await refused(run([a, make.fp32("b", [1, 3], [1, 2, 3])]), "input_shape");
    await refused(run([a, make.fp32("b", [2, 2], [1, 2, 3, 4])]), "input_shape");
    await refused(run([a, { ...b, data: b.data.subarray(1) }]), "input_shape");
    await refused(run([a, { ...b, shape: [1, -2] }]), "input_shape");
    await refused(run([a, { ...b, shape: [0.5, 4] }]), "input_shape");
    await refused(run([a, b], ["product"]), "output_unknown");
    await refused(run([a, b], ["sum", "sum"]), "output_unknown");
    await refused(run([a, b], []), "output_unknown");
    expect((await runtime.run({ model: both, inputs: [a, b] })).outputs.length).toBe(2);
  });

  test("refuses bytes that are no values of their type", async () => {
    const flags = model("BOOL.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.BOOL, ["n"])));
    await refused(runtime.run({ model: flags, inputs: [bytes("x", "BOOL", [1], Uint8Array.of(2))] }), "input_datatype");
    const texts = model("BYTES.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.STRING, ["n"])));
    const text = async (shape: number[], data: Uint8Array): Promise<unknown> =>
      await runtime.run({ model: texts, inputs: [bytes("x", "BYTES", shape, data)] });
    await refused(text([2], encodeByteStrings(["one"])), "input_shape");
    await refused(text([1], encodeByteStrings(["one", "two"])), "input_shape");
    await refused(text([1], Uint8Array.of(9, 0, 0, 0, 65)), "input_shape");
    await refused(text([1], Uint8Array.of(1, 0)), "input_shape");
    await refused(text([1], Uint8Array.of(1, 0, 0, 0, 0xff)), "input_datatype");
    await refused(text([1], Uint8Array.of(1, 0, 0, 0, 0)), "input_datatype");
  });

  test("refuses tensors past its limits, going in and coming out", async () => {
    const texts = model("BYTES.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.STRING, ["n"])));
    const flags = model("BOOL.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.BOOL, ["n"])));
    const echo = model("FP64.onnx", encodeModelFile(make.identity(ELEMENT_TYPE.DOUBLE, ["n"])));
    const sized = async (count: number): Promise<unknown> =>
      await runtime.run({ model: echo, inputs: [bytes("x", "FP64", [count], new Uint8Array(count * 8))] });
    await refused(sized(12_501), "tensor_too_large");
    await expect(sized(12_500)).resolves.toBeDefined();
    const many = bytes("x", "BOOL", [20_001], new Uint8Array(20_001));
    await refused(runtime.run({ model: flags, inputs: [many] }), "tensor_too_large");
    const deep = bytes("x", "BOOL", Array<number>(33).fill(1), new Uint8Array(1));
    await refused(runtime.run({ model: flags, inputs: [deep] }), "tensor_too_large");
    await refused(runtime.run({ model: texts, inputs: [strings([1], ["x".repeat(100_000)])] }), "tensor_too_large");
    const grows = model("grows.onnx", {
      inputs: [{ name: "size", elementType: ELEMENT_TYPE.INT64, shape: [1] }],
      outputs: [{ name: "y", elementType: ELEMENT_TYPE.FLOAT, shape: [null] }],
      nodes: [{ opType: "ConstantOfShape", inputs: ["size"], outputs: ["y"] }],
    });
    await refused(runtime.run({ model: grows, inputs: [make.int64("size", [1], [20_001])] }), "tensor_too_large");
    const fits = await runtime.run({ model: grows, inputs: [make.int64("size", [1], [20_000])] });
    expect(make.first(fits.outputs).shape).toEqual([20_000]);
  });

  test("reads the file again at every load and refuses what is not what was asked for", async () => {
    const good = model("good.onnx", make.mlp(50));
    await refused(
      runtime.run({ model: { ...good, sha256: "0".repeat(64) }, inputs: [x16(1)] }),
      "model_digest_mismatch",
    );
    const other = encodeModelFile(make.mlp(51));
    folder.put("good.onnx", other);
    await refused(runtime.prepare(good), "model_digest_mismatch");
    await expect(runtime.prepare({ ...good, sha256: make.sha256(other) })).resolves.toBeDefined();
    const noise = Buffer.from("not a model at all");
    await refused(runtime.prepare(model("noise.onnx", noise)), "model_invalid");
    await refused(runtime.prepare(model("cut.onnx", other.subarray(0, other.length - 9))), "model_invalid");
    await refused(runtime.prepare({ ...good, path: join(folder.path, "none.onnx") }), "model_invalid");
    await refused(runtime.prepare({ ...good, path: folder.path }), "model_invalid");
    await refused(runtime.prepare({ ...good, path: "good.onnx" }), "model_invalid");
  });

  test("refuses links to models", async () => {
    const target = model("linked.onnx", make.mlp(60));
    const soft = join(folder.path, `soft-${profile}.onnx`);
    symlinkSync(target.path, soft);
    await refused(runtime.prepare({ ...target, path: soft }), "model_invalid");
    linkSync(target.path, join(folder.path, `hard-${profile}.onnx`));
    await refused(runtime.prepare(target), "model_invalid");
  });

  test("refuses types that it cannot carry without asking the engine", async () => {
    await refused(runtime.prepare(model("int4.onnx", make.aborts())), "datatype_unsupported");
    const sequenceOut: GraphParts = {
      inputs: [{ name: "x", elementType: ELEMENT_TYPE.FLOAT, shape: [2] }],
      outputs: [{ name: "y", elementType: ELEMENT_TYPE.FLOAT, shape: [2] }],
      nodes: [{ opType: "NoSuchOperator", inputs: ["x"], outputs: ["y"] }],
    };
    await refused(runtime.prepare(model("unknown.onnx", sequenceOut)), "model_invalid");
  });

  describe("weights in other files", () => {
    const weights = (): Uint8Array => words(Float32Array.from(pseudoRandom(8, 3)));
    const graph = (entries: Record<string, string>): Uint8Array =>
      encodeModelFile({
        inputs: [{ name: "x", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] }],
        outputs: [{ name: "y", elementType: ELEMENT_TYPE.FLOAT, shape: ["n", 2] }],
        initializers: [
          { name: "w", elementType: ELEMENT_TYPE.FLOAT, dims: [2, 2], external: entries },
          floatTensor("b", [2], [1, 2]),
        ],
        nodes: [{ opType: "Gemm", inputs: ["x", "w", "b"], outputs: ["y"] }],
      });
    const given = (location: string): { files: { path: string; sha256: string }[] } => ({
      files: [{ path: location, sha256: make.sha256(weights()) }],
    });

    test("are copied into the model after their digest was checked", async () => {
      mkdirSync(join(folder.path, "inner"), { recursive: true });
      folder.put("inner/weights.bin", weights());
      const outside = model("outside.onnx", graph({ location: "inner/weights.bin", offset: "16", length: "16" }));
      const { outputs } = await runtime.run({
        model: { ...outside, ...given("inner/weights.bin") },
        inputs: [make.fp32("x", [1, 2], [1, 0])],
      });
      const w = pseudoRandom(8, 3).slice(4);
      for (const [i, value] of make.numbers(outputs[0]).entries()) expect(value).toBeCloseTo(make.at(w, i) + i + 1, 5);
    });

    test.each([
      ["../weights.bin", {}],
      ["inner/../../weights.bin", {}],
      ["/etc/hostname", {}],
      ["inner//weights.bin", {}],
      ["inner\\weights.bin", {}],
      ["weights.bin", { offset: "20", length: "16" }],
      ["weights.bin", { offset: "-4" }],
      ["weights.bin", { offset: "18446744073709551600", length: "32" }],
      ["weights.bin", { length: "8" }],
      ["soft.bin", {}],
      ["hard.bin", {}],
      ["through/weights.bin", {}],
    ])("are refused at %s with %j", async (location, entries) => {
      folder.put("weights.bin", weights());
      folder.put("twice.bin", weights());
      for (const [make, target, name] of [
        [symlinkSync, "weights.bin", "soft.bin"],
        [linkSync, "twice.bin", "hard.bin"],
        [symlinkSync, ".", "through"],
      ] as const) {
        try {
          make(join(folder.path, target), join(folder.path, name));
        } catch {
          // Left by the case before.
        }
      }
      const bad = model("bad.onnx", graph({ location, ...entries }));
      await refused(runtime.prepare({ ...bad, ...given(location) }), "model_invalid");
    });

    test("are refused when not listed or not what was listed", async () => {
      folder.put("weights.bin", weights());
      const outside = model("listed.onnx", graph({ location: "weights.bin" }));
      await refused(runtime.prepare(outside), "model_invalid");
      const wrong = { files: [{ path: "weights.bin", sha256: "1".repeat(64) }] };
      await refused(runtime.prepare({ ...outside, ...wrong }), "model_digest_mismatch");
    });
  });

  test("runs waiting requests together when that changes no bit", async () => {
    const mlp = model("mlp.onnx", make.mlp());
    const alone = [];
    for (let i = 0; i < 30; i++) alone.push(await runtime.run({ model: mlp, inputs: [x16(1 + (i % 3), i)] }));
    const together = await Promise.all(
      alone.map(async (_, i) => await runtime.run({ model: mlp, inputs: [x16(1 + (i % 3), i)] })),
    );
    expect(together.map((result) => result.outputs)).toEqual(alone.map((result) => result.outputs));
    expect(make.first(together).batchedRequests).toBeGreaterThan(20);
    // 1, 2 and 3 rows in turn: the first 64 rows, then what is left.
    expect(together.every((result) => result.batchedRequests < 35)).toBe(true);
    expect(alone.every((result) => result.batchedRequests === 1)).toBe(true);
  });

  test("does not stack requests of another shape, of other outputs, or of a model that mixes rows", async () => {
    const both = model("pair.onnx", pair);
    const a = make.fp32("a", [1, 2], [1, 2]);
    const b = make.fp32("b", [1, 2], [3, 4]);
    const mixed = await Promise.all([
      runtime.run({ model: both, inputs: [a, b], outputs: ["sum"] }),
      runtime.run({ model: both, inputs: [a, b], outputs: ["difference"] }),
    ]);
    expect(mixed.map((result) => result.batchedRequests)).toEqual([1, 1]);
    const mixing = model("mixes.onnx", make.mixesRows());
    expect((await runtime.prepare(mixing)).metadata.batchInvariant).toBe(false);
    const rows = [1, 5, 9].map(async (v) => {
      const { outputs, batchedRequests } = await runtime.run({
        model: mixing,
        inputs: [make.fp32("x", [1, 4], [v, v, v, v])],
      });
      expect(batchedRequests).toBe(1);
      expect(make.numbers(outputs[0])).toEqual([0, 0, 0, 0]);
    });
    await Promise.all(rows);
  });

  test("finds the guilty request of a batch and answers the others", async () => {
    const table = model("gathers.onnx", make.gathers());
    expect((await runtime.prepare(table)).metadata.batchInvariant).toBe(true);
    const results = await Promise.allSettled(
      [0, 1, 77, 2].map(async (i) => await runtime.run({ model: table, inputs: [make.int64("i", [1], [i])] })),
    );
    expect(results.map((result) => result.status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    expect(results[2]).toMatchObject({ reason: { code: "model_failed" } });
    expect(results[3]).toMatchObject({ value: { batchedRequests: 1 } });
  });

  test("lets callers go: before the start, while waiting, while running", async () => {
    const mlp = model("mlp.onnx", make.mlp());
    await refused(runtime.run({ model: mlp, inputs: [x16(1)], signal: AbortSignal.abort() }), "request_cancelled");
    const slow = model("loops.onnx", make.loops());
    await runtime.prepare(slow);
    const running = new AbortController();
    const waiting = new AbortController();
    const before = runtime.stats().restarts;
    const first = runtime.run({ model: slow, inputs: [make.int64("count", [], [200_000])], signal: running.signal });
    const second = runtime.run({ model: mlp, inputs: [x16(1)], signal: waiting.signal });
    const third = runtime.run({ model: mlp, inputs: [x16(1)] });
    setImmediate(() => {
      running.abort();
      waiting.abort();
    });
    await refused(first, "request_cancelled");
    await refused(second, "request_cancelled");
    await expect(third).resolves.toBeDefined();
    await refused(
      runtime.run({ model: slow, inputs: [make.int64("count", [], [500_000])], timeoutMs: 1 }),
      "model_timeout",
    );
    await expect(runtime.run({ model: mlp, inputs: [x16(1)] })).resolves.toBeDefined();
    expect(runtime.stats().restarts).toBe(before);
  });
});

/** The arithmetic of {@link make.mlp} in double precision. */
function perceptron(input: readonly number[]): number[] {
  const [w1, b1, w2, b2] = [pseudoRandom(512, 1), pseudoRandom(32, 2), pseudoRandom(128, 3), pseudoRandom(4, 4)];
  const out: number[] = [];
  for (let row = 0; row < input.length / 16; row++) {
    const hidden = b1.map((bias, j) => {
      let sum = bias;
      for (let k = 0; k < 16; k++) sum += make.at(input, row * 16 + k) * make.at(w1, k * 32 + j);
      return Math.max(0, sum);
    });
    for (const [j, bias] of b2.entries()) {
      let sum = bias;
      for (const [k, value] of hidden.entries()) sum += value * make.at(w2, k * 4 + j);
      out.push(sum);
    }
  }
  return out;
}
