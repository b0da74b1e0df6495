import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AssayError } from "@assay/core";
import { Client } from "pg";
import type { Cluster } from "./cluster.ts";
import { OWN_DIRECTORY, ROLE, childEnvironment } from "./cluster.ts";
import { clusterProcesses, isClusterProcess, recordedPid } from "./processes.ts";

/** Past this the log is set aside at the next start, so that two of them bound its space. */
export const MAX_LOG_BYTES = 4 * 1024 * 1024;
const MAX_COMPLAINT_BYTES = 2_048;
const POLL_MS = 15;
const LONGEST_BACK_OFF_MS = 1_000;
/** How long the end of a connection is waited for. */
const LEAVE_MS = 2_000;

/** Settings for one machine with other work to do; durability is as strict as PostgreSQL has it. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  ssl: "off",
  max_connections: "60",
  shared_buffers: "32MB",
  // Nothing replicates from an embedded server: less to write ahead, fewer processes.
  wal_level: "minimal",
  max_wal_senders: "0",
  min_wal_size: "32MB",
  max_wal_size: "256MB",
  max_logical_replication_workers: "0",
  max_worker_processes: "2",
  max_parallel_workers_per_gather: "0",
  autovacuum_max_workers: "1",
  io_method: "sync",
  jit: "off",
  huge_pages: "off",
  timezone: "UTC",
  log_timezone: "UTC",
  // A client that died in the middle of a transaction must not hold its locks for ever.
  idle_in_transaction_session_timeout: "60s",
  cluster_name: "assay",
};

/** A postmaster that answers: started here, or found running. */
export type Postmaster = {
  readonly pid: number;
  readonly adopted: boolean;
  /** Resolves when its process has ended, whoever ended it. */
  readonly ended: Promise<void>;
};

export type LaunchOptions = {
  readonly cluster: Cluster;
  /** Folder of the socket as this process reaches it. */
  readonly socketDirectory: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
};

/**
 * A running postmaster for the cluster: the one that is there when it answers (left by a process that was killed),
 * or a new one. While processes of an older postmaster still hold the shared memory, it waits and tries again with
 * back-off; it never kills them. Throws `database_start_failed` with the end of the server's log.
 */
export async function launch(options: LaunchOptions): Promise<Postmaster> {
  const { cluster } = options;
  const deadline = Date.now() + options.timeoutMs;
  let last = "it did not answer in time";
  for (let attempt = 0; Date.now() < deadline && !options.signal.aborted; attempt++) {
    const pid = await recordedPid(cluster.dataDirectory);
    if (pid !== undefined && (await isClusterProcess(pid, cluster.dataDirectory))) {
      if (await ping(options.socketDirectory)) return { pid, adopted: true, ended: watch(pid, cluster.dataDirectory) };
      last = `process ${pid} holds the database but does not answer`;
    } else {
      if (pid !== undefined) await clearStale(cluster.dataDirectory, pid);
      const outcome = await start(options, deadline);
      if (typeof outcome !== "string") return outcome;
      last = outcome;
      // Anything but leftovers of the last run will not get better by waiting.
      if (!/still in use|already exists|being used by another process|could not (create|bind)/.test(outcome)) break;
    }
    await delay(Math.min(POLL_MS * 2 ** Math.min(attempt, 10), LONGEST_BACK_OFF_MS));
  }
  throw new AssayError("database_start_failed", "The embedded PostgreSQL could not be started.", {
    hints: [last, `Its log is ${logPath(cluster)}.`],
  });
}

/**
 * Ends a postmaster: first asking it to roll back and write everything out, and if that takes longer than
 * `graceMs`, to leave at once, after which it recovers from its write-ahead log at the next start.
 */
export async function stop(postmaster: Postmaster, graceMs: number): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    try {
      process.kill(postmaster.pid, signal);
    } catch {
      break;
    }
    const timer = new AbortController();
    const ended = await Promise.race([
      postmaster.ended.then(() => true),
      delay(graceMs, false, { signal: timer.signal }).catch(() => false),
    ]);
    timer.abort();
    if (ended) return;
  }
  await postmaster.ended;
}

async function start(options: LaunchOptions, deadline: number): Promise<Postmaster | string> {
  const { cluster } = options;
  const log = await openLog(cluster);
  const offset = (await log.stat()).size;
  let child: ChildProcess;
  let ended: Promise<void>;
  let failure: string | undefined;
  try {
    const settings = { ...SETTINGS, unix_socket_directories: OWN_DIRECTORY ?? cluster.dataDirectory };
    child = spawn(
      join(cluster.native, "bin", "postgres"),
      [
        "-D",
        OWN_DIRECTORY ?? cluster.dataDirectory,
        ...Object.entries(settings).flatMap(([k, v]) => ["-c", `${k}=${v}`]),
      ],
      {
        cwd: cluster.dataDirectory,
        env: childEnvironment(cluster),
        stdio: ["ignore", log.fd, log.fd],
        // A session of its own: an interrupt typed at the terminal must reach us alone, so that we stop it in order.
        detached: true,
        ...cluster.identity,
      },
    );
    // Before anything is waited for: a server that refuses its settings ends at once, and says so once.
    ended = new Promise<void>((resolve) => {
      child.once("error", (error) => {
        failure = `PostgreSQL could not be executed: ${error.message}`;
        resolve();
      });
      child.once("exit", () => resolve());
    });
  } finally {
    await log.close();
  }
  const state = { exited: false };
  void ended.then(() => (state.exited = true));
  while (!state.exited && Date.now() < deadline && !options.signal.aborted) {
    if (child.pid !== undefined && (await ping(options.socketDirectory))) {
      // Whoever answers must be the child, not a postmaster that won a race for the socket.
      if ((await recordedPid(cluster.dataDirectory)) === child.pid) return { pid: child.pid, adopted: false, ended };
    }
    await Promise.race([ended, delay(POLL_MS)]);
  }
  if (!state.exited) child.kill("SIGQUIT");
  await ended;
  return failure ?? (await tail(cluster, offset)) ?? "it ended without a word";
}

/** Removes `postmaster.pid` when nothing of its cluster lives: PostgreSQL trusts a number that the system reused. */
async function clearStale(dataDirectory: string, pid: number): Promise<void> {
  if (process.platform !== "linux") return;
  if ((await clusterProcesses(dataDirectory)).length > 0) return;
  if ((await recordedPid(dataDirectory)) === pid) await rm(join(dataDirectory, "postmaster.pid"), { force: true });
}

/** Whether the server accepts a connection and answers a query. */
async function ping(socketDirectory: string): Promise<boolean> {
  const client = new Client({
    host: socketDirectory,
    user: ROLE,
    database: "postgres",
    connectionTimeoutMillis: 2_000,
    query_timeout: 2_000,
  });
  // The loss of the connection is told by the promise as well.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("SELECT 1");
    return true;
  } catch {
    return false;
  } finally {
    await leave(client);
  }
}

/**
 * Ends a connection, and waits for that a moment: a server that is ending itself may never close its side, and nobody is to
 * wait for it for ever.
 */
export async function leave(client: Client): Promise<void> {
  const timer = new AbortController();
  await Promise.race([
    client.end().catch(() => undefined),
    delay(LEAVE_MS, undefined, { signal: timer.signal }).catch(() => undefined),
  ]);
  timer.abort();
}

async function watch(pid: number, dataDirectory: string): Promise<void> {
  while (await isClusterProcess(pid, dataDirectory)) await delay(POLL_MS * 4);
}

function logPath(cluster: Cluster): string {
  return join(cluster.directory, "postgres.log");
}

async function openLog(cluster: Cluster): Promise<Awaited<ReturnType<typeof open>>> {
  const path = logPath(cluster);
  const size = await stat(path).then(
    (facts) => facts.size,
    () => 0,
  );
  if (size > MAX_LOG_BYTES) await rename(path, `${path}.old`);
  return open(path, "a", 0o600);
}

async function tail(cluster: Cluster, offset: number): Promise<string | undefined> {
  const text = (await readFile(logPath(cluster)).catch(() => Buffer.alloc(0))).subarray(offset).toString("utf8");
  return text === "" ? undefined : text.slice(-MAX_COMPLAINT_BYTES).trim();
}
