import type { IncomingMessage } from "node:http";
import { AssayError } from "@assay/core";

/** Reads a body within its limit. Throws `request_too_large`, without reading on, or `request_aborted`. */
export function readBody(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = (): AssayError =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > maxBytes) {
        chunks.length = 0;
        request.off("data", take);
        request.pause();
        reject(tooLarge());
        return;
      }
      chunks.push(chunk);
    };
    request.on("data", take);
    request.on("end", () => {
      const [only] = chunks;
      resolve(chunks.length === 1 && only ? only : Buffer.concat(chunks, size));
    });
    const gone = (cause?: unknown): void =>
      reject(new AssayError("request_aborted", "The gateway went away before its request had arrived.", { cause }));
    request.on("aborted", () => gone());
    request.on("error", gone);
  });
}
