import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Loaded, ToChild } from "../wire.ts";
import { Fault } from "./fault.ts";
import { loadPackage } from "./llama.ts";
import type { ChatWrapper, Context, Llama, LlamaModule, Model } from "./llama.ts";

export type Runtime = {
  readonly module: LlamaModule;
  readonly llama: Llama;
  readonly model: Model;
  readonly context: Context;
  readonly chat: ChatWrapper | undefined;
  readonly facts: Loaded;
};

/** Hashes the file, loads it, and sees that it was not changed meanwhile. Throws {@link Fault}. */
export async function loadModel(options: Extract<ToChild, { readonly type: "load" }>): Promise<Runtime> {
  const { module, version, nativeDirectory } = await loadPackage(options.packageDirectory);
  const before = await identityOf(options.path);
  const sha256 = await sha256Of(options.path);
  if (options.sha256 !== null && options.sha256 !== sha256) {
    throw new Fault("model_digest_mismatch", "The file is not the one that was named.", [
      `Its SHA-256 is ${sha256}, and ${options.sha256} was named.`,
    ]);
  }
  const llama = await module.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: module.LlamaLogLevel.error,
    ...(options.threads > 0 ? { maxThreads: options.threads } : {}),
  });
  let model: Model;
  let context: Context;
  try {
    // Mapped, the file could change under the model after it was hashed.
    model = await llama.loadModel({ modelPath: options.path, useMmap: false, gpuLayers: 0 });
    context = await model.createContext({
      sequences: options.sequences,
      contextSize: Math.min(options.contextTokens, model.trainContextSize),
      ...(options.threads > 0 ? { threads: options.threads } : {}),
    });
  } catch (error) {
    throw new Fault("model_invalid", `llama.cpp does not take the file: ${firstLine(error)}.`);
  }
  if ((await identityOf(options.path)) !== before)
    throw new Fault("model_digest_mismatch", "The file changed while it was loaded.");
  const template = options.chatTemplate ?? model.fileInfo.metadata.tokenizer?.["chat_template"];
  const chat =
    typeof template === "string" && template !== ""
      ? new module.JinjaTemplateChatWrapper({ template, tokenizer: model.tokenizer })
      : undefined;
  let vocabulary = 0;
  for (const _ of model.iterateAllTokens()) vocabulary++;
  return {
    module,
    llama,
    model,
    context,
    chat,
    facts: {
      sha256,
      engineVersion: `${llama.llamaCppRelease.release} (node-llama-cpp ${version})`,
      engineSha256: await nativeSha256(nativeDirectory),
      // llama.cpp picks its kernels by what the processor can do, and says here what that is.
      cpuClass: createHash("sha256").update(`assay llama.cpp cpu class v1\n${llama.systemInfo}`).digest("hex"),
      threads: context.currentThreads,
      contextTokens: context.contextSize,
      vocabulary,
      hasTemplate: chat !== undefined,
    },
  };
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

/** What a file would not keep if it were written or replaced. */
async function identityOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join("/");
  } catch {
    throw new Fault("model_invalid", "The model's file cannot be read.");
  }
}

/** Over the native code's files by name, so that the receipt names what computed. */
async function nativeSha256(directory: string | undefined): Promise<string> {
  const hash = createHash("sha256").update("assay llama.cpp engine v1\n");
  const bins = directory === undefined ? [] : await filesUnder(join(directory, "bins"));
  for (const file of bins) hash.update(`${file.slice((directory ?? "").length)}\0${await sha256Of(file)}\n`);
  return hash.digest("hex");
}

async function filesUnder(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort((a, b) => (a < b ? -1 : 1));
}

export function firstLine(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n")[0] ?? "").slice(0, 300) : "it failed";
}
