import { createHash } from "node:crypto";
import { AssayError } from "@assay/core";
import type { Files, OpenFile } from "./files.ts";

/** Bytes of one read or write: large enough that system calls do not dominate, small enough for many streams. */
export const CHUNK_BYTES = 256 * 1024;

/** A source as a stream. */
export async function* pieces(source: AsyncIterable<Uint8Array> | Uint8Array): AsyncGenerator<Uint8Array> {
  if (source instanceof Uint8Array) yield source;
  else yield* source;
}

/** Writes and hashes piece by piece; the next piece is asked for when this one is with the kernel (back-pressure). */
export async function copyInto(
  file: OpenFile,
  source: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of source) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes)
      throw new AssayError("blob_too_large", `The blob has more than ${maxBytes} bytes.`, {
        hints: ["Nothing of it was kept."],
      });
    hash.update(chunk);
    await writeAll(file, chunk);
  }
  return { sha256: hash.digest("hex"), sizeBytes };
}

/** Writes all of `bytes`, however many writes the kernel makes of it. */
export async function writeAll(file: OpenFile, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) {
    const length = Math.min(CHUNK_BYTES, bytes.length - offset);
    offset += (await file.write(bytes, offset, length)).bytesWritten;
  }
}

/** Closes `file` after `work`, whatever came of it. */
export async function using<T>(file: OpenFile, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await file.close();
  }
}

/** The error that led here is the one to tell; a leftover is swept at the next start. */
export async function discard(files: Files, path: string): Promise<void> {
  await files.unlink(path).catch(() => undefined);
}
