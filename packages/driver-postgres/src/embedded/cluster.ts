import { spawn } from "node:child_process";
import { chmod, lchown, mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AssayError } from "@assay/core";
import type { Identity } from "./identity.ts";
import { initIdentity, isRoot } from "./identity.ts";

/** The one role of an embedded cluster. Only its owner and root can reach the socket, so it has no password. */
export const ROLE = "assay";
/** initdb takes half a second; a machine that needs this long is stuck. */
const INIT_TIMEOUT_MS = 120_000;
/** Bytes of a child's complaint that are kept for the error. */
const MAX_COMPLAINT_BYTES = 4_096;

/**
 * How a child of PostgreSQL names its data directory. It is started inside it and finds it through its own working
 * directory, so that neither folders above that its user may not search (a home of root) nor the 107 bytes of a
 * socket path are in the way.
 */
export const OWN_DIRECTORY: string | undefined = process.platform === "linux" ? "/proc/self/cwd" : undefined;

export type Cluster = {
  /** Folder given by the caller: holds the data directory, library links, the marker and the log. */
  readonly directory: string;
  readonly dataDirectory: string;
  readonly native: string;
  /** Who PostgreSQL runs as; undefined for the user of this process. */
  readonly identity: Identity | undefined;
};

/** Environment of a child: nothing of ours, which may hold secrets, and nothing that changes PostgreSQL's ways. */
export function childEnvironment(cluster: Cluster): Record<string, string> {
  const links = OWN_DIRECTORY === undefined ? join(cluster.directory, "lib") : `${OWN_DIRECTORY}/../lib`;
  const name = process.platform === "darwin" ? "DYLD_LIBRARY_PATH" : "LD_LIBRARY_PATH";
  return { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC", [name]: `${links}:${join(cluster.native, "lib")}` };
}

/** Creates the cluster's files if they are not there: they appear complete, by one rename. Returns whether it did. */
export async function ensureCluster(cluster: Cluster): Promise<boolean> {
  if (await isCluster(cluster.dataDirectory)) {
    await takeOver(cluster);
    return false;
  }
  const fresh = join(cluster.directory, "data.new");
  // Left by a start that was interrupted; the directory is locked, so nobody is working on it.
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  const as = cluster.identity === undefined ? undefined : await initIdentity(cluster.identity);
  if (as !== undefined) await lchown(fresh, as.uid, as.gid);
  await initdb(cluster, fresh, as);
  await writeFile(
    join(fresh, "pg_hba.conf"),
    "# Only the socket, which only the owner of this directory can reach.\nlocal all all trust\n",
  );
  await settle(fresh, cluster.identity);
  await rename(fresh, cluster.dataDirectory);
  await syncPath(cluster.directory);
  return true;
}

async function isCluster(dataDirectory: string): Promise<boolean> {
  return stat(join(dataDirectory, "PG_VERSION")).then(
    () => true,
    () => false,
  );
}

/** Gives files that belong to root (restored from a backup, say) to the user that the server runs as. */
async function takeOver(cluster: Cluster): Promise<void> {
  const { uid } = await stat(cluster.dataDirectory);
  if (cluster.identity === undefined) {
    if (uid !== process.geteuid?.() && process.geteuid !== undefined)
      throw new AssayError("database_directory_foreign", "The database files belong to another user.", {
        hints: [`Run as the user ${uid}, or give ${cluster.dataDirectory} to the present one.`],
      });
    return;
  }
  if (uid === 0) await settle(cluster.dataDirectory, cluster.identity);
}

async function initdb(cluster: Cluster, directory: string, as: Identity | undefined): Promise<void> {
  const child = spawn(
    join(cluster.native, "bin", "initdb"),
    [
      ["-D", OWN_DIRECTORY ?? directory],
      ["-U", ROLE],
      // Byte order and the server's own Unicode tables: the same answers on every machine and libc.
      ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
      // Files are synced by `settle`, once, after they have their final owner.
      ["--auth=trust", "--no-sync", "--no-instructions"],
    ].flat(),
    {
      cwd: directory,
      env: childEnvironment(cluster),
      stdio: ["ignore", "ignore", "pipe"],
      timeout: INIT_TIMEOUT_MS,
      killSignal: "SIGKILL",
      ...as,
    },
  );
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    if (complaint.length < MAX_COMPLAINT_BYTES) complaint += chunk.toString("utf8");
  });
  const code = await new Promise<number | string>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status, signal) => resolve(status ?? signal ?? "unknown"));
  }).catch((error: unknown) => {
    throw initFailed("it could not be started", complaint, error);
  });
  if (code !== 0) throw initFailed(`it ended with ${code}`, complaint);
}

function initFailed(how: string, complaint: string, cause?: unknown): AssayError<"database_init_failed"> {
  const refused =
    isRoot() && cause instanceof Error && "code" in cause && (cause.code === "EPERM" || cause.code === "EINVAL");
  return new AssayError("database_init_failed", `PostgreSQL's files could not be created: initdb failed, ${how}.`, {
    hints: [
      ...(refused ? ["Root may not switch to another user here: run as an ordinary user."] : []),
      ...(complaint.includes("effective user ID") ? ["Run as a user that has an entry in /etc/passwd."] : []),
      ...(complaint === "" ? [] : [`initdb said: ${complaint.slice(0, MAX_COMPLAINT_BYTES).trim()}`]),
      "Or use a PostgreSQL server of your own.",
    ],
    cause,
  });
}

/** Gives a tree to `identity` and makes it durable, leaves first. */
async function settle(path: string, identity: Identity | undefined): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) await settle(inner, identity);
    else {
      if (identity !== undefined) await lchown(inner, identity.uid, identity.gid);
      if (entry.isFile()) await syncPath(inner);
    }
  }
  if (identity !== undefined) await lchown(path, identity.uid, identity.gid);
  await syncPath(path);
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the caller's folder: private, but searchable when another user must pass through it to the data. */
export async function prepareDirectory(directory: string, identity: Identity | undefined): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (identity !== undefined) await chmod(directory, 0o711);
}
