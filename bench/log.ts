// What the log costs on this machine: `npx tsx --conditions=assay-source bench/log.ts [ENTRIES] [DIRECTORY]`.
//
// Every rate stands beside a floor measured in the same run: a bare loop that writes the same number of bytes per
// flush and calls fdatasync, and does nothing else. Latencies are what a caller waits for one durable append.
import { closeSync, fdatasync, mkdtempSync, openSync, rmSync, write } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { ed25519Signer, mlDsa44Signer, nodeSuite as suite } from "@assay/driver-crypto";
import { openLog } from "@assay/driver-log";
import type { FileLog } from "@assay/driver-log";
import { leafHash, verifyInclusion } from "@assay/tlog";

const ENTRY_BYTES = 200;
const CLAIMS_BYTES = 300;
const BATCH_HEADER_BYTES = 40;
const RECORD_BYTES = 24 + ENTRY_BYTES + CLAIMS_BYTES + 4;
const SECONDS = 3;
const [entriesText = "1000000", base = tmpdir()] = process.argv.slice(2);
const total = Number(entriesText);

const directory = mkdtempSync(join(base, "assay-bench-log-"));
const signers = {
  ed25519: ed25519Signer(new Uint8Array(32).fill(1)),
  mlDsa44: mlDsa44Signer(new Uint8Array(32).fill(2)),
};
const open = (): Promise<FileLog> => openLog({ directory, origin: "log.example/bench", signers, suite });
const claims = new Uint8Array(CLAIMS_BYTES);
const opening = new Uint8Array();
const entryOf = (i: number): Uint8Array => {
  const entry = Buffer.alloc(ENTRY_BYTES);
  entry.writeDoubleBE(i, 0);
  return entry;
};
const quantile = (sorted: readonly number[], q: number): number => sorted.at(Math.floor((sorted.length - 1) * q)) ?? 0;
const milliseconds = (value: number): string => `${value.toFixed(value < 1 ? 3 : 1)} ms`;

// Flushes per second of a bare write and fdatasync of `bytes`, and their latencies.
async function floor(bytes: number): Promise<{ perSecond: number; p50: number }> {
  const path = join(directory, "..", `assay-bench-floor-${process.pid}`);
  const file = openSync(path, "w");
  const buffer = Buffer.alloc(bytes);
  const times: number[] = [];
  const end = performance.now() + (SECONDS * 1000) / 3;
  let position = 0;
  while (performance.now() < end) {
    const start = performance.now();
    await new Promise<void>((resolve, reject) => {
      write(file, buffer, 0, bytes, position, (failed) => {
        if (failed) reject(failed);
        else fdatasync(file, (error) => (error ? reject(error) : resolve()));
      });
    });
    times.push(performance.now() - start);
    position += bytes;
  }
  closeSync(file);
  rmSync(path);
  times.sort((a, b) => a - b);
  return { perSecond: times.length / (SECONDS / 3), p50: quantile(times, 0.5) };
}

async function appends(log: FileLog, concurrency: number): Promise<void> {
  const bytes = BATCH_HEADER_BYTES + concurrency * RECORD_BYTES;
  const floorBefore = await floor(bytes);
  const times: number[] = [];
  const before = process.cpuUsage();
  const start = performance.now();
  const end = start + SECONDS * 1000;
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      while (performance.now() < end) {
        const from = performance.now();
        await log.append([{ entry: entryOf(log.size()), claims, opening }]);
        times.push(performance.now() - from);
      }
    }),
  );
  await log.checkpoint({ atLeast: log.size(), timeoutMs: 60_000 });
  const elapsed = (performance.now() - start) / 1000;
  const cpu = process.cpuUsage(before);
  times.sort((a, b) => a - b);
  const rate = times.length / elapsed;
  // The disk may be shared: the floor is the better of two, before and after.
  const floorAfter = await floor(bytes);
  const { perSecond: flushes, p50: floorP50 } = floorBefore.perSecond > floorAfter.perSecond ? floorBefore : floorAfter;
  console.log(
    [
      `${String(concurrency).padStart(3)} callers: ${Math.round(rate)} durable appends/s`,
      `${(rate / (flushes * concurrency)).toFixed(2)} of the floor (${Math.round(flushes)} flushes/s of ${concurrency})`,
      `p50 ${milliseconds(quantile(times, 0.5))} (floor ${milliseconds(floorP50)})`,
      `p99 ${milliseconds(quantile(times, 0.99))}`,
      `${((cpu.user + cpu.system) / times.length).toFixed(1)} us CPU each, tiles and checkpoints included`,
    ].join(" | "),
  );
}

async function fill(log: FileLog, to: number): Promise<void> {
  const start = performance.now();
  const from = log.size();
  while (log.size() < to) {
    const at = log.size();
    const batch = Array.from({ length: Math.min(1000, to - at) }, (_, i) => ({
      entry: entryOf(at + i),
      claims,
      opening,
    }));
    await log.append(batch);
  }
  const appended = performance.now();
  await log.checkpoint({ atLeast: to, timeoutMs: 600_000 });
  const done = performance.now();
  const count = to - from;
  console.log(
    `fill by 1,000: ${count} records, ${Math.round(count / ((appended - start) / 1000))} durable records/s, ` +
      `${Math.round(count / ((done - start) / 1000))}/s until the checkpoint over the last`,
  );
}

async function proofs(log: FileLog): Promise<void> {
  const { size, root } = await log.checkpoint();
  const time = async (indexes: readonly number[]): Promise<number[]> => {
    const times: number[] = [];
    for (const index of indexes) {
      const start = performance.now();
      await log.inclusionProof(index, size);
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b);
  };
  const random = Array.from({ length: 1000 }, (_, i) => (i * 7_368_787) % size);
  const cold = await time(random);
  const warm = await time(random.slice(-100));
  const recent = await time(Array.from({ length: 1000 }, (_, i) => size - 1 - i));
  console.log(
    `inclusion proof in ${size}: random entries p50 ${milliseconds(quantile(cold, 0.5))}, p99 ${milliseconds(quantile(cold, 0.99))}` +
      ` | the same again p50 ${milliseconds(quantile(warm, 0.5))} | the newest 1,000 p50 ${milliseconds(quantile(recent, 0.5))}`,
  );
  const start = performance.now();
  for (let i = 1; i <= 200; i++) await log.consistencyProof(Math.floor((size * i) / 201), size);
  console.log(
    `consistency proof to ${size}: ${milliseconds((performance.now() - start) / 200)} on average over 200 older sizes`,
  );
  const index = random.at(3) ?? 0;
  const record = await log.read(index);
  const path = await log.inclusionProof(index, size);
  const holds = record && verifyInclusion(index, size, leafHash(record.entry, suite), path, root, suite);
  if (!holds) throw new Error(`entry ${index} could not be proved`);
  const reading = performance.now();
  for (const i of random) await log.read(i);
  console.log(`read by index: ${milliseconds((performance.now() - reading) / random.length)} on average`);
}

try {
  console.log(`${cpus().length} x ${cpus().at(0)?.model ?? "unknown"}, node ${process.version}, ${directory}`);
  console.log(`records of ${ENTRY_BYTES} bytes of entry and ${CLAIMS_BYTES} of claims`);
  let log = await open();
  for (const concurrency of [1, 16, 256]) await appends(log, concurrency);
  if (log.size() < total) await fill(log, total);
  await proofs(log);
  await log.close();
  const start = performance.now();
  log = await open();
  console.log(
    `cold start with ${log.size()} records: ${milliseconds(performance.now() - start)} to a served checkpoint`,
  );
  const first = performance.now();
  await log.append([{ entry: entryOf(0), claims, opening }]);
  console.log(`first append after it: ${milliseconds(performance.now() - first)}`);
  await log.close();
} finally {
  rmSync(directory, { recursive: true, force: true });
}
