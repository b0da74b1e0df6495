import { Worker } from "node:worker_threads";

/** File descriptor on which the watchdog says why it ends the process. */
export const STATUS_FD = 4;
/** First byte of what it says; for a deadline, four bytes of the request's id (little-endian) and one stage follow. */
export const STATUS_MEMORY = 0x4d;
export const STATUS_DEADLINE = 0x44;

/** What a child is doing when it is late. */
export const STAGES = ["load", "prepare", "step"] as const;
export type Stage = (typeof STAGES)[number];

/**
 * The watchdog's program. It is text because it must run in a thread without the loader, the engine or anything else
 * that the main thread may be stuck in: native code and endless templates block the main thread, not this one.
 */
const PROGRAM = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const { parentPid, maxRssBytes, intervalMs, statusFd, statusMemory, statusDeadline, shared } = workerData;
const watch = new Float64Array(shared);
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const die = (bytes) => {
  try { writeSync(statusFd, Uint8Array.from(bytes)); } catch {}
  process.kill(process.pid, "SIGKILL");
};
for (;;) {
  if (process.ppid !== parentPid) process.kill(process.pid, "SIGKILL");
  if (process.memoryUsage.rss() > maxRssBytes) die([statusMemory]);
  const limit = watch[0];
  if (limit !== 0 && performance.timeOrigin + performance.now() > limit) {
    const id = watch[1];
    die([statusDeadline, id & 255, (id >>> 8) & 255, (id >>> 16) & 255, (id >>> 24) & 255, watch[2]]);
  }
  Atomics.wait(sleeper, 0, 0, intervalMs);
}
`;

/** Sets and clears the deadline of what the main thread does. */
export type Watchdog = {
  /** From now on the process has `limitMs` for `stage` of request `id`. */
  readonly begin: (stage: Stage, id: number, limitMs: number) => void;
  readonly end: () => void;
};

/**
 * Starts a thread that kills this process when its parent is gone, its resident memory passes `maxRssBytes`, or a
 * deadline has passed, also while the main thread is inside a native call. It notices each within `intervalMs`.
 */
export function startWatchdog(options: {
  readonly parentPid: number;
  readonly maxRssBytes: number;
  readonly intervalMs: number;
}): Watchdog {
  const shared = new SharedArrayBuffer(24);
  const watch = new Float64Array(shared);
  const worker = new Worker(PROGRAM, {
    eval: true,
    execArgv: [],
    workerData: {
      ...options,
      shared,
      statusFd: STATUS_FD,
      statusMemory: STATUS_MEMORY,
      statusDeadline: STATUS_DEADLINE,
    },
  });
  // A child without its watchdog could outlive its parent or its limits, so it does not go on alone.
  worker.on("exit", () => process.kill(process.pid, "SIGKILL"));
  worker.on("error", () => process.kill(process.pid, "SIGKILL"));
  worker.unref();
  return {
    begin: (stage, id, limitMs) => {
      watch[1] = id;
      watch[2] = STAGES.indexOf(stage);
      watch[0] = performance.timeOrigin + performance.now() + limitMs;
    },
    end: () => {
      watch[0] = 0;
    },
  };
}
