import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Fetch } from "@assay/sdk";
import { runCli } from "../run-cli.ts";
import type { Sink, World } from "../world.ts";

/** What one command line did. */
export type Ran = { readonly code: number; readonly out: string; readonly bytes: Uint8Array; readonly err: string };

/** A home in a temporary folder, with everything outside it replaced unless a test says otherwise. */
export type FakeHome = {
  readonly home: string;
  /** Runs `assay ...args`. */
  readonly run: (args: readonly string[], changes?: Partial<World> & FakeStreams) => Promise<Ran>;
  readonly remove: () => void;
};

export type FakeStreams = {
  readonly isTerminal?: boolean;
  readonly colour?: boolean;
  readonly unicode?: boolean;
  readonly columns?: number;
  readonly input?: Uint8Array;
};

const repository = fileURLToPath(new URL("../../../../..", import.meta.url));

/** Makes a home; `defaults` hold for all its command lines. */
export function makeFakeHome(defaults: Partial<World> & FakeStreams = {}): FakeHome {
  const home = mkdtempSync(join(tmpdir(), "assay-cli-"));
  return {
    home,
    remove: () => rmSync(home, { recursive: true, force: true }),
    async run(args, changes = {}) {
      const all = { ...defaults, ...changes };
      const [out, err] = [collector(all), collector(all)];
      const world: World = {
        version: "0.0.0-test",
        stdin: () => Promise.resolve(all.input ?? new Uint8Array()),
        home,
        cwd: home,
        url: undefined,
        usualUrl: undefined,
        fetch: unreachable,
        now: () => Date.now(),
        randomBytes: (length) => new Uint8Array(length).fill(7),
        sleep: () => Promise.resolve(),
        interrupt: new AbortController().signal,
        modelsFolder: join(repository, "models"),
        ortChild: {
          childEntry: join(repository, "packages/driver-ort/src/child/main.ts"),
          nodeArgs: ["--conditions=assay-source", "--import", "tsx"],
        },
        languageChild: {
          childEntry: join(repository, "packages/driver-llm/src/child/main.ts"),
          nodeArgs: ["--conditions=assay-source", "--import", "tsx"],
        },
        variable: () => undefined,
        serverSettings: () => Promise.resolve({ host: "127.0.0.1", port: 0 }),
        startServer: () => Promise.reject(new Error("this test starts no server")),
        startNode: () => Promise.reject(new Error("this test starts no node")),
        ...all,
        stdout: out.sink,
        stderr: err.sink,
      };
      const code = await runCli(args, world);
      return { code, out: out.text(), bytes: out.bytes(), err: err.text() };
    },
  };
}

const unreachable: Fetch = (url) => Promise.reject(new Error(`this test asks nobody, not even ${url}`));

function collector({ isTerminal = false, colour = false, unicode = true, columns = 100 }: FakeStreams) {
  const parts: Uint8Array[] = [];
  const sink: Sink = {
    write: (data) => void parts.push(typeof data === "string" ? new TextEncoder().encode(data) : data),
    isTerminal,
    colour,
    unicode,
    columns,
  };
  const bytes = (): Uint8Array => Buffer.concat(parts);
  return { sink, bytes, text: () => Buffer.from(bytes()).toString("utf8") };
}
