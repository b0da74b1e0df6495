import { Worker } from "node:worker_threads";

/** File descriptor on which the watchdog says why it ends the process. */
export const STATUS_FD = 4;
/** The one thing it ever says. */
export const STATUS_MEMORY = 0x4d;

/**
 * The watchdog's program. It is text because it must run in a thread without the loader, the engines or anything
 * else that the main thread may be stuck in: native code blocks the main thread's event loop, not this one.
 */
const PROGRAM = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const { parentPid, maxRssBytes, intervalMs, statusFd, statusMemory } = workerData;
const sleeper = new Int32Array(new SharedArrayBuffer(4));
for (;;) {
  if (process.ppid !== parentPid) process.kill(process.pid, "SIGKILL");
  if (process.memoryUsage.rss() > maxRssBytes) {
    try { writeSync(statusFd, Uint8Array.of(statusMemory)); } catch {}
    process.kill(process.pid, "SIGKILL");
  }
  Atomics.wait(sleeper, 0, 0, intervalMs);
}
`;

/**
 * Starts a thread that kills this process when its parent is gone or its resident memory passes `maxRssBytes`,
 * also while the main thread is inside a native call. It notices both within `intervalMs`.
 */
export function startWatchdog(options: {
  readonly parentPid: number;
  readonly maxRssBytes: number;
  readonly intervalMs: number;
}): void {
  const worker = new Worker(PROGRAM, {
    eval: true,
    execArgv: [],
    workerData: { ...options, statusFd: STATUS_FD, statusMemory: STATUS_MEMORY },
  });
  // A child without its watchdog could outlive its parent or its limit, so it does not go on alone.
  worker.on("exit", () => process.kill(process.pid, "SIGKILL"));
  worker.on("error", () => process.kill(process.pid, "SIGKILL"));
  worker.unref();
}
