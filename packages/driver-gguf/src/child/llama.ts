import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { INSTALL_HINT } from "../install-hint.ts";
import { Fault } from "./fault.ts";

/**
 * The part of node-llama-cpp 3.22 that is used here. The package is an optional peer, so that its own types are not
 * there when this is compiled.
 */
export type LlamaModule = {
  readonly getLlama: (options: {
    readonly gpu: false;
    readonly build: "never";
    readonly skipDownload: true;
    readonly progressLogs: false;
    readonly logLevel: string;
    readonly maxThreads?: number;
  }) => Promise<Llama>;
  readonly LlamaGrammarEvaluationState: new (options: { model: Model; grammar: Grammar }) => object;
  readonly TokenBias: { readonly for: (model: Model) => TokenBias };
  readonly JinjaTemplateChatWrapper: new (options: { template: string; tokenizer?: unknown }) => ChatWrapper;
  readonly LlamaLogLevel: { readonly error: string };
};
type TokenBias = { readonly set: (token: number, bias: "never" | { readonly logit: number }) => unknown };
export type Grammar = {
  readonly stopGenerationTriggers: readonly (string | Text | readonly (string | number)[])[];
};
type Text = { readonly tokenize: (tokenizer: unknown) => number[] };
type ChatItem =
  | { readonly type: "system" | "user"; readonly text: string }
  | { readonly type: "model"; readonly response: readonly string[] };
export type ChatWrapper = {
  readonly generateContextState: (options: { readonly chatHistory: readonly ChatItem[] }) => {
    readonly contextText: Text;
    readonly stopGenerationTriggers: readonly Text[];
  };
};
export type Llama = {
  readonly llamaCppRelease: { readonly repo: string; readonly release: string };
  readonly systemInfo: string;
  readonly loadModel: (options: {
    readonly modelPath: string;
    readonly useMmap: false;
    readonly gpuLayers: 0;
  }) => Promise<Model>;
  readonly createGrammarForJsonSchema: (schema: unknown) => Promise<Grammar>;
  readonly getGrammarFor: (kind: "json") => Promise<Grammar>;
};
export type Model = {
  readonly tokenizer: unknown;
  readonly trainContextSize: number;
  readonly tokens: { readonly bos: number | null; readonly shouldPrependBosToken: boolean };
  readonly fileInfo: { readonly metadata: { readonly tokenizer?: Record<string, unknown> } };
  readonly tokenize: (text: string, special?: boolean) => number[];
  readonly detokenize: (tokens: readonly number[], special?: boolean, last?: readonly number[]) => string;
  readonly isEogToken: (token: number) => boolean;
  readonly iterateAllTokens: () => Iterable<number>;
  readonly createContext: (options: {
    readonly sequences: number;
    readonly contextSize: number;
    readonly threads?: number;
    readonly batchSize?: number;
  }) => Promise<Context>;
};
export type Context = {
  readonly contextSize: number;
  readonly currentThreads: number;
  readonly getSequence: () => Sequence;
};
export type Sequence = {
  readonly contextSize: number;
  readonly clearHistory: () => Promise<void>;
  readonly dispose: () => void;
  readonly evaluate: (
    tokens: readonly number[],
    options: Record<string, unknown>,
  ) => AsyncGenerator<number, void, undefined>;
};

const PACKAGE = "node-llama-cpp";

export type LoadedPackage = {
  readonly module: LlamaModule;
  readonly version: string;
  /** Folder of the native code, when it can be told. */
  readonly nativeDirectory: string | undefined;
};

/** Loads the optional package. Throws `engine_unavailable` with a hint when it is not there. */
export async function loadPackage(directory: string | null): Promise<LoadedPackage> {
  try {
    const require = createRequire(directory === null ? import.meta.url : join(directory, "package.json"));
    const found = findPackage(require, directory);
    const module = (await import(pathToFileURL(join(found, "dist", "index.js")).href)) as LlamaModule;
    const { version } = require(join(found, "package.json")) as { version: string };
    const native = `@node-llama-cpp/${platformPackage()}`;
    return { module, version, nativeDirectory: optionally(() => findPackage(require, directory, native)) };
  } catch (error) {
    throw new Fault("engine_unavailable", `node-llama-cpp cannot be loaded (${reason(error)}).`, [INSTALL_HINT]);
  }
}

/** Looks through the folders that Node would look through, since the package exports no path of its own. */
function findPackage(require: NodeJS.Require, directory: string | null, name = PACKAGE): string {
  for (const folder of require.resolve.paths(name) ?? []) {
    const candidate = join(folder, name);
    const found = optionally(() => require.resolve(join(candidate, "package.json")));
    if (found !== undefined) return candidate;
  }
  throw new Error(directory === null ? "not installed" : `not installed in ${directory}`);
}

function platformPackage(): string {
  const { platform, arch } = process;
  if (platform === "darwin") return arch === "arm64" ? "mac-arm64-metal" : "mac-x64";
  return `${platform === "win32" ? "win" : platform}-${arch}`;
}

function optionally<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
}
