import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";
import type { Duplex, Readable } from "node:stream";
import { STAGES, STATUS_DEADLINE, STATUS_FD, STATUS_MEMORY } from "./child/watchdog.ts";
import type { Stage } from "./child/watchdog.ts";
import { KIND, createFrameReader, writeFrame } from "./frame.ts";
import { decodeControl, encodeControl, text } from "./json.ts";
import { CHILD_FIRST_HEAP_MIB, CHILD_HEAP_MIB, MAX_REPLY_BYTES, WATCHDOG_INTERVAL_MS } from "./limits.ts";
import type { Settings } from "./options.ts";

type ChildFacts = {
  readonly engine: string;
  readonly engineVersion: string;
  readonly engineSha256: string;
  readonly cpuClass: string;
};

/** Why a child is no more. `external` is a signal from outside this driver: the kernel's or an operator's. */
export type DeathCause = "deadline" | "memory" | "aborted" | "external" | "protocol" | "silent" | "ended";

/** What requests are told when their child has died. */
export class LaneDeath extends Error {
  readonly why: DeathCause;
  /** For a deadline: what was late, and whose request it was for. */
  readonly late: { readonly id: number; readonly stage: Stage } | undefined;
  constructor(why: DeathCause, detail: string, late?: { readonly id: number; readonly stage: Stage }) {
    super(detail);
    this.name = "LaneDeath";
    this.why = why;
    this.late = late;
  }
}

/** Who waits for a request's frames. */
type Receiver = {
  /** `undefined` body never comes; `done` and `failed` are the last frames of a request. */
  readonly frame: (kind: number, body: Uint8Array) => void;
  readonly death: (death: LaneDeath) => void;
};

/** One child process and the channel to it, on which many requests run at once. */
export type Lane = {
  readonly pid: number | undefined;
  /** Resolves when the child has started its engine; rejects with {@link LaneDeath}. */
  readonly started: Promise<ChildFacts>;
  /** Resolves when the process is gone; never rejects. */
  readonly gone: Promise<void>;
  readonly alive: () => boolean;
  /** Sends a request and has its frames delivered until the last; gives its id. */
  readonly open: (kind: number, message: object, receiver: Receiver) => number;
  /** Sends a further frame of a request that is still open. */
  readonly send: (kind: number, id: number, body: Uint8Array) => void;
  /** Stops a request: nothing more of it is delivered. */
  readonly cancel: (id: number) => void;
  readonly kill: (why: DeathCause) => void;
};

/** What a child needs of the parent's environment: a locale and nothing else. */
const CHILD_ENVIRONMENT = { LC_ALL: "C.UTF-8", LANG: "C.UTF-8" };
/** Text of a child's standard error that is kept for an error's cause. */
const KEPT_STDERR = 2_000;

/** Starts a child. It dies with this process: its watchdog sees its parent change, its main thread the channel close. */
export function startLane(settings: Settings): Lane {
  const argument = JSON.stringify({
    parentPid: process.pid,
    maxRssBytes: settings.maxRssBytes,
    watchdogIntervalMs: WATCHDOG_INTERVAL_MS,
    threads: settings.threads,
    cacheBytes: settings.cacheBytes,
    prefillChunk: settings.prefillChunk,
    loadTimeoutMs: settings.loadTimeoutMs,
    stepTimeoutMs: settings.stepTimeoutMs,
    prepareTimeoutMs: settings.prepareTimeoutMs,
    maxModelBytes: settings.maxModelBytes,
    windowEvents: settings.windowEvents,
  });
  const child = spawn(
    process.execPath,
    [
      `--max-old-space-size=${CHILD_HEAP_MIB}`,
      `--initial-old-space-size=${CHILD_FIRST_HEAP_MIB}`,
      ...settings.nodeArgs,
      settings.childEntry,
      argument,
    ],
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
  let cause: DeathCause | undefined;
  let late: LaneDeath["late"];
  let stderr = "";
  let nextId = 1;
  let heardMs = performance.now();
  const receivers = new Map<number, Receiver>();
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
  const startTimer = setTimeout(() => kill("silent"), settings.startTimeoutMs);
  const listener = setInterval(() => {
    if (receivers.size === 0) heardMs = performance.now();
    else if (performance.now() - heardMs > settings.silenceMs) kill("silent");
    else writeFrame(channel, KIND.ping, 0, new Uint8Array());
  }, settings.silenceMs / 4);
  listener.unref();

  const hello = (body: Uint8Array): void => {
    clearTimeout(startTimer);
    const facts = decodeControl(body);
    if (facts === undefined || text(facts["cpuClass"]).length !== 64) return kill("protocol");
    settle?.resolve({
      engine: text(facts["engine"]),
      engineVersion: text(facts["engineVersion"]),
      engineSha256: text(facts["engineSha256"]),
      cpuClass: text(facts["cpuClass"]),
    });
    settle = undefined;
  };
  const read = createFrameReader({
    kinds: [KIND.hello, KIND.loaded, KIND.started, KIND.events, KIND.done, KIND.failed, KIND.pong],
    maxBodyBytes: MAX_REPLY_BYTES,
    onFrame: (kind, id, body) => {
      heardMs = performance.now();
      if (kind === KIND.hello) return hello(body);
      // Frames of requests that were cancelled meanwhile are nobody's.
      const receiver = receivers.get(id);
      if (kind === KIND.done || kind === KIND.failed || kind === KIND.loaded) receivers.delete(id);
      receiver?.frame(kind, body);
    },
  });
  channel.on("data", (chunk: Buffer) => {
    if (cause === undefined && read(chunk) !== undefined) kill("protocol");
  });
  // A broken channel means that the process is going; its exit says why.
  channel.on("error", () => undefined);
  status.on("error", () => undefined);
  status.on("data", (chunk: Buffer) => {
    if (chunk[0] === STATUS_MEMORY) cause ??= "memory";
    if (chunk[0] === STATUS_DEADLINE && chunk.length >= 6 && cause === undefined) {
      cause = "deadline";
      late = { id: chunk.readUInt32LE(1), stage: STAGES[chunk[5] ?? 0] ?? "step" };
    }
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString("latin1")).slice(-KEPT_STDERR);
  });

  const gone = new Promise<void>((resolve) => {
    const end = (code: number | null, signal: string | null, failure?: Error): void => {
      if (!alive) return;
      alive = false;
      clearTimeout(startTimer);
      clearInterval(listener);
      const outside = signal === "SIGKILL" || signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGHUP";
      const why = cause ?? (outside ? "external" : "aborted");
      const detail = failure?.message ?? `The process ended with ${signal ?? `status ${code}`}. ${stderr}`.trim();
      const death = new LaneDeath(why, detail, late);
      settle?.reject(death);
      const waiting = [...receivers.values()];
      receivers.clear();
      channel.destroy();
      status.destroy();
      resolve();
      for (const receiver of waiting) receiver.death(death);
    };
    // Not "exit": what the watchdog wrote last must have been read before the cause is named.
    child.on("close", (code, signal) => end(code, signal));
    child.on("error", (error) => {
      if (child.pid === undefined) end(null, null, error);
    });
  });

  return {
    pid: child.pid,
    started,
    gone,
    alive: () => alive && cause === undefined,
    open: (kind, message, receiver) => {
      const id = nextId;
      nextId = (nextId % 0xffff_fffe) + 1;
      if (!alive || cause !== undefined) {
        queueMicrotask(() => receiver.death(new LaneDeath(cause ?? "ended", "The process has ended.")));
        return id;
      }
      receivers.set(id, receiver);
      writeFrame(channel, kind, id, encodeControl(message));
      return id;
    },
    send: (kind, id, body) => {
      if (alive && cause === undefined && receivers.has(id)) writeFrame(channel, kind, id, body);
    },
    cancel: (id) => {
      if (receivers.delete(id) && alive && cause === undefined) writeFrame(channel, KIND.cancel, id, new Uint8Array());
    },
    kill,
  };
}
