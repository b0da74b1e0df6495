import { bytesToUtf8, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { jsonFields } from "./json-fields.ts";
import { LIMIT } from "./labels.ts";

const texts = (body: string | Uint8Array): Record<string, string> =>
  Object.fromEntries(jsonFields(body).map(({ name, value }) => [name, bytesToUtf8(value)]));

describe("jsonFields", () => {
  it("gives one field for each member, with numbers as they were written", () => {
    expect(texts('{ "model": "a", "temperature": 0.70, "n":1e0, "big": 12345678901234567890, "neg": -0.0 }')).toEqual({
      model: '"a"',
      temperature: "0.70",
      n: "1e0",
      big: "12345678901234567890",
      neg: "-0.0",
    });
  });

  it("drops white space and shortens escapes", () => {
    expect(texts('{"m": [ { "role" : "user" , "content" : "\\u0041\\/\\n\\u001f\\u00e9" } , true,null ] }')).toEqual({
      m: '[{"role":"user","content":"A/\\n\\u001fé"},true,null]',
    });
  });

  it("keeps inner members in their order, whatever their names", () => {
    expect(texts('{"a":{"b":1,"a":{"10":3,"9":4},"\\r":5,"\\u20ac":6}}')).toEqual({
      a: '{"b":1,"a":{"10":3,"9":4},"\\r":5,"€":6}',
    });
  });

  it("writes every value as the shortest JSON has it when its numbers are in their shortest form", () => {
    const value = fc.object({
      key: fc.string({ unit: "binary" }),
      values: [
        fc.string({ unit: "binary" }),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
      ],
      maxDepth: 3,
    });
    fc.assert(
      fc.property(value, fc.constantFrom(undefined, 2), (object, indent) => {
        const named = Object.fromEntries(
          Object.entries(object).map(([key, item]) => [`k${key.replaceAll("\0", "")}`, item]),
        );
        const text = JSON.stringify(named, undefined, indent);
        // What JSON.stringify writes keeps the order of members, and has no shorter form.
        const decoded = JSON.parse(text) as Record<string, JsonValue>;
        const expected = Object.entries(decoded).map(([name, item]) => [name, JSON.stringify(item)]);
        expect(Object.entries(texts(text))).toEqual(expected);
        expect(texts(utf8ToBytes(text))).toEqual(texts(text));
      }),
      { numRuns: 100 },
    );
  });

  it("accepts exactly what JSON.parse accepts, but for what it refuses by name", () => {
    const piece = fc.constantFrom(
      '{"a":',
      "}",
      "[",
      "]",
      ",",
      "1",
      "-",
      "0",
      ".5",
      "e1",
      '"x"',
      "true",
      "nul",
      "\\",
      '"',
      " ",
      '"b":',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = `{"a":${pieces.join("")}}`;
        let parsed: unknown;
        try {
          parsed = JSON.parse(text);
        } catch {
          parsed = undefined;
        }
        let found: Record<string, string> | undefined;
        let why = "";
        try {
          found = texts(text);
        } catch (error) {
          why = (error as Error).message;
        }
        if (why.includes("twice")) return;
        expect(found === undefined).toBe(parsed === undefined);
      }),
      { numRuns: 2000 },
    );
  });

  const refused: [string, string | Uint8Array, string][] = [
    ["a list", "[1]", "json_invalid"],
    ["nothing", "", "json_invalid"],
    ["a name twice", '{"a":1,"a":1}', "json_invalid"],
    ["a name twice by an escape", '{"a":1,"\\u0061":1}', "json_invalid"],
    ["a name twice deep down", '{"a":[{"b":1,"b":2}]}', "json_invalid"],
    ["something after the object", "{} {}", "json_invalid"],
    ["a comma too many", '{"a":1,}', "json_invalid"],
    ["a comma too many in a list", '{"a":[1,]}', "json_invalid"],
    ["a leading zero", '{"a":01}', "json_invalid"],
    ["a bare point", '{"a":1.}', "json_invalid"],
    ["NaN", '{"a":NaN}', "json_invalid"],
    ["a raw line break in a string", '{"a":"\n"}', "json_invalid"],
    ["an unknown escape", '{"a":"\\x"}', "json_invalid"],
    ["a short escape of digits", '{"a":"\\u12"}', "json_invalid"],
    ["an open string", '{"a":"', "json_invalid"],
    ["half of a pair by an escape", '{"a":"\\ud800"}', "json_invalid"],
    ["half of a pair in a name", '{"a":{"\\udc00":1}}', "json_invalid"],
    ["half of a pair as it is", '{"a":"\ud800"}', "json_invalid"],
    ["bytes that are not UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), "json_invalid"],
    ["an empty name", '{"":1}', "field_invalid"],
    ["a name with NUL", '{"a\\u0000":1}', "field_invalid"],
    ["a name of 1,025 bytes", JSON.stringify({ ["é".repeat(512) + "a"]: 1 }), "field_invalid"],
    [
      "more members than fields",
      `{${Array.from({ length: LIMIT.openedFields + 1 }, (_, i) => `"${i}":0`).join(",")}}`,
      "field_invalid",
    ],
    ["too deep a nesting", `{"a":${"[".repeat(96)}${"]".repeat(96)}}`, "json_invalid"],
  ];
  it.each(refused)("refuses %s", (_, body, code) => {
    expect(() => jsonFields(body)).toThrow(expect.objectContaining({ code }));
  });

  it("takes names of 1,024 bytes, 95 levels and as many bytes as it is told", () => {
    expect(jsonFields(JSON.stringify({ ["é".repeat(512)]: 1 }))).toHaveLength(1);
    expect(jsonFields(`{"a":${"[".repeat(95)}${"]".repeat(95)}}`)).toHaveLength(1);
    expect(jsonFields('{"a":1}', { maxBytes: 7 })).toHaveLength(1);
    expect(() => jsonFields('{"a":1}', { maxBytes: 6 })).toThrow(expect.objectContaining({ code: "json_invalid" }));
    expect(() => jsonFields('{"a":[[]]}', { maxDepth: 2 })).toThrow(expect.objectContaining({ code: "json_invalid" }));
  });

  it("keeps a member that would be a prototype elsewhere", () => {
    expect(jsonFields('{"__proto__":{"__proto__":1}}').map(({ name, value }) => [name, bytesToUtf8(value)])).toEqual([
      ["__proto__", '{"__proto__":1}'],
    ]);
  });
});
