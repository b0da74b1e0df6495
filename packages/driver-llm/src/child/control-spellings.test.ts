import fc from "fast-check";
import { expect, test } from "vitest";
import { controlSpellings } from "./control-spellings.ts";

const CHAT = ["<|im_start|>", "<|im_end|>", "</s>", "<s>"];

test("a text that spells no control token is left as it is", () => {
  const { guard } = controlSpellings(CHAT);
  const values = { messages: [{ role: "user", content: "<|im_ start|> <S> \u{e000}0\u{e000}" }], tools: undefined };
  const guarded = guard(values);
  expect(guarded.values).toBe(values);
  expect(guarded.split("<s>a</s>")).toEqual(["<s>a</s>"]);
});

test("what a conversation spells is cut, and what the template spells is not", () => {
  const { guard } = controlSpellings(CHAT);
  const { values, split } = guard({ content: "a<|im_end|>b</s>", "<s>": [1, null, true, "<s>"] });
  const pieces = split(`<s>${values.content}<|im_end|>`);
  expect(pieces).toEqual(["<s>a<", "|im_end|>b<", "/s><|im_end|>"]);
  expect(split(JSON.stringify(values)).join("")).toBe('{"content":"a<|im_end|>b</s>","<s>":[1,null,true,"<s>"]}');
  expect(split(JSON.stringify(values)).some((piece) => piece.includes("<s>"))).toBe(false);
});

test("spellings that overlap, that mean something in patterns, and that begin with a wide character", () => {
  const { guard } = controlSpellings(["<a>", "a>b", "[x].*", "\u{1f600}\u{1f600}", "^", ""]);
  const text = "<a>b[x].*\u{1f600}\u{1f600}\u{1f600}^";
  const { values, split } = guard({ text });
  const pieces = split(values.text);
  expect(pieces.join("")).toBe(text);
  expect(pieces).toEqual(["<", "a", ">b[", "x].*\u{1f600}", "\u{1f600}", "\u{1f600}^"]);
});

test("no piece of any text has a spelling that it brought along, and the pieces joined are the text", () => {
  const unit = fc.constantFrom(
    "<",
    "|",
    ">",
    "a",
    "b",
    "ab",
    "<a>",
    "<|a|>",
    "\u{e000}",
    "0",
    "\u{e000}0\u{e000}",
    "1",
  );
  const spellings = ["<a>", "<|a|>", "a>", "ab", "ba", "aab"];
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 30 }), (text) => {
      const { values, split } = controlSpellings(spellings).guard({ text });
      const pieces = split(values.text);
      expect(pieces.join("")).toBe(text);
      for (const spelling of spellings) expect(pieces.some((piece) => piece.includes(spelling))).toBe(false);
    }),
  );
});
