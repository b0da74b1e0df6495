// The furthest instant that a Date can hold (ECMA-262, "Time Values and Time Range").
const MAX_DATE_MS = 8.64e15;

/** ISO 8601 of `ms` since 1970. A time that a stranger wrote may be no Date's: it is then told as the number it is. */
export function timeText(ms: number): string {
  return Math.abs(ms) <= MAX_DATE_MS ? new Date(ms).toISOString() : `${ms} ms after 1970`;
}
