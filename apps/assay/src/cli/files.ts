import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

/** The absolute path of what a person typed. */
export function absolute(world: World, path: string): string {
  return resolve(world.cwd, path);
}

/** A whole file of at most `limitBytes`. Throws `file_unreadable`. */
export async function readWhole(path: string, limitBytes: number, what: string): Promise<Uint8Array> {
  let file;
  try {
    file = await open(path, "r");
    const { size } = await file.stat();
    if (size > limitBytes) {
      throw cliError("file_unreadable", `${what} has ${size} bytes, more than ${limitBytes}: ${path}`);
    }
    return await file.readFile();
  } catch (cause) {
    const code = (cause as { code?: unknown }).code;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw cliError("file_unreadable", `There is no ${what} at ${path}.`, { cause });
    if (code === "EISDIR") throw cliError("file_unreadable", `${path} is a folder.`, { cause });
    if (code === "file_unreadable") throw cause;
    throw cliError("file_unreadable", `${what} cannot be read: ${path}`, { cause });
  } finally {
    await file?.close();
  }
}

/** Like {@link readWhole}, and `undefined` when there is no such file. */
export async function readIfThere(path: string, limitBytes: number, what: string): Promise<Uint8Array | undefined> {
  try {
    return await readWhole(path, limitBytes, what);
  } catch (error) {
    const cause = (error as { cause?: { code?: unknown } }).cause;
    if (cause?.code === "ENOENT" || cause?.code === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Writes beside and renames, so that a crash leaves the old file or the whole new one. Mode 0600 unless told. */
export function writeWhole(path: string, bytes: Uint8Array | string, mode = 0o600): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, "w", mode);
  try {
    const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    for (let at = 0; at < data.length;) at += writeSync(file, data, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
