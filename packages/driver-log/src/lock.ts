import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { createServer } from "node:net";
import { hostname } from "node:os";
import { AssayError } from "@assay/core";
import { fileError, systemCode } from "./errors.ts";
import { replaceDurable } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";

/** The right to be a directory's one sequencer, and the means to notice that it was taken away. */
export type Fence = {
  /** Counts the openings of this directory, 1 first; durable before anything else is written. */
  readonly epoch: number;
  /** Throws `log_fenced` once another sequencer has written a later epoch. */
  assertHeld(): void;
  release(): Promise<void>;
};

const EPOCH_FILE = "epoch";
const MAX_EPOCH = 0xffff_ffff;

/**
 * Takes the lock of `directory` and raises its epoch. Throws `log_locked`, naming the process that holds it.
 *
 * Two guards, because each has a hole. An abstract Unix socket named after the directory is released by the kernel
 * whenever its process dies, but processes in other network namespaces do not see it. The epoch file is seen by
 * everybody: it is replaced by rename, so whoever still has the older file open finds it without a name. An append
 * looks before it acknowledges, after its fdatasync: what a superseded sequencer acknowledged was on disk before
 * its successor began to read.
 */
export async function acquireFence(directory: string, files: FileOps): Promise<Fence> {
  const unlock = await lockSocket(directory, files);
  let file: number | undefined;
  try {
    const before = parseEpoch(await files.readFile(`${directory}/${EPOCH_FILE}`));
    const epoch = (before?.epoch ?? 0) + 1;
    if (epoch > MAX_EPOCH) throw new AssayError("log_failed", "The log was opened too often to number its openings.");
    const text = `epoch ${epoch}\npid ${process.pid}\nhost ${hostname()}\n`;
    await replaceDurable(files, directory, EPOCH_FILE, Buffer.from(text));
    const held = await files.open(`${directory}/${EPOCH_FILE}`, "r");
    file = held;
    const now = parseEpoch(await files.readFile(`${directory}/${EPOCH_FILE}`));
    if (now?.text !== text) throw fenced(epoch);
    return {
      epoch,
      assertHeld() {
        if (files.unlinked(held)) throw fenced(epoch);
      },
      async release() {
        await files.close(held);
        await unlock();
      },
    };
  } catch (error) {
    if (file !== undefined) await files.close(file);
    await unlock();
    throw fileError(error, "take the log's lock");
  }
}

function fenced(epoch: number): AssayError<"log_fenced"> {
  return new AssayError("log_fenced", `The sequencer of epoch ${epoch} was superseded by a later one.`, {
    hints: ["Nothing was acknowledged after that; send the records to the new sequencer."],
  });
}

function parseEpoch(
  bytes: Uint8Array | undefined,
): { epoch: number; pid: string; host: string; text: string } | undefined {
  if (!bytes) return undefined;
  const text = Buffer.from(bytes).toString("utf8");
  const match = /^epoch ([1-9][0-9]{0,9})\npid ([0-9]+)\nhost ([^\n]*)\n$/.exec(text);
  if (!match) throw new AssayError("log_corrupt", "The log's epoch file has another form than it is written in.");
  return { epoch: Number(match[1]), pid: match[2] ?? "", host: match[3] ?? "", text };
}

async function lockSocket(directory: string, files: FileOps): Promise<() => Promise<void>> {
  if (process.platform !== "linux") return () => Promise.resolve();
  const name = createHash("sha256").update(realpathSync(directory)).digest("hex");
  const server = createServer((socket) => socket.destroy());
  // The lock must not keep a process alive that has nothing else to do.
  server.unref();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(`\0assay-log-${name}`, resolve);
    });
  } catch (cause) {
    if (systemCode(cause) !== "EADDRINUSE") throw fileError(cause, "take the log's lock");
    const holder = parseEpoch(await files.readFile(`${directory}/${EPOCH_FILE}`));
    const who = holder ? `process ${holder.pid} on ${holder.host} (epoch ${holder.epoch})` : "another process";
    throw new AssayError("log_locked", `The log is held by ${who}.`, { cause });
  }
  return () => new Promise((resolve) => server.close(() => resolve()));
}
