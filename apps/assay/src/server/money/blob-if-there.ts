import { isAssayError } from "@assay/core";
import type { BlobStore } from "@assay/protocol";

/** A blob's content; undefined when it is not here. */
export async function blobIfThere(blobs: Pick<BlobStore, "get">, sha256: string): Promise<Uint8Array | undefined> {
  try {
    return await blobs.get(sha256);
  } catch (error) {
    if (isAssayError(error) && error.code === "blob_missing") return undefined;
    throw error;
  }
}
