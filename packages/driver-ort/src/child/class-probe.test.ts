import { expect, test } from "vitest";
import { probeCpuClass } from "./class-probe.ts";
import { describePort, loadEngine } from "./engine.ts";
import type { Engine } from "./engine.ts";

/**
 * Of onnxruntime-web 1.30.0 on any processor. Receipts carry it and are compared by it, so nothing but another version
 * of the engine may change it.
 */
const PORTABLE = "1f3bd7443db870372dca65577579e05591c80334522b6bc234df6be7b2a3077d";

test("WebAssembly has one class, on all machines", async () => {
  expect(await probeCpuClass(await loadEngine("portable", describePort))).toBe(PORTABLE);
});

test("an engine that gives no output has no class", async () => {
  const native = await loadEngine("native", describePort);
  const mute: Engine = {
    ...native,
    create: async (model) => ({ ...(await native.create(model)), run: () => Promise.resolve({}) }),
  };
  await expect(probeCpuClass(mute)).rejects.toThrow(/no output/);
});
