// Layers point down: a package may import only from rooms below its own, and never sideways.
import { readFileSync, readdirSync, existsSync } from "node:fs";
import { join } from "node:path";

const root = new URL("..", import.meta.url).pathname;
const layer = (name) => {
  if (name === "core") return 0;
  if (["tlog", "attest", "zk", "onnx", "x402", "policy", "contracts"].includes(name)) return 1;
  if (["receipts", "workflow"].includes(name)) return 2;
  if (name === "protocol" || name === "verifier") return 3;
  if (name === "sdk" || name === "routing" || name.startsWith("driver-")) return 4;
  if (name.startsWith("service-")) return 5;
  if (name === "testkit") return 6;
  return 7;
};
const pure = new Set([
  "core",
  "tlog",
  "attest",
  "zk",
  "onnx",
  "x402",
  "policy",
  "contracts",
  "receipts",
  "workflow",
  "verifier",
  "routing",
]);
const faults = [];

function* sources(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory() && !["node_modules", "dist"].includes(entry.name)) yield* sources(path);
    else if (entry.isFile() && /\.(ts|tsx)$/.test(entry.name)) yield path;
  }
}

const rooms = [
  { name: "contracts", directory: join(root, "contracts") },
  ...readdirSync(join(root, "packages")).map((name) => ({ name, directory: join(root, "packages", name) })),
  ...readdirSync(join(root, "apps")).map((name) => ({ name: `app:${name}`, directory: join(root, "apps", name) })),
];
let files = 0;
for (const { name, directory } of rooms) {
  const source = join(directory, "src");
  if (!existsSync(source)) continue;
  const declared = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")).dependencies ?? {};
  for (const path of sources(source)) {
    files++;
    const test = /\.(test|bench)\.ts$/.test(path);
    const text = readFileSync(path, "utf8");
    const place = path.slice(root.length);
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
      const target = match[1];
      if (target.startsWith(".") && !target.endsWith(".ts") && !target.endsWith(".tsx") && !target.endsWith(".json"))
        faults.push(`${place}: import ${target} without its .ts ending`);
      if (test) continue;
      if (target.startsWith("node:") && pure.has(name)) faults.push(`${place}: a pure package imports ${target}`);
      if (!target.startsWith("@assay/")) continue;
      const other = target.slice("@assay/".length).split("/")[0];
      if (other === name) faults.push(`${place}: imports its own package by name`);
      else if (layer(other) >= layer(name)) faults.push(`${place}: ${name} may not import ${other}`);
      else if (!declared[`@assay/${other}`]) faults.push(`${place}: ${other} is not declared in package.json`);
    }
    if (!test && !path.endsWith("main.ts") && /\bprocess\.(env|exit)\b/.test(text))
      faults.push(`${place}: process.env and process.exit belong to main.ts`);
  }
}
if (files === 0) faults.push("no source file was found: the check is blind");
for (const fault of faults) console.error(fault);
console.log(`layers: ${files} files, ${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;
