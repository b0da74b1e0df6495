import type { Fetch } from "@assay/sdk";
import type { NodeConfig, RunningNode } from "../server/start-node.ts";

/** A stream that the program writes to. */
export type Sink = {
  readonly write: (data: string | Uint8Array) => void;
  readonly isTerminal: boolean;
  /** Characters of a line. */
  readonly columns: number;
  readonly colour: boolean;
  /** Whether the reader shows more than ASCII. */
  readonly unicode: boolean;
};

/** A server in this process. */
export type RunningServer = {
  readonly url: string;
  /** Resolves when owners can be told apart and lists are complete; rejects when the database did not start. */
  readonly databaseReady: Promise<void>;
  /** Makes the database's derived tables again from log and blobs; fingerprints before and after. */
  readonly rebuildIndex: () => Promise<{ readonly before: string; readonly after: string }>;
  readonly close: () => Promise<void>;
};

type ServerOptions = {
  readonly host: string;
  /** 0 for one that is free. */
  readonly port: number;
  readonly databaseUrl?: string;
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Where this machine is, as its operator declares it: two capital letters. */
  readonly country?: string;
  /** The gateway whose log this one writes to, as a second one. */
  readonly peer?: { readonly url: string; readonly invite?: string };
  /** Whether the server's log lines go to stderr; a command that starts one for itself keeps it quiet. */
  readonly quiet: boolean;
};

/**
 * Everything outside that commands touch, handed in by `main.ts` (the real ones) or a test (its own). Nothing below
 * `cli/` reads the environment, the clock or the process.
 */
export type World = {
  readonly version: string;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly stdin: (limitBytes: number) => Promise<Uint8Array>;
  /** One line that a person types after `prompt`, `undefined` at the end; absent when nobody sits there. */
  readonly readLine?: ((prompt: string) => Promise<string | undefined>) | undefined;
  /** The same for a secret, which is not shown while it is typed; absent when nobody sits there. */
  readonly readSecret?: ((prompt: string) => Promise<string | undefined>) | undefined;
  /** An environment variable that a flag names, for secrets that must not stand on a command line. */
  readonly variable: (name: string) => string | undefined;
  /** Absolute path of the folder with keys, receipts and the log. */
  readonly home: string;
  /** Absolute path that relative ones start from. */
  readonly cwd: string;
  /** A gateway named in the environment. */
  readonly url: string | undefined;
  /** Where a gateway is looked for when none is named; `undefined` looks nowhere. */
  readonly usualUrl: string | undefined;
  readonly fetch: Fetch;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** Aborted by the first interrupt. */
  readonly interrupt: AbortSignal;
  /** Settings of the server from the environment; rejects with `config_invalid` listing every wrong one. */
  readonly serverSettings: () => Promise<{
    readonly host: string;
    readonly port: number;
    readonly databaseUrl?: string;
  }>;
  /** Starts the server over `home` in this process. Rejects with `log_locked` when another process has it. */
  readonly startServer: (options: ServerOptions) => Promise<RunningServer>;
  /** Starts a node in this process that executes for a gateway elsewhere. */
  readonly startNode: (
    options: Omit<NodeConfig, "child" | "languageChild" | "logger" | "logLevel">,
  ) => Promise<RunningNode>;
  /** Folder of the demo models and their samples. */
  readonly modelsFolder: string;
  /** How the processes that hold models of tensors are started. */
  readonly ortChild: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
  /** How the processes that hold language models are started. */
  readonly languageChild: { readonly childEntry: string; readonly nodeArgs?: readonly string[] };
};
