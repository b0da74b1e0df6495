import type { IncomingMessage } from "node:http";
import { AssayError, concatBytes } from "@assay/core";

/**
 * The body of a request to a model. Throws `content_type_unsupported` for anything but JSON as it is (what a page can
 * send without being asked is refused with it), `request_too_large` without reading on, and `request_aborted`.
 */
export async function readRequest(request: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const { headers } = request;
  const media = (headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase();
  if (media !== "application/json" || (headers["content-encoding"] ?? "identity") !== "identity") {
    throw new AssayError("content_type_unsupported", "The body is not sent as application/json, uncompressed.", {
      hints: ["Send the header content-type: application/json."],
    });
  }
  const tooLarge = (): AssayError =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`);
  if (Number(headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > maxBytes) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof AssayError) throw cause;
    throw new AssayError("request_aborted", "The client went away before its request had arrived.", { cause });
  }
  return concatBytes(...chunks);
}
