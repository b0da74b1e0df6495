import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import type { AssayError } from "@assay/core";
import { ggufError, reportedCode } from "./errors.ts";
import { CHILD_HEAP_MIB, KEPT_STDERR, MAX_STRIKES, STRIKE_WINDOW_MS } from "./limits.ts";
import { readMessage } from "./wire.ts";
import type { FromChild, Loaded, ToChild } from "./wire.ts";

/** What one generation hears. */
type Listener = {
  readonly message: (message: Extract<FromChild, { readonly id: number }>) => void;
  /** The child is gone, and the answer with it. */
  readonly died: (error: AssayError) => void;
};

/** A child process with the model in it, started when it is first needed and again after it died. */
export type Host = {
  readonly ready: () => Promise<Loaded>;
  readonly start: (message: Extract<ToChild, { readonly type: "start" }>, listener: Listener) => void;
  readonly stop: (id: number) => void;
  readonly pid: () => number | undefined;
  /** Ends a child that does not answer. */
  readonly kill: () => void;
  readonly close: () => Promise<void>;
};

export type HostOptions = {
  readonly childEntry: string;
  readonly nodeArgs: readonly string[];
  readonly load: Extract<ToChild, { readonly type: "load" }>;
  readonly loadTimeoutMs: number;
  readonly now: () => number;
};

export function createHost(options: HostOptions): Host {
  let child: ChildProcess | undefined;
  let loading: Promise<Loaded> | undefined;
  let closed = false;
  const listeners = new Map<number, Listener>();
  const strikes: number[] = [];

  function begin(): Promise<Loaded> {
    const recent = strikes.filter((at) => options.now() - at < STRIKE_WINDOW_MS);
    if (recent.length >= MAX_STRIKES) {
      throw ggufError("engine_unavailable", `The model's process died ${MAX_STRIKES} times in a short while.`, [
        "Its file may be broken; load another one.",
      ]);
    }
    const started = fork(options.childEntry, [], {
      execArgv: [`--max-old-space-size=${CHILD_HEAP_MIB}`, ...options.nodeArgs],
      // Nothing of the parent's environment, which holds keys.
      env: { LC_ALL: "C.UTF-8" },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      // An interrupt at the terminal is the parent's to handle, in its own order.
      detached: true,
    });
    child = started;
    let stderr = "";
    started.stderr?.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString("latin1")).slice(-KEPT_STDERR);
    });
    return new Promise<Loaded>((resolve, reject) => {
      const timer = setTimeout(() => started.kill("SIGKILL"), options.loadTimeoutMs);
      let refused = false;
      let loaded = false;
      started.on("message", (value) => {
        const message = readMessage(value);
        if (message === undefined) return void started.kill("SIGKILL");
        if (message.type === "loaded") {
          clearTimeout(timer);
          loaded = true;
          resolve(message);
        } else if (message.type === "failed") {
          refused = true;
          reject(ggufError(reportedCode(message.code), message.message, message.hints));
          started.kill("SIGKILL");
        } else {
          const listener = listeners.get(message.id);
          if (message.type === "ended") listeners.delete(message.id);
          listener?.message(message);
        }
      });
      started.on("error", (error) => reject(gone(String(error))));
      // Not "exit": what it wrote last must have been read.
      started.once("close", (code, signal) => {
        clearTimeout(timer);
        if (child === started) {
          child = undefined;
          loading = undefined;
        }
        if (closed || refused) {
          if (closed) reject(unavailable());
        } else {
          strikes.push(options.now());
          if (strikes.length > MAX_STRIKES) strikes.shift();
        }
        const error = closed ? unavailable() : gone(`It ended with ${signal ?? `status ${code}`}. ${stderr}`);
        if (!loaded) reject(error);
        const waiting = [...listeners.values()];
        listeners.clear();
        for (const listener of waiting) listener.died(error);
      });
      started.send(options.load);
    });
  }

  return {
    async ready() {
      if (closed) throw unavailable();
      loading ??= begin();
      const current = loading;
      try {
        return await current;
      } catch (error) {
        if (loading === current) loading = undefined;
        throw error;
      }
    },
    start(message, listener) {
      if (child === undefined || !child.connected) throw gone("It is not there.");
      listeners.set(message.id, listener);
      child.send(message);
    },
    stop(id) {
      if (child?.connected === true) child.send({ type: "stop", id } satisfies ToChild);
    },
    pid: () => child?.pid,
    kill: () => void child?.kill("SIGKILL"),
    async close() {
      closed = true;
      const ending = child;
      if (ending === undefined) return;
      const end = new Promise<void>((resolve) => ending.once("close", () => resolve()));
      ending.kill("SIGKILL");
      await end;
    },
  };
}

function gone(detail: string): AssayError {
  return ggufError(
    "model_aborted",
    "The process that ran the model ended.",
    ["It is started again for the next request."],
    new Error(detail.trim()),
  );
}

function unavailable(): AssayError {
  return ggufError("engine_unavailable", "The llama.cpp engine was closed.");
}
