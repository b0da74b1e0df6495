import type { JsonValue } from "@assay/core";

export type SchemaObject = { readonly [keyword: string]: JsonValue };

/** What a JSON pointer in a fragment (RFC 6901, section 6) names. */
export function resolvePointer(root: JsonValue, pointer: string): JsonValue | undefined {
  let found: JsonValue | undefined = root;
  for (const step of pointer.slice(1).split("/").slice(1)) {
    let name: string;
    try {
      name = decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
    } catch {
      return undefined;
    }
    if (Array.isArray(found)) found = found[Number(name)];
    else if (isObject(found) && Object.hasOwn(found, name)) found = found[name];
    else return undefined;
  }
  return found;
}

export function isObject(value: JsonValue | undefined): value is SchemaObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
