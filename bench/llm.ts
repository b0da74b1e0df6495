// Generation, re-checks and embeddings by the language engine, against a bare onnxruntime-node loop over the same
// network in the same run. The models are the ones that ship.
//   npx tsx --conditions=assay-source bench/llm.ts
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseJson } from "@assay/core";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs a bench of the engine's package in a process of its own; it prints one line of JSON. */
function run(file: string, ...parameters: readonly string[]): { readonly [name: string]: number | boolean } {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--conditions=assay-source", "--import", "tsx", `packages/driver-llm/src/${file}`, ...parameters],
    { cwd: root, encoding: "utf8", timeout: 600_000 },
  );
  if (status !== 0) throw new Error(`${file} ended with ${status}: ${stderr}`);
  return parseJson(stdout.trim()) as { readonly [name: string]: number | boolean };
}

for (const tokens of ["128", "512"]) {
  const chat = run("llm.bench.ts", "models/chat", "model.onnx", tokens, "9");
  console.log(
    `${tokens} tokens greedily: ${chat["engineTokensPerS"]}/s through the engine's child process, bare loop ${chat["bareTokensPerS"]}/s; ratio median ${chat["ratio"]} (by processor time ${chat["cpuRatio"]}), goal 0.9; first token ${chat["firstTokenMs"]} ms`,
  );
  console.log(
    `  their re-check costs ${(Number(chat["recheckShare"]) * 100).toFixed(1)} % of their generation, goal 10 %; it ${chat["agreed"] === true ? "agrees each time" : "DOES NOT AGREE"}`,
  );
}
const embed = run("embed.bench.ts", "models/embed", "model.onnx", "32", "25");
console.log(
  `32 texts of 32 tokens: ${embed["engineMs"]} ms through the engine, bare run ${embed["bareMs"]} ms; ratio median ${embed["ratio"]}, goal 0.9`,
);
