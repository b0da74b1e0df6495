import { AssayError } from "@assay/core";

/** A column of type bigint or int as a number: clients give text, number or bigint. Refuses what a double cannot hold. */
export function toSafeInteger(value: unknown): number {
  const number = typeof value === "number" ? value : Number(value);
  if (Number.isSafeInteger(number) && value !== null && value !== "") return number;
  throw new AssayError("database_error", "The database holds a number that is not a safe integer.");
}

/** A PostgreSQL array literal of text (or of anything that has a text form), with null elements. */
export function textArray(values: readonly (string | null)[]): string {
  let out = "{";
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (i > 0) out += ",";
    out += value === null || value === undefined ? "NULL" : `"${escape(value)}"`;
  }
  return `${out}}`;
}

function escape(value: string): string {
  return /["\\]/.test(value) ? value.replace(/["\\]/g, "\\$&") : value;
}

/** A PostgreSQL array literal of numbers. */
export function numberArray(values: readonly number[]): string {
  return `{${values.join(",")}}`;
}
