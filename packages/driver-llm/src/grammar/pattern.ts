import { AssayError } from "@assay/core";
import { MAX_REPEAT } from "../limits.ts";
import { ANY_CHARACTER, complement, jsonCharacter, normalise } from "./characters.ts";
import type { CharacterSet } from "./characters.ts";
import type { Builder, Expression } from "./expression.ts";

const DIGITS: CharacterSet = [[0x30, 0x39]];
const WORD: CharacterSet = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
/** White space of ECMA-262, section 12.2 and 12.3. */
const SPACE: CharacterSet = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: CharacterSet = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
/** Nesting of groups; honest patterns have a handful. */
const MAX_GROUPS = 32;

/**
 * The content of JSON strings that `pattern` is found in: a regular expression of ECMA-262 with the `u` flag, as JSON
 * Schema reads it. Throws `schema_unsupported` for what is not regular (look-around, back-references, word boundaries,
 * Unicode properties) and for anchors other than at the ends.
 */
export function patternContent(builder: Builder, pattern: string): Expression {
  const source = Array.from(pattern);
  let at = 0;
  let groups = 0;

  const refuse = (what: string): AssayError<"schema_unsupported"> =>
    new AssayError("schema_unsupported", `The pattern ${quoted(pattern)} has ${what}, which cannot be enforced.`);
  const peek = (): string | undefined => source[at];
  const eat = (wanted: string): boolean => {
    if (source[at] !== wanted) return false;
    at++;
    return true;
  };
  const characters = (set: CharacterSet): Expression => jsonCharacter(builder, normalise(set));
  const anything = (): Expression => builder.repeat(characters(ANY_CHARACTER), 0, Infinity);

  const hex = (digits: string): number => {
    if (!/^[0-9a-fA-F]+$/.test(digits)) throw refuse("a malformed escape");
    return Number.parseInt(digits, 16);
  };
  /** A character or a class after a backslash. */
  const escape = (inClass: boolean): number | CharacterSet => {
    const letter = source[at++];
    if (letter === undefined) throw refuse("a backslash at its end");
    const classes: Readonly<Record<string, CharacterSet>> = {
      d: DIGITS,
      D: complement(DIGITS),
      w: WORD,
      W: complement(WORD),
      s: SPACE,
      S: complement(SPACE),
    };
    const set = Object.hasOwn(classes, letter) ? classes[letter] : undefined;
    if (set !== undefined) return set;
    const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13 };
    const control = Object.hasOwn(controls, letter) ? controls[letter] : undefined;
    if (control !== undefined) return control;
    if (letter === "b" && inClass) return 8;
    if (letter === "x" || (letter === "u" && source[at] !== "{")) {
      const length = letter === "x" ? 2 : 4;
      const code = hex(
        source
          .slice(at, at + length)
          .join("")
          .padEnd(length, "?"),
      );
      at += length;
      return code;
    }
    if (letter === "u") {
      const close = source.indexOf("}", at);
      if (close < 0) throw refuse("a malformed escape");
      const code = hex(source.slice(at + 1, close).join(""));
      at = close + 1;
      return code;
    }
    if (letter === "0" && !/\d/.test(source[at] ?? "")) return 0;
    if (/[\^$\\.*+?()[\]{}|/]/.test(letter) || (letter === "-" && inClass)) return letter.codePointAt(0) ?? 0;
    throw refuse(`the escape \\${letter}`);
  };
  const bracket = (): CharacterSet => {
    const negated = eat("^");
    const ranges: (readonly [number, number])[] = [];
    const item = (): number | CharacterSet => {
      const character = source[at++];
      if (character === undefined) throw refuse("an unclosed class");
      return character === "\\" ? escape(true) : (character.codePointAt(0) ?? 0);
    };
    while (!eat("]")) {
      const from = item();
      if (typeof from !== "number") {
        ranges.push(...from);
        continue;
      }
      if (peek() === "-" && source[at + 1] !== "]") {
        at++;
        const to = item();
        if (typeof to !== "number" || to < from) throw refuse("a malformed range");
        ranges.push([from, to]);
      } else ranges.push([from, from]);
    }
    return negated ? complement(ranges) : ranges;
  };
  const atom = (): Expression => {
    const character = source[at++];
    if (character === "(") {
      if (eat("?") && !eat(":")) {
        // A name changes nothing about what is matched; everything else behind "(?" looks around.
        if (!(eat("<") && peek() !== "=" && peek() !== "!")) throw refuse("look-around");
        while (peek() !== undefined && !eat(">")) at++;
      }
      if (++groups > MAX_GROUPS) throw refuse("too many groups");
      const inner = alternatives(false);
      if (!eat(")")) throw refuse("an unclosed group");
      return inner;
    }
    if (character === "[") return characters(bracket());
    if (character === ".") return characters(complement(LINE_ENDS));
    if (character === "\\") {
      const found = escape(false);
      return characters(typeof found === "number" ? [[found, found]] : found);
    }
    if (character === undefined || /[*+?{}\])|^$]/.test(character)) {
      throw refuse(character === "^" || character === "$" ? "an anchor inside" : "a syntax error");
    }
    const code = character.codePointAt(0) ?? 0;
    return characters([[code, code]]);
  };
  const count = (): number => {
    let digits = "";
    while (/\d/.test(peek() ?? "")) digits += source[at++] ?? "";
    if (digits === "") throw refuse("a malformed quantifier");
    const value = Number(digits);
    if (value > MAX_REPEAT) throw refuse("a quantifier that is too large");
    return value;
  };
  const quantified = (): Expression => {
    const part = atom();
    let range: readonly [number, number] | undefined;
    if (eat("*")) range = [0, Infinity];
    else if (eat("+")) range = [1, Infinity];
    else if (eat("?")) range = [0, 1];
    else if (eat("{")) {
      const min = count();
      const max = eat(",") ? (peek() === "}" ? Infinity : count()) : min;
      if (!eat("}") || max < min) throw refuse("a malformed quantifier");
      range = [min, max];
    }
    if (range === undefined) return part;
    eat("?");
    return builder.repeat(part, range[0], range[1]);
  };
  const alternatives = (outermost: boolean): Expression => {
    const options: Expression[] = [];
    do {
      const parts: Expression[] = [];
      if (outermost && !eat("^")) parts.push(anything());
      let ended = false;
      while (peek() !== undefined && peek() !== "|" && peek() !== ")") {
        if (outermost && peek() === "$" && (source[at + 1] === undefined || source[at + 1] === "|")) {
          at++;
          ended = true;
          break;
        }
        parts.push(quantified());
      }
      if (outermost && !ended) parts.push(anything());
      options.push(builder.sequence(...parts));
    } while (eat("|"));
    return builder.choice(...options);
  };

  const whole = alternatives(true);
  if (at < source.length) throw refuse("a syntax error");
  return whole;
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
