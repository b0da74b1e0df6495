import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const program = join(root, "apps/assay/bin/assay.js");

/** The variable's value. A suite that lacks what it was to be given fails instead of passing without it. */
export function needed(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set: run npm run test:system`);
  return value;
}

/** A fresh home with the environment that the program gets for it. */
export type Home = {
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
  readonly remove: () => void;
};

export function makeHome(variables: Readonly<Record<string, string>> = {}): Home {
  const path = mkdtempSync(join(tmpdir(), "assay-system-"));
  const { PATH, HOME, TMPDIR } = process.env;
  return {
    path,
    env: { PATH, HOME, ...(TMPDIR === undefined ? {} : { TMPDIR }), ASSAY_HOME: path, ...variables },
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

export type Ran = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** Runs a program to its end. */
export function runProgram(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Ran {
  const { status, stdout, stderr, error } = spawnSync(command, [...args], { env, cwd: root, encoding: "utf8" });
  if (error) throw error;
  return { code: status, stdout, stderr };
}

/** Runs `assay` with arguments in a home. */
export function assay(home: Home, ...args: readonly string[]): Ran {
  return runProgram(process.execPath, [program, ...args], home.env);
}

/** Runs `assay … --json` in a home, expects success and returns what it printed. */
export function assayJson(home: Home, ...args: readonly string[]): unknown {
  const ran = assay(home, ...args, "--json");
  if (ran.code !== 0) throw new Error(`assay ${args.join(" ")} ended with ${ran.code}: ${ran.stdout}${ran.stderr}`);
  return JSON.parse(ran.stdout);
}

export type Gateway = {
  readonly url: string;
  /** Ends it as an operator does, and resolves to its exit code. */
  readonly stop: () => Promise<number | null>;
  /** Ends it as a power cut does. */
  readonly kill: () => Promise<void>;
};

/** `assay start` as its own process, resolved once it serves. */
export async function startGateway(home: Home): Promise<Gateway> {
  const child = spawn(process.execPath, [program, "start", "--port", "0", "--json"], {
    env: { ...home.env, ASSAY_LOG_LEVEL: "warn" },
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const url = await servedAt(child, ended);
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return ended;
  };
  return {
    url,
    stop: () => end("SIGTERM"),
    kill: async () => {
      await end("SIGKILL");
    },
  };
}

function servedAt(child: ChildProcess, ended: Promise<number | null>): Promise<string> {
  return new Promise((resolve, reject) => {
    let stdout = "";
    let stderr = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      stderr += chunk.toString("utf8");
    });
    child.stdout?.on("data", (chunk: Buffer) => {
      stdout += chunk.toString("utf8");
      // One object is printed, over several lines, and it is whole when the last brace stands alone.
      if (/^\}$/m.test(stdout)) resolve((JSON.parse(stdout) as { url: string }).url);
    });
    void ended.then((code) => reject(new Error(`assay start ended with ${code}: ${stdout}${stderr}`)));
  });
}

/** What is at `url`, once `enough` says it is what was waited for; each wait is one request, until `deadlineMs` passed. */
export async function eventually<T>(
  read: () => Promise<T>,
  enough: (value: T) => boolean,
  deadlineMs = 60_000,
): Promise<T> {
  const until = Date.now() + deadlineMs;
  for (;;) {
    const value = await read();
    if (enough(value) || Date.now() > until) return value;
  }
}

/** Value of one metric without labels, from the gateway's `/metrics`. */
export async function metric(url: string, name: string): Promise<number | undefined> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}
