import { AssayError } from "@assay/core";

/** A request's body within its limit, bytes. Throws `request_too_large` without reading on. */
export async function bodyOf(
  request: { readonly headers: { readonly get: (name: string) => string | null }; readonly body: unknown },
  maxBytes: number,
): Promise<Uint8Array> {
  const tooLarge = (): AssayError =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`);
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge();
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  const [only] = chunks;
  if (only && chunks.length === 1) return only;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
