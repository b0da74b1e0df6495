import type { MiddlewareHandler } from "hono";
import { AssayError } from "@assay/core";

/**
 * Refuses a body past `maxBytes` with `request_too_large`: one that declares its length before it is read, one that comes
 * in chunks as soon as it is past the limit. Hono's own middleware makes a request of a request, which the platform does
 * not do for the adapter's, so that a body without a length (every DELETE of `fetch`) would fail there.
 */
export function limitBody(maxBytes: number): MiddlewareHandler {
  const tooLarge = (): AssayError<"request_too_large"> =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`);
  return async (context, next) => {
    const { raw } = context.req;
    const declared = raw.headers.get("content-length");
    if (declared !== null && !raw.headers.has("transfer-encoding")) {
      if (Number(declared) > maxBytes) throw tooLarge();
      return next();
    }
    if (!raw.body) return next();
    const parts: Uint8Array[] = [];
    let size = 0;
    const reader = (raw.body as ReadableStream<Uint8Array>).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > maxBytes) throw tooLarge();
      parts.push(value);
    }
    const { method, headers, signal } = raw;
    context.req.raw = new Request(raw.url, { method, headers, signal, body: Buffer.concat(parts) });
    return next();
  };
}
