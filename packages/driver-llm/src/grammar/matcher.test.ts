import { describe, expect, test } from "vitest";
import { SPECIAL, VOCABULARY, tokenizer } from "../testing/tiny-model.ts";
import { tokenTable } from "../child/tokens.ts";
import { answerGrammar } from "./answer.ts";
import { createGrammar } from "./matcher.ts";
import { createVocabulary } from "./vocabulary.ts";

const table = tokenTable(tokenizer() as never, VOCABULARY);
const vocabulary = createVocabulary(table.bytes);
const schema = {
  type: "object",
  properties: { the: { type: "string", maxLength: 9 }, n: { type: "number", minimum: -2, maximum: 30 } },
  required: ["the", "n"],
};
const form = {
  format: { type: "json_schema", json_schema: { schema } },
  tools: [],
  choice: "none",
  parallel: true,
} as const;

describe("token masks", () => {
  test("allow exactly the tokens that can be taken, along a whole answer", () => {
    const root = answerGrammar(form);
    if (root === undefined) throw new Error("the form has no grammar");
    const text = '{"the": "thé \\"the", "n": 12.5}';
    const tokens = [...Buffer.from(text)];
    const grammar = createGrammar(root, vocabulary);
    const matcher = grammar.matcher();
    for (const [at, token] of tokens.entries()) {
      const mask = matcher.allowed();
      for (let id = 0; id < VOCABULARY; id++) {
        const allowed = ((mask[id >> 5] ?? 0) >>> (id & 31)) & 1;
        const other = grammar.matcher();
        for (const before of tokens.slice(0, at)) other.accept(before);
        expect(allowed === 1, `token ${id} after ${text.slice(0, at)}`).toBe(other.accept(id));
        other.release();
      }
      expect(matcher.mayEnd()).toBe(false);
      expect(matcher.accept(token)).toBe(true);
    }
    expect([matcher.mayEnd(), matcher.mustEnd()]).toEqual([true, true]);
    matcher.release();
  });

  test("a refused token changes nothing, and control tokens are never taken", () => {
    const root = answerGrammar(form);
    if (root === undefined) throw new Error("the form has no grammar");
    const matcher = createGrammar(root, vocabulary).matcher();
    expect(matcher.accept(0x5b)).toBe(false);
    expect(matcher.accept(SPECIAL.end)).toBe(false);
    expect(matcher.accept(VOCABULARY + 1)).toBe(false);
    expect(matcher.accept(0x7b)).toBe(true);
  });
});

describe("token tables", () => {
  test("know byte-level tokens, added ones, and control tokens without text", () => {
    expect(table.bytes[0xe9]).toEqual(Uint8Array.of(0xe9));
    expect(table.bytes[0x20]).toEqual(Uint8Array.of(0x20));
    expect(Buffer.from(table.bytes[SPECIAL.the] ?? []).toString()).toBe("the");
    expect(Buffer.from(table.bytes[SPECIAL.callBegin] ?? []).toString()).toBe("<tool_call>");
    expect(table.bytes[SPECIAL.end]).toBeUndefined();
    expect(table.names[SPECIAL.end]).toBe("<|end|>");
  });

  test("know byte fallback and spaces written as marks", () => {
    const { bytes } = tokenTable(
      {
        decoder: { type: "Sequence", decoders: [{ type: "Replace" }, { type: "ByteFallback" }] },
        model: { vocab: { "<0xE2>": 0, "▁a": 1, "<0xZZ>": 2 } },
      },
      4,
    );
    expect(bytes.map((entry) => entry && Buffer.from(entry).toString("latin1"))).toEqual([
      "\u00e2",
      " a",
      "<0xZZ>",
      undefined,
    ]);
  });

  test("refuse a file without a vocabulary", () => {
    for (const file of [{}, { model: {} }, { model: { vocab: {} } }]) {
      expect(() => tokenTable(file, 4)).toThrow(expect.objectContaining({ code: "model_invalid" }));
    }
  });
});
