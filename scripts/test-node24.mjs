// Runs the unit and service suites on Node 24, which comes from npm into a cache of its own: nothing here depends on it,
// and the lockfile does not know it. Arguments are passed on to vitest.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildIfStale } from "./build.mjs";

const VERSION = "24.21.0";
const root = fileURLToPath(new URL("..", import.meta.url));
const name = `node-${process.platform}-${process.arch}`;
const cache = join(root, "node_modules/.cache", `${name}-${VERSION}`);
const node = join(cache, "node_modules", name, "bin/node");

if (!existsSync(node)) {
  mkdirSync(cache, { recursive: true });
  const options = ["--prefix", cache, "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
  execFileSync("npm", ["install", ...options, `${name}@${VERSION}`], {
    stdio: ["ignore", "ignore", "inherit"],
    cwd: cache,
  });
}
const found = execFileSync(node, ["--version"], { encoding: "utf8" }).trim();
if (found !== `v${VERSION}`) throw new Error(`${node} is ${found}, not v${VERSION}`);
console.error(`Node ${found}`);

await buildIfStale();
const projects = ["--project", "unit", "--project", "service"];
const { status, signal } = spawnSync(
  node,
  [join(root, "node_modules/vitest/vitest.mjs"), "run", ...projects, ...process.argv.slice(2)],
  // First on the path, so that programs which tests start by name run on it too.
  {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` },
  },
);
if (signal !== null) console.error(`vitest ended by ${signal}`);
process.exitCode = status ?? 1;
