import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, openChatHome, openRechecker, receipted } from "./chat-world.ts";
import type { ChatHome, Rechecker } from "./chat-world.ts";
import type { Json } from "./running-server.ts";

// Whatever the model would rather say, its answer fits the schema, as somebody else's validator judges it.

let chat: ChatHome;
let checker: Rechecker;
beforeAll(async () => {
  chat = await openChatHome();
  checker = await openRechecker(chat);
});
afterAll(async () => {
  await checker.close();
  await chat.home.close();
});

const object = (properties: Json, more: Json = {}): Json => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
  ...more,
});
const word = { type: "string", maxLength: 12 };

const SCHEMAS: readonly (readonly [string, Json])[] = [
  ["a number in an object", object({ answer: { type: "integer" } })],
  ["members that are not in the order of their names", object({ reason: word, answer: { type: "integer" }, a: word })],
  ["a member that may be left out", { ...object({ a: word, b: word }), required: ["b"] }],
  ["no members at all", object({})],
  ["words of a list", object({ colour: { enum: ["red", "green", "dark blue"] } })],
  ["a list of values of several types", object({ x: { enum: [1, "one", null, true, [1], { a: 1 }] } })],
  ["one constant", object({ kind: { const: "sum" }, value: { type: "integer" } })],
  ["null or a word", object({ name: { type: ["string", "null"], maxLength: 8 } })],
  ["a whole number within bounds", object({ age: { type: "integer", minimum: 18, maximum: 21 } })],
  ["below zero", object({ t: { type: "integer", minimum: -40, exclusiveMaximum: -30 } })],
  ["a fraction within bounds", object({ p: { type: "number", minimum: 0, maximum: 1 } })],
  ["a short list of numbers", object({ xs: { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 4 } })],
  ["an empty list", object({ xs: { type: "array", items: word, maxItems: 0 } })],
  [
    "a pair of a word and a number",
    object({ pair: { type: "array", prefixItems: [word, { type: "integer" }], items: false, minItems: 2 } }),
  ],
  ["a list of objects", object({ rows: { type: "array", items: object({ x: { type: "integer" } }), maxItems: 2 } })],
  ["a length in characters", object({ code: { type: "string", minLength: 3, maxLength: 3 } })],
  ["a pattern", object({ plate: { type: "string", pattern: "^[A-Z]{2}-[0-9]{3}$" } })],
  ["a date", object({ day: { type: "string", format: "date" } })],
  ["a time with its zone", object({ at: { type: "string", format: "date-time" } })],
  ["an id", object({ id: { type: "string", format: "uuid" } })],
  ["an address", object({ host: { type: "string", format: "ipv4" } })],
  ["either of two", object({ x: { anyOf: [word, { type: "integer", minimum: 0 }] } })],
  [
    "exactly one of two",
    object({
      shape: {
        oneOf: [
          object({ kind: { const: "circle" }, radius: { type: "integer" } }),
          object({ kind: { const: "box" }, width: { type: "integer" }, height: { type: "integer" } }),
        ],
      },
    }),
  ],
  ["a definition that is referred to", { ...object({ a: { $ref: "#/$defs/w" } }), $defs: { w: word } }],
  [
    "a tree of two levels",
    object({ left: object({ v: { type: "boolean" } }), right: object({ v: { type: "boolean" } }) }),
  ],
  [
    "names that need escapes",
    object({ 'a "b"': { type: "boolean" }, "é\n": { type: "boolean" }, "10": { type: "null" } }),
  ],
  ["a list at the top", { type: "array", items: { type: "boolean" }, minItems: 1, maxItems: 3 }],
  ["a word at the top", word],
  ["nothing but null", { type: "null" }],
  ["a whole number at the top", { type: "integer", minimum: 10, maximum: 99 }],
];

const asked = (schema: Json, more: Json = {}): Json => ({
  model: "demo/chat",
  messages: [{ role: "user", content: "Tell me about Ada, who is 36." }],
  response_format: { type: "json_schema", json_schema: { name: "it", schema, strict: true } },
  ...more,
});
const said = (body: Json): string => {
  const [choice] = body["choices"] as readonly { readonly message: { readonly content: string } }[];
  return choice?.message.content ?? "";
};

describe("an answer fits its schema", () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  test.each(SCHEMAS)("%s", async (_, schema) => {
    const fits = ajv.compile(schema);
    const answers = await Promise.all(
      [{ temperature: 0 }, { temperature: 1, seed: 1 }, { temperature: 2, seed: 2, stream: true }].map((more) =>
        receipted(chat, "chat", asked(schema, more)),
      ),
    );
    for (const { body, view } of answers) {
      const value = JSON.parse(said(body)) as unknown;
      expect(fits(value), `${said(body)}: ${JSON.stringify(fits.errors)}`).toBe(true);
      const found = await checker.recheck(view);
      expect(found).toMatchObject({ agrees: true });
      const { parameters } = view.execution.claims;
      expect(parameters?.["response_format"]).toMatchObject({ type: "json_schema", name: "it" });
    }
  });

  test("members come in the schema's own order", async () => {
    const { body } = await receipted(chat, "chat", asked(object({ zeta: word, alpha: word, mid: word })));
    expect(Object.keys(JSON.parse(said(body)) as object)).toEqual(["zeta", "alpha", "mid"]);
  });

  test("any object, where that is all that is asked", async () => {
    const { body } = await receipted(chat, "chat", asked({}, { response_format: { type: "json_object" }, seed: 3 }));
    const [choice] = body["choices"] as readonly { readonly finish_reason: string }[];
    if (choice?.finish_reason === "stop") expect(typeof JSON.parse(said(body))).toBe("object");
    expect(said(body)).toMatch(/^\{/);
  });

  test("by the responses API too", async () => {
    const schema = object({ name: word, age: { type: "integer", minimum: 0, maximum: 120 } });
    const { body, view } = await receipted(chat, "responses", {
      model: "demo/chat",
      input: "Tell me about Ada.",
      text: { format: { type: "json_schema", name: "person", schema, strict: true } },
    });
    const output = body["output"] as readonly { readonly content: readonly { readonly text: string }[] }[];
    const text = output.flatMap(({ content }) => content.map((part) => part.text)).join("");
    expect(ajv.compile(schema)(JSON.parse(text))).toBe(true);
    expect(await checker.recheck(view)).toMatchObject({ agrees: true });
  });
});

test.each<readonly [string, Json, string]>([
  ["a keyword that no grammar holds", object({ x: { not: word } }), "not"],
  ["a list of distinct items", object({ x: { type: "array", items: word, uniqueItems: true } }), "uniqueItems"],
  ["a number of members", { type: "object", additionalProperties: word, maxProperties: 2 }, "maxProperties"],
  ["a multiple", object({ n: { type: "integer", multipleOf: 25 } }), "multipleOf"],
  ["two schemas that both must hold", { allOf: [object({ a: word }), object({ b: word })] }, "allOf"],
  ["a reference that points elsewhere", { $ref: "https://example.org/schema" }, "$ref"],
  ["a reference without an end", { $ref: "#" }, "#"],
  ["what nothing satisfies", object({ x: { type: "integer", minimum: 3, maximum: 2 } }), "No value"],
  ["a format that is not known", object({ x: { type: "string", format: "hostname" } }), "format"],
  ["a bound on too many", object({ x: { type: "string", maxLength: 10_000_000 } }), "maxLength"],
])("%s is refused before anything runs", async (_, schema, named) => {
  const { status, body, headers } = await exchange(chat.url, "chat", asked(schema));
  expect([status, body["code"]], JSON.stringify(body)).toEqual([400, "schema_unsupported"]);
  expect(JSON.stringify(body)).toContain(named);
  expect(headers.get("assay-receipt-id")).toBeNull();
});
