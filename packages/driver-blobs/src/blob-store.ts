import { createHash } from "node:crypto";
import { join } from "node:path";
import { AssayError } from "@assay/core";
import type { BlobStore } from "@assay/protocol";
import { CHUNK_BYTES, copyInto, discard, pieces, using, writeAll } from "./copy.ts";
import { checkDigest, isDigest } from "./digest.ts";
import { corrupt, missing, toStorageError } from "./errors.ts";
import { hasCode, nodeFiles } from "./files.ts";
import type { Files, OpenFile } from "./files.ts";
import { ensureDirectory, refuseLink, sorted, unsafe } from "./layout.ts";
import { sweep, temporaryName } from "./temporary.ts";

/** Largest blob unless the caller allows less or more: past the largest ONNX external-data files in common use. */
const DEFAULT_MAX_BLOB_BYTES = 64 * 1024 ** 3;
/** Largest blob that `get` returns in one piece; larger ones are streamed. */
export const MAX_WHOLE_BYTES = 1024 ** 3;

export type BlobStoreOptions = {
  /** A folder for the store alone; made when missing. */
  readonly directory: string;
  /** Limit of every `put` that names none. */
  readonly maxBlobBytes?: number;
  /** The file system; tests put faults here. */
  readonly files?: Files;
};

/**
 * A content store at `directory`: `blobs/ab/cd/<sha256>`, mode 0400, and `temporary/` for what is being written.
 * A blob appears by one rename after its bytes are on the disk, so that a crash leaves the whole of it or nothing.
 * Opening sweeps what dead writers left. Refuses a store with a link in it (`blob_store_unsafe`): ids become paths,
 * and a link would lead them elsewhere.
 */
export async function openBlobStore(options: BlobStoreOptions): Promise<BlobStore> {
  const files = options.files ?? nodeFiles;
  const blobs = join(options.directory, "blobs");
  const temporary = join(options.directory, "temporary");
  const defaultMax = options.maxBlobBytes ?? DEFAULT_MAX_BLOB_BYTES;
  for (const path of [options.directory, blobs, temporary]) await ensureDirectory(files, path);
  await sweep(files, temporary).catch((error: unknown) => {
    // A store on a read-only disk can still be read.
    if (!hasCode(error, "EROFS", "EACCES", "EPERM")) throw error;
  });

  /** Folders whose entry this process has made durable; at most 256 + 65,536 short paths. */
  const durable = new Set<string>();
  const folders = (sha256: string): readonly [string, string] => {
    const outer = join(blobs, sha256.slice(0, 2));
    return [outer, join(outer, sha256.slice(2, 4))];
  };
  const pathOf = (sha256: string): string => join(folders(sha256)[1], sha256);

  async function openBlob(sha256: string): Promise<OpenFile> {
    checkDigest(sha256);
    for (const folder of folders(sha256)) refuseLink(folder, await files.kind(folder));
    try {
      return await files.openRead(pathOf(sha256));
    } catch (error) {
      if (hasCode(error, "ENOENT", "ENOTDIR")) throw missing(sha256);
      if (hasCode(error, "ELOOP", "EMLINK")) throw unsafe(pathOf(sha256));
      throw error;
    }
  }

  async function lookUp(sha256: string): Promise<number | undefined> {
    if (!isDigest(sha256)) return undefined;
    let file: OpenFile;
    try {
      file = await openBlob(sha256);
    } catch (error) {
      if (error instanceof AssayError && error.code === "blob_missing") return undefined;
      throw error;
    }
    return using(file, async () => {
      const facts = await file.stat();
      return facts.isFile() ? facts.size : undefined;
    });
  }

  /** Moves a finished temporary file to its place, unless the same content is there already. */
  async function settle(from: string, sha256: string): Promise<void> {
    const [outer, inner] = folders(sha256);
    for (const [folder, parent] of [
      [outer, blobs],
      [inner, outer],
    ] as const) {
      await ensureDirectory(files, folder);
      // Not only when it was made just now: whoever made it may have ended before its entry was on the disk.
      if (durable.has(folder)) continue;
      await files.syncDirectory(parent);
      durable.add(folder);
    }
    refuseLink(pathOf(sha256), await files.kind(pathOf(sha256)));
    // Also over an existing blob: the new bytes were hashed just now, the old ones may have been damaged since.
    await files.rename(from, pathOf(sha256));
    await files.syncDirectory(inner);
  }

  async function* read(
    sha256: string,
    range?: { readonly start: number; readonly end: number },
  ): AsyncGenerator<Uint8Array> {
    const file = await openBlob(sha256);
    try {
      const facts = await file.stat();
      if (!facts.isFile()) throw unsafe(pathOf(sha256));
      const { size } = facts;
      if (range !== undefined) checkRange(range, size);
      const hash = range === undefined ? createHash("sha256") : undefined;
      const end = range?.end ?? size;
      for (let position = range?.start ?? 0; position < end;) {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - position));
        const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
        if (bytesRead === 0) throw corrupt(sha256, "it became shorter while it was read");
        position += bytesRead;
        const bytes = bytesRead === chunk.length ? chunk : chunk.subarray(0, bytesRead);
        hash?.update(bytes);
        // The last piece is held back until the digest is known, so that a reader who got all of it has the truth.
        if (position >= end && hash !== undefined && hash.digest("hex") !== sha256)
          throw corrupt(sha256, "its bytes have another digest");
        yield bytes;
      }
      if (size === 0 && sha256 !== EMPTY) throw corrupt(sha256, "it is empty");
    } finally {
      await file.close();
    }
  }

  return {
    async put(source, putOptions = {}) {
      const { expected } = putOptions;
      if (expected !== undefined) checkDigest(expected);
      const maxBytes = putOptions.maxBytes ?? defaultMax;
      const path = join(temporary, await temporaryName());
      let moved = false;
      let made = false;
      try {
        const file = await files.create(path, 0o600);
        made = true;
        const { sha256, sizeBytes } = await using(file, async () => {
          const written = await copyInto(file, pieces(source), maxBytes);
          if (expected !== undefined && written.sha256 !== expected)
            throw new AssayError(
              "blob_digest_mismatch",
              `The bytes have the digest ${written.sha256}, not ${expected}.`,
              {
                hints: ["The upload was damaged or belongs to another id; nothing of it was kept."],
              },
            );
          await file.chmod(0o400);
          await file.sync();
          return written;
        });
        await settle(path, sha256);
        moved = true;
        return { sha256, sizeBytes };
      } catch (error) {
        throw toStorageError(error);
      } finally {
        if (made && !moved) await discard(files, path);
      }
    },

    async has(sha256) {
      return (await lookUp(sha256)) !== undefined;
    },

    sizeBytes: lookUp,

    async get(sha256) {
      const size = await lookUp(sha256);
      checkDigest(sha256);
      if (size === undefined) throw missing(sha256);
      if (size > MAX_WHOLE_BYTES)
        throw new AssayError("blob_too_large", `The blob has ${size} bytes, more than fit in one piece.`, {
          hints: ["Stream it instead."],
        });
      const out = new Uint8Array(size);
      let at = 0;
      for await (const chunk of read(sha256)) {
        if (at + chunk.length > size) throw corrupt(sha256, "it became longer while it was read");
        out.set(chunk, at);
        at += chunk.length;
      }
      return out;
    },

    stream: read,

    async materialise(sha256, path) {
      // Found missing before anything is made at the destination.
      const source = read(sha256);
      const first = await source.next();
      let made = false;
      let done = false;
      try {
        const file = await files.create(path, 0o600);
        made = true;
        await using(file, async () => {
          if (first.done !== true) await writeAll(file, first.value);
          for await (const chunk of source) await writeAll(file, chunk);
          await file.sync();
        });
        done = true;
      } catch (error) {
        if (hasCode(error, "EEXIST", "ELOOP"))
          throw new AssayError("blob_target_exists", "The path to copy a blob to exists already.", { cause: error });
        throw toStorageError(error);
      } finally {
        await source.return(undefined);
        if (made && !done) await discard(files, path);
      }
    },

    async remove(sha256) {
      checkDigest(sha256);
      const inner = folders(sha256)[1];
      for (const folder of folders(sha256)) refuseLink(folder, await files.kind(folder));
      try {
        await files.unlink(pathOf(sha256));
        await files.syncDirectory(inner);
      } catch (error) {
        if (!hasCode(error, "ENOENT", "ENOTDIR")) throw toStorageError(error);
      }
    },

    async *list() {
      for (const outer of await sorted(files, blobs, /^[0-9a-f]{2}$/))
        for (const inner of await sorted(files, join(blobs, outer), /^[0-9a-f]{2}$/))
          for (const name of await sorted(files, join(blobs, outer, inner), /^[0-9a-f]{64}$/))
            if (name.startsWith(outer + inner) && (await files.kind(pathOf(name))) === "file") yield name;
    },
  };
}

/** SHA-256 of no bytes. */
const EMPTY = createHash("sha256").digest("hex");

function checkRange(range: { readonly start: number; readonly end: number }, size: number): void {
  const { start, end } = range;
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end && end <= size) return;
  throw new AssayError(
    "blob_range_invalid",
    `The range ${start} to ${end} is not within the ${size} bytes of the blob.`,
  );
}
