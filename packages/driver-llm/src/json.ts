import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { MAX_CONTROL_BYTES, MAX_CONTROL_DEPTH } from "./limits.ts";

export type JsonObject = { readonly [key: string]: JsonValue };

/** A control message as the bytes of a frame's body. Values are plain data; what is undefined is left out. */
export function encodeControl(message: object): Uint8Array {
  return Buffer.from(JSON.stringify(message), "utf8");
}

/** The object in a control frame, or `undefined` when it is none. */
export function decodeControl(body: Uint8Array): JsonObject | undefined {
  try {
    const value = parseJson(body, { maxBytes: MAX_CONTROL_BYTES, maxDepth: MAX_CONTROL_DEPTH });
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
