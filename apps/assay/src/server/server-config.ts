import type { Logger } from "pino";
import type { openLog } from "@assay/driver-log";
import type { createOrtRuntime } from "@assay/driver-ort";
import type { Trust } from "@assay/receipts";
import type { Hub } from "@assay/service-hub";
import type { LogPlace, PeerConfig } from "./log-place.ts";
import type { Money, MoneyConfig } from "./money/money.ts";
import type { TextConfig } from "./text.ts";
import type { ConfiguredWitness } from "./witnessing.ts";

export type ServerConfig = {
  /** Directory of all state. */
  readonly home: string;
  readonly host: string;
  readonly port: number;
  /** A PostgreSQL of one's own; absent means the embedded child. */
  readonly databaseUrl?: string;
  /** The child's program and the arguments Node needs for it. */
  readonly childEntry: string;
  readonly nodeArgs?: readonly string[];
  /** The program of children that hold language models; without it this process runs none itself. */
  readonly languageChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  /** Whether the demo models are released if they are not there. Default true. */
  readonly seed?: boolean;
  /** Witnesses that cosign the log's checkpoints. */
  readonly witnesses?: readonly ConfiguredWitness[];
  readonly logLevel?: "silent" | "error" | "warn" | "info" | "debug";
  /** Where log lines go; default standard error. */
  readonly logger?: Logger;
  readonly runtime?: Partial<Parameters<typeof createOrtRuntime>[0]>;
  /** The program of children that hold GGUF models, and where node-llama-cpp lies if not beside them. */
  readonly ggufChild?: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  readonly llamaDirectory?: string;
  /** How long upstreams may take, when not as long as usual. */
  readonly upstreamLimits?: NonNullable<TextConfig["upstreamLimits"]>;
  /** Certificate chain and key, PEM: the gateway then speaks HTTPS. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Share of vanilla receipts that another node executes again, 0 to 1. */
  readonly auditShare?: number;
  readonly maxBodyBytes?: number;
  /** Longest a request may take to arrive, milliseconds. */
  readonly requestTimeoutMs?: number;
  readonly now?: () => number;
  readonly version: string;
  /** The gateway that owns the log's files: this one is then a second gateway, over the same database. */
  readonly peer?: PeerConfig;
  /** What payments are taken with; without it nothing has a price. */
  readonly money?: MoneyConfig;
  /** Where this machine is, as its operator declares it: two capital letters. */
  readonly country?: string;
  /** Passed to the log, so that a test may take the disk away. */
  readonly log?: Partial<Parameters<typeof openLog>[0]>;
};

export type RunningServer = {
  readonly url: string;
  readonly trust: Trust;
  readonly hub: Hub;
  readonly log: LogPlace["log"];
  readonly runtime: ReturnType<typeof createOrtRuntime>;
  /** Resolves when the database is there and the index has caught up; rejects when it did not start. */
  readonly databaseReady: Promise<void>;
  /** Chain, ledger and settler; absent where nothing can have a price. */
  readonly money?: Pick<Money, "ready" | "begun">;
  /** Empties every derived table and makes it again from the log; resolves with the fingerprints before and after. */
  readonly rebuildIndex: () => Promise<{ readonly before: string; readonly after: string }>;
  /** Stops taking work, answers what is under way, makes everything durable, stops the children. */
  readonly close: () => Promise<void>;
};
