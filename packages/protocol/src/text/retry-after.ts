import { AssayError } from "@assay/core";

/** Longest pause that is passed on, milliseconds: a day. What asks for more is a fault or a joke. */
export const MAX_RETRY_AFTER_MS = 86_400_000;
/** How far a chain of causes is followed: errors are wrapped once or twice, and a cycle must end. */
const MAX_CAUSES = 8;

/** An error that says when trying again makes sense. */
export type RetryableError<Code extends string = string> = AssayError<Code> & { readonly retryAfterMs: number };

/**
 * Gives `error` a pause in milliseconds after which trying again makes sense: `engine_overloaded` and
 * `upstream_rate_limited` carry one. It is rounded up to whole milliseconds and held between 0 and a day.
 */
export function withRetryAfter<Code extends string>(
  error: AssayError<Code>,
  retryAfterMs: number,
): RetryableError<Code> {
  const held = Number.isNaN(retryAfterMs) ? 0 : Math.min(Math.max(Math.ceil(retryAfterMs), 0), MAX_RETRY_AFTER_MS);
  return Object.assign(error, { retryAfterMs: held });
}

/** The pause in milliseconds that `error`, or what caused it, asks for; undefined when none does. */
export function retryAfterOf(error: unknown): number | undefined {
  let current = error;
  for (let i = 0; i < MAX_CAUSES && typeof current === "object" && current !== null; i++) {
    const { retryAfterMs, cause } = current as { readonly retryAfterMs?: unknown; readonly cause?: unknown };
    if (typeof retryAfterMs === "number" && Number.isFinite(retryAfterMs)) return retryAfterMs;
    current = cause;
  }
  return undefined;
}
