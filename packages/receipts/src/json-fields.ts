import { AssayError, bytesToUtf8, utf8ToBytes } from "@assay/core";
import type { FieldValue } from "./fields.ts";
import { LIMIT } from "./labels.ts";

export type JsonFieldLimits = {
  /** Longest body, bytes of UTF-8 (or characters of a text). Default 64 MiB, which is what a bundle may hold. */
  readonly maxBytes?: number;
  /** Deepest nesting. Default 96: what a request may nest (64), and an answer that repeats it. */
  readonly maxDepth?: number;
};

const DEFAULT_MAX_DEPTH = 96;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * The fields of a JSON body, in its order: one for each top-level member, named like it; the value is the member's JSON
 * without white space and with the shortest escapes, as in RFC 8785, but numbers keep the lexemes and members the order
 * that they came with (docs/spec/receipt.md, section 6): a model reads tools and schemas in that order, and writes in
 * it, so another order is another request. Two bodies that differ in white space, escapes or the order of their
 * top-level members alone have the same fields. Throws `json_invalid` for what is no JSON object within the limits, for a name that
 * stands twice in any object and for text without a UTF-8 form; `field_invalid` for a top-level name that no field may have.
 */
export function jsonFields(body: Uint8Array | string, limits: JsonFieldLimits = {}): FieldValue[] {
  const maxBytes = limits.maxBytes ?? LIMIT.bundleBytes;
  if (body.length > maxBytes) throw invalid(`it is longer than ${maxBytes} bytes`);
  const reader = createReader(decoded(body), limits.maxDepth ?? DEFAULT_MAX_DEPTH);
  const members = reader.topLevel();
  if (members.size > LIMIT.openedFields) throw unnameable(`There are ${members.size} members, too many for fields.`);
  const fields: FieldValue[] = [];
  for (const [name, text] of members) {
    const value = utf8ToBytes(text);
    if (name === "" || name.includes("\0") || utf8ToBytes(name).length > MAX_NAME_BYTES)
      throw unnameable("A member's name cannot be the name of a field.");
    fields.push({ name, value });
  }
  return fields;
}

/** As in section 6 of the specification. */
const MAX_NAME_BYTES = 1024;

function decoded(body: Uint8Array | string): string {
  if (typeof body === "string") return body;
  try {
    return bytesToUtf8(body);
  } catch (cause) {
    throw invalid("it is not UTF-8", cause);
  }
}

// Numbers as RFC 8259 section 6 has them; sticky, so that it reads in place.
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const LITERALS = ["true", "false", "null"];
const HALF_PAIR = /\p{Surrogate}/u;

/** Reads a text in place and writes what it read in the one form that is committed to. */
function createReader(text: string, maxDepth: number) {
  let at = 0;

  return {
    topLevel(): Map<string, string> {
      if (peek() !== OPEN_OBJECT) throw invalid("it is not an object");
      const found = members(1);
      if (!Number.isNaN(peek())) throw wrong("the end");
      return found;
    },
  };

  /** The next character that is not white space, which stays unread; NaN at the end. */
  function peek(): number {
    let code = text.charCodeAt(at);
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) code = text.charCodeAt(++at);
    return code;
  }

  function members(depth: number): Map<string, string> {
    if (depth > maxDepth) throw invalid(`it nests more than ${maxDepth} deep`);
    at++;
    const found = new Map<string, string>();
    if (peek() === CLOSE_OBJECT) {
      at++;
      return found;
    }
    for (;;) {
      if (peek() !== QUOTE) throw wrong("a name");
      const name = unquoted(string());
      if (peek() !== COLON) throw wrong("a colon");
      at++;
      if (found.has(name)) throw invalid("a name stands twice in one object");
      found.set(name, value(depth + 1));
      const next = peek();
      at++;
      if (next === CLOSE_OBJECT) return found;
      if (next !== COMMA) throw wrong("a comma or the end of the object");
    }
  }

  function value(depth: number): string {
    const code = peek();
    if (code === QUOTE) return string();
    if (code === OPEN_OBJECT) return object(depth);
    if (code === OPEN_LIST) return list(depth);
    NUMBER.lastIndex = at;
    const number = NUMBER.exec(text);
    if (number) {
      at = NUMBER.lastIndex;
      return number[0];
    }
    for (const literal of LITERALS) {
      if (text.startsWith(literal, at)) {
        at += literal.length;
        return literal;
      }
    }
    throw wrong("a value");
  }

  function object(depth: number): string {
    return `{${[...members(depth)].map(([name, item]) => `${quoted(name)}:${item}`).join(",")}}`;
  }

  function list(depth: number): string {
    if (depth > maxDepth) throw invalid(`it nests more than ${maxDepth} deep`);
    at++;
    if (peek() === CLOSE_LIST) {
      at++;
      return "[]";
    }
    const items: string[] = [];
    for (;;) {
      items.push(value(depth + 1));
      const next = peek();
      at++;
      if (next === CLOSE_LIST) return `[${items.join(",")}]`;
      if (next !== COMMA) throw wrong("a comma or the end of the list");
    }
  }

  /** A string with its quotes, in its shortest form: as it stands unless it has an escape that has a shorter form. */
  function string(): string {
    const start = at++;
    let shortest = true;
    for (;;) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) break;
      if (code === BACKSLASH) {
        shortest &&= SHORT_ESCAPES.includes(text.charAt(at + 1));
        at += 2;
        continue;
      }
      if (!(code >= 0x20)) throw wrong("a character of a string");
      at++;
    }
    at++;
    const raw = text.slice(start, at);
    // Escapes may write half of a surrogate pair; a text, unlike bytes, may also hold one as it is.
    const content = shortest ? raw : unquoted(raw);
    if (HALF_PAIR.test(content)) throw invalid("a string has half of a surrogate pair");
    return shortest ? raw : quoted(content);
  }

  function unquoted(raw: string): string {
    if (!raw.includes("\\")) return raw.slice(1, -1);
    return raw.slice(1, -1).replaceAll(/\\(u[0-9a-fA-F]{4}|.|$)/gsu, (_, escape: string) => {
      if (escape.length === 5) return String.fromCharCode(Number.parseInt(escape.slice(1), 16));
      const known = '"\\/bfnrt'.indexOf(escape);
      if (escape === "" || known < 0) throw wrong("an escape");
      return '"\\/\b\f\n\r\t'.charAt(known);
    });
  }

  function wrong(expected: string): AssayError<"json_invalid"> {
    return invalid(`expected ${expected} before character ${at}`);
  }
}

/** Escapes of two characters that RFC 8785 keeps; `\/` is written without one there. */
const SHORT_ESCAPES = '"\\bfnrt';

// JSON.stringify escapes what RFC 8785 section 3.2.2.2 does, for text without halves of surrogate pairs.
function quoted(text: string): string {
  return JSON.stringify(text);
}

function invalid(why: string, cause?: unknown): AssayError<"json_invalid"> {
  return new AssayError(
    "json_invalid",
    `The text is not acceptable JSON: ${why}.`,
    cause === undefined ? {} : { cause },
  );
}

function unnameable(message: string): AssayError<"field_invalid"> {
  return new AssayError("field_invalid", message, {
    hints: ["Field names are unique, 1 to 1,024 bytes of UTF-8, without NUL; a side has at most 10,000."],
  });
}
