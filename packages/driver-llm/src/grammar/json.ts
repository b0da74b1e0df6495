import { FREE_JSON_DEPTH } from "../limits.ts";
import { ANY_CHARACTER, jsonCharacter } from "./characters.ts";
import type { Builder, Expression } from "./expression.ts";
import { anyNumber } from "./numbers.ts";

/**
 * JSON as Python's `json.dumps` writes it by default: `", "` between items, `": "` after keys, no other white space.
 * Models are trained on it, and one way to write a value leaves the model nothing to waver about.
 */
export type JsonParts = {
  readonly string: Expression;
  readonly number: Expression;
  readonly boolean: Expression;
  readonly null: Expression;
  /** Any value that nests at most {@link FREE_JSON_DEPTH} deep. */
  readonly value: Expression;
  /** Any array, and any object. */
  readonly array: Expression;
  readonly object: Expression;
};

export function jsonParts(builder: Builder): JsonParts {
  const string = quotedString(builder, builder.repeat(jsonCharacter(builder, ANY_CHARACTER), 0, Infinity));
  const number = anyNumber(builder);
  const boolean = builder.choice(builder.text("true"), builder.text("false"));
  const nothing = builder.text("null");
  const scalar = builder.choice(string, number, boolean, nothing);
  let value = scalar;
  let array = builder.text("[]");
  let object = builder.text("{}");
  for (let depth = 1; depth < FREE_JSON_DEPTH; depth++) {
    array = listOf(builder, value, 0, Infinity);
    object = mapOf(builder, string, value);
    value = builder.choice(scalar, array, object);
  }
  return { string, number, boolean, null: nothing, value, array, object };
}

export function quotedString(builder: Builder, content: Expression): Expression {
  return builder.sequence(builder.text('"'), content, builder.text('"'));
}

export function listOf(builder: Builder, item: Expression, min: number, max: number): Expression {
  if (max === 0) return builder.text("[]");
  const more = builder.repeat(builder.sequence(builder.text(", "), item), Math.max(0, min - 1), max - 1);
  const filled = builder.sequence(builder.text("["), item, more, builder.text("]"));
  return min === 0 ? builder.choice(builder.text("[]"), filled) : filled;
}

export function mapOf(builder: Builder, key: Expression, value: Expression): Expression {
  const pair = builder.sequence(key, builder.text(": "), value);
  const more = builder.repeat(builder.sequence(builder.text(", "), pair), 0, Infinity);
  return builder.choice(builder.text("{}"), builder.sequence(builder.text("{"), pair, more, builder.text("}")));
}

/** `value` as Python's `json.dumps` writes it, with characters beyond ASCII as they are. */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const pairs = Object.entries(value).map(([key, inner]) => `${JSON.stringify(key)}: ${pythonJson(inner)}`);
    return `{${pairs.join(", ")}}`;
  }
  return JSON.stringify(value) ?? "null";
}
