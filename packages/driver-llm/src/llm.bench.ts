/**
 * Generation, embeddings and re-check against a bare onnxruntime-node loop in this process, alternating in one run:
 * `node --conditions=assay-source --import tsx packages/driver-llm/src/llm.bench.ts MODEL_FOLDER [ENTRY [TOKENS [ROUNDS [TEMPERATURE]]]]`.
 * Prints one JSON line. The bare loop takes the likeliest token whatever the temperature, so only 0 compares the two.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseJson } from "@assay/core";
import type { EngineModel, GenerateRequest } from "@assay/protocol";
import { createDecoder } from "./child/decoder.ts";
import { loadOrt } from "./child/ort.ts";
import type { OrtTensor } from "./child/ort.ts";
import { createLocalEngine } from "./engine.ts";
import { isObject } from "./json.ts";
import { bundledChild } from "./testing/tiny-model.ts";

const directory = resolve(process.argv[2] ?? "models/chat");
const entry = process.argv[3] ?? "model.onnx";
const tokens = Number(process.argv[4] ?? 256);
const rounds = Number(process.argv[5] ?? 7);
const temperature = Number(process.argv[6] ?? 0);

const files = [entry, "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
  .filter((path) => existsSync(join(directory, path)))
  .map((path) => {
    const bytes = readFileSync(join(directory, path));
    return { path, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
  });
const model: EngineModel = { name: "bench", files: { manifestDigest: "0".repeat(64), directory, entry, files } };
const config = parseJson(readFileSync(join(directory, "config.json")));
if (!isObject(config)) throw new TypeError("config.json is no object");
const ends = [config["eos_token_id"], 0].flat().filter((id) => typeof id === "number");
const prompt = Array.from({ length: 16 }, (_, index) => 300 + index);

const ort = await loadOrt(1);
const session = await ort.create(readFileSync(join(directory, entry)));
const shapes = createDecoder(ort, session, config, { context: 4096, chunk: 256 });
const child = bundledChild();
const engine = createLocalEngine({ childEntry: child.childEntry, cacheBytes: 0 });
const names = session.inputNames.filter((name) => name.startsWith("past_key_values"));

/** What a plain program does: run, take the largest logit, feed it back with the cache. */
async function bare(): Promise<number> {
  let past = shapes?.empty.tensors ?? [];
  let input = prompt;
  let length = 0;
  const started = performance.now();
  for (let made = 0; made < tokens; made++) {
    length += input.length;
    const feeds: Record<string, OrtTensor> = {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(input, BigInt), [1, input.length]),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(length).fill(1n), [1, length]),
    };
    if (session.inputNames.includes("position_ids")) {
      const from = length - input.length;
      feeds["position_ids"] = new ort.Tensor(
        "int64",
        BigInt64Array.from(input, (_, index) => BigInt(from + index)),
        [1, input.length],
      );
    }
    for (const [index, name] of names.entries()) {
      const tensor = past[index];
      if (tensor !== undefined) feeds[name] = tensor;
    }
    const results = await session.run(feeds);
    const logits = results["logits"];
    if (logits === undefined) throw new Error("no logits");
    past = names.map((name) => results[name.replace("past_key_values", "present")] ?? missing());
    const row = (logits.data as Float32Array).subarray(-(shapes?.vocabularySize ?? 0));
    let best = 0;
    for (let token = 1; token < row.length; token++) {
      if ((row[token] ?? 0) > (row[best] ?? 0) && !ends.includes(token)) best = token;
    }
    input = [best];
  }
  return performance.now() - started;
}

const request: GenerateRequest = {
  kind: "completion",
  model,
  messages: [],
  prompt,
  parameters: { temperature, max_tokens: tokens, logit_bias: Object.fromEntries(ends.map((id) => [id, -100])) },
  stream: true,
};

function missing(): never {
  throw new Error("the network gave no cache");
}

/** Processor time of the child so far, milliseconds; 0 where the system does not say. Ticks are 10 ms on Linux. */
function childCpuMs(): number {
  const [pid] = engine.pids();
  const path = `/proc/${pid}/stat`;
  if (pid === undefined || !existsSync(path)) return 0;
  const fields = readFileSync(path, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function throughEngine(): Promise<{
  readonly ms: number;
  readonly firstMs: number;
  readonly recheckMs: number;
  /** What of the re-check was the network's. */
  readonly networkMs: number;
  readonly agrees: boolean;
}> {
  const cpuBefore = childCpuMs();
  const started = performance.now();
  const generation = engine.generate(request, { signal: new AbortController().signal });
  let firstMs = 0;
  for await (const event of generation.events)
    if (firstMs === 0 && event.index === 0) firstMs = performance.now() - started;
  const ms = performance.now() - started;
  engineCpuMs += childCpuMs() - cpuBefore;
  const { tokens: chosen = [], parameters } = generation.outcome();
  const checking = performance.now();
  const { agrees, prefillMs } = await engine.recheck(request, chosen, parameters);
  return { ms, firstMs, recheckMs: performance.now() - checking, networkMs: prefillMs, agrees };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
let bareCpuMs = 0;
let engineCpuMs = 0;
const pairs: { bareMs: number; engineMs: number; recheckMs: number; networkMs: number; firstMs: number }[] = [];
let agreed = true;
await bare();
await throughEngine();
engineCpuMs = 0;
for (let round = 0; round < rounds; round++) {
  const before = process.cpuUsage();
  const bareMs = await bare();
  const used = process.cpuUsage(before);
  bareCpuMs += (used.user + used.system) / 1000;
  const { ms, firstMs, recheckMs, networkMs, agrees } = await throughEngine();
  agreed &&= agrees;
  pairs.push({ bareMs, engineMs: ms, recheckMs, networkMs, firstMs });
}
await engine.close();
child.remove();
process.stdout.write(
  `${JSON.stringify({
    tokens,
    rounds,
    bareTokensPerS: Math.round((tokens / median(pairs.map((pair) => pair.bareMs))) * 1000),
    engineTokensPerS: Math.round((tokens / median(pairs.map((pair) => pair.engineMs))) * 1000),
    ratio: Number(median(pairs.map((pair) => pair.bareMs / pair.engineMs)).toFixed(3)),
    // On a busy machine the wall clock says more of the others; the processor's time does not.
    cpuRatio: engineCpuMs === 0 ? null : Number((bareCpuMs / engineCpuMs).toFixed(3)),
    firstTokenMs: Number(median(pairs.map((pair) => pair.firstMs)).toFixed(2)),
    recheckMs: Number(median(pairs.map((pair) => pair.recheckMs)).toFixed(2)),
    recheckNetworkMs: Number(median(pairs.map((pair) => pair.networkMs)).toFixed(2)),
    recheckShare: Number(median(pairs.map((pair) => pair.recheckMs / pair.engineMs)).toFixed(4)),
    agreed,
  })}\n`,
);
