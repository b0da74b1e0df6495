import { AssayError } from "@assay/core";
import type { Listing, MeteredUse } from "@assay/protocol";
import { parseDecimal } from "@assay/routing";

// Rates have 18 digits after the point, and the smallest thing that is measured is a byte-day, a billionth of a
// gigabyte-day: in units of 10^-27 of the asset every price is a whole number, and rounding happens once, at the end.
const RATE_DIGITS = 18;
const MEASURE_DIGITS = 9;
const PER_CALL = 1_000_000_000n;
const PER_TOKEN = 1_000n;
const PER_MILLISECOND = 1_000_000n;
const PER_BYTE_DAY = 1n;

/** Most decimals of a token: with more of them a smallest unit would be finer than a rate can say. */
export const MAX_DECIMALS = RATE_DIGITS;

type Rates = {
  readonly call: bigint;
  readonly input: bigint;
  readonly output: bigint;
  readonly millisecond: bigint;
  readonly byteDay: bigint;
};
// A listing is read once and priced with at every call; it is data that nobody changes.
const known = new WeakMap<Listing, Rates>();

function ratesOf(listing: Listing): Rates {
  const found = known.get(listing);
  if (found) return found;
  const rate = (text: string | undefined, what: string): bigint => (text === undefined ? 0n : parseDecimal(text, what));
  const rates = {
    call: rate(listing.perCall, "A price per call") * PER_CALL,
    input: rate(listing.perMillionInputTokens, "A price per million input tokens") * PER_TOKEN,
    output: rate(listing.perMillionOutputTokens, "A price per million output tokens") * PER_TOKEN,
    millisecond: rate(listing.perSecond, "A price per second") * PER_MILLISECOND,
    byteDay: rate(listing.perGigabyteDay, "A price per gigabyte and day") * PER_BYTE_DAY,
  };
  known.set(listing, rates);
  return rates;
}

/**
 * What `use` costs by `listing`, in the smallest unit of a token with `decimals` digits, rounded up. A gigabyte is
 * 10^9 bytes. Throws `decimal_invalid` for a listing whose prices are no decimals and `decimal_invalid` for a use that is
 * no count.
 */
export function amountOf(listing: Listing, decimals: number, use: MeteredUse): bigint {
  if (!Number.isInteger(decimals) || decimals < 0 || decimals > MAX_DECIMALS)
    throw new AssayError("decimal_invalid", `A token has 0 to ${MAX_DECIMALS} decimals, not ${decimals}.`);
  const rates = ratesOf(listing);
  const cost =
    rates.call +
    rates.input * count(use.inputTokens) +
    rates.output * count(use.outputTokens) +
    // Engines measure fractions of a millisecond; what is begun is paid.
    rates.millisecond * count(use.milliseconds === undefined ? 0 : Math.ceil(use.milliseconds)) +
    rates.byteDay * count(use.byteDays);
  const unit = 10n ** BigInt(RATE_DIGITS + MEASURE_DIGITS - decimals);
  return (cost + unit - 1n) / unit;
}

/** Whether a listing asks for nothing at all. */
export function isFreeListing(listing: Listing): boolean {
  return Object.values(ratesOf(listing)).every((rate) => rate === 0n);
}

function count(value: number | undefined): bigint {
  if (value === undefined) return 0n;
  if (!Number.isSafeInteger(value) || value < 0)
    throw new AssayError("decimal_invalid", `A use of ${value} cannot be priced: it is no count.`);
  return BigInt(value);
}
