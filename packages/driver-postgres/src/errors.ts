import { AssayError, isAssayError } from "@assay/core";

/** Node's codes for a socket that cannot be reached or that broke. */
const SOCKET_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "ENOENT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTSOCK",
  "EPIPE",
  "ETIMEDOUT",
  "EACCES",
]);

/** PostgreSQL's SQLSTATEs (Appendix A) that say the server went, is coming, or has no connection left. */
const AWAY_STATES = new Set(["57P01", "57P02", "57P03", "57P05", "53300"]);

/** What `pg` says in words alone, without a code. */
const AWAY_WORDS =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed|Query read timeout|Client network socket disconnected|The server does not support|Cannot use a pool after)/;

function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** Whether `error` means that the server cannot be reached now, as opposed to having refused one statement. */
export function isAway(error: unknown): boolean {
  if (isAssayError(error)) return error.code === "database_unavailable";
  // Node reports a host with several addresses as one error around the error of each.
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.every(isAway);
  const code = codeOf(error);
  if (code !== undefined) return SOCKET_CODES.has(code) || AWAY_STATES.has(code) || code.startsWith("08");
  return error instanceof Error && AWAY_WORDS.test(error.message);
}

/** The error for a database that is away; the message never holds the connection string, which may hold a password. */
export function unavailable(cause?: unknown): AssayError<"database_unavailable"> {
  return new AssayError("database_unavailable", "PostgreSQL cannot be reached now.", {
    hints: [
      "The call may be repeated; the connection is being retried in the background.",
      "Receipts are safe in the log meanwhile: the index catches up when PostgreSQL is back.",
    ],
    cause,
  });
}

/** The {@link AssayError} for whatever a PostgreSQL client threw; an `AssayError` is passed through. */
export function toDatabaseError(error: unknown): AssayError {
  if (isAssayError(error)) return error;
  if (isAway(error)) return unavailable(error);
  const code = codeOf(error);
  switch (code) {
    case "57014":
    case "55P03":
      return new AssayError("database_timeout", "A statement took longer than its limit and was cancelled.", {
        hints: ["Ask for fewer rows, or look for a lock that is held for long."],
        cause: error,
      });
    case "53100":
      return new AssayError("storage_full", "The disk of PostgreSQL is full.", {
        hints: ["Free space on the volume of the database, then repeat the call."],
        cause: error,
      });
    case "25006":
      return new AssayError("database_read_only", "PostgreSQL accepts reads only.", {
        hints: ["Point the connection at the primary server instead of a standby."],
        cause: error,
      });
    default:
      return new AssayError(
        "database_error",
        `PostgreSQL refused a statement${code === undefined ? "" : ` (${code})`}.`,
        {
          cause: error,
        },
      );
  }
}
