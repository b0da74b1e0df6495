import {
  close,
  fdatasync,
  fstatSync,
  fsync,
  ftruncate,
  mkdir,
  open,
  read,
  readdir,
  readFile,
  rename,
  unlink,
  write,
  writeSync,
} from "node:fs";
import { fstat, rmdir } from "node:fs";
import { promisify } from "node:util";
import { AssayError } from "@assay/core";
import { systemCode } from "./errors.ts";

/**
 * The file operations that the log's durability rests on, few enough that a test can make each of them fail. All
 * reject with the system's error.
 */
export type FileOps = {
  /** Opens for reading (`r`), reading and writing (`r+`), or creates or empties for both (`w+`), or creates anew (`wx+`). */
  open(path: string, flags: "r" | "r+" | "w+" | "wx+"): Promise<number>;
  close(file: number): Promise<void>;
  /** Size in bytes. */
  size(file: number): Promise<number>;
  /** Reads into `into` from `position`; resolves with the bytes read, fewer only at the end of the file. */
  read(file: number, into: Uint8Array, position: number): Promise<number>;
  /** Writes a part of `bytes`, at least one byte, at `position`; resolves with how much. */
  write(file: number, bytes: Uint8Array, position: number): Promise<number>;
  truncate(file: number, length: number): Promise<void>;
  /** Returns when the file's data, and the size needed to read it, are on stable storage. */
  fdatasync(file: number): Promise<void>;
  /** Returns when the directory's names are on stable storage. */
  syncDirectory(path: string): Promise<void>;
  /** Makes one directory; resolves with `false` when it was there. */
  mkdir(path: string): Promise<boolean>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  readdir(path: string): Promise<readonly string[]>;
  /** The whole file, or `undefined` when there is none. */
  readFile(path: string): Promise<Uint8Array | undefined>;
  /** Whether the open file has lost its name: another file was renamed over it. Synchronous, a few microseconds. */
  unlinked(file: number): boolean;
};

const p = {
  open: promisify(open),
  close: promisify(close),
  fstat: promisify(fstat),
  read: promisify(read),
  write: promisify(write),
  ftruncate: promisify(ftruncate),
  fdatasync: promisify(fdatasync),
  fsync: promisify(fsync),
  mkdir: promisify(mkdir),
  rename: promisify(rename),
  unlink: promisify(unlink),
  rmdir: promisify(rmdir),
  readdir: promisify(readdir),
  readFile: promisify(readFile),
};

/** About 10 microseconds of copying. */
const SYNC_WRITE_BYTES = 64 * 1024;
/** Owner may read and write, nobody else: the journal holds claims and openings. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** {@link FileOps} on `node:fs`. */
export const nodeFileOps: FileOps = {
  open: (path, flags) => p.open(path, flags, FILE_MODE),
  close: (file) => p.close(file),
  size: async (file) => (await p.fstat(file)).size,
  async read(file, into, position) {
    let at = 0;
    while (at < into.length) {
      const { bytesRead } = await p.read(file, into, at, into.length - at, position + at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return at;
  },
  async write(file, bytes, position) {
    // A small write only copies into the page cache: quicker than the way to a thread and back. The flush after it,
    // which does wait for the disk, stays off this thread.
    if (bytes.length <= SYNC_WRITE_BYTES) return writeSync(file, bytes, 0, bytes.length, position);
    return (await p.write(file, bytes, 0, bytes.length, position)).bytesWritten;
  },
  truncate: (file, length) => p.ftruncate(file, length),
  fdatasync: (file) => p.fdatasync(file),
  async syncDirectory(path) {
    const file = await p.open(path, "r");
    try {
      await p.fsync(file);
    } finally {
      await p.close(file);
    }
  },
  async mkdir(path) {
    try {
      await p.mkdir(path, { mode: DIRECTORY_MODE });
      return true;
    } catch (error) {
      if (systemCode(error) === "EEXIST") return false;
      throw error;
    }
  },
  rename: (from, to) => p.rename(from, to),
  unlink: (path) => p.unlink(path),
  rmdir: (path) => p.rmdir(path),
  readdir: (path) => p.readdir(path),
  async readFile(path) {
    try {
      return await p.readFile(path);
    } catch (error) {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    }
  },
  unlinked: (file) => fstatSync(file).nlink === 0,
};

/**
 * The same operations, with every failed sync made final. After a failed fsync the kernel may have dropped the pages
 * and report success the next time, so whoever asked must stop and start again from what can be read: even when the
 * reason was a full disk.
 */
export function withFinalSyncs(files: FileOps): FileOps {
  const final = (cause: unknown): never => {
    throw new AssayError("log_failed", "The operating system could not put the log on stable storage.", {
      cause,
      hints: ["Open the log again: recovery keeps every acknowledged record."],
    });
  };
  return {
    ...files,
    fdatasync: (file) => files.fdatasync(file).catch(final),
    syncDirectory: (path) => files.syncDirectory(path).catch(final),
  };
}

/** Writes all of `bytes` at `position`; a short write is continued, so that the error of a full disk comes out. */
export async function writeAll(files: FileOps, file: number, bytes: Uint8Array, position: number): Promise<void> {
  let at = 0;
  while (at < bytes.length) {
    at += await files.write(file, at === 0 ? bytes : bytes.subarray(at), position + at);
  }
}

/** Makes `path` hold `bytes` and puts them on stable storage; the name is durable once its directory is synced. */
export async function writeDurable(files: FileOps, path: string, bytes: Uint8Array): Promise<void> {
  const file = await files.open(path, "w+");
  try {
    await writeAll(files, file, bytes, 0);
    await files.fdatasync(file);
  } finally {
    await files.close(file);
  }
}

/** Replaces `directory/name` whole: a reader or a crash sees the old bytes or the new, never a mixture. */
export async function replaceDurable(
  files: FileOps,
  directory: string,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const temporary = `${directory}/${name}.new`;
  await writeDurable(files, temporary, bytes);
  await files.rename(temporary, `${directory}/${name}`);
  await files.syncDirectory(directory);
}
