import { createHash } from "node:crypto";
import { AssayError } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import { describe, expect, test } from "vitest";
import { checkModel } from "./check.ts";
import { cpuClass, pseudoRandom } from "./cpu-class.ts";
import type { CpuProbe } from "./cpu-class.ts";
import { readModel } from "./read.ts";
import { graphSignature } from "./signature.ts";

const sha = (...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};
const probes: CpuProbe[] = [];
await cpuClass(nobleSuite.sha256, (probe) => {
  probes.push(probe);
  return Promise.resolve(new Uint8Array());
});

describe("the class of a processor", () => {
  test("comes from these models and inputs: with others every machine would get another class", () => {
    expect(probes.map(({ model, input }) => sha(model, input.data).slice(0, 16))).toEqual([
      "5905d5296639b976",
      "7c17fb481a10807e",
      "3eccd15109bcf8ea",
      "104c708bb3b88259",
      "0983a085e5b38f81",
      "57b0c134783693d4",
    ]);
  });

  test("is the hash of a name and of the outputs in order, whoever hashes", async () => {
    const outputs = probes.map((_, i) => Uint8Array.of(i, i + 1));
    let next = 0;
    const run = (): Promise<Uint8Array> => Promise.resolve(outputs[next++] as Uint8Array);
    expect(await cpuClass(nobleSuite.sha256, run)).toBe(sha("assay cpu class v1\n", ...outputs));
  });

  test("changes with one bit of any output", async () => {
    const of = async (changed: number): Promise<string> => {
      let next = 0;
      return await cpuClass(nobleSuite.sha256, () => Promise.resolve(Uint8Array.of(7, next++ === changed ? 1 : 0)));
    };
    const classes = await Promise.all([...probes.keys(), -1].map(of));
    expect(new Set(classes).size).toBe(probes.length + 1);
  });

  test("is not given when a probe fails, and no further probe is run", async () => {
    let ran = 0;
    const failing = cpuClass(nobleSuite.sha256, () => {
      ran++;
      return Promise.reject(new AssayError("model_failed", "The engine failed."));
    });
    await expect(failing).rejects.toMatchObject({ code: "model_failed" });
    expect(ran).toBe(1);
  });

  test("is asked of models that are what they say and that the checker lets through", () => {
    for (const { model, input, output } of probes) {
      expect(checkModel(model)).toMatchObject({ accepted: true, findings: [] });
      expect(graphSignature(readModel(model))).toMatchObject({
        inputs: [{ name: "x", datatype: input.datatype, shape: input.shape }],
        outputs: [{ name: "y", datatype: output }],
      });
      const size = input.datatype === "FP32" ? 4 : 1;
      expect(input.data.length).toBe(input.shape.reduce((count, axis) => count * axis, size));
      // The engines make a view of other elements on it.
      expect([input.data.byteOffset, input.data.buffer.byteLength]).toEqual([0, input.data.length]);
    }
  });
});

describe("pseudo-random numbers", () => {
  test("are the same everywhere, of seed 1", () => {
    expect(pseudoRandom(3, 1)).toEqual([-0.48420250415802, -0.6297880411148071, 0.5415253639221191]);
  });

  test("lie in [-1, 1), are float32, and begin alike however many are asked for", () => {
    const many = pseudoRandom(1000, 5);
    expect(many.filter((value) => value < -1 || value >= 1 || Math.fround(value) !== value)).toEqual([]);
    expect(many.slice(0, 10)).toEqual(pseudoRandom(10, 5));
    expect(pseudoRandom(10, 6)).not.toEqual(pseudoRandom(10, 5));
    expect(pseudoRandom(0, 5)).toEqual([]);
  });
});
