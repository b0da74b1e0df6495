import { AssayError } from "@assay/core";

const DIGEST = /^[0-9a-f]{64}$/;

/** Whether `text` is a SHA-256 in lower-case hex, the only form of a blob's id. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** Refuses what is not a digest with `blob_id_invalid`: an id becomes a path, so nothing else may pass. */
export function checkDigest(text: string): void {
  if (isDigest(text)) return;
  throw new AssayError("blob_id_invalid", "A blob's id is the SHA-256 of its bytes in 64 lower-case hex digits.");
}
