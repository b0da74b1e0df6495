import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { create, fromBinary } from "@bufbuild/protobuf";
import { GraphProtoSchema, ModelProtoSchema, NodeProtoSchema } from "onnx-buf";
import * as native from "onnxruntime-node";
import * as wasm from "onnxruntime-web";
import { beforeAll, describe, expect, test } from "vitest";
import { flattenIfs, liveNodes } from "./flatten-ifs.ts";
import { floatValue, graphAttribute, node } from "./onnx-build.ts";
import { readSileroSource, SILERO, wrapSilero } from "./silero.ts";

const models = new URL("../../../../models/silero-vad/", import.meta.url);

let source: Uint8Array;
let wrapped: Uint8Array;

beforeAll(async () => {
  source = await readSileroSource();
  wrapped = wrapSilero(source);
  wasm.env.wasm.numThreads = 1;
});

function spoken(): Float32Array {
  const file = readFileSync(new URL("samples/speech.wav", models));
  const samples = new Float32Array((file.length - 44) / 2);
  return samples.map((_, index) => file.readInt16LE(44 + 2 * index) / 32_768);
}

/** Frame at a time in seconds. */
function at(seconds: number): number {
  return Math.floor((seconds * SILERO.sampleRateHz) / SILERO.frameSamples);
}

function branch(name: string) {
  return create(GraphProtoSchema, { name, node: [node("Neg", ["x"], [name])], output: [floatValue(name, [])] });
}

function present<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("expected a value");
  return value;
}

/** White noise at a tenth of full scale from a linear congruential generator. */
function noise(length: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state / 0xffff_ffff - 0.5) * 0.2;
  });
}

type Engine = {
  frames(audio: Float32Array): Promise<Float32Array>;
  /** The untouched source, frame after frame, with state and context carried out here. */
  reference(audio: Float32Array): Promise<Float32Array>;
};

const engines: readonly [string, () => Promise<Engine>][] = [
  [
    "onnxruntime-node",
    async () => {
      const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 } as const;
      const whole = await native.InferenceSession.create(wrapped, options);
      const single = await native.InferenceSession.create(source, options);
      return engine(native.Tensor, whole, single);
    },
  ],
  [
    "onnxruntime-web",
    async () => {
      const whole = await wasm.InferenceSession.create(wrapped, { logSeverityLevel: 4 });
      const single = await wasm.InferenceSession.create(source, { logSeverityLevel: 4 });
      return engine(wasm.Tensor, whole, single);
    },
  ],
];

function engine(Tensor: typeof native.Tensor, whole: native.InferenceSession, single: native.InferenceSession): Engine {
  return {
    async frames(audio) {
      const result = await whole.run({ audio: new Tensor("float32", audio, [audio.length]) });
      const { data, dims } = present(result["speech_probability"]);
      expect(dims).toEqual([Math.ceil(audio.length / SILERO.frameSamples)]);
      return data as Float32Array;
    },
    async reference(audio) {
      const found: number[] = [];
      let state: native.Tensor = new Tensor("float32", new Float32Array(256), [2, 1, 128]);
      let context = new Float32Array(64);
      for (let start = 0; start < audio.length; start += 512) {
        const input = new Float32Array(576);
        input.set(context);
        input.set(audio.subarray(start, start + 512), 64);
        context = input.slice(512);
        const result = await single.run({
          input: new Tensor("float32", input, [1, 576]),
          state,
          sr: new Tensor("int64", BigInt64Array.of(16_000n), []),
        });
        found.push(...(present(result["output"]).data as Float32Array));
        state = present(result["stateN"]);
      }
      return Float32Array.from(found);
    },
  };
}

describe.each(engines)("the wrapped detector in %s", (_, start) => {
  let subject: Engine;
  beforeAll(async () => {
    subject = await start();
  });

  test("hears speech exactly where the untouched source hears it, bit by bit", async () => {
    const audio = spoken();
    const found = await subject.frames(audio);
    expect(found).toEqual(await subject.reference(audio));
    // The spoken part runs from 0.7 s to about 2.6 s, with the synthesiser's own faint edges.
    expect(Math.max(...found.subarray(0, at(0.65)))).toBeLessThan(0.1);
    expect(Math.min(...found.subarray(at(0.85), at(1.25)))).toBeGreaterThan(0.7);
    expect(Math.max(...found.subarray(at(2.8)))).toBeLessThan(0.1);
  });

  test("hears none in noise, silence, or a constant", async () => {
    for (const audio of [noise(32_000), new Float32Array(16_000), new Float32Array(8_000).fill(0.5)]) {
      const found = await subject.frames(audio);
      expect(found).toEqual(await subject.reference(audio));
      expect(Math.max(...found)).toBeLessThan(0.3);
    }
  });

  test.each([1, 511, 512, 513, 1024, 1500])(
    "pads %i samples to whole frames as the source's caller would",
    async (count) => {
      const audio = spoken().slice(15_000, 15_000 + count);
      expect(await subject.frames(audio)).toEqual(await subject.reference(audio));
    },
  );

  test("refuses no audio at all", async () => {
    await expect(subject.frames(new Float32Array(0))).rejects.toThrow(/Scan|dim0_offset/);
  });
});

describe("the recipe", () => {
  test("writes the bytes that the card names, every time", () => {
    const digest = createHash("sha256").update(wrapped).digest("hex");
    expect(Buffer.from(wrapSilero(source)).equals(wrapped)).toBe(true);
    const card = readFileSync(new URL("card.md", models), "utf8");
    for (const fact of [digest, SILERO.sha256, SILERO.recipe, SILERO.path, SILERO.packageVersion])
      expect(card).toContain(fact);
  });

  test("carries its origin in the model's metadata and keeps no branch", () => {
    const model = fromBinary(ModelProtoSchema, wrapped);
    expect(Object.fromEntries(model.metadataProps.map(({ key, value }) => [key, value]))).toEqual({
      "assay.recipe": SILERO.recipe,
      "assay.source": "npm:@ricky0123/vad-web@0.0.31/dist/silero_vad_v5.onnx",
      "assay.source.sha256": SILERO.sha256,
      licence: "MIT",
    });
    const scan = present(present(model.graph).node.find(({ opType }) => opType === "Scan"));
    const body = present(present(scan.attribute[0]).g);
    expect(body.node.some(({ opType }) => opType === "If")).toBe(false);
  });

  test("refuses a source that differs in one bit, is cut, or is empty", () => {
    const flipped = source.slice();
    flipped.set([present(source[1_000]) ^ 1], 1_000);
    for (const wrong of [flipped, source.subarray(0, -1), new Uint8Array()])
      expect(() => wrapSilero(wrong)).toThrow(expect.objectContaining({ code: "demo_model_changed" }));
  });
});

describe("flattening", () => {
  const graph = create(GraphProtoSchema, {
    node: [
      node(
        "If",
        ["c"],
        ["y"],
        [graphAttribute("then_branch", branch("t")), graphAttribute("else_branch", branch("e"))],
      ),
    ],
  });

  test("takes the branch decided for and connects its output", () => {
    for (const [decision, name] of [
      [true, "t"],
      [false, "e"],
    ] as const) {
      const flat = flattenIfs(graph, new Map([["c", decision]]));
      expect(flat.map(({ opType, input, output }) => [opType, ...input, ...output])).toEqual([
        ["Neg", "x", name],
        ["Identity", name, "y"],
      ]);
    }
  });

  test("refuses an undecided condition, a missing branch, and outputs that do not pair", () => {
    const changed = expect.objectContaining({ code: "demo_model_changed" });
    expect(() => flattenIfs(graph, new Map())).toThrow(changed);
    const bare = create(GraphProtoSchema, { node: [node("If", ["c"], ["y"])] });
    expect(() => flattenIfs(bare, new Map([["c", true]]))).toThrow(changed);
    const uneven = create(GraphProtoSchema, {
      node: [node("If", ["c"], ["y", "z"], [graphAttribute("then_branch", branch("t"))])],
    });
    expect(() => flattenIfs(uneven, new Map([["c", true]]))).toThrow(changed);
  });

  test("drops what no output needs", () => {
    const nodes = [
      node("Neg", ["a"], ["b"]),
      node("Abs", ["a"], ["unused"]),
      create(NodeProtoSchema, node("Exp", ["b"], ["c"])),
    ];
    expect(liveNodes(nodes, ["c"]).map(({ opType }) => opType)).toEqual(["Neg", "Exp"]);
    expect(liveNodes(nodes, [])).toEqual([]);
  });
});
