import { createHash } from "node:crypto";
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AssayError, isAssayError } from "@assay/core";
import type { LanguageModelFiles } from "@assay/protocol";
import { checkedUrl } from "./gateway-client.ts";
import type { Fetch } from "./gateway-client.ts";

/** A version's manifest, read: which files it has and which of them is loaded. */
export type ReadManifest = {
  readonly entry: string;
  readonly files: readonly { readonly path: string; readonly sha256: string; readonly sizeBytes: number }[];
};

export type PullerModules = {
  readonly fetch: Fetch;
  /** Checks and reads a manifest's bytes; throws when they are not one. */
  readonly parseManifest: (bytes: Uint8Array) => ReadManifest;
  /** The session's bearer: content is given to admitted nodes alone. */
  readonly session: () => string;
};

export type PullerOptions = {
  readonly gatewayUrl: string;
  /** A directory of this puller alone: one folder per manifest digest, and `.parts` for what is under way. */
  readonly directory: string;
  /** Most bytes that may lie there. */
  readonly maxBytes?: number;
  /** How often a broken transfer is taken up again, and the pause before it, milliseconds. */
  readonly retries?: number;
  readonly retryMs?: number;
  readonly allowPlainHttp?: boolean;
};

/** Brings model versions onto this disk, each once however many ask for it. */
export type ModelPuller = {
  /**
   * The version's files, fetched if they are not here. Throws `model_not_found` when the gateway has no such content,
   * `storage_full`, `blob_digest_mismatch`, `manifest_invalid`, `gateway_unreachable`, or `request_cancelled` when
   * `signal` ends the waiting (the transfer goes on for the others, and for later).
   */
  readonly pull: (manifestDigest: string, signal?: AbortSignal) => Promise<LanguageModelFiles>;
  readonly close: () => Promise<void>;
};

/** Manifests are at most 4 MiB, as registries have it. */
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const DEFAULT_MAX_BYTES = 256 * 1024 * 1024 * 1024;
const MANIFEST_NAME = ".manifest";
const HEX = /^[0-9a-f]{64}$/;

/** Makes a puller over a directory. */
export function createModelPuller(options: PullerOptions, modules: PullerModules): ModelPuller {
  const { directory } = options;
  const base = checkedUrl(options.gatewayUrl, options.allowPlainHttp ?? false);
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  const retries = options.retries ?? 5;
  const retryMs = options.retryMs ?? 1000;
  const parts = join(directory, ".parts");
  const pulling = new Map<string, Promise<LanguageModelFiles>>();
  const closing = new AbortController();

  const known = async (digest: string): Promise<LanguageModelFiles | undefined> => {
    const folder = join(directory, digest);
    let bytes: Uint8Array;
    try {
      bytes = await readFile(join(folder, MANIFEST_NAME));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    return filesOf(digest, folder, modules.parseManifest(bytes));
  };

  const fetchAll = async (digest: string): Promise<LanguageModelFiles> => {
    const there = await known(digest);
    if (there) return there;
    await mkdir(parts, { recursive: true, mode: 0o700 });
    const manifestPart = await bring(digest, undefined);
    const bytes = await readFile(manifestPart);
    const manifest = modules.parseManifest(bytes);
    const wanted = new Map(manifest.files.map(({ sha256, sizeBytes }) => [sha256, sizeBytes]));
    const total = [...wanted.values()].reduce((sum, size) => sum + size, 0);
    const used = await sizeOf(directory);
    // What was already brought of this version is counted in both, which errs towards refusing.
    if (used + total > maxBytes) {
      throw new AssayError("storage_full", `The model needs ${total} bytes and ${used} of ${maxBytes} are in use.`, {
        hints: ["Remove versions that are not served any more, or allow more."],
      });
    }
    for (const [sha256, sizeBytes] of wanted) await bring(sha256, sizeBytes);
    const fresh = join(directory, `.${digest}.tmp`);
    await rm(fresh, { recursive: true, force: true });
    await mkdir(fresh, { recursive: true, mode: 0o700 });
    for (const [i, { path, sha256 }] of manifest.files.entries()) {
      const to = join(fresh, path);
      await mkdir(dirname(to), { recursive: true, mode: 0o700 });
      const again = manifest.files.slice(i + 1).some((other) => other.sha256 === sha256);
      if (again) await copyFile(join(parts, sha256), to);
      else await rename(join(parts, sha256), to);
    }
    await rename(manifestPart, join(fresh, MANIFEST_NAME));
    await rename(fresh, join(directory, digest));
    return filesOf(digest, join(directory, digest), manifest);
  };

  /** One blob, whole and checked, in `.parts`; what an earlier try brought is kept and gone on from. */
  const bring = async (sha256: string, sizeBytes: number | undefined): Promise<string> => {
    const whole = join(parts, sha256);
    if (await isThere(whole)) return whole;
    const partial = `${whole}.part`;
    for (let tries = 0; ; tries++) {
      try {
        await transfer(sha256, partial, sizeBytes ?? MAX_MANIFEST_BYTES);
        break;
      } catch (error) {
        const final = isAssayError(error) && error.code !== "gateway_unreachable";
        if (final || tries >= retries || closing.signal.aborted) throw error;
        await new Promise((resolve) => {
          setTimeout(resolve, retryMs * (tries + 1));
        });
      }
    }
    const found = await digestOf(partial);
    if (found !== sha256) {
      // What is wrong once is wrong for ever: the next try begins anew.
      await unlink(partial);
      throw new AssayError("blob_digest_mismatch", `The gateway sent other bytes for ${sha256}.`);
    }
    await rename(partial, whole);
    return whole;
  };

  const transfer = async (sha256: string, path: string, maxFileBytes: number): Promise<void> => {
    const file = await open(path, "a", 0o600);
    try {
      const have = (await file.stat()).size;
      const response = await request(sha256, have);
      // The whole, although a part was asked for: what is here is written again.
      if (have > 0 && response.status === 200) await file.truncate(0);
      if (response.status === 416) return;
      await receive(file, response, response.status === 206 ? have : 0, maxFileBytes);
      await file.sync();
    } finally {
      await file.close();
    }
  };

  const request = async (sha256: string, from: number): Promise<Response> => {
    let response: Response;
    try {
      response = await modules.fetch(`${base}/internal/blobs/${sha256}`, {
        method: "GET",
        headers: {
          authorization: `Bearer ${modules.session()}`,
          ...(from === 0 ? {} : { range: `bytes=${from}-` }),
        },
        signal: closing.signal,
        redirect: "error",
      });
    } catch (cause) {
      if (isAssayError(cause)) throw cause;
      throw new AssayError("gateway_unreachable", "The gateway does not answer.", { cause });
    }
    if (response.ok || response.status === 416) return response;
    await response.body?.cancel();
    if (response.status === 404) throw new AssayError("model_not_found", `The gateway has no content ${sha256}.`);
    throw new AssayError(
      response.status >= 500 ? "gateway_unreachable" : "node_not_joined",
      `The gateway answered with status ${response.status}.`,
    );
  };

  const receive = async (file: FileHandle, response: Response, from: number, maxFileBytes: number): Promise<void> => {
    let size = from;
    try {
      for await (const chunk of (response.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
        size += chunk.length;
        if (size > maxFileBytes) {
          await file.truncate(0);
          throw new AssayError("blob_digest_mismatch", `The gateway sent more than the ${maxFileBytes} bytes listed.`);
        }
        await file.write(chunk);
      }
    } catch (cause) {
      if (isAssayError(cause)) throw cause;
      throw new AssayError("gateway_unreachable", "The transfer of a model broke off.", { cause });
    }
  };

  return {
    async pull(digest, signal) {
      if (!HEX.test(digest)) throw new AssayError("model_not_found", "A version is named by its manifest's digest.");
      let task = pulling.get(digest);
      if (!task) {
        const begun = fetchAll(digest);
        task = begun;
        pulling.set(digest, begun);
        begun.catch(() => undefined).finally(() => pulling.delete(digest));
      }
      return signal ? until(task, signal) : task;
    },
    async close() {
      closing.abort();
      await Promise.allSettled(pulling.values());
    },
  };
}

function filesOf(manifestDigest: string, directory: string, { entry, files }: ReadManifest): LanguageModelFiles {
  return {
    manifestDigest,
    directory,
    entry,
    files: files.map(({ path, sha256, sizeBytes }) => ({ path, sha256, sizeBytes })),
  };
}

function until<T>(task: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancelled = (): void =>
      reject(new AssayError("request_cancelled", "The request was cancelled while its model was being fetched."));
    if (signal.aborted) return cancelled();
    signal.addEventListener("abort", cancelled, { once: true });
    void task.then(resolve, reject).finally(() => signal.removeEventListener("abort", cancelled));
  });
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function sizeOf(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "r");
  try {
    for await (const chunk of file.createReadStream({ autoClose: false })) hash.update(chunk as Uint8Array);
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}
