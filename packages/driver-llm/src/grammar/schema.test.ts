import { isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createAutomaton, DEAD } from "./automaton.ts";
import { createBuilder } from "./expression.ts";
import type { Expression } from "./expression.ts";
import { pythonJson } from "./json.ts";
import { schemaExpression } from "./schema.ts";

const expression = (schema: JsonValue): Expression => schemaExpression(createBuilder(), schema);

/** Whether the grammar takes exactly this text. */
function takes(root: Expression, text: string): boolean {
  const automaton = createAutomaton(root);
  let state = automaton.start();
  for (const byte of Buffer.from(text)) {
    if (state === DEAD) return false;
    state = automaton.step(state, byte);
  }
  return state !== DEAD && automaton.accepts(state);
}

/** A text of the grammar, chosen by `next`, which gives numbers below its argument; undefined when it grows too long. */
function sample(root: Expression, next: (below: number) => number): string | undefined {
  const automaton = createAutomaton(root);
  let state = automaton.start();
  const bytes: number[] = [];
  while (bytes.length < 4000) {
    const open: number[] = [];
    for (let byte = 0; byte < 256; byte++) if (automaton.step(state, byte) !== DEAD) open.push(byte);
    const mayEnd = automaton.accepts(state);
    if (mayEnd && (open.length === 0 || next(3) === 0)) return Buffer.from(bytes).toString("utf8");
    expect(open.length).toBeGreaterThan(0);
    // What ends things is chosen more often than its share of 256 bytes, so that samples stay short.
    const ending = open.filter((byte) => byte === 0x22 || byte === 0x7d || byte === 0x5d || byte === 0x2c);
    const from = ending.length > 0 && next(2) === 0 ? ending : open;
    const byte = from[next(from.length)] ?? 0;
    bytes.push(byte);
    state = automaton.step(state, byte);
  }
  return undefined;
}

function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const validator = (schema: JsonValue) => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  return ajv.compile(schema as object);
};

const SCHEMAS: Readonly<Record<string, JsonValue>> = {
  flat: {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer", minimum: 1, maximum: 14 } },
    required: ["city"],
    additionalProperties: false,
  },
  optionals: {
    type: "object",
    properties: { a: { type: "null" }, b: { type: "boolean" }, c: { enum: ["x", 3, null, { k: [1, 2] }] } },
  },
  lengths: {
    type: "object",
    properties: {
      s: { type: "string", minLength: 2, maxLength: 5 },
      l: { type: "array", items: { type: "number", minimum: -0.5, exclusiveMaximum: 2.25 }, minItems: 1, maxItems: 3 },
    },
    required: ["s", "l"],
  },
  tuple: {
    type: "array",
    prefixItems: [{ const: "id" }, { type: "integer" }],
    items: { type: "boolean" },
    minItems: 1,
    maxItems: 4,
  },
  tree: {
    $defs: {
      node: {
        type: "object",
        properties: { v: { type: "integer" }, kids: { type: "array", items: { $ref: "#/$defs/node" }, maxItems: 2 } },
        required: ["v"],
        additionalProperties: false,
      },
    },
    $ref: "#/$defs/node",
  },
  union: {
    oneOf: [
      { type: "object", properties: { kind: { const: "a" }, n: { type: "integer" } }, required: ["kind", "n"] },
      { type: "object", properties: { kind: { const: "b" }, t: { type: "string" } }, required: ["kind"] },
    ],
  },
  several: { type: ["string", "null", "integer"], minimum: 5, maxLength: 3 },
  pattern: { type: "string", pattern: "^[A-Z]{2}-\\d{3,4}(?:x|\\.y)?$" },
  map: { type: "object", additionalProperties: { type: "integer", exclusiveMinimum: -3, maximum: 120 } },
  anything: true,
  huge: { type: "integer", minimum: 999_999_999 },
  tiny: { type: "number", minimum: 0.25, maximum: 0.375 },
};

describe("a schema's grammar", () => {
  for (const [name, schema] of Object.entries(SCHEMAS)) {
    test(`${name}: whatever it takes satisfies the schema`, () => {
      const root = expression(schema);
      const valid = validator(schema);
      let ended = 0;
      for (let seed = 1; seed <= 30; seed++) {
        const text = sample(root, generator(seed * 7919));
        if (text === undefined) continue;
        ended++;
        // oxlint-disable-next-line no-restricted-properties
        const value: JsonValue = JSON.parse(text);
        expect(valid(value), `${text} against ${JSON.stringify(valid.errors)}`).toBe(true);
      }
      expect(ended).toBeGreaterThan(10);
    });
  }

  test("takes values as Python writes them, and no other white space", () => {
    const root = expression(SCHEMAS["flat"] ?? true);
    expect(takes(root, '{"city": "Zürich", "days": 14}')).toBe(true);
    expect(takes(root, '{"city": "a\\n\\"b\\""}')).toBe(true);
    expect(takes(root, '{"city":"Z"}')).toBe(false);
    expect(takes(root, '{ "city": "Z"}')).toBe(false);
    expect(takes(root, '{"city": "Z", "days": 15}')).toBe(false);
    expect(takes(root, '{"city": "Z", "days": 0}')).toBe(false);
    expect(takes(root, '{"days": 3}')).toBe(false);
    expect(takes(root, '{"city": "Z", "more": 1}')).toBe(false);
    expect(takes(root, '{"city": "a\nb"}')).toBe(false);
  });

  test("finds unanchored patterns anywhere", () => {
    const root = expression({ type: "string", pattern: "ab+\\s" });
    expect(takes(root, '"xxabbb y"')).toBe(true);
    expect(takes(root, '"ab\\n"')).toBe(true);
    expect(takes(root, '"xxabbby"')).toBe(false);
  });

  test("never steps into a rule that could not end", () => {
    const root = expression({
      $defs: { a: { type: "object", properties: { a: { $ref: "#/$defs/a" } }, required: ["a"] } },
      type: "object",
      properties: { b: { type: "null" }, a: { $ref: "#/$defs/a" } },
    });
    expect(takes(root, '{"b": null}')).toBe(true);
    const automaton = createAutomaton(root);
    let state = automaton.start();
    for (const byte of Buffer.from('{"')) state = automaton.step(state, byte);
    expect(automaton.step(state, 0x61)).toBe(DEAD);
  });

  test("an automaton that is emptied goes on where it stood", () => {
    const automaton = createAutomaton(expression({ type: "string", minLength: 40, maxLength: 60 }), 10);
    let state = automaton.start();
    for (const byte of Buffer.from(`"${"é".repeat(50)}`)) {
      state = automaton.step(state, byte);
      [state = DEAD] = automaton.trim([state]);
      expect(automaton.size()).toBeLessThan(20);
    }
    expect(automaton.generation()).toBeGreaterThan(2);
    expect(automaton.accepts(automaton.step(state, 0x22))).toBe(true);
    for (let more = 0; more < 10; more++) state = automaton.step(automaton.step(state, 0xc3), 0xa9);
    expect(automaton.step(state, 0xc3)).toBe(DEAD);
  });

  test("counts characters, not bytes", () => {
    const root = expression({ type: "string", minLength: 2, maxLength: 2 });
    expect(takes(root, '"é😀"')).toBe(true);
    expect(takes(root, '"é"')).toBe(false);
    expect(takes(root, '"ééé"')).toBe(false);
    expect(takes(root, '"\\n\\""')).toBe(true);
  });

  test("bounds whole numbers and decimals exactly", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -2000, max: 2000 }),
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: -2500, max: 2500 }),
        (low, width, value) => {
          const whole = expression({ type: "integer", minimum: low, maximum: low + width });
          expect(takes(whole, String(value))).toBe(value >= low && value <= low + width);
          const cents = expression({ type: "number", exclusiveMinimum: low / 100, maximum: (low + width + 1) / 100 });
          expect(takes(cents, (value / 100).toFixed(2).replace(/^-0\.00$/, "0.00"))).toBe(
            value > low && value <= low + width + 1,
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  test("formats are parts of what they name", () => {
    const expressionOf = (format: string): Expression => expression({ type: "string", format });
    const checks: Readonly<Record<string, (text: string) => boolean>> = {
      date: (text) => new Date(`${text}T00:00:00Z`).toISOString().startsWith(text),
      time: (text) => !Number.isNaN(Date.parse(`2000-01-01T${text}`)),
      "date-time": (text) => !Number.isNaN(Date.parse(text)) && text.includes("T"),
      uuid: (text) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text),
      ipv4: (text) => text.split(".").length === 4 && text.split(".").every((part) => Number(part) < 256),
      email: (text) => /^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$/.test(text),
    };
    for (const [format, holds] of Object.entries(checks)) {
      for (let seed = 1; seed <= 20; seed++) {
        const text = sample(expressionOf(format), generator(seed * 31));
        if (text !== undefined) expect(holds(text.slice(1, -1)), `${format}: ${text}`).toBe(true);
      }
    }
  });

  test("random schemas: refused, or every sample satisfies them", () => {
    const leaf: fc.Arbitrary<JsonValue> = fc.oneof(
      fc.constantFrom<JsonValue>({ type: "string" }, { type: "boolean" }, { type: "null" }, { type: "integer" }, true),
      fc.record({ type: fc.constant("integer"), minimum: fc.integer({ min: -99, max: 99 }) }),
      fc.record({
        type: fc.constantFrom("number", "integer"),
        exclusiveMinimum: fc.integer({ min: -50, max: 0 }),
        maximum: fc.double({ min: 1, max: 9, noNaN: true }).map((x) => Number(x.toFixed(3))),
      }),
      fc.record({ type: fc.constant("string"), maxLength: fc.nat(6) }),
      fc.record({
        enum: fc.array(fc.oneof(fc.string({ maxLength: 3 }), fc.integer(), fc.boolean()), {
          minLength: 1,
          maxLength: 4,
        }),
      }),
    );
    const { schema } = fc.letrec<{ schema: JsonValue }>((tie) => ({
      schema: fc.oneof(
        { maxDepth: 3, withCrossShrink: true },
        leaf,
        fc
          .tuple(fc.dictionary(fc.string({ minLength: 1, maxLength: 4 }), tie("schema"), { maxKeys: 4 }), fc.nat())
          .map(([properties, pick]) => ({
            type: "object",
            properties: { ...properties },
            required: Object.keys(properties).filter((_, index) => (pick >> index) & 1),
          })),
        fc
          .record({ items: tie("schema"), minItems: fc.nat(2), maxItems: fc.integer({ min: 1, max: 4 }) })
          .map((parts) => ({ type: "array", ...parts })),
        fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((options) => ({ anyOf: options })),
        fc.array(tie("schema"), { minLength: 2, maxLength: 3 }).map((options) => ({ oneOf: options })),
      ),
    }));
    let ended = 0;
    fc.assert(
      fc.property(schema, fc.integer(), (wanted, seed) => {
        let root: Expression;
        try {
          root = expression(wanted);
        } catch (error) {
          expect(isAssayError(error) && error.code).toBe("schema_unsupported");
          return;
        }
        const valid = validator(wanted);
        const text = sample(root, generator(seed));
        if (text === undefined) return;
        ended++;
        // oxlint-disable-next-line no-restricted-properties
        const value: JsonValue = JSON.parse(text);
        expect(valid(value), `${text}: ${JSON.stringify(valid.errors)}`).toBe(true);
        expect(pythonJson(value).length).toBeLessThanOrEqual(text.length + 64);
      }),
      { numRuns: 150 },
    );
    expect(ended).toBeGreaterThan(30);
  });
});

describe("refuses, naming keyword and place", () => {
  const cases: readonly (readonly [string, JsonValue, string])[] = [
    ["not", { not: { type: "string" } }, "#"],
    ["if", { type: "object", if: {} }, "#"],
    ["patternProperties", { type: "object", patternProperties: {} }, "#"],
    ["uniqueItems", { type: "array", uniqueItems: true }, "#"],
    ["multipleOf", { type: "integer", multipleOf: 3 }, "#"],
    ["contains", { properties: { l: { type: "array", contains: {} } } }, "#/properties/l"],
    ["dependentRequired", { type: "object", dependentRequired: {} }, "#"],
    ["propertyNames", { type: "object", propertyNames: {} }, "#"],
    ["oneOf", { oneOf: [{ type: "integer" }, { type: "number" }] }, "#"],
    ["oneOf", { oneOf: [{ const: { a: 1, b: 2 } }, { const: { b: 2, a: 1 } }] }, "#"],
    ["allOf", { allOf: [{ type: "object" }, { type: "object" }] }, "#"],
    ["properties", { anyOf: [{ type: "object" }], properties: {} }, "#"],
    ["format", { items: { type: "string", format: "hostname" } }, "#/items"],
    ["pattern", { type: "string", pattern: "a", minLength: 1 }, "#"],
    ["minProperties", { type: "object", minProperties: 1 }, "#"],
    ["maxProperties", { properties: { a: {}, b: {} }, maxProperties: 1 }, "#"],
    ["type", { type: "any" }, "#"],
    ["maxItems", { type: "array", maxItems: 1.5 }, "#"],
    ["maxLength", { type: "string", maxLength: 1e9 }, "#"],
    ["nullable", { $defs: { a: { nullable: true } }, $ref: "#/$defs/a" }, "#/$defs/a"],
  ];
  for (const [keyword, schema, place] of cases) {
    test(`${keyword} at ${place} of ${JSON.stringify(schema)}`, () => {
      expect(() => expression(schema)).toThrow(
        expect.objectContaining({
          code: "schema_unsupported",
          message: expect.stringMatching(new RegExp(`\\b${keyword}\\b`)),
        }),
      );
      expect(() => expression(schema)).toThrow(`at ${place}`);
    });
  }

  test("what cannot be satisfied, is no schema, is endless or too large", () => {
    const deep = Array.from({ length: 60 }).reduce<JsonValue>((inner) => ({ items: inner }), {});
    const endless: JsonValue = { $defs: { a: { anyOf: [{ $ref: "#/$defs/a" }] } }, $ref: "#/$defs/a" };
    const infinite: JsonValue = {
      $defs: { a: { type: "object", properties: { a: { $ref: "#/$defs/a" } }, required: ["a"] } },
      $ref: "#/$defs/a",
    };
    for (const schema of [
      false,
      3,
      { $ref: "#/nowhere" },
      { $ref: "https://example.org/schema" },
      { type: "integer", minimum: 3, maximum: 2 },
      { type: "string", minLength: 3, maxLength: 2 },
      { type: "object", properties: { a: false }, required: ["a"] },
      { enum: [] },
      { type: "string", enum: [1] },
      { type: "number", minimum: 1e-9 },
      { type: "string", pattern: "(?=a)" },
      { type: "string", pattern: "\\bword" },
      { type: "string", pattern: "(a)\\1" },
      { type: "string", pattern: "a{9999999}" },
      { type: "string", pattern: "[b-a]" },
      { type: "string", pattern: "(" },
      { description: "x".repeat(300_000) },
      deep,
      endless,
      infinite,
    ] satisfies JsonValue[]) {
      expect(() => expression(schema), JSON.stringify(schema).slice(0, 80)).toThrow(
        expect.objectContaining({ code: "schema_unsupported" }),
      );
    }
  });

  test("grammars with more parts than allowed", () => {
    expect(() => schemaExpression(createBuilder(100), { type: "object" })).toThrow(
      expect.objectContaining({ code: "schema_unsupported" }),
    );
  });
});
