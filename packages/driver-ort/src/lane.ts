import { spawn } from "node:child_process";
import type { Duplex, Readable } from "node:stream";
import { STATUS_FD, STATUS_MEMORY } from "./child/watchdog.ts";
import { count, decodeControl, text } from "./control.ts";
import type { JsonObject } from "./control.ts";
import { KIND, createFrameReader, writeFrame } from "./frame.ts";
import type { RuntimeProfile } from "@assay/protocol";

export type ChildFacts = {
  readonly engine: string;
  readonly engineVersion: string;
  readonly engineSha256: string;
  readonly cpuClass: string;
};

/** Why a child is no more. `external` is a signal from outside this driver: the kernel's or an operator's. */
export type DeathCause = "timeout" | "memory" | "aborted" | "external" | "protocol" | "ended";

/** Thrown by {@link Lane.call} and {@link Lane.start} when the child died before it answered. */
export class LaneDeath extends Error {
  readonly why: DeathCause;
  constructor(why: DeathCause, detail: string) {
    super(detail);
    this.name = "LaneDeath";
    this.why = why;
  }
}

type Reply = { readonly kind: number; readonly body: Uint8Array };

/** One child process and the channel to it. It answers one request at a time. */
export type Lane = {
  readonly pid: number | undefined;
  /** Resolves when the child has loaded its engine; rejects with {@link LaneDeath}. */
  readonly started: Promise<ChildFacts>;
  /** Resolves when the process is gone; never rejects. */
  readonly gone: Promise<void>;
  readonly alive: () => boolean;
  /** Resident memory at the last report, bytes. */
  rssBytes: number;
  /** Sends a request and waits for its answer; past `timeoutMs` the child is killed. */
  call(kind: number, pieces: readonly Uint8Array[], timeoutMs: number): Promise<Reply>;
  kill(why: DeathCause): void;
};

export type LaneOptions = {
  readonly childEntry: string;
  /** Arguments for Node before the entry. */
  readonly nodeArgs: readonly string[];
  readonly profile: RuntimeProfile;
  readonly heapMib: number;
  readonly maxRssBytes: number;
  readonly maxFrameBytes: number;
  readonly maxTensorBytes: number;
  readonly maxTensorElements: number;
  readonly watchdogIntervalMs: number;
  readonly startTimeoutMs: number;
};

/** What a child needs of the parent's environment: a place for temporary files and nothing else. */
const CHILD_ENVIRONMENT = { LC_ALL: "C.UTF-8", LANG: "C.UTF-8" };
/** Text of a child's standard error that is kept for an error's cause. */
const KEPT_STDERR = 2_000;

type Pending = { resolve: (reply: Reply) => void; reject: (death: LaneDeath) => void; readonly id: number };

/** Starts a child. It dies with this process: its watchdog sees its parent change, its main thread the channel close. */
export function startLane(options: LaneOptions): Lane {
  const settings = JSON.stringify({
    profile: options.profile,
    parentPid: process.pid,
    maxRssBytes: options.maxRssBytes,
    watchdogIntervalMs: options.watchdogIntervalMs,
    maxFrameBytes: options.maxFrameBytes,
    maxTensorBytes: options.maxTensorBytes,
    maxTensorElements: options.maxTensorElements,
  });
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${options.heapMib}`, ...options.nodeArgs, options.childEntry, settings],
    {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
      env: CHILD_ENVIRONMENT,
      // Its own process group: an interrupt at the terminal is the parent's to handle, in its own order.
      detached: true,
    },
  );
  const channel = child.stdio[3] as Duplex;
  const status = child.stdio[STATUS_FD] as unknown as Readable;

  let alive = true;
  let pending: Pending | undefined;
  let nextId = 1;
  let cause: DeathCause | undefined;
  let stderr = "";
  let settle: { resolve: (facts: ChildFacts) => void; reject: (death: LaneDeath) => void } | undefined;
  const started = new Promise<ChildFacts>((resolve, reject) => {
    settle = { resolve, reject };
  });
  // Whoever waits for the start handles its failure; nobody has to.
  started.catch(() => undefined);

  const kill = (why: DeathCause): void => {
    cause ??= why;
    child.kill("SIGKILL");
  };
  const startTimer = setTimeout(() => kill("timeout"), options.startTimeoutMs);

  const hello = (facts: JsonObject | undefined): void => {
    clearTimeout(startTimer);
    if (facts === undefined || text(facts["profile"]) !== options.profile || text(facts["cpuClass"]).length !== 64) {
      return kill("protocol");
    }
    lane.rssBytes = count(facts["rssBytes"]);
    settle?.resolve({
      engine: text(facts["engine"]),
      engineVersion: text(facts["engineVersion"]),
      engineSha256: text(facts["engineSha256"]),
      cpuClass: text(facts["cpuClass"]),
    });
    settle = undefined;
  };
  const reader = createFrameReader({
    kinds: [KIND.hello, KIND.loaded, KIND.result, KIND.failed, KIND.done],
    maxBodyBytes: options.maxFrameBytes + 1024 ** 2,
    onFrame: (kind, id, body) => {
      if (kind === KIND.hello && settle !== undefined) return hello(decodeControl(body));
      const waiting = pending;
      if (waiting === undefined || waiting.id !== id || kind === KIND.hello) return kill("protocol");
      pending = undefined;
      waiting.resolve({ kind, body });
    },
  });
  channel.on("data", (chunk: Buffer) => {
    if (cause === undefined && reader.push(chunk) !== undefined) kill("protocol");
  });
  // A broken channel means that the process is going; its exit says why.
  channel.on("error", () => undefined);
  status.on("error", () => undefined);
  status.on("data", (chunk: Buffer) => {
    if (chunk.includes(STATUS_MEMORY)) cause ??= "memory";
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString("latin1")).slice(-KEPT_STDERR);
  });

  const gone = new Promise<void>((resolve) => {
    const end = (code: number | null, signal: string | null, failure?: Error): void => {
      if (!alive) return;
      alive = false;
      clearTimeout(startTimer);
      const outside = signal === "SIGKILL" || signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGHUP";
      const why = cause ?? (outside ? "external" : "aborted");
      const detail = failure?.message ?? `The process ended with ${signal ?? `status ${code}`}. ${stderr}`.trim();
      const death = new LaneDeath(why, detail);
      settle?.reject(death);
      pending?.reject(death);
      pending = undefined;
      channel.destroy();
      status.destroy();
      resolve();
    };
    // Not "exit": what the watchdog wrote last must have been read before the cause is named.
    child.on("close", (code, signal) => end(code, signal));
    child.on("error", (error) => {
      if (child.pid === undefined) end(null, null, error);
    });
  });

  const lane: Lane = {
    pid: child.pid,
    started,
    gone,
    alive: () => alive && cause === undefined,
    rssBytes: 0,
    kill,
    call: async (kind, pieces, timeoutMs) =>
      await new Promise<Reply>((resolve, reject) => {
        if (!alive || cause !== undefined) return reject(new LaneDeath(cause ?? "ended", "The process has ended."));
        const id = nextId++ >>> 0;
        const timer = setTimeout(() => kill("timeout"), timeoutMs);
        pending = {
          id,
          resolve: (reply) => {
            clearTimeout(timer);
            resolve(reply);
          },
          reject: (death) => {
            clearTimeout(timer);
            reject(death);
          },
        };
        writeFrame(channel, kind, id, pieces);
      }),
  };
  return lane;
}
