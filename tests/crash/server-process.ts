// A server in a process of its own, and the means to end it as a power cut would: itself, its children and the
// database's processes, found through /proc because SIGKILL leaves nobody to ask.
import { spawn } from "node:child_process";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { SettlerOptions } from "@assay/service-ledger";
import { ROOT } from "./support.ts";

type Fact = { readonly event: string } & Readonly<Record<string, unknown>>;

export type ServerProcess = {
  readonly pid: number;
  /** Resolves with a fact that the server told or will tell; rejects when it ends or fails before. */
  readonly told: (event: string) => Promise<Fact>;
  /** Gives a command and resolves with the fact that answers it. */
  readonly ask: (command: "settle" | "rebuild" | "paid", answer: string) => Promise<Fact>;
  /** Asks it to close in order; resolves when the process has ended because nothing was left to do. */
  readonly end: () => Promise<void>;
  /** Resolves when the process is gone. */
  readonly gone: Promise<void>;
  /** What it wrote to standard error: its log. */
  readonly stderr: () => string;
};

/** What `server-child.ts` is started with beside its home, as JSON. */
export type ServerChildOptions = {
  /** Any free one when absent. */
  readonly port?: number;
  /** Takes payments on a development chain of its own, and settles them so. */
  readonly settling?: Omit<SettlerOptions, "immediateAbove">;
  /** What one payer may owe unseen, in the smallest unit of USDC. */
  readonly maxUnsettled?: string;
};

/** Starts `server-child.ts` over `home`. It closes by itself when this process ends. */
export function startServerProcess(home: string, options: ServerChildOptions = {}): ServerProcess {
  const entry = fileURLToPath(new URL("server-child.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--conditions=assay-source", "--import", import.meta.resolve("tsx"), entry, home, JSON.stringify(options)],
    { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] },
  );
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr = (stderr + chunk.toString("utf8")).slice(-20_000)));
  // A killed server takes its pipes with it.
  child.stdin.on("error", () => undefined);
  const facts: Fact[] = [];
  let waiting: { event: string; resolve: (fact: Fact) => void; reject: (error: Error) => void }[] = [];
  let ended = false;
  const settle = (): void => {
    waiting = waiting.filter(({ event, resolve, reject }) => {
      const at = facts.findIndex((fact) => fact.event === event);
      const failure = facts.find((fact) => fact.event === "failed");
      if (at >= 0) facts.splice(at, 1).forEach(resolve);
      else if (failure) reject(new Error(`the server failed: ${JSON.stringify(failure)}\n${stderr}`));
      else if (ended) reject(new Error(`the server ended before it told "${event}"\n${stderr}`));
      else return true;
      return false;
    });
  };
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    facts.push(JSON.parse(line) as Fact);
    settle();
  });
  const gone = new Promise<void>((resolve) => {
    child.once("close", () => {
      ended = true;
      settle();
      resolve();
    });
  });
  const told = (event: string): Promise<Fact> =>
    new Promise((resolve, reject) => {
      waiting.push({ event, resolve, reject });
      settle();
    });
  return {
    pid: child.pid ?? 0,
    told,
    ask(command, answer) {
      child.stdin.write(`${command}\n`);
      return told(answer);
    },
    end() {
      child.stdin.end();
      return gone;
    },
    gone,
    stderr: () => stderr,
  };
}

type Seen = { readonly pid: number; readonly parent: number; readonly cwd: string; readonly command: string };

// Fields of proc(5) `stat` come after the command in parentheses, which may hold anything.
function processes(): Seen[] {
  return readdirSync("/proc").flatMap((name): Seen[] => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (state === "Z" || state === "X") return [];
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8");
      let cwd = "";
      try {
        cwd = readlinkSync(`/proc/${name}/cwd`);
      } catch {
        // Another user's process, or one that is just ending: its command line has to do.
      }
      return [{ pid: Number(name), parent: Number(parent), cwd, command }];
    } catch {
      return [];
    }
  });
}

/** Processes that work for `home`: descendants of `server`, and whatever runs in the home or names it. */
export function processesOf(home: string, server?: number): number[] {
  const all = processes();
  const found = new Set(
    all
      .filter(({ pid, cwd, command }) => pid === server || cwd.startsWith(`${home}/`) || command.includes(home))
      .map(({ pid }) => pid),
  );
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const { pid, parent } of all) if (found.has(parent)) found.add(pid);
  }
  found.delete(process.pid);
  return [...found];
}

/** Sends `signal` to each of `pids` that is still there. */
export function signalAll(pids: readonly number[], signal: "SIGSTOP" | "SIGKILL"): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

/** Whether a process runs: a zombie, whose parent has not asked after it yet, does not. */
export function isAlive(pid: number): boolean {
  return processes().some((one) => one.pid === pid);
}

/** Process id of the embedded database's postmaster, as its own file has it. */
export function postmasterOf(home: string): number | undefined {
  try {
    const [line = ""] = readFileSync(join(home, "database/data/postmaster.pid"), "utf8").split("\n");
    const pid = Number(line);
    return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
  } catch {
    return undefined;
  }
}
