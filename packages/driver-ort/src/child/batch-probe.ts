import { pseudoRandom } from "@assay/onnx";
import { performance } from "node:perf_hooks";
import { ELEMENT_BYTES } from "../datatypes.ts";
import { mayBatch } from "../signature.ts";
import type { Port, Signature } from "../signature.ts";
import type { Engine, EngineSession } from "./engine.ts";
import { fromEngine, toEngine } from "./tensor.ts";

/** Batch sizes tried: kernels change paths between one row and several, and at the width of a vector register. */
const BATCHES = [2, 3, 8];
/** Size given to a free axis other than the first; models that need another size say so by failing. */
const FREE_AXIS = 8;

/**
 * Whether rows may run together without changing a bit: eight seeded pseudo-random rows are run alone and in
 * batches of 2, 3 and 8, and every output byte compared. False as well for a model that cannot be stacked, that
 * fails on such inputs (indexes, text), or whose single row takes longer than `rowLimitMs`.
 */
export async function probeBatching(
  engine: Engine,
  session: EngineSession,
  signature: Signature,
  rowLimitMs: number,
): Promise<boolean> {
  if (!mayBatch(signature)) return false;
  if (signature.inputs.some((port) => port.datatype === "BYTES")) return false;
  const rows = Array.from({ length: 8 }, (_, row) => signature.inputs.map((port, i) => rowBytes(port, row * 31 + i)));
  try {
    const alone: Buffer[][] = [];
    for (const row of rows) {
      const started = performance.now();
      const outputs = await runRows(engine, session, signature, [row]);
      // The first run may still allocate; the second shows the price of a row.
      if (alone.length > 0 && performance.now() - started > rowLimitMs) return false;
      if (outputs === undefined) return false;
      alone.push(outputs);
    }
    for (const size of BATCHES) {
      const together = await runRows(engine, session, signature, rows.slice(0, size));
      if (together === undefined) return false;
      for (const [port, bytes] of together.entries()) {
        const expected = Buffer.concat(alone.slice(0, size).map((outputs) => outputs[port] ?? Buffer.alloc(0)));
        if (!bytes.equals(expected)) return false;
      }
    }
    return true;
  } catch {
    // Whatever the engine dislikes about invented inputs is no fault of the model: it just runs row by row.
    return false;
  }
}

async function runRows(
  engine: Engine,
  session: EngineSession,
  { inputs, outputs }: Signature,
  rows: readonly (readonly Uint8Array[])[],
): Promise<Buffer[] | undefined> {
  const feeds: Record<string, ReturnType<typeof toEngine>> = {};
  for (const [index, port] of inputs.entries()) {
    const data = new Uint8Array(Buffer.concat(rows.map((row) => row[index] ?? new Uint8Array())));
    const shape = [rows.length, ...port.shape.slice(1).map(axis)];
    feeds[port.name] = toEngine(engine.Tensor, port.datatype, shape, data);
  }
  const results = await session.run(
    feeds,
    outputs.map((port) => port.name),
  );
  const all: Buffer[] = [];
  for (const port of outputs) {
    const result = results[port.name];
    if (result === undefined || result.dims[0] !== rows.length) return undefined;
    all.push(Buffer.from(fromEngine(port.datatype, result)));
  }
  return all;
}

/** Bytes of one row. Integers are 0 or 1, which is an index into almost any table. */
function rowBytes(port: Port, seed: number): Uint8Array {
  const count = port.shape.slice(1).reduce((product, size) => product * axis(size), 1);
  const values = pseudoRandom(count, seed + 1);
  if (port.datatype === "FP32") return new Uint8Array(Float32Array.from(values).buffer);
  if (port.datatype === "FP64") return new Uint8Array(Float64Array.from(values).buffer);
  const size = ELEMENT_BYTES[port.datatype];
  const out = new Uint8Array(count * size);
  const half = port.datatype === "FP16" || port.datatype === "BF16";
  for (const [i, value] of values.entries()) {
    if (!half) out[i * size] = value < 0 ? 0 : 1;
    // Sign and a spread of exponents below one: any such pattern is a number in both half precisions.
    else
      new DataView(out.buffer).setUint16(i * 2, (value < 0 ? 0x8000 : 0) | (0x2c00 + Math.abs(value) * 0x0fff), true);
  }
  return out;
}

function axis(size: number): number {
  return size < 0 ? FREE_AXIS : size;
}
