import { AssayError, isAssayError } from "@assay/core";

const FULL = new Set(["ENOSPC", "EDQUOT"]);
const READ_ONLY = new Set(["EROFS", "EACCES", "EPERM"]);

/**
 * The log's error for a failed file operation: `log_full` when there is no space, `log_read_only` when writing is
 * not allowed, `log_failed` for everything else. An error that is already ours passes through.
 */
export function fileError(cause: unknown, what: string): AssayError {
  if (isAssayError(cause)) return cause;
  const code = systemCode(cause);
  if (FULL.has(code)) {
    return new AssayError("log_full", `No space is left to ${what}.`, {
      cause,
      hints: ["Nothing that was acknowledged is lost; appends work again as soon as there is space."],
    });
  }
  if (READ_ONLY.has(code)) {
    return new AssayError("log_read_only", `The log's directory cannot be written to ${what}.`, { cause });
  }
  return new AssayError("log_failed", `The operating system failed to ${what} (${code || "no error code"}).`, {
    cause,
    hints: ["Open the log again: recovery keeps every acknowledged record."],
  });
}

/** The `errno` name of a system error, or an empty string. */
export function systemCode(error: unknown): string {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "";
}

/** A record, tile or file that contradicts what was acknowledged or signed before. */
export function corrupt(what: string, hints: readonly string[] = []): AssayError<"log_corrupt"> {
  return new AssayError("log_corrupt", what, {
    hints: [...hints, "Restore the directory from a copy; the journal is never repaired by guessing."],
  });
}
