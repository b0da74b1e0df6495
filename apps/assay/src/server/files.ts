import { access, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { AssayError } from "@assay/core";
import type { HubFiles } from "@assay/service-hub";

/** Replaces `path` by `text` at once: written beside, flushed, renamed, the directory flushed. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, "w", mode);
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The text of `path`, or undefined when it is not there. */
export async function readFileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Where the hub copies model files for the runtime: one folder per manifest digest under `directory`. */
export function hubFiles(directory: string): HubFiles {
  const folder = (digest: string): string => join(directory, digest);
  return {
    async has(digest) {
      try {
        await access(folder(digest));
        return true;
      } catch {
        return false;
      }
    },
    async create(digest, folders, fill) {
      const fresh = join(directory, `.${digest}.${process.pid}.tmp`);
      await rm(fresh, { recursive: true, force: true });
      await mkdir(fresh, { recursive: true, mode: 0o700 });
      for (const inner of folders) await mkdir(join(fresh, inner), { recursive: true, mode: 0o700 });
      await fill(fresh);
      try {
        await rename(fresh, folder(digest));
      } catch (error) {
        // Another process of this home was faster with the same content.
        await rm(fresh, { recursive: true, force: true });
        if ((error as NodeJS.ErrnoException).code !== "ENOTEMPTY" && (error as NodeJS.ErrnoException).code !== "EEXIST")
          throw error;
      }
    },
    path: (digest, file) => join(folder(digest), file),
  };
}

/** The body of a successful answer, at most `maxBytes`. Throws `gateway_unreachable`. */
export async function readBounded(response: Response, maxBytes: number): Promise<Uint8Array> {
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new AssayError("gateway_unreachable", `${response.url} answered ${response.status}.`);
  }
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes)
      throw new AssayError("gateway_unreachable", `${response.url} sent more than ${maxBytes} bytes.`);
    parts.push(chunk);
  }
  return new Uint8Array(Buffer.concat(parts));
}
