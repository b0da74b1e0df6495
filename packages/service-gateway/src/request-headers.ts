import type { IncomingMessage } from "node:http";
import { AssayError, hexToBytes } from "@assay/core";
import type { RetentionClass } from "@assay/receipts";

/** The one value of a header; the first, when a client repeated it. */
export function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** The bytes of a header in lower-case hexadecimal, `min` to `max` of them. Throws `header_invalid`. */
export function hexHeader(
  headers: IncomingMessage["headers"],
  name: string,
  min: number,
  max: number,
): Uint8Array | undefined {
  const text = single(headers[name]);
  if (text === undefined) return undefined;
  try {
    const bytes = hexToBytes(text);
    if (bytes.length >= min && bytes.length <= max) return bytes;
  } catch {
    // Falls through to the one sentence that says what would be right.
  }
  const size = min === max ? `${min}` : `${min} to ${max}`;
  throw new AssayError("header_invalid", `The header ${name} is not ${size} bytes in lower-case hexadecimal.`);
}

/** What `assay-retention` asks for; `none` without it. Throws `header_invalid`. */
export function retentionOf(text: string | undefined): RetentionClass {
  if (text === undefined || text === "none") return "none";
  if (text === "server-encrypted" || text === "client-encrypted") return text;
  throw new AssayError("header_invalid", "The header assay-retention is none, client-encrypted or server-encrypted.");
}
