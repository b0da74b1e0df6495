import { AssayError, isAssayError } from "@assay/core";
import { hasCode } from "./files.ts";

export function missing(sha256: string): AssayError<"blob_missing"> {
  return new AssayError("blob_missing", `The blob ${sha256} is not in the store.`);
}

export function corrupt(sha256: string, how: string): AssayError<"blob_corrupt"> {
  return new AssayError("blob_corrupt", `The stored blob ${sha256} is damaged: ${how}.`, {
    hints: ["Remove it and put the original bytes again; check the disk."],
  });
}

/** A writer's system error as an {@link AssayError} where it has a meaning to the caller, else as it is. */
export function toStorageError(error: unknown): unknown {
  if (isAssayError(error)) return error;
  if (hasCode(error, "ENOSPC", "EDQUOT"))
    return new AssayError("storage_full", "The disk of the blob store is full.", {
      hints: ["Free space or raise the quota, then put the blob again; nothing of it was kept."],
      cause: error,
    });
  if (hasCode(error, "EROFS", "EACCES", "EPERM"))
    return new AssayError("storage_read_only", "The blob store cannot be written.", {
      hints: ["Mount it for writing and give its directory to the user of this process."],
      cause: error,
    });
  return error;
}
