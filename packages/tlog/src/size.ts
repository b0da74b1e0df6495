import { AssayError } from "@assay/core";

/**
 * Largest tree this package counts: sizes are JavaScript numbers, which are exact up to 2^53 - 1. A log that
 * takes a million entries a second reaches it after 285 years.
 */
export const MAX_TREE_SIZE = Number.MAX_SAFE_INTEGER;

// "9007199254740991" has 16 digits; a longer number cannot be a size this package counts.
const MAX_DIGITS = 16;

/** A size or index in ASCII decimal without leading zeroes, or `undefined` for any other text. */
export function parseDecimal(text: string): number | undefined {
  if (text.length === 0 || text.length > MAX_DIGITS || !/^(0|[1-9][0-9]*)$/.test(text)) return undefined;
  const value = Number(text);
  return value <= MAX_TREE_SIZE ? value : undefined;
}

/** Whether `value` can be a tree size or an entry index. */
export function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** Throws `tlog_range` unless `value` can be a tree size or an entry index. */
export function assertSize(value: number, what: string): void {
  if (isSize(value)) return;
  throw new AssayError("tlog_range", `The ${what} ${value} is not a whole number from 0 to ${MAX_TREE_SIZE}.`);
}
