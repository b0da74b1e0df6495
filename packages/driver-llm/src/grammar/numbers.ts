import { AssayError } from "@assay/core";
import { MAX_DECIMALS, MAX_INTEGER_DIGITS } from "../limits.ts";
import type { Builder, Expression } from "./expression.ts";

/** Bounds of a number. An exclusive bound of a whole number is the next one. */
export type NumberBounds = {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
};

const LARGEST = 10n ** BigInt(MAX_INTEGER_DIGITS) - 1n;

/** Whole numbers within `bounds`, at most {@link MAX_INTEGER_DIGITS} digits; none gives `never`. */
export function integerWithin(builder: Builder, bounds: NumberBounds): Expression {
  const [low, high] = scaled(bounds, 0);
  return signed(builder, low, high, 0);
}

/**
 * Numbers within `bounds` in plain notation: with as many decimals as the bounds have, up to {@link MAX_DECIMALS}.
 * Throws `schema_unsupported` for a bound with more decimals.
 */
export function numberWithin(builder: Builder, bounds: NumberBounds): Expression {
  const given = [bounds.minimum, bounds.maximum, bounds.exclusiveMinimum, bounds.exclusiveMaximum];
  for (const bound of given) if (bound !== undefined) decimalsOf(bound);
  const options: Expression[] = [];
  for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    const [low, high] = scaled(bounds, decimals);
    options.push(signed(builder, low, high, decimals));
  }
  return builder.choice(...options);
}

/** Whether any bound is stated. */
export function isBounded(bounds: NumberBounds): boolean {
  return Object.values(bounds).some((bound) => bound !== undefined);
}

/** A number without bounds in plain notation, digits and decimals limited so that it is exact enough and ends. */
export function anyNumber(builder: Builder): Expression {
  const digit = builder.set([0x30, 0x39]);
  const fraction = builder.sequence(builder.text("."), builder.repeat(digit, 1, MAX_DECIMALS));
  return builder.sequence(anyInteger(builder), builder.optional(fraction));
}

export function anyInteger(builder: Builder): Expression {
  const digit = builder.set([0x30, 0x39]);
  const whole = builder.sequence(builder.set([0x31, 0x39]), builder.repeat(digit, 0, MAX_INTEGER_DIGITS - 1));
  return builder.choice(builder.text("0"), builder.sequence(builder.optional(builder.text("-")), whole));
}

function decimalsOf(value: number): { readonly digits: bigint; readonly decimals: number } {
  if (!Number.isFinite(value)) throw unsupported(`The bound ${value} is no number.`);
  const text = String(value);
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(text);
  if (match === null) throw unsupported(`The bound ${text} cannot be read.`);
  const [, sign = "", whole = "0", fraction = "", exponent = "0"] = match;
  let digits = BigInt(whole + fraction);
  let decimals = fraction.length - Number(exponent);
  if (decimals < 0) {
    if (decimals < -400) throw unsupported(`The bound ${text} is too large.`);
    digits *= 10n ** BigInt(-decimals);
    decimals = 0;
  }
  if (decimals > MAX_DECIMALS) throw unsupported(`The bound ${text} has more than ${MAX_DECIMALS} decimals.`);
  return { digits: sign === "-" ? -digits : digits, decimals };
}

/** The bounds as whole numbers of units of 10^-decimals, inclusive. */
function scaled(bounds: NumberBounds, decimals: number): readonly [bigint, bigint] {
  const limit = LARGEST * 10n ** BigInt(decimals);
  let low = -limit;
  let high = limit;
  const scale = (value: number): { readonly whole: bigint; readonly exact: boolean } => {
    const read = decimalsOf(value);
    if (read.decimals <= decimals) return { whole: read.digits * 10n ** BigInt(decimals - read.decimals), exact: true };
    const divisor = 10n ** BigInt(read.decimals - decimals);
    const floor = read.digits >= 0n ? read.digits / divisor : -((-read.digits + divisor - 1n) / divisor);
    return { whole: floor, exact: read.digits % divisor === 0n };
  };
  const raise = (value: bigint): void => {
    if (value > low) low = value;
  };
  const lower = (value: bigint): void => {
    if (value < high) high = value;
  };
  if (bounds.minimum !== undefined) {
    const { whole, exact } = scale(bounds.minimum);
    raise(exact ? whole : whole + 1n);
  }
  if (bounds.exclusiveMinimum !== undefined) raise(scale(bounds.exclusiveMinimum).whole + 1n);
  if (bounds.maximum !== undefined) lower(scale(bounds.maximum).whole);
  if (bounds.exclusiveMaximum !== undefined) {
    const { whole, exact } = scale(bounds.exclusiveMaximum);
    lower(exact ? whole - 1n : whole);
  }
  return [low, high];
}

function signed(builder: Builder, low: bigint, high: bigint, decimals: number): Expression {
  if (low > high) return builder.never;
  const options: Expression[] = [];
  if (high >= 0n) options.push(magnitudes(builder, low > 0n ? low : 0n, high, decimals));
  if (low < 0n) {
    const least = high < 0n ? -high : 1n;
    options.push(builder.sequence(builder.text("-"), magnitudes(builder, least, -low, decimals)));
  }
  return builder.choice(...options);
}

/** Digits of the whole numbers from `low` to `high`, with a point before the last `decimals` of them. */
function magnitudes(builder: Builder, low: bigint, high: bigint, decimals: number): Expression {
  const options: Expression[] = [];
  const shortest = decimals + 1;
  for (let length = shortest; length <= high.toString().length || length === shortest; length++) {
    const least = length === shortest ? 0n : 10n ** BigInt(length - 1);
    const most = 10n ** BigInt(length) - 1n;
    const from = low > least ? low : least;
    const to = high < most ? high : most;
    if (from <= to) {
      const digits = (value: bigint): string => value.toString().padStart(length, "0");
      options.push(between(builder, digits(from), digits(to), length - decimals));
    }
  }
  return builder.choice(...options);
}

/** Digit strings from `from` to `to`, which are equally long; a point stands before index `point`. */
function between(builder: Builder, from: string, to: string, point: number): Expression {
  const length = from.length;
  const digit = (low: number, high: number): Expression => builder.set([0x30 + low, 0x30 + high]);
  const dotted = (at: number, rest: Expression): Expression =>
    at === point && at < length ? builder.sequence(builder.text("."), rest) : rest;
  /** Any digits from `at` on. */
  const any = (at: number): Expression => {
    if (at >= length) return builder.empty;
    const upTo = at < point ? Math.min(point, length) : length;
    return dotted(at, builder.sequence(builder.repeat(digit(0, 9), upTo - at, upTo - at), any(upTo)));
  };
  const walk = (at: number, low: boolean, high: boolean): Expression => {
    if (at >= length) return builder.empty;
    if (!low && !high) return any(at);
    const least = low ? Number(from[at]) : 0;
    const most = high ? Number(to[at]) : 9;
    if (low && high && least === most) {
      return dotted(at, builder.sequence(digit(least, least), walk(at + 1, true, true)));
    }
    const options: Expression[] = [];
    let start = least;
    let end = most;
    if (low) {
      options.push(builder.sequence(digit(least, least), walk(at + 1, true, false)));
      start++;
    }
    if (high) {
      options.push(builder.sequence(digit(most, most), walk(at + 1, false, true)));
      end--;
    }
    if (start <= end) options.push(builder.sequence(digit(start, end), any(at + 1)));
    return dotted(at, builder.choice(...options));
  };
  return walk(0, true, true);
}

function unsupported(message: string): AssayError<"schema_unsupported"> {
  return new AssayError("schema_unsupported", message);
}
