// npm run bench [-- name …]: every benchmark, one after the other; what they print is kept under bench/results.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const all = [
  "tensors",
  "verify",
  "log",
  "receipts",
  "ort",
  "infer",
  "chat",
  "llm",
  "router",
  "payments",
  "paid",
  "gas",
  "free",
  "idle",
  "start",
  "pay-chaos",
];
const wanted = process.argv.slice(2).length > 0 ? process.argv.slice(2) : all;
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}; there are ${all.join(", ")}.`);
  process.exit(2);
}
const machine = `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}, ${process.platform} ${process.arch}`;
let failed = 0;
const kept = [];
for (const name of wanted) {
  console.log(`\n== ${name} (${machine})`);
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--conditions=assay-source", "--import", "tsx", `bench/${name}.ts`],
    { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024, timeout: 1_200_000 },
  );
  process.stdout.write(stdout);
  if (status !== 0) {
    process.stderr.write(stderr);
    failed++;
  }
  kept.push(`== ${name}: exit ${status}\n${stdout}`);
}
mkdirSync(`${root}/bench/results`, { recursive: true });
const file = `bench/results/${new Date().toISOString().slice(0, 10)}.txt`;
writeFileSync(`${root}/${file}`, `${machine}\n\n${kept.join("\n")}`);
console.log(`\nkept in ${file}`);
process.exitCode = failed === 0 ? 0 : 1;
