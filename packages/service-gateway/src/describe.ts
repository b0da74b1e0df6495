import { problemOf } from "./http-errors.ts";

/** What a log line says of an error: its chain of messages and codes, never a body or a key. */
export function describe(error: unknown): {
  readonly message: string;
  readonly code?: string;
  readonly cause?: unknown;
  readonly stack?: string;
} {
  if (!(error instanceof Error))
    return { message: typeof error === "string" ? error : "Something that is not an error was thrown." };
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const ours = problemOf(error).body.code !== "internal_error";
  return {
    message: error.message,
    ...(code === undefined ? {} : { code }),
    ...(error.cause === undefined ? {} : { cause: describe(error.cause) }),
    ...(ours || error.stack === undefined ? {} : { stack: error.stack }),
  };
}
