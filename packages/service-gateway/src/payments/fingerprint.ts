import { createHash } from "node:crypto";

/**
 * What a payment is bound to, 32 bytes: SHA-256 of method, path (without its query) and body. Hashed natively: bodies
 * reach hundreds of megabytes.
 */
export function fingerprintOf(method: string, path: string, body: Uint8Array): Uint8Array {
  // Neither a method nor a path has a line break in it, so that no two requests read as the same bytes.
  return new Uint8Array(
    createHash("sha256").update(`assay/paid-request/1\n${method}\n${path}\n`).update(body).digest(),
  );
}
