import { llmError } from "../errors.ts";
import { isObject, list, text } from "../json.ts";
import type { JsonObject } from "../json.ts";
import type { JsonValue } from "@assay/core";

/** What each token id stands for. */
export type TokenTable = {
  /** Bytes of a token's text by id; undefined for control tokens and unused ids. */
  readonly bytes: readonly (Uint8Array | undefined)[];
  /** Texts of all tokens by id, control tokens included, as the tokenizer's file spells them. */
  readonly names: readonly (string | undefined)[];
};

/**
 * The bytes of every token of a `tokenizer.json`, `size` being the number of the network's logits. Knows byte-level BPE
 * (as GPT-2 introduced it), byte fallback (`<0xE2>`) and word pieces that write a space as `▁`. A first space is part
 * of its token: a prompt and its answer then join to what the model read and wrote.
 */
export function tokenTable(tokenizer: JsonObject, size: number): TokenTable {
  const kinds = new Set<string>();
  const spaces = new Set<string>(["▁"]);
  const walk = (value: JsonValue | undefined): void => {
    if (!isObject(value)) return;
    kinds.add(text(value["type"]));
    if (value["type"] === "Metaspace") spaces.add(text(value["replacement"]) || "▁");
    for (const inner of list(value["decoders"])) walk(inner);
    for (const inner of list(value["pretokenizers"])) walk(inner);
  };
  walk(tokenizer["decoder"]);
  if (tokenizer["decoder"] === undefined || tokenizer["decoder"] === null) walk(tokenizer["pre_tokenizer"]);
  const byteLevel = kinds.has("ByteLevel");
  const fallback =
    kinds.has("ByteFallback") || (isObject(tokenizer["model"]) && tokenizer["model"]["byte_fallback"] === true);

  const names = Array.from<string | undefined>({ length: size });
  const bytes = Array.from<Uint8Array | undefined>({ length: size });
  const model = tokenizer["model"];
  if (!isObject(model)) throw llmError("model_invalid", "The tokenizer's file has no model.");
  const vocabulary = model["vocab"];
  const entries: readonly (readonly [string, number])[] = Array.isArray(vocabulary)
    ? vocabulary.map((entry: JsonValue, id: number) => [text(list(entry)[0]), id] as const)
    : isObject(vocabulary)
      ? Object.entries(vocabulary).map(([name, id]) => [name, typeof id === "number" ? id : -1] as const)
      : [];
  if (entries.length === 0) throw llmError("model_invalid", "The tokenizer's file has no vocabulary.");
  for (const [name, id] of entries) {
    if (id < 0 || id >= size) continue;
    names[id] = name;
    bytes[id] = byteLevel ? byteLevelBytes(name) : wordBytes(name, fallback, spaces);
  }
  for (const entry of list(tokenizer["added_tokens"])) {
    if (!isObject(entry)) continue;
    const { id, content, special } = entry;
    if (typeof id !== "number" || id < 0 || id >= size || typeof content !== "string") continue;
    names[id] = content;
    bytes[id] = special === true ? undefined : Buffer.from(content, "utf8");
  }
  return { bytes, names };
}

function wordBytes(name: string, fallback: boolean, spaces: ReadonlySet<string>): Uint8Array {
  const byte = fallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(name) : null;
  if (byte !== null) return Uint8Array.of(Number.parseInt(byte[1] ?? "0", 16));
  let plain = name;
  for (const space of spaces) plain = plain.replaceAll(space, " ");
  return Buffer.from(plain, "utf8");
}

let byteOfCharacter: ReadonlyMap<string, number> | undefined;

/** Byte-level BPE writes each byte as a printable character; names that are not written so stand for themselves. */
function byteLevelBytes(name: string): Uint8Array {
  byteOfCharacter ??= byteAlphabet();
  const out: number[] = [];
  for (const character of name) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) return Buffer.from(name, "utf8");
    out.push(byte);
  }
  return Uint8Array.from(out);
}

/** Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from U+0100 on. */
function byteAlphabet(): ReadonlyMap<string, number> {
  const alphabet = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    alphabet.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return alphabet;
}
