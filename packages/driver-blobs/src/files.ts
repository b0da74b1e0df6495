import { constants, lstat, mkdir, open, readdir, rename, unlink } from "node:fs/promises";

export type OpenFile = {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  write(buffer: Uint8Array, offset: number, length: number): Promise<{ bytesWritten: number }>;
  chmod(mode: number): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
  stat(): Promise<{ readonly size: number; isFile(): boolean }>;
};

export type FileKind = "file" | "directory" | "link" | "other" | "none";

/** The file system as the store uses it: a seam for faults (full disk, read-only mount, lost write) in tests. */
export type Files = {
  /** Opens for reading, refusing to follow a link in the last place (`ELOOP`) and never waiting for a pipe. */
  openRead(path: string): Promise<OpenFile>;
  /** Creates a file that must not exist. */
  create(path: string, mode: number): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  makeDirectory(path: string): Promise<void>;
  /** Makes the entries of a directory durable. */
  syncDirectory(path: string): Promise<void>;
  kind(path: string): Promise<FileKind>;
  names(path: string): Promise<readonly string[]>;
};

export const nodeFiles: Files = {
  openRead: (path) => open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK),
  create: (path, mode) =>
    open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode),
  rename,
  unlink,
  async makeDirectory(path) {
    await mkdir(path, { recursive: true, mode: 0o700 });
  },
  async syncDirectory(path) {
    const handle = await open(path, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  async kind(path) {
    try {
      const facts = await lstat(path);
      if (facts.isFile()) return "file";
      if (facts.isDirectory()) return "directory";
      return facts.isSymbolicLink() ? "link" : "other";
    } catch (error) {
      if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return "none";
      throw error;
    }
  },
  names: (path) => readdir(path),
};

/** Whether `error` carries one of Node's system error codes. */
export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.some((code) => error.code === code);
}
