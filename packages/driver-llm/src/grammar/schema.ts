import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { MAX_REPEAT, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH } from "../limits.ts";
import { ANY_CHARACTER, jsonCharacter } from "./characters.ts";
import { disjoint } from "./disjoint.ts";
import type { Builder, Expression } from "./expression.ts";
import { jsonParts, listOf, mapOf, pythonJson, quotedString } from "./json.ts";
import type { JsonParts } from "./json.ts";
import { anyInteger, anyNumber, integerWithin, isBounded, numberWithin } from "./numbers.ts";
import type { NumberBounds } from "./numbers.ts";
import { patternContent } from "./pattern.ts";
import { isObject, resolvePointer } from "./pointer.ts";
import type { SchemaObject } from "./pointer.ts";
import { productiveNodes } from "./productive.ts";

const TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"] as const;
type TypeName = (typeof TYPES)[number];

/** Keywords that say something about a value without narrowing it. */
const ANNOTATIONS = new Set(
  "title description default example examples $schema $comment deprecated readOnly writeOnly $defs definitions".split(
    " ",
  ),
);
const OF_TYPE: Readonly<Record<Exclude<TypeName, "null" | "boolean">, readonly string[]>> = {
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  string: ["minLength", "maxLength", "pattern", "format"],
  array: ["items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "unevaluatedItems"],
  object: ["properties", "required", "additionalProperties", "minProperties", "maxProperties", "unevaluatedProperties"],
};
const COMBINING = ["$ref", "enum", "const", "anyOf", "oneOf", "allOf"] as const;
const KNOWN = new Set(["type", ...COMBINING, ...Object.values(OF_TYPE).flat()]);

/** Contents of strings of a format, each a part of what the format allows. */
const FORMATS: Readonly<Record<string, string>> = {
  date: "^[12]\\d{3}-((0[1-9]|1[0-2])-(0[1-9]|1\\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)$",
  time: "^([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)$",
  "date-time":
    "^[12]\\d{3}-((0[1-9]|1[0-2])-(0[1-9]|1\\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)T([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)$",
  uuid: "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
  ipv4: "^((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)$",
  email: "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16}){0,2}@([a-z0-9]{1,30}\\.){1,3}[a-z]{2,10}$",
};

/**
 * The texts that `schema` (JSON Schema 2020-12, or draft 7 where the two agree) allows, written as
 * {@link jsonParts} says. Every text of the grammar satisfies the schema; of what the schema allows, the grammar leaves
 * out other white space, keys in another order, undeclared keys beside declared ones, exponents and very long numbers.
 *
 * Throws `schema_unsupported`, naming the keyword and its path, for a keyword that the grammar cannot enforce, for an
 * unknown one, for a schema that no value satisfies, and for schemas past the limits.
 */
export function schemaExpression(builder: Builder, schema: JsonValue, where = "#"): Expression {
  if (JSON.stringify(schema).length > MAX_SCHEMA_BYTES) {
    throw unsupported(where, `The schema is longer than ${MAX_SCHEMA_BYTES} bytes.`);
  }
  const parts = jsonParts(builder);
  const compiled = new Map<string, Expression>();
  const found = compile({ builder, parts, root: schema, compiled, where }, schema, "", 0);
  if (!productiveNodes(found).has(found.id)) throw unsupported(where, `No value satisfies the schema at ${where}.`);
  return found;
}

type Context = {
  readonly builder: Builder;
  readonly parts: JsonParts;
  readonly root: JsonValue;
  /** By JSON pointer, so that a rule that is referred to is made once and may refer to itself. */
  readonly compiled: Map<string, Expression>;
  readonly where: string;
};

function compile(context: Context, schema: JsonValue, path: string, depth: number): Expression {
  const { builder, parts } = context;
  const at = context.where + path;
  if (depth > MAX_SCHEMA_DEPTH) throw unsupported(at, `The schema nests deeper than ${MAX_SCHEMA_DEPTH} at ${at}.`);
  if (schema === true) return parts.value;
  if (schema === false) return builder.never;
  if (!isObject(schema)) throw unsupported(at, `What stands at ${at} is no schema.`);
  const keywords = Object.keys(schema).filter((keyword) => !ANNOTATIONS.has(keyword));
  for (const keyword of keywords) {
    if (!KNOWN.has(keyword)) throw keywordUnsupported(keyword, at);
  }
  const combining = COMBINING.filter((keyword) => schema[keyword] !== undefined);
  const first = combining[0];
  if (first !== undefined) {
    const beside = keywords.find((keyword) => keyword !== first && !(keyword === "type" && first !== "allOf"));
    if (beside !== undefined) throw keywordUnsupported(beside, at, `beside ${first}`);
    return combined(context, schema, first, path, depth);
  }
  return builder.choice(...typesOf(schema, keywords, at).map((type) => ofType(context, schema, type, path, depth)));
}

function combined(
  context: Context,
  schema: SchemaObject,
  keyword: (typeof COMBINING)[number],
  path: string,
  depth: number,
): Expression {
  const { builder, where } = context;
  const at = `${where}${path}/${keyword}`;
  const types = schema["type"] === undefined ? undefined : typesOf(schema, ["type"], where + path);
  if (keyword === "enum" || keyword === "const") {
    const values = keyword === "const" ? [schema["const"] ?? null] : schema["enum"];
    if (!Array.isArray(values) || values.length === 0) throw unsupported(at, `The list at ${at} is empty or none.`);
    const fitting = values.filter(
      (value: JsonValue) => types === undefined || types.some((type) => hasType(value, type)),
    );
    return builder.choice(...fitting.map((value: JsonValue) => builder.text(pythonJson(value))));
  }
  if (types !== undefined) throw keywordUnsupported("type", where + path, `beside ${keyword}`);
  if (keyword === "$ref") return reference(context, schema["$ref"], at, depth);
  const options = schema[keyword];
  if (!Array.isArray(options) || options.length === 0) throw unsupported(at, `The list at ${at} is empty or none.`);
  if (keyword === "allOf" && options.length > 1) throw keywordUnsupported("allOf", where + path, "of several schemas");
  if (keyword === "oneOf" && !disjoint(options, context.root)) {
    throw keywordUnsupported("oneOf", where + path, "whose schemas may hold for one value together");
  }
  return builder.choice(
    ...options.map((option: JsonValue, index: number) =>
      compile(context, option, `${path}/${keyword}/${index}`, depth + 1),
    ),
  );
}

function reference(context: Context, target: JsonValue | undefined, at: string, depth: number): Expression {
  const { builder, compiled, root } = context;
  if (typeof target !== "string" || !/^#($|\/)/.test(target)) {
    throw unsupported(at, `The reference at ${at} does not point into its own schema.`);
  }
  const known = compiled.get(target);
  if (known !== undefined) return known;
  const schema = resolvePointer(root, target);
  if (schema === undefined) throw unsupported(at, `The reference at ${at} points to nothing.`);
  let made: Expression | undefined;
  compiled.set(
    target,
    builder.later(() => made ?? builder.never),
  );
  made = compile(context, schema, target.slice(1), depth + 1);
  return made;
}

/** Types that a schema allows: those it names, or those that its keywords are about, or all. */
function typesOf(schema: SchemaObject, keywords: readonly string[], at: string): readonly TypeName[] {
  const stated = schema["type"];
  if (stated === undefined) {
    const about = (["object", "array", "string", "number"] as const).filter((type) =>
      OF_TYPE[type].some((keyword) => keywords.includes(keyword)),
    );
    return about.length > 0 ? about : ["null", "boolean", "number", "string", "array", "object"];
  }
  const names = Array.isArray(stated) ? stated : [stated];
  return names.map((name: JsonValue) => {
    const type = TYPES.find((known) => known === name);
    if (type === undefined) throw keywordUnsupported("type", at, `of ${JSON.stringify(name)}`);
    return type;
  });
}

function ofType(context: Context, schema: SchemaObject, type: TypeName, path: string, depth: number): Expression {
  const { builder, parts } = context;
  switch (type) {
    case "null":
      return parts.null;
    case "boolean":
      return parts.boolean;
    case "integer":
    case "number":
      return numeric(context, schema, type, path);
    case "string":
      return text(builder, parts, schema, context.where + path);
    case "array":
      return array(context, schema, path, depth);
    case "object":
      return object(context, schema, path, depth);
  }
}

function numeric(
  { builder, where }: Context,
  schema: SchemaObject,
  type: "integer" | "number",
  path: string,
): Expression {
  const at = where + path;
  const bounds: { -readonly [K in keyof NumberBounds]: number } = {};
  for (const keyword of ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const) {
    const value = schema[keyword];
    if (value === undefined) continue;
    if (typeof value !== "number") throw keywordUnsupported(keyword, at, "that is no number");
    bounds[keyword] = value;
  }
  const step = schema["multipleOf"];
  const whole = type === "integer" || step === 1;
  if (step !== undefined && step !== 1) throw keywordUnsupported("multipleOf", at);
  if (!isBounded(bounds)) return whole ? anyInteger(builder) : anyNumber(builder);
  return whole ? integerWithin(builder, bounds) : numberWithin(builder, bounds);
}

function text(builder: Builder, parts: JsonParts, schema: SchemaObject, at: string): Expression {
  const min = size(schema, "minLength", at) ?? 0;
  const max = size(schema, "maxLength", at) ?? Infinity;
  const { pattern, format } = schema;
  const sized = schema["minLength"] !== undefined || schema["maxLength"] !== undefined;
  if (pattern !== undefined) {
    if (typeof pattern !== "string") throw keywordUnsupported("pattern", at, "that is no text");
    if (sized) throw keywordUnsupported("pattern", at, "beside a length");
    if (format !== undefined) throw keywordUnsupported("format", at, "beside a pattern");
    return quotedString(builder, patternContent(builder, pattern));
  }
  if (format !== undefined) {
    const known = typeof format === "string" && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined;
    if (known === undefined) throw keywordUnsupported("format", at, `of ${JSON.stringify(format)}`);
    if (sized) throw keywordUnsupported("format", at, "beside a length");
    return quotedString(builder, patternContent(builder, known));
  }
  if (!sized) return parts.string;
  if (max < min) return builder.never;
  return quotedString(builder, builder.repeat(jsonCharacter(builder, ANY_CHARACTER), min, max));
}

function array(context: Context, schema: SchemaObject, path: string, depth: number): Expression {
  const { builder, parts, where } = context;
  const at = where + path;
  const min = size(schema, "minItems", at) ?? 0;
  const max = size(schema, "maxItems", at) ?? Infinity;
  if (max < min) return builder.never;
  if (schema["uniqueItems"] === true && max > 1) throw keywordUnsupported("uniqueItems", at);
  // Draft 7 writes a tuple as a list of `items`; 2020-12 calls it `prefixItems` and what follows `items`.
  const listed = Array.isArray(schema["items"]);
  const prefix = listed ? schema["items"] : (schema["prefixItems"] ?? []);
  const prefixName = listed ? "items" : "prefixItems";
  if (!Array.isArray(prefix)) throw keywordUnsupported("prefixItems", at, "that is no list");
  const restName = listed ? "additionalItems" : "items";
  const rest = schema[restName];
  const item =
    rest === undefined
      ? schema["unevaluatedItems"] === false
        ? builder.never
        : parts.value
      : compile(context, rest, `${path}/${restName}`, depth + 1);
  if (prefix.length === 0) {
    if (item.kind === "never") return min === 0 ? builder.text("[]") : builder.never;
    return listOf(builder, item, min, max);
  }
  const heads = prefix.map((schemaOfItem: JsonValue, index: number) =>
    compile(context, schemaOfItem, `${path}/${prefixName}/${index}`, depth + 1),
  );
  const comma = builder.text(", ");
  // From the last place to the first: what may follow once `index` items stand.
  let after: Expression = builder.repeat(
    builder.sequence(comma, item),
    Math.max(0, min - heads.length),
    Math.max(0, max - heads.length),
  );
  for (let index = heads.length - 1; index >= 0; index--) {
    const head = heads[index] ?? builder.never;
    const more = index >= max ? builder.never : builder.sequence(index === 0 ? builder.empty : comma, head, after);
    after = index >= min ? builder.choice(builder.empty, more) : more;
  }
  return builder.sequence(builder.text("["), after, builder.text("]"));
}

function object(context: Context, schema: SchemaObject, path: string, depth: number): Expression {
  const { builder, parts, where } = context;
  const at = where + path;
  const declared = schema["properties"] ?? {};
  const required = schema["required"] ?? [];
  if (!isObject(declared)) throw keywordUnsupported("properties", at, "that is no object");
  if (!Array.isArray(required)) throw keywordUnsupported("required", at, "that is no list");
  const others = schema["additionalProperties"] ?? schema["unevaluatedProperties"] !== false;
  const other = (): Expression =>
    others === true ? parts.value : compile(context, others, `${path}/additionalProperties`, depth + 1);
  const names = [
    ...Object.keys(declared),
    ...required.filter((name: JsonValue) => typeof name === "string" && !Object.hasOwn(declared, name)),
  ];
  const least = size(schema, "minProperties", at) ?? 0;
  const most = size(schema, "maxProperties", at) ?? Infinity;
  if (names.length === 0) {
    if (least > 0) throw keywordUnsupported("minProperties", at, "without properties");
    if (most === 0 || others === false) return builder.text("{}");
    if (most !== Infinity) throw keywordUnsupported("maxProperties", at, "without properties");
    return others === true ? parts.object : mapOf(builder, parts.string, other());
  }
  if (least > required.length) throw keywordUnsupported("minProperties", at, "beyond the required properties");
  if (most < names.length) throw keywordUnsupported("maxProperties", at, "below the number of properties");
  let filled: Expression = builder.text("}");
  let none: Expression = builder.text("}");
  // From the last property to the first: what may follow after one was written, and before any was.
  for (const name of names.reverse()) {
    const key = String(name);
    const inner = Object.hasOwn(declared, key)
      ? compile(
          context,
          declared[key] ?? true,
          `${path}/properties/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`,
          depth + 1,
        )
      : other();
    const pair = builder.sequence(builder.text(`${JSON.stringify(key)}: `), inner);
    const written = builder.sequence(pair, filled);
    const needed = required.includes(key);
    const joined = builder.sequence(builder.text(", "), written);
    filled = needed ? joined : builder.choice(joined, filled);
    none = needed ? written : builder.choice(written, none);
  }
  return builder.sequence(builder.text("{"), none);
}

function size(schema: SchemaObject, keyword: string, at: string): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > MAX_REPEAT) {
    throw keywordUnsupported(keyword, at, `that is no whole number up to ${MAX_REPEAT}`);
  }
  return value;
}

function hasType(value: JsonValue, type: TypeName): boolean {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}

function keywordUnsupported(keyword: string, at: string, detail = ""): AssayError<"schema_unsupported"> {
  const what = detail === "" ? "" : ` ${detail}`;
  return unsupported(at, `The keyword ${keyword}${what} at ${at} cannot be enforced by this engine.`);
}

function unsupported(at: string, message: string): AssayError<"schema_unsupported"> {
  return new AssayError("schema_unsupported", message, { hints: [`The place is ${at}.`] });
}
