import { open } from "node:fs/promises";
import { inputError } from "./input-error.ts";

/**
 * All bytes of a file or pipe, at most `limitBytes`. Throws `input_too_large` without reading further, and the
 * file system's own errors as they are.
 */
export async function readFileBytes(path: string, limitBytes: number): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    return await readStreamBytes(file.createReadStream({ autoClose: false }), limitBytes);
  } finally {
    await file.close();
  }
}

/** All bytes of a stream such as standard input, at most `limitBytes`. Throws `input_too_large`. */
export async function readStreamBytes(stream: AsyncIterable<unknown>, limitBytes: number): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of stream) {
    const bytes = typeof part === "string" ? Buffer.from(part, "utf8") : Buffer.from(part as Uint8Array);
    length += bytes.length;
    if (length > limitBytes) throw inputError("input_too_large", `The input has more than ${limitBytes} bytes.`);
    parts.push(bytes);
  }
  return new Uint8Array(Buffer.concat(parts));
}
