import { readFile, readdir, readlink, realpath, stat } from "node:fs/promises";

/**
 * Whether process `pid` is a development node that works in `directory`: alive (a zombie is not), of that name, and run by
 * the owner of the directory. On systems without /proc, any live process counts; there the caller asks the node itself.
 */
export async function isChainProcess(pid: number, directory: string): Promise<boolean> {
  if (process.platform !== "linux") return isAlive(pid);
  try {
    // proc(5): "pid (comm) state …", where comm may itself hold spaces and parentheses.
    const match = /^\d+ \((.*)\) ([A-Za-z])/s.exec(await readFile(`/proc/${pid}/stat`, "utf8"));
    if (match?.[1] !== "anvil" || match[2] === "Z" || match[2] === "X") return false;
    if ((await stat(`/proc/${pid}`)).uid !== (await stat(directory)).uid) return false;
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(directory));
  } catch {
    return false;
  }
}

/** Every live node of the directory. Empty on systems without /proc. */
export async function chainProcesses(directory: string): Promise<readonly number[]> {
  if (process.platform !== "linux") return [];
  const found: number[] = [];
  for (const name of await readdir("/proc").catch(() => []))
    if (/^\d+$/.test(name) && (await isChainProcess(Number(name), directory))) found.push(Number(name));
  return found;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
