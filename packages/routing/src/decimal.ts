import { AssayError } from "@assay/core";

/** Digits after the point that a decimal text may have; amounts are held as integers of this scale. */
export const SCALE_DIGITS = 18;
const DECIMAL = /^(0|[1-9][0-9]{0,29})(?:\.([0-9]{1,18}))?$/;

/**
 * A decimal text as an integer in units of 10^-18: `"0.5"` is 5·10^17. No sign, no exponent, at most 30
 * digits before the point and 18 after it. Throws `decimal_invalid`; `what` names the thing in the sentence.
 */
export function parseDecimal(text: string, what: string): bigint {
  const match = DECIMAL.exec(text);
  if (!match)
    throw new AssayError("decimal_invalid", `${what} is not a decimal number: ${JSON.stringify(text.slice(0, 64))}.`, {
      hints: ['Write it like "12" or "0.0025": no sign, no exponent, at most 18 digits after the point.'],
    });
  return BigInt((match[1] ?? "") + (match[2] ?? "").padEnd(SCALE_DIGITS, "0"));
}

/** Whether `text` is a decimal that {@link parseDecimal} takes. */
export function isDecimal(text: string): boolean {
  return DECIMAL.test(text);
}
