import { readFile, readdir, readlink, realpath, stat } from "node:fs/promises";

/**
 * Whether process `pid` is a PostgreSQL process of the cluster in `dataDirectory`: alive (a zombie is not), named
 * postgres, run by the owner of the files and working in them. Where the kernel hides the working directory of
 * another user's process, the first three decide. On systems without /proc, any live process counts.
 */
export async function isClusterProcess(pid: number, dataDirectory: string): Promise<boolean> {
  if (process.platform !== "linux") return isAlive(pid);
  let line: string;
  let owner: number;
  try {
    line = await readFile(`/proc/${pid}/stat`, "utf8");
    owner = (await stat(`/proc/${pid}`)).uid;
  } catch {
    return false;
  }
  // proc(5): "pid (comm) state …", where comm may itself hold spaces and parentheses.
  const match = /^\d+ \((.*)\) ([A-Za-z])/s.exec(line);
  if (match?.[1] !== "postgres" || match[2] === "Z" || match[2] === "X") return false;
  if (owner !== (await stat(dataDirectory)).uid) return false;
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(dataDirectory));
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EACCES";
  }
}

/** Every live process of the cluster, children of a dead postmaster included. Empty on systems without /proc. */
export async function clusterProcesses(dataDirectory: string): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc").catch(() => []))
    if (/^\d+$/.test(name) && (await isClusterProcess(Number(name), dataDirectory))) found.push(Number(name));
  return found;
}

/** Process id in `postmaster.pid`, or undefined when there is no such file or it holds none. */
export async function recordedPid(dataDirectory: string): Promise<number | undefined> {
  const text = await readFile(`${dataDirectory}/postmaster.pid`, "utf8").catch(() => "");
  const pid = Number(/^(\d{1,10})\n/.exec(text)?.[1] ?? 0);
  return pid > 1 ? pid : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
