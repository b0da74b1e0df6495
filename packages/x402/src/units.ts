import { AssayError } from "@assay/core";
import { MAX_UINT256 } from "./limits.ts";

const DECIMAL = /^([0-9]{1,78})(?:\.([0-9]{1,78}))?$/;

/**
 * Atomic units of a decimal text: `0.01` with 6 decimals is 10000. Throws `spend_amount_invalid` for another form, for more
 * decimals than the token has, and beyond uint256.
 */
export function parseUnits(text: string, decimals: number): bigint {
  const [, whole, fraction = ""] = DECIMAL.exec(text) ?? [];
  const digits = fraction.replace(/0+$/, "");
  if (whole !== undefined && digits.length <= decimals) {
    const atomic = BigInt(whole) * 10n ** BigInt(decimals) + BigInt(digits.padEnd(decimals, "0") || "0");
    if (atomic <= MAX_UINT256) return atomic;
  }
  throw new AssayError(
    "spend_amount_invalid",
    `"${text.slice(0, 64)}" is not an amount with up to ${decimals} decimals.`,
    {
      hints: ["Amounts are decimal digits with a point, such as 0.01."],
    },
  );
}

/** The decimal text of atomic units, without zeros that say nothing. */
export function formatUnits(atomic: bigint, decimals: number): string {
  const sign = atomic < 0n ? "-" : "";
  const digits = (atomic < 0n ? -atomic : atomic).toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals);
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, "");
  return `${sign}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}
