import { createHash } from "node:crypto";
import { cpuClass } from "@assay/onnx";
import type { CpuProbe } from "@assay/onnx";
import type { Engine } from "./engine.ts";
import { fromEngine, toEngine } from "./tensor.ts";

/**
 * The class of this machine's kernels under `engine`, see {@link cpuClass}. The native engine gives the value that the
 * driver for language models gives; WebAssembly, whose results are equal on every processor, gives one for all machines.
 */
export async function probeCpuClass(engine: Engine): Promise<string> {
  return await cpuClass(sha256, async (probe) => await run(engine, probe));
}

async function run(engine: Engine, { model, input, output }: CpuProbe): Promise<Uint8Array> {
  const session = await engine.create(model);
  const { y } = await session.run({ x: toEngine(engine.Tensor, input.datatype, input.shape, input.data) }, ["y"]);
  if (y === undefined) throw new Error("A probe model gave no output.");
  const bytes = fromEngine(output, y).slice();
  await session.release();
  return bytes;
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
