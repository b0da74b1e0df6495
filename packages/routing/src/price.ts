import { AssayError } from "@assay/core";
import { SCALE_DIGITS, isDecimal, parseDecimal } from "./decimal.ts";

/** What a model costs: decimal texts in units of `asset`. What is absent costs nothing. */
export type Price = {
  readonly asset: string;
  /** Digits after the point of the asset's smallest unit, 0 to 18; 6 when absent, as US dollar tokens have. */
  readonly decimals?: number;
  readonly perCall?: string;
  readonly perMillionInputTokens?: string;
  readonly perMillionOutputTokens?: string;
};

/** Tokens of one request, or the most that they can be. */
export type TokenCount = { readonly inputTokens: number; readonly outputTokens: number };

/** The service statement's `price`: `amountAtomic` times `unit` is the amount of `asset`. */
export type PriceClaim = {
  readonly amountAtomic: string;
  readonly asset: string;
  readonly rateSource: "listing";
  readonly unit: string;
};

const MILLION = 1_000_000n;
const MILLION_DIGITS = 6;

/**
 * Cost in units of 10^-24 of the asset: exact, because a listing's 18 digits are divided by a million tokens at most.
 * Throws `decimal_invalid` for a listing that is not one, and for tokens that are no counts.
 */
export function costOf(price: Price, { inputTokens, outputTokens }: TokenCount): bigint {
  const { call, input, output } = ratesOf(price);
  return call + input * tokens(inputTokens) + output * tokens(outputTokens);
}

type Rates = { readonly call: bigint; readonly input: bigint; readonly output: bigint };
// A listing is read once and priced with at every decision; it is data that nobody changes.
const rates = new WeakMap<Price, Rates>();

/** Rates in units of 10^-24: of a call, of one input token, of one output token. */
function ratesOf(price: Price): Rates {
  const known = rates.get(price);
  if (known) return known;
  const rate = (text: string | undefined, what: string): bigint => (text === undefined ? 0n : parseDecimal(text, what));
  const read = {
    call: rate(price.perCall, "A price per call") * MILLION,
    input: rate(price.perMillionInputTokens, "A price per million input tokens"),
    output: rate(price.perMillionOutputTokens, "A price per million output tokens"),
  };
  rates.set(price, read);
  return read;
}

/** A limit or amount in decimal text, in the units of {@link costOf}. */
export function costFromDecimal(text: string, what: string): bigint {
  return parseDecimal(text, what) * MILLION;
}

/** Whether a listing from outside is one: what is not counts as unknown, so that one node's slip stops nobody else. */
export function isPrice(price: Price): boolean {
  const { decimals = 6, perCall = "0", perMillionInputTokens = "0", perMillionOutputTokens = "0" } = price;
  return (
    Number.isInteger(decimals) &&
    decimals >= 0 &&
    decimals <= SCALE_DIGITS &&
    [perCall, perMillionInputTokens, perMillionOutputTokens].every(isDecimal)
  );
}

/** A cost of {@link costOf} as an exact decimal text in the asset. */
export function costToDecimal(cost: bigint): string {
  const digits = cost.toString().padStart(SCALE_DIGITS + MILLION_DIGITS + 1, "0");
  const whole = digits.slice(0, -(SCALE_DIGITS + MILLION_DIGITS));
  const part = digits.slice(-(SCALE_DIGITS + MILLION_DIGITS)).replace(/0+$/, "");
  return part === "" ? whole : `${whole}.${part}`;
}

/** Whether every rate of a listing is zero. */
export function isFree(price: Price): boolean {
  const { call, input, output } = ratesOf(price);
  return call === 0n && input === 0n && output === 0n;
}

/**
 * What a call cost by its listing and its usage, in the asset's smallest unit, rounded up: the same rounding that the
 * estimate before it has, so that a bill is never above the estimate of as many tokens.
 */
export function priceOf(price: Price, usage: TokenCount): PriceClaim {
  const decimals = price.decimals ?? 6;
  if (!Number.isInteger(decimals) || decimals < 0 || decimals > SCALE_DIGITS)
    throw new AssayError("decimal_invalid", `An asset has 0 to ${SCALE_DIGITS} decimals, not ${decimals}.`);
  const divisor = 10n ** BigInt(SCALE_DIGITS + MILLION_DIGITS - decimals);
  const cost = costOf(price, usage);
  return {
    amountAtomic: ((cost + divisor - 1n) / divisor).toString(),
    asset: price.asset,
    rateSource: "listing",
    unit: `1e-${decimals}`,
  };
}

function tokens(count: number): bigint {
  if (!Number.isSafeInteger(count) || count < 0)
    throw new AssayError("decimal_invalid", `${count} is not a number of tokens.`);
  return BigInt(count);
}
