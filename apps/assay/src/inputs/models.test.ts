import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Tensor } from "@assay/protocol";
import * as wasm from "onnxruntime-web";
import { PNG } from "pngjs";
import { beforeAll, describe, expect, test } from "vitest";
import { readSileroSource, wrapSilero } from "../demo/silero.ts";
import { formatOutputs } from "./format-outputs.ts";
import { loadInputs } from "./load-inputs.ts";
import { readNpy } from "./npy.ts";
import { parsePreprocessing } from "./preprocessing.ts";
import { readFileBytes } from "./read-bytes.ts";

const models = new URL("../../../../models/", import.meta.url);
const read = (path: string) => new Uint8Array(readFileSync(new URL(path, models)));
const never = () => Promise.reject(new Error("standard input was read"));
const quiet = { logSeverityLevel: 4 } as const;

beforeAll(() => {
  wasm.env.wasm.numThreads = 1;
});

function present<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("expected a value");
  return value;
}

function asFloats({ data }: Tensor): Float32Array {
  return new Float32Array(data.slice().buffer);
}

describe("digits", () => {
  const preprocessing = parsePreprocessing(read("digits/preprocessing.json"));
  const signature = [{ name: "image", datatype: "FP32", shape: [-1, 1, 8, 8] }] as const;
  let session: wasm.InferenceSession;
  beforeAll(async () => {
    session = await wasm.InferenceSession.create(read("digits/model.onnx"), quiet);
  });

  async function classify(values: Float32Array): Promise<number[]> {
    const { label } = await session.run({ image: new wasm.Tensor("float32", values, [values.length / 64, 1, 8, 8]) });
    return [...(present(label).data as BigInt64Array)].map(Number);
  }

  async function readPicture(png: Uint8Array): Promise<Tensor> {
    const readFile = () => Promise.resolve(png);
    const loaded = await loadInputs(["image=@a.png"], { signature, preprocessing, readFile, stdin: never });
    expect(loaded.preprocessing?.digest).toBe(preprocessing.digest);
    return present(loaded.tensors[0]);
  }

  test("reads as many held-out images as its card says", async () => {
    const images = readNpy(read("digits/samples/held-out-images.npy"), "images");
    const labels = readNpy(read("digits/samples/held-out-labels.npy"), "labels");
    expect([images.shape, labels.shape]).toEqual([[360, 8, 8], [360]]);
    const found = await classify(Float32Array.from(images.data, (ink) => ink / 16));
    const right = found.filter((digit, index) => digit === labels.data[index]).length;
    const card = readFileSync(new URL("digits/card.md", models), "utf8");
    expect(card).toContain(`**${right} right, ${((100 * right) / 360).toFixed(2)} %**`);
    expect(card).toContain(createHash("sha256").update(read("digits/model.onnx")).digest("hex"));
    expect(right / 360).toBeGreaterThan(0.97);
  });

  test.each(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])(
    "reads %s.png, also turned round, smaller, and transparent",
    async (name) => {
      const path = fileURLToPath(new URL(`digits/samples/${name}.png`, models));
      const wanted = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"].indexOf(name);
      const specs = [`image=@${path}`];
      const { tensors } = await loadInputs(specs, { signature, preprocessing, readFile: readFileBytes, stdin: never });
      const original = PNG.sync.read(Buffer.from(read(`digits/samples/${name}.png`)));
      const variants = [inverted(original), halved(original), pen(original)];
      const pictures = [...tensors];
      for (const variant of variants) pictures.push(await readPicture(new Uint8Array(PNG.sync.write(variant))));
      const values = Float32Array.from(pictures.flatMap((tensor) => [...asFloats(tensor)]));
      expect(await classify(values)).toEqual([wanted, wanted, wanted, wanted]);
      // Dark on light is the same drawing, so the same bytes.
      expect(pictures[1]?.data).toEqual(pictures[0]?.data);
    },
  );

  test("three.png becomes the bytes it became before, on every machine", async () => {
    const { data, shape } = await readPicture(read("digits/samples/three.png"));
    expect(shape).toEqual([1, 1, 8, 8]);
    expect(createHash("sha256").update(data).digest("hex")).toBe(
      "725d55b50efd91d2fd8c7cc34fe0e0ec47de33e273dba0db29e81d1877c617bd",
    );
  });

  test("an empty sheet is refused rather than read", async () => {
    const sheet = new PNG({ width: 50, height: 50 });
    sheet.data.fill(255);
    await expect(readPicture(new Uint8Array(PNG.sync.write(sheet)))).rejects.toThrow(
      expect.objectContaining({ code: "input_blank" }),
    );
  });
});

describe("silero-vad", () => {
  test("hears the sample where it speaks, and says so in seconds", async () => {
    const preprocessing = parsePreprocessing(read("silero-vad/preprocessing.json"));
    const path = fileURLToPath(new URL("silero-vad/samples/speech.wav", models));
    const signature = [{ name: "audio", datatype: "FP32", shape: [-1] }] as const;
    const { tensors } = await loadInputs([`audio=@${path}`], {
      signature,
      preprocessing,
      readFile: readFileBytes,
      stdin: never,
    });
    const audio = present(tensors[0]);
    expect(audio.shape).toEqual([56_000]);
    const session = await wasm.InferenceSession.create(wrapSilero(await readSileroSource()), quiet);
    const values = asFloats(audio);
    const result = await session.run({ audio: new wasm.Tensor("float32", values, [values.length]) });
    const found = present(result["speech_probability"]).data as Float32Array;
    const output: Tensor = {
      name: "speech_probability",
      datatype: "FP32",
      shape: [found.length],
      data: new Uint8Array(found.slice().buffer),
    };
    const shown = formatOutputs([output], { document: preprocessing.document });
    expect(shown).toMatch(/speech: 0\.[67]\d-1\.\d\d s, 1\.\d\d-2\.\d\d s of 3\.52 s$/);
  });
});

function mapped(
  source: PNG | ReturnType<typeof PNG.sync.read>,
  size: number,
  pixel: (x: number, y: number) => number[],
): PNG {
  const out = new PNG({ width: source.width / size, height: source.height / size });
  for (let y = 0; y < out.height; y++)
    for (let x = 0; x < out.width; x++) out.data.set(pixel(x, y), (y * out.width + x) * 4);
  return out;
}

function ink(source: ReturnType<typeof PNG.sync.read>, x: number, y: number): number {
  return source.data[(y * source.width + x) * 4] ?? 0;
}

function inverted(source: ReturnType<typeof PNG.sync.read>): PNG {
  return mapped(source, 1, (x, y) => [255 - ink(source, x, y), 255 - ink(source, x, y), 255 - ink(source, x, y), 255]);
}

function halved(source: ReturnType<typeof PNG.sync.read>): PNG {
  return mapped(source, 8, (x, y) => [ink(source, x * 8 + 4, y * 8 + 4), 0, 0, 255]);
}

/** A blue pen on a transparent sheet. */
function pen(source: ReturnType<typeof PNG.sync.read>): PNG {
  return mapped(source, 1, (x, y) => [20, 30, 160, ink(source, x, y)]);
}
