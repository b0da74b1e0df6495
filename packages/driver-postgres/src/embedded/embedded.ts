import { mkdtemp, realpath, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { claimDatabaseMode } from "../mode-marker.ts";
import { POSTGRES_MAJOR, findBinaries, linkLibraries, reachableBinaries } from "./binaries.ts";
import type { Cluster } from "./cluster.ts";
import { ROLE, ensureCluster, prepareDirectory } from "./cluster.ts";
import { SERVICE_IDENTITY, isRoot } from "./identity.ts";
import type { Identity } from "./identity.ts";
import { lockDirectory } from "./lock.ts";
import { launch, leave, stop } from "./postmaster.ts";
import type { Postmaster } from "./postmaster.ts";

/** Recovery after a crash replays at most `max_wal_size`, which a slow disk does in less than this. */
const DEFAULT_START_TIMEOUT_MS = 60_000;
/** Restarts within a window before the server is left down: one that dies at once would only burn the machine. */
export const MAX_RESTARTS = 5;
const RESTART_WINDOW_MS = 60_000;
/** Bytes of a socket path on Linux (sockaddr_un, unix(7)) without its final zero. */
export const MAX_SOCKET_PATH_BYTES = 107;
const STOP_GRACE_MS = 15_000;
/** Making a database copies a few megabytes. */
const CREATE_TIMEOUT_MS = 30_000;

export type EmbeddedEvent =
  | { readonly type: "died"; readonly pid: number }
  | { readonly type: "restarted"; readonly pid: number }
  | { readonly type: "given_up"; readonly cause: unknown };

export type EmbeddedOptions = {
  /** A folder for the database alone; made when missing. */
  readonly directory: string;
  /** Database inside of the cluster; made when missing. Lower-case letters, digits and `_`. */
  readonly database?: string;
  readonly startTimeoutMs?: number;
  /** Who to run PostgreSQL as when this process is root. */
  readonly identity?: Identity;
  /** Folder with PostgreSQL's `bin`, `lib` and `share`, instead of the npm package's. */
  readonly binaries?: string;
  /** Where root puts a copy of the binaries when the other user cannot reach them. */
  readonly copyDirectory?: string;
  readonly onEvent?: (event: EmbeddedEvent) => void;
};

export type EmbeddedPostgres = {
  /** For `connectDatabase`; valid on this machine while this process lives. */
  readonly url: string;
  /** Whether the server was found running, left by a process that was killed. */
  readonly adopted: boolean;
  /** Whether the files were made by this start. */
  readonly created: boolean;
  /** Process id of the postmaster now; it changes when it is restarted. */
  pid(): number;
  /** Stops the server in order and releases the directory. Idempotent. Close pools first. */
  close(): Promise<void>;
};

/**
 * PostgreSQL 18 as a child of this process, on a Unix socket that only this user (and root) can reach, without TCP.
 * Ready when this resolves. When it dies it is started again, at most {@link MAX_RESTARTS} times a minute.
 *
 * As root, the server runs as an unprivileged user, and its files belong to that one. When the process of an earlier
 * start was killed, its server is adopted if it answers, and waited for if it is on its way out.
 *
 * Throws `database_directory_locked`, `database_mode_changed`, `database_version_changed`,
 * `database_directory_foreign`, `database_init_failed`, `database_start_failed`, `embedded_missing`,
 * `embedded_user_missing`, `embedded_copy_unsafe` and `embedded_copy_unreachable`.
 */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const identity = isRoot() ? await ownerOrDefault(options) : undefined;
  await prepareDirectory(options.directory, identity);
  const directory = await realpath(options.directory);
  const unlock = await lockDirectory(directory);
  const cleanups: Array<() => Promise<void>> = [unlock];
  const cleanUp = async (): Promise<void> => {
    for (const step of cleanups.splice(0).reverse()) await step();
  };
  try {
    await claimDatabaseMode(directory, "embedded", POSTGRES_MAJOR);
    const native = await reachableBinaries(options.binaries ?? (await findBinaries()), identity, options.copyDirectory);
    const cluster: Cluster = { directory, dataDirectory: join(directory, "data"), native, identity };
    await linkLibraries(native, join(directory, "lib"));
    const created = await ensureCluster(cluster);
    const socketDirectory = await shortSocketDirectory(cluster.dataDirectory, cleanups);
    const aborter = new AbortController();
    const timeoutMs = options.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS;
    const launchOptions = { cluster, socketDirectory, timeoutMs, signal: aborter.signal };
    const first = await launch(launchOptions);
    const database = options.database ?? ROLE;
    await ensureDatabase(socketDirectory, database).catch(async (error: unknown) => {
      await stop(first, STOP_GRACE_MS);
      throw error;
    });
    const supervisor = supervise(first, () => launch(launchOptions), aborter, options.onEvent);
    let closing: Promise<void> | undefined;
    return {
      url: `postgresql://${ROLE}@/${database}?host=${encodeURIComponent(socketDirectory)}`,
      adopted: first.adopted,
      created,
      pid: supervisor.pid,
      close() {
        closing ??= stopAndCleanUp(supervisor.stop, cleanUp);
        return closing;
      },
    };
  } catch (error) {
    await cleanUp();
    throw error;
  }
}

async function stopAndCleanUp(stopServer: () => Promise<void>, cleanUp: () => Promise<void>): Promise<void> {
  try {
    await stopServer();
  } finally {
    await cleanUp();
  }
}

/** Files that have an owner keep it: the user may have been chosen by an earlier version or by an option. */
async function ownerOrDefault(options: EmbeddedOptions): Promise<Identity> {
  const owner = await stat(join(options.directory, "data")).catch(() => undefined);
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  return options.identity ?? SERVICE_IDENTITY;
}

/** The data directory, or a short link to it when the path of its socket would not fit a socket address. */
async function shortSocketDirectory(dataDirectory: string, cleanups: Array<() => Promise<void>>): Promise<string> {
  if (Buffer.byteLength(join(dataDirectory, ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES) return dataDirectory;
  const folder = await mkdtemp(join(tmpdir(), "assay-pg-"));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const link = join(folder, "s");
  await symlink(dataDirectory, link);
  return link;
}

async function ensureDatabase(socketDirectory: string, database: string): Promise<void> {
  const client = new Client({
    host: socketDirectory,
    user: ROLE,
    database: "postgres",
    connectionTimeoutMillis: CREATE_TIMEOUT_MS,
    query_timeout: CREATE_TIMEOUT_MS,
  });
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [database]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(database)}`);
  } finally {
    await leave(client);
  }
}

function supervise(
  first: Postmaster,
  relaunch: () => Promise<Postmaster>,
  aborter: AbortController,
  onEvent: ((event: EmbeddedEvent) => void) | undefined,
): { pid: () => number; stop: () => Promise<void> } {
  let current: Postmaster | undefined = first;
  let pid = first.pid;
  const restarts: number[] = [];

  async function keepAlive(): Promise<void> {
    while (current !== undefined) {
      await current.ended;
      if (aborter.signal.aborted) return;
      current = undefined;
      onEvent?.({ type: "died", pid });
      const now = Date.now();
      while (restarts[0] !== undefined && restarts[0] < now - RESTART_WINDOW_MS) restarts.shift();
      if (restarts.length >= MAX_RESTARTS) {
        onEvent?.({ type: "given_up", cause: undefined });
        return;
      }
      // Doubling from nothing: a single crash is repaired at once.
      if (restarts.length > 0) await delay(50 * 2 ** restarts.length, undefined, { signal: aborter.signal });
      restarts.push(now);
      current = await relaunch();
      pid = current.pid;
      onEvent?.({ type: "restarted", pid });
    }
  }

  const done = keepAlive().catch((cause: unknown) => {
    if (!aborter.signal.aborted) onEvent?.({ type: "given_up", cause });
  });
  return {
    pid: () => pid,
    async stop() {
      aborter.abort();
      if (current !== undefined) await stop(current, STOP_GRACE_MS);
      await done;
      // A relaunch that succeeded while it was being aborted.
      if (current !== undefined) await stop(current, STOP_GRACE_MS);
    },
  };
}
