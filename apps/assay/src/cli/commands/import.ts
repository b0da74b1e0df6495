import { createWriteStream, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { bytesToHex, parseJson } from "@assay/core";
import type { Cli } from "../command.ts";
import { absolute } from "../files.ts";
import { languageFiles } from "../language-files.ts";
import { describeFiles, filesIn, onDisk } from "../model-files.ts";
import { cliError } from "../render-error.ts";
import { formatBytes } from "../style.ts";
import { release, releaseName } from "./model.ts";
import type { PushFlags } from "./model.ts";

export type ImportFlags = Pick<PushFlags, "name" | "private" | "url"> & {
  readonly file?: string;
  readonly revision: string;
  readonly endpoint: string;
};

/** A listing of ten thousand files is a few megabytes. */
const MAX_LISTING_BYTES = 8 * 1024 * 1024;
/** The hub serves graphs of up to a gigabyte, and their external weights may be several files of that size. */
const MAX_FILE_BYTES = 8 * 1024 * 1024 * 1024;
const HUB_NAME = /^[\w.-]{1,96}\/[\w.-]{1,96}$/;

/** `assay model import`: takes the graph, tokenizer and configuration of a language model and releases them. */
export async function importModel(cli: Cli, flags: ImportFlags, source: string): Promise<number> {
  const { world, output } = cli;
  // What is wrong with the name is said before anything is fetched.
  releaseName(flags.name);
  const local = absolute(world, source);
  if (existsSync(local) && statSync(local).isDirectory()) {
    const paths = languageFiles(filesIn(local), flags.file, source);
    output.progress("hashing");
    return release(cli, flags, local, await describeFiles(local, paths.all, paths.entry));
  }
  if (!HUB_NAME.test(source)) {
    throw cliError("file_unreadable", `There is no folder at ${local}.`, {
      hints: ["Name a folder, or a model at the hub as owner/name."],
    });
  }
  const folder = join(world.home, "imports", bytesToHex(world.randomBytes(8)));
  try {
    const paths = languageFiles(await listing(cli, flags, source), flags.file, source);
    for (const path of paths.all) await fetchFile(cli, flags, source, path, onDisk(folder, path));
    output.progress("hashing");
    return await release(cli, flags, folder, await describeFiles(folder, paths.all, paths.entry));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function listing(cli: Cli, flags: ImportFlags, source: string): Promise<readonly string[]> {
  const path = `api/models/${source}/tree/${encodeURIComponent(flags.revision)}?recursive=true`;
  const response = await ask(cli, flags, path, source);
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of received(cli, flags, response, "its list of files")) {
    size += part.length;
    if (size > MAX_LISTING_BYTES) {
      throw cliError("model_files_invalid", `${flags.endpoint} lists files without an end.`);
    }
    parts.push(part);
  }
  const entries = listed(Buffer.concat(parts), flags);
  const paths = (Array.isArray(entries) ? entries : []).flatMap((entry: unknown) => {
    const file = entry as { readonly type?: unknown; readonly path?: unknown } | null;
    return file?.type === "file" && typeof file.path === "string" && isSafe(file.path) ? [file.path] : [];
  });
  if (paths.length > 0) return paths.toSorted();
  throw cliError("model_files_invalid", `${flags.endpoint} lists no files for ${source}.`);
}

function listed(bytes: Uint8Array, { endpoint }: ImportFlags): unknown {
  try {
    return parseJson(bytes, { maxBytes: MAX_LISTING_BYTES });
  } catch (cause) {
    throw cliError("model_files_invalid", `${endpoint} answered with something else than a list of files.`, {
      cause,
      hints: ["Is it a hub that speaks Hugging Face's API? Name another with --endpoint, or import a folder."],
    });
  }
}

// A hub's word is not trusted with where on this disk a file goes.
function isSafe(path: string): boolean {
  return /^[\w.-]+(?:\/[\w.-]+)*$/.test(path) && !path.split("/").some((part) => /^\.+$/.test(part));
}

async function fetchFile(cli: Cli, flags: ImportFlags, source: string, path: string, at: string): Promise<void> {
  const { output } = cli;
  const response = await ask(cli, flags, `${source}/resolve/${encodeURIComponent(flags.revision)}/${path}`, source);
  mkdirSync(dirname(at), { recursive: true, mode: 0o700 });
  let size = 0;
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of received(cli, flags, response, path)) {
      size += chunk.length;
      if (size > MAX_FILE_BYTES) {
        throw cliError("model_files_invalid", `${path} is larger than ${formatBytes(MAX_FILE_BYTES)}.`);
      }
      output.progress(`${formatBytes(size)}  ${path}`);
      yield chunk;
    }
  };
  await pipeline(counted(), createWriteStream(at, { flags: "wx", mode: 0o600 }));
  const declared = Number(response.headers.get("content-length") ?? Number.NaN);
  if (response.headers.get("content-encoding") === null && Number.isFinite(declared) && declared !== size) {
    throw cliError("model_files_invalid", `${path} ended after ${size} of ${declared} bytes.`);
  }
}

/** The body of an answer piece by piece. Throws `hub_unreachable` when it breaks off. */
async function* received(
  { world }: Cli,
  { endpoint }: ImportFlags,
  { body }: Response,
  what: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!body) return;
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  try {
    for (;;) {
      let piece: Awaited<ReturnType<typeof reader.read>>;
      try {
        piece = await reader.read();
      } catch (cause) {
        if (world.interrupt.aborted) throw cause;
        throw cliError("hub_unreachable", `${endpoint} broke off while it sent ${what}.`, {
          cause,
          hints: ["Try again, or fetch the model's folder by other means and import the folder."],
        });
      }
      if (piece.done) return;
      yield piece.value;
    }
  } finally {
    // Whoever stops reading lets the connection go.
    await reader.cancel().catch(() => undefined);
  }
}

async function ask({ world }: Cli, flags: ImportFlags, path: string, source: string): Promise<Response> {
  let response: Response;
  try {
    response = await world.fetch(`${flags.endpoint.replace(/\/+$/, "")}/${path}`, {
      method: "GET",
      signal: world.interrupt,
    });
  } catch (cause) {
    if (world.interrupt.aborted) throw cause;
    throw cliError("hub_unreachable", `Nothing answers at ${flags.endpoint}.`, {
      cause,
      hints: ["Fetch the model's folder by other means, and import the folder."],
    });
  }
  if (response.ok) return response;
  await response.body?.cancel();
  throw cliError("hub_unreachable", `${flags.endpoint} answered ${response.status} for ${source}.`, {
    hints:
      response.status === 401 || response.status === 404
        ? ["It may not exist, or be private: fetch its folder yourself, and import the folder."]
        : [],
  });
}
