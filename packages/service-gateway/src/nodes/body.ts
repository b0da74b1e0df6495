import { AssayError } from "@assay/core";

/** A request's body within its limit. Throws `request_too_large` without reading on. */
export async function bodyOf(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = (): AssayError =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`);
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge();
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  const [only] = chunks;
  return only && chunks.length === 1 ? only : new Uint8Array(Buffer.concat(chunks, size));
}
