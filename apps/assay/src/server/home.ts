import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { destination, pino } from "pino";
import type { Logger } from "pino";
import type { CryptoSuite, Signer } from "@assay/core";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import type { FileKeystore } from "@assay/driver-crypto";
import { pooledRandom } from "./randomness.ts";
import type { ServerConfig } from "./server-config.ts";
import { createUnwinding } from "./unwinding.ts";
import type { Unwinding } from "./unwinding.ts";

/** What every room of one server stands on. */
export type Home = {
  readonly config: ServerConfig;
  /** A path below the directory of all state. */
  readonly at: (...parts: readonly string[]) => string;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  readonly suite: CryptoSuite;
  readonly keystore: FileKeystore;
  /** The operator's key, which also owns what this home releases. */
  readonly ownerKey: Signer;
  readonly logger: Logger;
  /** What each room leaves to be undone when the server closes, or does not start. */
  readonly undo: Unwinding;
};

/** Log lines gather to this size, or for a second, before they are written: one write a line would be felt. */
const LOG_BUFFER_BYTES = 12 * 1024;
const LOG_FLUSH_MS = 1000;

/** Makes the folders of `config.home`, and opens its keys and the log of what happens. */
export async function openHome(config: ServerConfig): Promise<Home> {
  const at = (...parts: readonly string[]): string => join(config.home, ...parts);
  await mkdir(config.home, { recursive: true, mode: 0o700 });
  for (const folder of ["log", "blobs", "models"]) await mkdir(at(folder), { recursive: true, mode: 0o700 });
  const keystore = openKeystore(at("keys"));
  const undo = createUnwinding();
  return {
    config,
    at,
    now: config.now ?? Date.now,
    random: pooledRandom(),
    suite: nodeSuite,
    keystore,
    ownerKey: keystore.signer("owner", "ed25519"),
    logger: openLogger(config, undo),
    undo,
  };
}

function openLogger(config: Pick<ServerConfig, "logger" | "logLevel">, undo: Unwinding): Logger {
  const logger =
    config.logger ??
    pino(
      { level: config.logLevel ?? "info", base: null, timestamp: pino.stdTimeFunctions.isoTime },
      destination({ dest: 2, sync: false, minLength: LOG_BUFFER_BYTES }),
    );
  const flusher = setInterval(() => logger.flush(), LOG_FLUSH_MS);
  flusher.unref();
  undo.push(() => {
    clearInterval(flusher);
    return new Promise<void>((resolve) => {
      logger.flush(() => resolve());
    });
  });
  return logger;
}
