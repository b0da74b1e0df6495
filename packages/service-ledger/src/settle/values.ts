import { AssayError } from "@assay/core";

/** A column's text; numbers as decimal texts. Refuses everything else: the column is not what it was made as. */
export function text(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "bigint") return value.toString();
  throw new AssayError("database_error", "The database holds a null where a text belongs.");
}
