import { createHash } from "node:crypto";
import { realpath, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { join } from "node:path";
import { AssayError } from "@assay/core";

/**
 * Holds `directory` for this process until released, or throws `chain_directory_locked`. The lock is a listening socket:
 * the kernel drops it with the process, however that ends. On Linux it lies in the abstract namespace.
 */
export async function lockChainDirectory(directory: string): Promise<() => Promise<void>> {
  const real = await realpath(directory);
  const digest = createHash("sha256").update(real).digest("hex");
  const abstract = process.platform === "linux";
  const address = abstract
    ? `\0assay-chain-${digest}`
    : process.platform === "win32"
      ? `\\\\.\\pipe\\assay-chain-${digest}`
      : join(real, "lock.sock");
  let server = await listen(address);
  if (server === undefined && address.endsWith("lock.sock") && !(await answers(address))) {
    await rm(address, { force: true });
    server = await listen(address);
  }
  if (server === undefined)
    throw new AssayError("chain_directory_locked", "Another process uses this chain's directory.", {
      hints: [`Stop the other process, or give this one a directory of its own instead of ${directory}.`],
    });
  const held = server;
  return () => new Promise((resolve) => held.close(() => resolve()));
}

function listen(address: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error) => {
      if ("code" in error && error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(address, () => {
      server.unref();
      resolve(server);
    });
  });
}

function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
}
