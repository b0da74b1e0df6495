// Seconds from `npm start` to the first verified inference, and memory when idle; on a fresh home and on a used one. Resident
// memory counts what processes share (PostgreSQL's buffers, Node itself) once for each of them, proportional memory once in all.
//   npx tsx --conditions=assay-source bench/start.ts
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { proportionalBytes, residentBytes } from "./infer/tree-cpu.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const home = mkdtempSync(join(tmpdir(), "assay-bench-start-"));

function descendants(pid: number): number[] {
  const children = readdirSync("/proc").filter((name) => {
    if (!/^[0-9]+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
    } catch {
      return false;
    }
  });
  return children.flatMap((name) => [Number(name), ...descendants(Number(name))]);
}

async function once(what: string): Promise<void> {
  const startedMs = performance.now();
  const child = spawn("npm", ["start", "--", "--port", "0"], {
    cwd: root,
    env: { ...process.env, ASSAY_HOME: home },
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  let text = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes("Verified here")) resolve();
    });
    child.once("exit", (code) => reject(new Error(`npm start ended with ${code}: ${text}`)));
  });
  const seconds = (performance.now() - startedMs) / 1000;
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const processes = descendants(child.pid ?? 0).map((pid) => ({
    pid,
    name: readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").slice(0, 400),
    bytes: residentBytes(pid),
    proportional: proportionalBytes(pid),
  }));
  const sum = (match: RegExp): string => {
    const found = processes.filter(({ name }) => match.test(name));
    const mib = (of: "bytes" | "proportional"): string =>
      (found.reduce((total, process_) => total + process_[of], 0) / 1048576).toFixed(0);
    return `${mib("bytes")} MiB (${mib("proportional")} proportional)`;
  };
  console.log(
    `${what}: ${seconds.toFixed(2)} s from npm start to the first verified inference; idle resident memory: gateway ${sum(/bin\/assay\.js/)}, runtime children ${sum(/ort-child/)}, PostgreSQL ${sum(/postgres/)}, chain ${sum(/anvil/)}`,
  );
  const ended = new Promise((resolve) => child.once("exit", resolve));
  process.kill(-(child.pid ?? 0), "SIGINT");
  await ended;
}

try {
  await once("fresh home");
  await once("used home");
} finally {
  rmSync(home, { recursive: true, force: true });
}
