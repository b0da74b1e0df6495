import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { MAX_CONTROL_BYTES } from "./limits.ts";

export type JsonObject = { readonly [key: string]: JsonValue };

/** A control message as the bytes of a frame's body. */
export function encodeControl(message: JsonObject): Uint8Array {
  const text = JSON.stringify(message);
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8, 0x20)]);
}

/** The object in a control frame, or `undefined` when it is none. */
export function decodeControl(body: Uint8Array): JsonObject | undefined {
  try {
    const value = parseJson(body, { maxBytes: MAX_CONTROL_BYTES, maxDepth: 8 });
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (isAssayError(error)) return undefined;
    throw error;
  }
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

export function count(value: JsonValue | undefined): number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : 0;
}

export function list(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]) : [];
}
