import { createHash } from "node:crypto";
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { connectDatabase, migrateDatabase, startEmbeddedPostgres } from "@assay/driver-postgres";
import type { Database, EmbeddedPostgres } from "@assay/driver-postgres";
import { createLink } from "../link.ts";
import type { Link } from "../link.ts";
import type { SettlerSettings } from "../options.ts";
import type { SettlerEvent } from "../settler.ts";
import type { SettlementDraft } from "../supplements.ts";
import type { World } from "./world.ts";

const entry = fileURLToPath(new URL("../main.ts", import.meta.url));
const tsx = createRequire(import.meta.url).resolve("tsx");

/** The settler's program from its source, for a thread. */
export function sourceEntry(): { readonly entry: string; readonly nodeArgs: readonly string[] } {
  return { entry, nodeArgs: ["--conditions=assay-source"] };
}

/** A database server with the schema in place. */
export async function openDatabase(
  world: World,
): Promise<{ readonly server: EmbeddedPostgres; readonly database: Database }> {
  const server = await startEmbeddedPostgres({ directory: join(world.directory, "database") });
  const database = connectDatabase({ url: server.url });
  await migrateDatabase(database);
  return { server, database };
}

/** A log and a blob store in memory, as far as a settler asks for them. */
export function memoryHost() {
  const drafts: SettlementDraft[] = [];
  const blobs = new Map<string, Uint8Array>();
  let size = 0;
  return {
    drafts,
    blobs,
    /** Says that the log has so many entries. */
    grow: (to: number) => {
      size = Math.max(size, to);
    },
    writeSupplements: (batch: readonly SettlementDraft[]): Promise<readonly number[]> =>
      Promise.resolve(batch.map((draft) => drafts.push(draft) - 1)),
    putBlob: (bytes: Uint8Array): Promise<void> => {
      blobs.set(createHash("sha256").update(bytes).digest("hex"), new Uint8Array(bytes));
      return Promise.resolve();
    },
    checkpoint: (atLeast: number) => {
      size = Math.max(size, atLeast);
      return Promise.resolve({ size, root: new Uint8Array(createHash("sha256").update(`${size}`).digest()) });
    },
  };
}

/** Settings that settle fast. */
export function quickSettings(
  world: World,
  databaseUrl: string,
  options: SettlerSettings["options"] = {},
): SettlerSettings {
  return {
    databaseUrl,
    rpcUrl: world.embedded.rpcUrl,
    deployments: world.embedded.deployments,
    keys: { operator: world.operator.key, submitter: world.submitter.key },
    options: {
      items: 20,
      afterMs: 100,
      claimAfterMs: 300,
      tickMs: 50,
      pollMs: 50,
      anchorEveryMs: 0,
      payoutEveryMs: 0,
      ...options,
    },
  };
}

/** A settler in a process of its own, which can be killed. */
export type SettlerProcess = { readonly child: ChildProcess; readonly link: Link; readonly started: Promise<unknown> };

export function forkSettler(
  settings: SettlerSettings,
  host: ReturnType<typeof memoryHost>,
  onEvent: (event: SettlerEvent) => void = () => undefined,
): SettlerProcess {
  const nodeArgs = ["--conditions=assay-source", "--import", pathToFileURL(tsx).href];
  const child = fork(entry, [], {
    execArgv: nodeArgs,
    serialization: "advanced",
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const link = createLink(
    {
      post: (message) => void (child.connected && child.send(message as object, () => undefined)),
      onMessage: (listener) => void child.on("message", listener),
    },
    { putBlob: host.putBlob, checkpoint: host.checkpoint, writeSupplements: host.writeSupplements },
    { event: onEvent },
  );
  child.once("exit", () => link.sever());
  const started = link.call("start", { settings, supplements: true });
  started.catch(() => undefined);
  return { child, link, started };
}
