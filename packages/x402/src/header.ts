import { AssayError, base64ToBytes, bytesToBase64, parseJson, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { MAX_HEADER_CHARS, MAX_JSON_DEPTH } from "./limits.ts";

/**
 * The JSON document of a payment header: padded standard base64 of UTF-8. Throws `payment_malformed` for a header that is
 * longer than {@link MAX_HEADER_CHARS}, before anything of it is decoded, and for wrong base64, UTF-8 or JSON.
 */
export function decodeHeader(name: string, text: string): JsonValue {
  if (text.length > MAX_HEADER_CHARS) {
    throw new AssayError("payment_malformed", `The header ${name} is longer than ${MAX_HEADER_CHARS} characters.`);
  }
  try {
    return parseJson(base64ToBytes(text), { maxBytes: MAX_HEADER_CHARS, maxDepth: MAX_JSON_DEPTH });
  } catch (cause) {
    throw new AssayError("payment_malformed", `The header ${name} is not base64 of JSON within its limits.`, {
      hints: ["It is base64 (RFC 4648 section 4, padded) of a JSON document in UTF-8."],
      cause,
    });
  }
}

/** A document as the value of a payment header. Throws `payment_malformed` when it is too long for one. */
export function encodeHeader(name: string, document: unknown): string {
  const text = bytesToBase64(utf8ToBytes(JSON.stringify(document)));
  if (text.length <= MAX_HEADER_CHARS) return text;
  throw new AssayError("payment_malformed", `The header ${name} would be longer than ${MAX_HEADER_CHARS} characters.`);
}
