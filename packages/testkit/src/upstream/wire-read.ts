import type { JsonValue } from "@assay/core";

type Read = { readonly [key: string]: JsonValue };

/** A JSON object, or an empty one for anything else. */
export function objectOf(value: JsonValue | undefined): Read {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Read) : {};
}

/** A JSON list, or an empty one for anything else. */
export function listOf(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]) : [];
}

/** A number, or `otherwise`. */
export function numberOf(value: JsonValue | undefined, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

/** A text, or an empty one. */
export function textOf(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

/** The first member of `value` that `known` does not name: real providers refuse such requests, some of them. */
export function unknownMember(value: Read, known: readonly string[]): string | undefined {
  return Object.keys(value).find((key) => !known.includes(key));
}
