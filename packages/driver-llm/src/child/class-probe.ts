import { createHash } from "node:crypto";
import { cpuClass } from "@assay/onnx";
import type { CpuProbe } from "@assay/onnx";
import type { Ort } from "./ort.ts";

/**
 * The class of this machine's kernels, see {@link cpuClass}: the value that the driver for tensors gives for the same
 * engine, so that one machine has one class.
 */
export async function probeCpuClass(ort: Ort): Promise<string> {
  return await cpuClass(sha256, async (probe) => await run(ort, probe));
}

async function run(ort: Ort, { model, input: { datatype, shape, data } }: CpuProbe): Promise<Uint8Array> {
  const session = await ort.create(model);
  const x =
    datatype === "UINT8"
      ? new ort.Tensor("uint8", data, shape)
      : new ort.Tensor("float32", new Float32Array(data.buffer, data.byteOffset, data.length / 4), shape);
  const { y } = await session.run({ x });
  if (!ArrayBuffer.isView(y?.data)) throw new Error("A probe model gave no output.");
  const bytes = new Uint8Array(y.data.buffer, y.data.byteOffset, y.data.byteLength).slice();
  await session.release();
  return bytes;
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
