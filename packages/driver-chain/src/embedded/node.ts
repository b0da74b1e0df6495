import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { open, readFile, rename, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AssayError } from "@assay/core";
import { createTransport } from "../rpc/transport.ts";
import type { Transport } from "../rpc/transport.ts";
import { count } from "../rpc/values.ts";
import { MAX_STATE_BYTES } from "./state.ts";
import { isChainProcess } from "./process.ts";

/** Past this the log is set aside at the next start, so that two of them bound its space. */
const MAX_LOG_BYTES = 1024 * 1024;
const MAX_COMPLAINT_BYTES = 2_048;
const POLL_MS = 10;
const WATCH_MS = 50;
/** States that a reorganisation can go back to; each costs memory. */
const KEPT_STATES = 64;
/** Gas of a block, as on Ethereum when this was chosen. */
const BLOCK_GAS = 30_000_000;

/** A development node that answers: started here, or found running. */
export type ChainNode = {
  readonly pid: number;
  readonly port: number;
  readonly adopted: boolean;
  /** Resolves when its process has ended, whoever ended it. */
  readonly ended: Promise<void>;
};

export type NodeOptions = {
  readonly binary: string;
  readonly directory: string;
  readonly chainId: number;
  readonly port: number;
  /** File of the state to start with. */
  readonly load: string | undefined;
  /** File that the node writes its state to when it ends in order. */
  readonly dump: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
};

/** RPC to a node of this machine; the state of a whole chain may be its answer. */
export function nodeTransport(port: number): Transport {
  return createTransport({ url: `http://127.0.0.1:${port}`, timeoutMs: 30_000, maxAnswerBytes: MAX_STATE_BYTES });
}

/**
 * Starts a node and waits until it answers. Throws `chain_start_failed` with what it said; `chain_port_taken` when that is
 * that its port is in use.
 */
export async function startNode(options: NodeOptions): Promise<ChainNode> {
  const log = await openLog(options.directory);
  const offset = (await log.stat()).size;
  let failure: string | undefined;
  let child: ChildProcess;
  let ended: Promise<void>;
  try {
    child = spawn(options.binary, arguments_(options), {
      cwd: options.directory,
      // Nothing of ours, which may hold secrets, and nothing that changes the node's ways.
      env: { PATH: "/usr/bin:/bin", HOME: options.directory, TMPDIR: options.directory },
      stdio: ["ignore", log.fd, log.fd],
      // A session of its own: an interrupt typed at the terminal reaches us alone, and we stop it in order.
      detached: true,
      windowsHide: true,
    });
    ended = new Promise<void>((resolve) => {
      child.once("error", (error) => {
        failure = `it could not be executed: ${error.message}`;
        resolve();
      });
      child.once("exit", () => resolve());
    });
  } finally {
    await log.close();
  }
  const state = { exited: false };
  void ended.then(() => (state.exited = true));
  const deadline = Date.now() + options.timeoutMs;
  while (!state.exited && Date.now() < deadline && !options.signal.aborted) {
    if ((await answersAs(options.port)) === options.chainId && !state.exited && child.pid !== undefined)
      return { pid: child.pid, port: options.port, adopted: false, ended };
    await Promise.race([ended, delay(POLL_MS)]);
  }
  if (!state.exited) child.kill("SIGKILL");
  await ended;
  const said = failure ?? (await tail(options.directory, offset)) ?? "it ended without a word";
  if (/address (already )?in use/i.test(said)) throw portTaken(options.port);
  throw new AssayError("chain_start_failed", "The embedded development chain could not be started.", {
    hints: [said, `Its log is ${logPath(options.directory)}.`],
  });
}

export function portTaken(port: number): AssayError<"chain_port_taken"> {
  return new AssayError("chain_port_taken", `The port ${port} of the development chain is in use.`, {
    hints: ["Stop the program that listens there, or choose another port."],
  });
}

/** The node with that process id and port, which somebody else started; its end is watched. */
export function adoptedNode(pid: number, port: number, directory: string): ChainNode {
  const ended = (async () => {
    while (await isChainProcess(pid, directory)) await delay(WATCH_MS);
  })();
  return { pid, port, adopted: true, ended };
}

/** Ends a node: asked to first, so that it writes its state, and by force when it takes longer than `graceMs`. */
export async function stopNode(node: ChainNode, graceMs: number): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    try {
      process.kill(node.pid, signal);
    } catch {
      break;
    }
    const timer = new AbortController();
    const ended = await Promise.race([
      node.ended.then(() => true),
      delay(graceMs, false, { signal: timer.signal }).catch(() => false),
    ]);
    timer.abort();
    if (ended) return;
  }
  await node.ended;
}

/** A port of this machine that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** Chain id of whoever answers at the port. */
export async function answersAs(port: number): Promise<number | undefined> {
  try {
    return count(
      await createTransport({ url: `http://127.0.0.1:${port}`, timeoutMs: 2_000 }).request("eth_chainId", []),
      "id",
    );
  } catch {
    return undefined;
  }
}

function arguments_(options: NodeOptions): string[] {
  return [
    // The rules are named, so that another version of the node does not change gas and op codes unasked.
    ["--host", "127.0.0.1", "--port", String(options.port), "--chain-id", String(options.chainId)],
    ["--hardfork", "prague", "--gas-limit", String(BLOCK_GAS)],
    // No accounts with keys that everybody knows, and no web page may talk to it.
    ["--accounts", "0", "--no-cors", "--quiet"],
    ["--prune-history", String(KEPT_STATES), "--dump-state", options.dump],
    options.load === undefined ? [] : ["--load-state", options.load],
  ].flat();
}

function logPath(directory: string): string {
  return join(directory, "chain.log");
}

async function openLog(directory: string): Promise<Awaited<ReturnType<typeof open>>> {
  const path = logPath(directory);
  const size = await stat(path).then(
    (facts) => facts.size,
    () => 0,
  );
  if (size > MAX_LOG_BYTES) await rename(path, `${path}.old`);
  return open(path, "a", 0o600);
}

async function tail(directory: string, offset: number): Promise<string | undefined> {
  const bytes = await readFile(logPath(directory)).catch(() => Buffer.alloc(0));
  const text = bytes.subarray(offset).toString("utf8");
  return text === "" ? undefined : text.slice(-MAX_COMPLAINT_BYTES).trim();
}
