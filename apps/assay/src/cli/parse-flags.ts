/** What a flag's value has to be; Stricli shows the message after the flag's name. */
function refuse(expected: string): never {
  throw new TypeError(expected);
}

/** A TCP port, 0 for any that is free. */
export function port(text: string): number {
  const value = Number(text);
  return /^\d{1,5}$/.test(text) && value <= 65_535 ? value : refuse("a port is a number from 0 to 65535");
}

/** 8 to 64 bytes in hexadecimal, given in either case and kept in lower. */
export function nonce(text: string): string {
  const hex = text.toLowerCase();
  return /^(?:[0-9a-f]{2}){8,64}$/.test(hex) ? hex : refuse("a nonce is 8 to 64 bytes in hexadecimal");
}

/** Milliseconds since 1970 of an ISO 8601 time with its zone, or of a date alone (its beginning in UTC). */
export function time(text: string): number {
  const zoned = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/.test(text);
  const ms = zoned ? Date.parse(text) : Number.NaN;
  return Number.isFinite(ms) ? ms : refuse("a time is written like 2026-11-21T10:00:00Z");
}

/** How many rows, 1 to 1,000. */
export function limit(text: string): number {
  const value = Number(text);
  return /^\d{1,4}$/.test(text) && value >= 1 && value <= 1000 ? value : refuse("a limit is a number from 1 to 1000");
}

/** Milliseconds between two rounds: not so often that a log is flooded. */
export function intervalMs(text: string): number {
  const value = Number(text);
  return /^\d{3,9}$/.test(text) && value >= 100 ? value : refuse("an interval is at least 100 milliseconds");
}

/** Milliseconds, 1 to a day. */
export function milliseconds(text: string): number {
  const value = Number(text);
  return /^\d{1,8}$/.test(text) && value >= 1 && value <= 86_400_000
    ? value
    : refuse("a time is a number of milliseconds from 1 to 86400000");
}

/** A number with or without a fraction. */
export function decimal(text: string): number {
  return /^-?\d{1,9}(?:\.\d{1,9})?$/.test(text) ? Number(text) : refuse("this is a number such as 0.7");
}

/** A whole number that JSON carries exactly. */
export function integer(text: string): number {
  const value = Number(text);
  return /^-?\d{1,16}$/.test(text) && Number.isSafeInteger(value) ? value : refuse("this is a whole number");
}

/** How many, at least 1. */
export function count(text: string): number {
  const value = Number(text);
  return /^\d{1,9}$/.test(text) && value >= 1 ? value : refuse("this is a whole number from 1 on");
}

/** An account or a contract: `0x` and 40 hexadecimal digits, given in either case and kept in lower. */
export function evmAddress(text: string): `0x${string}` {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return `0x${text.slice(2).toLowerCase()}`;
  return refuse("an address is 0x and 40 hexadecimal digits");
}

/** 32 bytes: `0x` and 64 hexadecimal digits, given in either case and kept in lower. */
export function hash(text: string): `0x${string}` {
  if (/^0x[0-9a-fA-F]{64}$/.test(text)) return `0x${text.slice(2).toLowerCase()}`;
  return refuse("a hash is 0x and 64 hexadecimal digits");
}
