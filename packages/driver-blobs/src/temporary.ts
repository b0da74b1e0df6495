import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Files } from "./files.ts";
import { hasCode } from "./files.ts";

/** `<pid>-<start time of the process>-<random>.part`: only a name that this store makes is ever swept. */
const NAME = /^(\d{1,10})-(\d{1,20})-[0-9a-f]{16}\.part$/;

/** A fresh name for a file that is being written by this process. */
export async function temporaryName(): Promise<string> {
  return `${process.pid}-${(await startTime(process.pid)) ?? "0"}-${randomBytes(8).toString("hex")}.part`;
}

/**
 * Deletes what writers that are dead left half-written, and nothing else: a file whose process lives may be in use,
 * and a name that is not ours was put there by somebody. Returns how many were deleted.
 */
export async function sweep(files: Files, directory: string): Promise<number> {
  let swept = 0;
  for (const name of await files.names(directory)) {
    const match = NAME.exec(name);
    if (match === null || (await isWriterAlive(Number(match[1]), match[2] ?? "0"))) continue;
    const path = join(directory, name);
    if ((await files.kind(path)) !== "file") continue;
    await files.unlink(path).catch((error: unknown) => {
      if (!hasCode(error, "ENOENT")) throw error;
    });
    swept++;
  }
  return swept;
}

async function isWriterAlive(pid: number, started: string): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (!hasCode(error, "EPERM")) return false;
  }
  // The number lives, but it may have been given to another process since.
  const now = await startTime(pid);
  return now === undefined || started === "0" || now === started;
}

/** Start time of a process in clock ticks since boot, field 22 of proc(5) stat; undefined where there is no /proc. */
async function startTime(pid: number): Promise<string | undefined> {
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // The second field, the name, may hold spaces; fields are counted from the parenthesis that ends it.
  return line?.slice(line.lastIndexOf(")") + 2).split(" ")[19];
}
