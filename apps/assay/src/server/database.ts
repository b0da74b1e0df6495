import { mkdir } from "node:fs/promises";
import type { Logger } from "pino";
import {
  claimDatabaseMode,
  connectDatabase,
  createIndexStore,
  createSecretStore,
  migrateDatabase,
  startEmbeddedPostgres,
} from "@assay/driver-postgres";
import { describe } from "@assay/service-gateway";
import type { Database } from "@assay/driver-postgres";
import type { Stores } from "./deferred-index.ts";

export type StartedDatabase = {
  readonly stores: Stores;
  readonly database: Database;
  /** Address for other connections to it, of other threads or processes. */
  readonly url: string;
  readonly close: () => Promise<void>;
};

/** Starts the embedded PostgreSQL under `directory`, or connects to the one at `databaseUrl`, and migrates it. */
export async function startDatabase(
  databaseUrl: string | undefined,
  directory: string,
  logger: Logger,
): Promise<StartedDatabase> {
  let url = databaseUrl;
  let stop: () => Promise<void> = () => Promise.resolve();
  if (url === undefined) {
    await mkdir(directory, { recursive: true });
    const embedded = await startEmbeddedPostgres({
      directory,
      onEvent: (event) =>
        logger.warn(
          event.type === "given_up" ? { type: event.type, err: describe(event.cause) } : event,
          "embedded database",
        ),
    });
    url = embedded.url;
    stop = () => embedded.close();
  } else {
    await mkdir(directory, { recursive: true });
    await claimDatabaseMode(directory, "url");
  }
  const database = connectDatabase({ url, onUnavailable: () => logger.warn("database unavailable") });
  try {
    await migrateDatabase(database);
  } catch (error) {
    await database.close();
    await stop();
    throw error;
  }
  return {
    database,
    url,
    stores: {
      index: createIndexStore(database),
      secrets: createSecretStore(database),
      available: () => database.available(),
    },
    async close() {
      await database.close();
      await stop();
    },
  };
}
