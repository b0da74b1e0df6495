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

const ROUNDS = 7;
const CALLS = 8_000;
const CONNECTIONS = 32;
const WARM_UP = 60_000;
const PER_SECOND = 100;
const PACED = 300;
/** Two runs of the very same program differ by this share in a quiet machine. */
const NOISE = 0.05;
const IDLE_MS = 5_000;

const call = callBytes("free");
const median = (values: readonly number[]): number => percentile(values, 0.5);
const ms = (value: number): string => value.toFixed(3);

/** Calls for each second of processor time, of the process and all its children. */
async function throughput({ pid, port }: Program): Promise<number> {
  const before = treeCpuSeconds(pid);
  const { answered } = await closedLoop(port, call, CONNECTIONS, CALLS);
  return answered / (treeCpuSeconds(pid) - before);
}

async function idleCpuMs({ pid }: Program): Promise<number> {
  const before = treeCpuSeconds(pid);
  await pause(IDLE_MS);
  return ((treeCpuSeconds(pid) - before) * 1000) / (IDLE_MS / 1000);
}

async function compare(paying: Program, off: Program): Promise<void> {
  await setPrice(paying, "0.001");
  for (const { port } of [paying, off]) await closedLoop(port, call, CONNECTIONS, WARM_UP);
  const rows: { paying: number; off: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    // In turn the first, because whoever is second finds a warmer machine.
    if (round % 2 === 0) rows.push({ paying: await throughput(paying), off: await throughput(off) });
    else rows.push({ off: await throughput(off), paying: await throughput(paying) });
  }
  const ratios = rows.map((row) => row.paying / row.off);
  const ratio = median(ratios);
  if (ratio < 1 - NOISE) process.exitCode = 1;
  console.log(
    `free calls per CPU-second: ${median(rows.map((row) => row.paying)).toFixed(0)} beside prices, ${median(rows.map((row) => row.off)).toFixed(0)} without a chain; ` +
      `ratio median ${ratio.toFixed(3)} (rounds ${ratios.map((one) => one.toFixed(3)).join(", ")}), goal ${1 - NOISE}`,
  );
  const added: number[] = [];
  const all: { paying: number[]; off: number[] } = { paying: [], off: [] };
  for (let round = 0; round < ROUNDS; round++) {
    const one = await openLoop(paying.port, call, PER_SECOND, PACED);
    const other = await openLoop(off.port, call, PER_SECOND, PACED);
    added.push(median(one.latenciesMs) - median(other.latenciesMs));
    all.paying.push(...one.latenciesMs);
    all.off.push(...other.latenciesMs);
  }
  console.log(
    `at ${PER_SECOND} calls/s: p50 ${ms(median(all.paying))} ms beside prices, ${ms(median(all.off))} ms without a chain, difference of rounds ${ms(median(added))} ms (${added.map(ms).join(", ")}); p99 ${ms(percentile(all.paying, 0.99))} and ${ms(percentile(all.off, 0.99))} ms`,
  );
  const [idle, idleOff] = [await idleCpuMs(paying), await idleCpuMs(off)];
  console.log(
    `with nothing to do: ${idle.toFixed(0)} ms CPU a second with chain and settler, ${idleOff.toFixed(0)} ms without`,
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
