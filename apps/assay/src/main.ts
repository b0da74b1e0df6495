import { randomBytes } from "node:crypto";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isatty } from "node:tty";
import { fileURLToPath } from "node:url";
import { AssayError } from "@assay/core";
import { EXIT } from "./cli/exit-codes.ts";
import { renderError } from "./cli/render-error.ts";
import { runCli } from "./cli/run-cli.ts";
import { styleFor } from "./cli/style.ts";
import type { RunningServer, Sink, World } from "./cli/world.ts";
import { parseConfig } from "./config.ts";
import type { Config } from "./config.ts";
import type { MoneyConfig } from "./server/money/money.ts";

/** Put in by the bundler; a run from source has none. */
declare const ASSAY_VERSION: string | undefined;

const { env } = process;
const version = typeof ASSAY_VERSION === "string" ? ASSAY_VERSION : "0.0.0-source";
const fromSource = import.meta.url.endsWith("/src/main.ts");
const here = fileURLToPath(new URL(".", import.meta.url));
/** From `apps/assay/src` and from `apps/assay/dist` alike. */
const root = resolve(here, "../../..");

// https://no-color.org; FORCE_COLOR as Node reads it. A terminal that calls itself dumb shows neither colour nor glyphs.
function coloured(isTerminal: boolean): boolean {
  if ((env["NO_COLOR"] ?? "") !== "") return false;
  const forced = env["FORCE_COLOR"];
  if (forced !== undefined) return forced !== "0" && forced !== "false";
  return isTerminal && env["TERM"] !== "dumb";
}

function showsUnicode(): boolean {
  const locale = [env["LC_ALL"], env["LC_CTYPE"], env["LANG"]].find((value) => (value ?? "") !== "") ?? "";
  return env["TERM"] !== "dumb" && (/utf-?8/i.test(locale) || process.platform === "darwin");
}

function sink(stream: NodeJS.WriteStream, descriptor: number): Sink {
  const isTerminal = isatty(descriptor);
  return {
    write: (data) => void stream.write(data),
    isTerminal,
    columns: stream.columns ?? 100,
    colour: coloured(isTerminal),
    unicode: showsUnicode(),
  };
}

const stdout = sink(process.stdout, 1);
const stderr = sink(process.stderr, 2);

// `assay … | head` closes our output early; there is nobody left to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(EXIT.done);
  throw error;
});

const interrupt = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // Whoever asks twice does not want to wait for what is under way.
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted);
    interrupt.abort(new Error(`stopped by ${signal}`));
  });
}

/** A child's program: its source through the loader that runs ours, or the bundle beside this one. */
function childProgram(source: string, bundled: string): { childEntry: string; nodeArgs?: readonly string[] } {
  return fromSource
    ? { childEntry: join(root, source), nodeArgs: ["--conditions=assay-source", "--import", "tsx"] }
    : { childEntry: join(here, bundled) };
}

const ortChild = childProgram("packages/driver-ort/src/child/main.ts", "ort-child.js");
const ggufChild = childProgram("packages/driver-gguf/src/child/main.ts", "gguf-child.js");
const languageChild = childProgram("packages/driver-llm/src/child/main.ts", "llm-child.js");
const settler = childProgram("packages/service-ledger/src/settle/main.ts", "settler.js");

/** What the environment says of the chain; the embedded one when it says nothing. */
function moneyOf(config: Config): Omit<MoneyConfig, "eager"> | undefined {
  const chain = config.chain?.reveal() ?? "31337";
  if (chain === "off") return undefined;
  const common = {
    settler: { entry: settler.childEntry, ...(settler.nodeArgs ? { nodeArgs: settler.nodeArgs } : {}) },
    ...(config.payTo === undefined ? {} : { payTo: config.payTo }),
    ...(config.facilitatorUrl === undefined
      ? {}
      : {
          outside: {
            url: config.facilitatorUrl,
            ...(config.facilitatorToken ? { authorization: `Bearer ${config.facilitatorToken.reveal()}` } : {}),
          },
        }),
  };
  const file = config.chainFile === undefined ? {} : { file: resolve(config.chainFile) };
  if (chain === "31337" || chain === "84532" || chain === "8453")
    return { ...common, chain: { kind: "embedded", profile: Number(chain) as 31337 | 84532 | 8453, ...file } };
  if (config.chainFile === undefined || config.chainKeys === undefined || config.payTo === undefined)
    throw new AssayError("config_invalid", "A chain of one's own needs more than its address.", {
      hints: ["Set ASSAY_CHAIN_FILE, ASSAY_CHAIN_KEYS and ASSAY_PAY_TO as well.", "See .env.example for all of them."],
    });
  return {
    ...common,
    chain: {
      kind: "rpc",
      url: chain,
      file: resolve(config.chainFile),
      keys: resolve(config.chainKeys),
      payTo: config.payTo,
    },
  };
}

// A person at both ends: what is typed is a conversation, and the prompt is seen.
async function readLine(prompt: string): Promise<string | undefined> {
  const { createInterface } = await import("node:readline/promises");
  const lines = createInterface({ input: process.stdin, output: process.stdout, terminal: true });
  try {
    return await Promise.race([
      lines.question(prompt, { signal: interrupt.signal }),
      new Promise<undefined>((resolve) => lines.once("close", () => resolve(undefined))),
    ]);
  } catch (error) {
    if (interrupt.signal.aborted) return undefined;
    throw error;
  } finally {
    lines.close();
  }
}

/** Longer than anybody types; what goes on is a file that was piped by mistake. */
const MAX_SECRET_CHARS = 1024;

// The prompt goes to stderr, because the answer of a command may be on its way elsewhere; what is typed is shown nowhere.
function readSecret(prompt: string): Promise<string | undefined> {
  const { stdin } = process;
  stderr.write(prompt);
  stdin.setRawMode(true);
  stdin.setEncoding("utf8");
  return new Promise((resolve) => {
    let typed = "";
    const end = (text: string | undefined): void => {
      stdin.off("data", take);
      interrupt.signal.removeEventListener("abort", aborted);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write("\n");
      resolve(text);
    };
    const aborted = (): void => end(undefined);
    const take = (text: string): void => {
      for (const character of text) {
        if (character === "\r" || character === "\n") return end(typed);
        // End of input, and the interrupt that a raw terminal hands on as a character.
        if (character === "\u0004") return end(typed === "" ? undefined : typed);
        if (character === "\u0003") {
          interrupt.abort(new Error("stopped at a prompt"));
          return;
        }
        if (character === "\u007f" || character === "\b") typed = Array.from(typed).slice(0, -1).join("");
        else if (character >= " " && typed.length < MAX_SECRET_CHARS) typed += character;
      }
    };
    interrupt.signal.addEventListener("abort", aborted, { once: true });
    stdin.on("data", take);
    stdin.resume();
  });
}

function createWorld(): World {
  const config = parseConfig(env);
  const home = resolve(config.home?.replace(/^~(?=\/|$)/, homedir()) ?? join(homedir(), ".assay"));
  return {
    version,
    stdout,
    stderr,
    stdin: async (limitBytes) => (await import("./inputs/read-bytes.ts")).readStreamBytes(process.stdin, limitBytes),
    ...(isatty(0) && stdout.isTerminal ? { readLine } : {}),
    ...(isatty(0) && stderr.isTerminal ? { readSecret } : {}),
    variable: (name) => env[name],
    home,
    cwd: process.cwd(),
    url: config.url,
    usualUrl: `http://127.0.0.1:${config.port}`,
    fetch: (url, init) => fetch(url, init),
    now: Date.now,
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    sleep: (ms, signal) => pause(ms, undefined, signal ? { signal } : {}),
    interrupt: interrupt.signal,
    modelsFolder: join(root, "models"),
    ortChild,
    languageChild,
    serverSettings: () =>
      Promise.resolve({
        host: config.host,
        port: config.port,
        ...(config.databaseUrl ? { databaseUrl: config.databaseUrl.reveal() } : {}),
      }),
    async startServer({ quiet, ...options }): Promise<RunningServer> {
      const { startServer } = await import("./server/start-server.ts");
      const money = moneyOf(config);
      const server = await startServer({
        ...options,
        ...ortChild,
        languageChild,
        ggufChild,
        ...(config.llamaDirectory === undefined ? {} : { llamaDirectory: resolve(config.llamaDirectory) }),
        ...(config.auditShare === undefined ? {} : { auditShare: config.auditShare }),
        // A server of one command has a chain only where something has a price or asks for it.
        ...(money ? { money: { ...money, eager: !quiet } } : {}),
        home,
        version,
        witnesses: config.witnesses,
        logLevel: quiet ? "silent" : (config.logLevel ?? (stderr.isTerminal ? "warn" : "info")),
      });
      // A database that does not start is told to whoever waits for it; it must not end everybody else.
      server.databaseReady.catch(() => undefined);
      return server;
    },
    async startNode(options) {
      const { startNode } = await import("./server/start-node.ts");
      const logLevel = config.logLevel ?? (stderr.isTerminal ? "warn" : "info");
      return startNode({ ...options, child: ortChild, languageChild, logLevel });
    },
  };
}

async function main(): Promise<number> {
  let world: World;
  try {
    world = createWorld();
  } catch (error) {
    stderr.write(`${renderError(error, styleFor(stderr), process.argv.includes("--debug"))}\n`);
    return EXIT.usage;
  }
  return runCli(process.argv.slice(2), world);
}

const code = await main();
// Everything written is out before the end, and nothing that a server left ticking delays it.
await new Promise<void>((done) => process.stdout.write("", () => done()));
await new Promise<void>((done) => process.stderr.write("", () => done()));
process.exit(code);
