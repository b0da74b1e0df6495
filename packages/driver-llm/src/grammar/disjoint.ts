import { bytesToUtf8, canonicalJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { isObject, resolvePointer } from "./pointer.ts";
import type { SchemaObject } from "./pointer.ts";

/** How many references in a row are followed to see what a schema is about. */
const MAX_HOPS = 8;

/**
 * Whether no value can satisfy two of `schemas`, as far as that is plain to see: their types differ, their constants
 * differ, or they are objects that require one property with different constants.
 */
export function disjoint(schemas: readonly JsonValue[], root: JsonValue): boolean {
  const plain = schemas.map((schema) => follow(schema, root));
  return plain.every((a, index) => plain.slice(index + 1).every((b) => apart(a, b, root)));
}

function follow(schema: JsonValue, root: JsonValue): SchemaObject {
  let found: JsonValue | undefined = schema;
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    if (!isObject(found)) return {};
    const target: JsonValue | undefined = found["$ref"];
    if (typeof target !== "string") return found;
    found = resolvePointer(root, target);
  }
  return {};
}

function apart(a: SchemaObject, b: SchemaObject, root: JsonValue): boolean {
  const constantsA = constants(a);
  const constantsB = constants(b);
  if (constantsA !== undefined && constantsB !== undefined)
    return !constantsA.some((text) => constantsB.includes(text));
  const typesA = types(a);
  const typesB = types(b);
  if (typesA.length > 0 && typesB.length > 0 && !typesA.some((type) => typesB.includes(type))) return true;
  if (typesA.join() !== "object" || typesB.join() !== "object") return false;
  const [left, right] = [a["properties"], b["properties"]];
  const [needA, needB] = [a["required"], b["required"]];
  if (!isObject(left) || !isObject(right) || !Array.isArray(needA) || !Array.isArray(needB)) return false;
  return Object.keys(left).some((name) => {
    if (!Object.hasOwn(right, name) || !needA.includes(name) || !needB.includes(name)) return false;
    return apart(follow(left[name] ?? true, root), follow(right[name] ?? true, root), root);
  });
}

function constants(schema: SchemaObject): readonly string[] | undefined {
  if (schema["const"] !== undefined) return [canonical(schema["const"])];
  const listed = schema["enum"];
  return Array.isArray(listed) ? listed.map(canonical) : undefined;
}

/** Types that a schema names; a whole number is a number. */
function types(schema: SchemaObject): readonly string[] {
  const stated = schema["type"];
  const listed = constants(schema);
  if (stated === undefined && listed === undefined) return [];
  if (stated === undefined) {
    const values = schema["const"] === undefined ? schema["enum"] : [schema["const"]];
    return Array.isArray(values) ? [...new Set(values.map(typeOf))] : [];
  }
  const names = Array.isArray(stated) ? stated : [stated];
  return names.map((name: JsonValue) => (name === "integer" ? "number" : typeof name === "string" ? name : ""));
}

function typeOf(value: JsonValue): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** One text for equal values, whatever the order of their keys. */
function canonical(value: JsonValue): string {
  return bytesToUtf8(canonicalJson(value));
}
