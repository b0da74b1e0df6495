/** The same error with the time after which its thrower expects to be able to do it, milliseconds from now. */
export function withRetryAfter<E extends Error>(error: E, retryAfterMs: number): E & { readonly retryAfterMs: number } {
  return Object.assign(error, { retryAfterMs });
}

/** How deep a chain of causes is followed; ours have three links at most, and a hostile one could be a ring. */
const MAX_CAUSES = 8;

/** The time that {@link withRetryAfter} put on `error` or on one of its causes, milliseconds; undefined without one. */
export function retryAfterOf(error: unknown): number | undefined {
  let link = error;
  for (let depth = 0; depth < MAX_CAUSES && link instanceof Error; depth++) {
    if ("retryAfterMs" in link && typeof link.retryAfterMs === "number" && link.retryAfterMs >= 0)
      return link.retryAfterMs;
    link = link.cause;
  }
  return undefined;
}
