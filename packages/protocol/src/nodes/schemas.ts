import { z } from "zod";
import { AssayError, base64ToBytes, bytesToBase64, isAssayError, parseJson } from "@assay/core";
import type { JsonLimits, JsonValue } from "@assay/core";

/** Bytes of `min` to `max` written as base64. */
export function base64(min: number, max: number) {
  return z
    .string()
    .max(Math.ceil(max / 3) * 4 + 4)
    .transform((text, context) => {
      try {
        const bytes = base64ToBytes(text);
        if (bytes.length >= min && bytes.length <= max) return bytes;
      } catch {
        // Falls through to the one sentence for both faults.
      }
      context.addIssue({ code: "custom", message: `must be base64 of ${min} to ${max} bytes` });
      return z.NEVER;
    });
}

/** Bytes for {@link base64}. */
export const toBase64 = bytesToBase64;

/** Lower-case hexadecimal of so many bytes. */
export function hexText(bytes: number) {
  return z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `must be ${bytes} bytes in lower-case hexadecimal`);
}

/** An unsigned integer below 2^53. */
export const uint = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);

/** A schema of a message, and what reading by it gives: for packages that have no schemas of their own. */
export type MessageSchema = z.ZodType;
export type Read<Schema extends MessageSchema> = z.output<Schema>;

/** Reads a JSON text into `schema`. Throws `node_message_invalid` naming the first member that does not fit. */
export function parseMessage<Schema extends z.ZodType>(
  schema: Schema,
  bytes: Uint8Array | string,
  limits: JsonLimits,
): z.output<Schema> {
  let value: JsonValue;
  try {
    value = parseJson(bytes, limits);
  } catch (cause) {
    if (!isAssayError(cause)) throw cause;
    throw new AssayError("node_message_invalid", `A message between gateway and node is unreadable: ${cause.message}`, {
      cause,
    });
  }
  return parseValue(schema, value);
}

/** The same for a value that is parsed already. */
export function parseValue<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue?.path.join(".") ?? "";
  throw new AssayError(
    "node_message_invalid",
    `In a message between gateway and node, ${where || "the body"} does not fit: ${issue?.message ?? "unknown"}.`,
  );
}
