// What the program takes with nothing to do: processor time of each of its processes, and of the gateway's threads, and memory
// (resident, and proportional: what processes share counts once). With its embedded chain, and without one.
//   npx tsx --conditions=assay-source bench/idle.ts [seconds]
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { proportionalBytes, residentBytes } from "./infer/tree-cpu.ts";
import { setPrice } from "./money/payers.ts";
import { bundleProgram, startProgram } from "./money/program.ts";
import type { Program } from "./money/program.ts";

const SECONDS = Number(process.argv[2] ?? 30);
/** What the start leaves behind is over by then, and what rests after it was busy does. */
const SETTLE_MS = 120_000;
const TICK_MS = 10;
const MIB = 1024 * 1024;

type Used = { readonly name: string; readonly ticks: number };

/** CPU ticks of a process's or thread's `stat`: fields 14 and 15 of proc(5), counted after the name. */
function statOf(path: string): { readonly name: string; readonly parent: number; readonly ticks: number } | undefined {
  try {
    const stat = readFileSync(path, "latin1");
    const end = stat.lastIndexOf(")");
    const fields = stat.slice(end + 2).split(" ");
    return {
      name: stat.slice(stat.indexOf("(") + 1, end),
      parent: Number(fields[1]),
      ticks: Number(fields[11]) + Number(fields[12]),
    };
  } catch {
    // It ended between the listing and the reading.
    return undefined;
  }
}

/** The program and everything that it started, whatever session that has: ids and names. */
function tree(root: number): ReadonlyMap<number, string> {
  const all = new Map<number, { readonly name: string; readonly parent: number }>();
  for (const name of readdirSync("/proc")) {
    const stat = /^[0-9]+$/.test(name) ? statOf(`/proc/${name}/stat`) : undefined;
    if (stat) all.set(Number(name), stat);
  }
  const found = new Map<number, string>();
  for (const [pid, { name }] of all) {
    let at = pid;
    while (at !== root && all.has(at)) at = all.get(at)?.parent ?? 0;
    if (at === root) found.set(pid, titleOf(pid, name));
  }
  return found;
}

/** PostgreSQL's processes say what they are for; a connection's says `assay assay [local] idle`. */
function titleOf(pid: number, name: string): string {
  const title = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
  if (!title.startsWith("postgres:") && !title.includes("bin/postgres")) return name;
  return title.startsWith("postgres:")
    ? title.replace(/\[local\].*/, "connection").replace(/^postgres: assay: /, "pg ")
    : "pg";
}

function threads(pid: number): ReadonlyMap<string, Used> {
  const found = new Map<string, Used>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const stat = statOf(`/proc/${pid}/task/${task}/stat`);
    if (stat) found.set(task, { name: Number(task) === pid ? "main" : `${stat.name} ${task}`, ticks: stat.ticks });
  }
  return found;
}

async function measure(what: string, { pid }: Program): Promise<void> {
  await pause(SETTLE_MS);
  const before = { threads: threads(pid), ticks: ticksOf(tree(pid)) };
  await pause(SECONDS * 1000);
  const processes = tree(pid);
  const after = { threads: threads(pid), ticks: ticksOf(processes) };
  const perSecond = (ticks: number): string => ((ticks * TICK_MS) / SECONDS).toFixed(2);
  let total = 0;
  const groups = new Map<string, { count: number; ticks: number; rss: number; pss: number }>();
  for (const [id, name] of processes) {
    const used = (after.ticks.get(id) ?? 0) - (before.ticks.get(id) ?? 0);
    total += used;
    const group = groups.get(name) ?? { count: 0, ticks: 0, rss: 0, pss: 0 };
    group.count++;
    group.ticks += used;
    group.rss += residentBytes(id);
    group.pss += proportionalBytes(id);
    groups.set(name, group);
  }
  console.log(`${what}: ${perSecond(total)} ms CPU a second with nothing to do`);
  for (const [name, { count, ticks, rss, pss }] of [...groups].toSorted(([, a], [, b]) => b.ticks - a.ticks))
    console.log(
      `  ${perSecond(ticks).padStart(6)} ms/s  ${(rss / MIB).toFixed(0).padStart(4)} MiB resident ${(pss / MIB).toFixed(1).padStart(6)} proportional  ${count} x ${name}`,
    );
  for (const [task, { name, ticks }] of after.threads) {
    const used = ticks - (before.threads.get(task)?.ticks ?? 0);
    if (used > 0) console.log(`  ${perSecond(used).padStart(6)} ms/s  gateway's thread ${name}`);
  }
}

function ticksOf(processes: ReadonlyMap<number, string>): ReadonlyMap<number, number> {
  return new Map([...processes.keys()].map((pid) => [pid, statOf(`/proc/${pid}/stat`)?.ticks ?? 0]));
}

const scratch = mkdtempSync(join(tmpdir(), "assay-bench-idle-"));
try {
  await bundleProgram();
  for (const chain of [true, false]) {
    const program = await startProgram(join(scratch, String(chain)), { chain });
    try {
      if (chain) await setPrice(program, "0.001");
      await measure(chain ? "chain, ledger and settler" : "without a chain", program);
    } finally {
      await program.stop();
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
