import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { malformed } from "./errors.ts";
import { MAX_DEPTH, MAX_EVENT_BYTES } from "./limits.ts";

export type JsonObject = { readonly [key: string]: JsonValue };

/** A JSON object from an upstream. Throws `upstream_malformed` for anything else; `what` names it in the sentence. */
export function readObject(text: string | Uint8Array, what: string, maxBytes = MAX_EVENT_BYTES): JsonObject {
  let value: JsonValue;
  try {
    value = parseJson(text, { maxBytes, maxDepth: MAX_DEPTH });
  } catch (error) {
    throw malformed(`${what} is not JSON`, error);
  }
  if (!isObject(value)) throw malformed(`${what} is not a JSON object`);
  return value;
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An object or an empty one. */
export function objectOf(value: JsonValue | undefined): JsonObject {
  return isObject(value) ? value : {};
}

/** A list or an empty one. */
export function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]) : [];
}

/** A text that is not empty. */
export function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
