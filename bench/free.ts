// What payments cost those who do not pay: calls of a free model to the program with its embedded chain, ledger and settler,
// and something else priced, beside the same program without a chain, in the same run.
//   npx tsx --conditions=assay-source bench/free.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { closedLoop, openLoop, percentile } from "./infer/load.ts";
import { treeCpuSeconds } from "./infer/tree-cpu.ts";
import { setPrice } from "./money/payers.ts";
import { bundleProgram, callBytes, startProgram } from "./money/program.ts";
import type { Program } from "./money/program.ts";

/** Short and many: who else uses the machine meanwhile is then on both sides. */
const BLOCKS = 31;
const CALLS = 3_000;
const ROUNDS = 7;
const CONNECTIONS = 32;
const WARM_UP = 60_000;
const PER_SECOND = 100;
const PACED = 300;
/** Two runs of the very same program differ by this share in a quiet machine. */
const NOISE = 0.05;
/** After this a settler rests, and so does the log. */
const SETTLE_MS = 90_000;
const IDLE_MS = 5_000;

const call = callBytes("free");
const median = (values: readonly number[]): number => percentile(values, 0.5);
const ms = (value: number): string => value.toFixed(3);

/**
 * Milliseconds of processor time that a call takes, of the process and all its children: all of it, and without what they
 * take with nothing to do, of which a busier hour has no more than a quiet one.
 */
async function costOf({ pid, port }: Program, idleMs: number): Promise<{ readonly all: number; readonly own: number }> {
  const before = treeCpuSeconds(pid);
  const { answered, seconds } = await closedLoop(port, call, CONNECTIONS, CALLS);
  const usedMs = (treeCpuSeconds(pid) - before) * 1000;
  return { all: usedMs / answered, own: (usedMs - idleMs * seconds) / answered };
}

/** Milliseconds of processor time in a second with nothing to do. */
async function idleCpuMs({ pid }: Program): Promise<number> {
  const before = treeCpuSeconds(pid);
  await pause(IDLE_MS);
  return ((treeCpuSeconds(pid) - before) * 1000) / (IDLE_MS / 1000);
}

async function compare(paying: Program, off: Program): Promise<void> {
  await setPrice(paying, "0.001");
  for (const { port } of [paying, off]) await closedLoop(port, call, CONNECTIONS, WARM_UP);
  // What is written behind the answers is not to be taken for idling.
  await pause(SETTLE_MS);
  const idle = { paying: await idleCpuMs(paying), off: await idleCpuMs(off) };
  console.log(
    `with nothing to do: ${idle.paying.toFixed(0)} ms CPU a second with chain and settler, ${idle.off.toFixed(0)} ms without`,
  );
  const rows: { paying: Awaited<ReturnType<typeof costOf>>; off: Awaited<ReturnType<typeof costOf>> }[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    // In turn the first, because whoever is second finds a warmer machine.
    if (block % 2 === 0) rows.push({ paying: await costOf(paying, idle.paying), off: await costOf(off, idle.off) });
    else {
      const other = await costOf(off, idle.off);
      rows.push({ off: other, paying: await costOf(paying, idle.paying) });
    }
  }
  const ratioOf = (of: "all" | "own"): readonly number[] => rows.map((row) => row.off[of] / row.paying[of]);
  const ratio = median(ratioOf("own"));
  if (ratio < 1 - NOISE) process.exitCode = 1;
  console.log(
    `a free call: ${ms(median(rows.map((row) => row.paying.all)))} ms CPU beside prices, ${ms(median(rows.map((row) => row.off.all)))} without a chain; ` +
      `calls per CPU-second, ratio median of ${BLOCKS} blocks ${ratio.toFixed(3)} (quartiles ${percentile(ratioOf("own"), 0.25).toFixed(3)} and ${percentile(ratioOf("own"), 0.75).toFixed(3)}), goal ${1 - NOISE}; ${median(ratioOf("all")).toFixed(3)} with what runs anyway`,
  );
  const added: number[] = [];
  const all: { paying: number[]; off: number[] } = { paying: [], off: [] };
  const cpu = { paying: 0, off: 0 };
  const paced = async (which: "paying" | "off", { pid, port }: Program) => {
    const before = treeCpuSeconds(pid);
    const done = await openLoop(port, call, PER_SECOND, PACED);
    cpu[which] += treeCpuSeconds(pid) - before;
    return done;
  };
  for (let round = 0; round < ROUNDS; round++) {
    const one = await paced("paying", paying);
    const other = await paced("off", off);
    added.push(median(one.latenciesMs) - median(other.latenciesMs));
    all.paying.push(...one.latenciesMs);
    all.off.push(...other.latenciesMs);
  }
  console.log(
    `at ${PER_SECOND} calls/s: p50 ${ms(median(all.paying))} ms beside prices, ${ms(median(all.off))} ms without a chain, difference of rounds ${ms(median(added))} ms (${added.map(ms).join(", ")}); p99 ${ms(percentile(all.paying, 0.99))} and ${ms(percentile(all.off, 0.99))} ms; ` +
      `${ms((cpu.paying * 1000) / (ROUNDS * PACED))} and ${ms((cpu.off * 1000) / (ROUNDS * PACED))} ms CPU a call`,
  );
}

const scratch = mkdtempSync(join(tmpdir(), "assay-bench-free-"));
try {
  await bundleProgram();
  const paying = await startProgram(join(scratch, "paying"));
  try {
    const off = await startProgram(join(scratch, "off"), { chain: false });
    try {
      await compare(paying, off);
    } finally {
      await off.stop();
    }
  } finally {
    await paying.stop();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
