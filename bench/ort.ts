// What a supervised child process costs: runs through the runtime against the same session called in this process.
// Prints, per engine, the round trip of one request at a time and the rate of 64 requests at once, with requests
// stacked and not stacked, and the same for a tensor of 600 kB.
//
//   npx tsc -b packages/driver-ort && npx tsx --conditions=assay-source bench/ort.ts
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createOrtRuntime } from "@assay/driver-ort";
import type { OrtModelRef, OrtRuntime } from "@assay/driver-ort";
import type { RuntimeProfile, Tensor } from "@assay/protocol";

const SEQUENTIAL = 2_000;
const LARGE = 200;
const TOGETHER = 64;
const ROUNDS = 40;

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const childEntry = here("../packages/driver-ort/dist/child/main.js");
if (!existsSync(childEntry)) throw new Error("build first: npx tsc -b packages/driver-ort");

const fp32 = (name: string, shape: readonly number[]): Tensor => {
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(0.25);
  return { name, datatype: "FP32", shape, data: new Uint8Array(values.buffer) };
};
const small = fp32("x", [1, 16]);
const image = fp32("image", [1, 3, 224, 224]);

type Work = () => Promise<unknown>;

/** Medians of single calls in microseconds: wall time between asking and having the answer. */
async function roundTrip(times: number, run: Work): Promise<{ median: number; p99: number }> {
  for (let i = 0; i < times; i++) await run();
  const all: number[] = [];
  for (let i = 0; i < times; i++) {
    const before = performance.now();
    await run();
    all.push((performance.now() - before) * 1000);
  }
  all.sort((a, b) => a - b);
  return { median: all[all.length >> 1] ?? 0, p99: all[Math.floor(all.length * 0.99)] ?? 0 };
}

/** Microseconds per request when many are asked for at once, the best round. */
async function together(run: Work): Promise<number> {
  let best = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const before = performance.now();
    await Promise.all(Array.from({ length: TOGETHER }, run));
    best = Math.min(best, ((performance.now() - before) * 1000) / TOGETHER);
  }
  return best;
}

/** The same session in this process, with the settings of the profile. */
async function inProcess(profile: RuntimeProfile, path: string, input: Tensor): Promise<Work> {
  const ort = profile === "native" ? await import("onnxruntime-node") : await import("onnxruntime-web");
  if (profile === "portable") ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(path), {
    executionProviders: [profile === "native" ? "cpu" : "wasm"],
    graphOptimizationLevel: "all",
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const values = new Float32Array(input.data.buffer, input.data.byteOffset, input.data.byteLength / 4);
  return async () => await session.run({ [input.name]: new ort.Tensor("float32", values, input.shape) });
}

function through(runtime: OrtRuntime, model: OrtModelRef, input: Tensor): Work {
  return async () => await runtime.run({ model, inputs: [input] });
}

function row(what: string, us: number, floor: number, more = ""): void {
  const ratio = `${(us / floor).toFixed(2)}x`;
  console.log(`${what.padEnd(46)} ${us.toFixed(1).padStart(9)} us ${ratio.padStart(9)}  ${more}`);
}

console.log(
  `Node ${process.version}, ${process.platform} ${process.arch}; ratios are to the same work in this process`,
);
for (const profile of ["native", "portable"] as const) {
  const ref = (name: string): OrtModelRef => {
    const path = here(`../models/bench/${name}`);
    const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex");
    return { manifestDigest: sha256, path, sha256, profile };
  };
  const mlp = ref("tiny-mlp.onnx");
  const identity = ref("identity-image.onnx");
  const stacked = createOrtRuntime({ childEntry });
  const single = createOrtRuntime({ childEntry, maxBatchRows: 1 });
  try {
    const before = performance.now();
    await stacked.prepare(mlp);
    console.log(`\n${profile}: child started and model loaded in ${(performance.now() - before).toFixed(0)} ms`);
    await single.prepare(mlp);

    const here1 = await inProcess(profile, mlp.path, small);
    const floor = await roundTrip(SEQUENTIAL, here1);
    const child = await roundTrip(SEQUENTIAL, through(stacked, mlp, small));
    row("tiny MLP, in this process", floor.median, floor.median, `p99 ${floor.p99.toFixed(0)} us`);
    row("tiny MLP, in a child", child.median, floor.median, `p99 ${child.p99.toFixed(0)} us`);

    const floorMany = await together(here1);
    row(`${TOGETHER} at once, in this process, per request`, floorMany, floorMany);
    row(`${TOGETHER} at once, in a child, not stacked`, await together(through(single, mlp, small)), floorMany);
    row(`${TOGETHER} at once, in a child, stacked`, await together(through(stacked, mlp, small)), floorMany);

    const large = await roundTrip(LARGE, await inProcess(profile, identity.path, image));
    const largeChild = await roundTrip(LARGE, through(stacked, identity, image));
    row("602 kB in and out, in this process", large.median, large.median);
    row("602 kB in and out, in a child", largeChild.median, large.median);
  } finally {
    await Promise.all([stacked.close(), single.close()]);
  }
}
