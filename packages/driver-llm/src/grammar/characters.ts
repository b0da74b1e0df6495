import type { Builder, Expression } from "./expression.ts";

/** Inclusive ranges of Unicode scalar values, sorted and apart. */
export type CharacterSet = readonly (readonly [number, number])[];

const LAST_CHARACTER = 0x10ffff;
/** Every scalar value: surrogates are none. */
export const ANY_CHARACTER: CharacterSet = [
  [0, 0xd7ff],
  [0xe000, LAST_CHARACTER],
];

/** `ranges` sorted, joined where they touch, and without surrogates. */
export function normalise(ranges: CharacterSet): CharacterSet {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const out: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = out.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return intersect(out, ANY_CHARACTER);
}

export function complement(ranges: CharacterSet): CharacterSet {
  const out: [number, number][] = [];
  let from = 0;
  for (const [start, end] of normalise(ranges)) {
    if (start > from) out.push([from, start - 1]);
    from = end + 1;
  }
  if (from <= LAST_CHARACTER) out.push([from, LAST_CHARACTER]);
  return intersect(out, ANY_CHARACTER);
}

function intersect(a: CharacterSet, b: CharacterSet): CharacterSet {
  const out: [number, number][] = [];
  for (const [from, to] of a) {
    for (const [start, end] of b) {
      const low = Math.max(from, start);
      const high = Math.min(to, end);
      if (low <= high) out.push([low, high]);
    }
  }
  return out;
}

/** One character of `set` in UTF-8 (RFC 3629). */
function utf8(builder: Builder, set: CharacterSet): Expression {
  const options: Expression[] = [];
  const bounds: readonly (readonly [number, number])[] = [
    [0, 0x7f],
    [0x80, 0x7ff],
    [0x800, 0xffff],
    [0x10000, LAST_CHARACTER],
  ];
  for (const [length, [low, high]] of bounds.entries()) {
    for (const [from, to] of intersect(set, [[low, high]])) options.push(sameLength(builder, from, to, length));
  }
  return builder.choice(...options);
}

/** Characters from `from` to `to` whose encodings have `more` bytes after the first. */
function sameLength(builder: Builder, from: number, to: number, more: number): Expression {
  const lead = [0, 0xc0, 0xe0, 0xf0][more] ?? 0;
  const walk = (low: number, high: number, left: number): Expression => {
    const mark = left === more ? lead : 0x80;
    if (left === 0) return builder.set([mark | low, mark | high]);
    const size = 64 ** left;
    const first = Math.floor(low / size);
    const last = Math.floor(high / size);
    const byte = (value: number): Expression => builder.set([mark | value, mark | value]);
    if (first === last) return builder.sequence(byte(first), walk(low % size, high % size, left - 1));
    const options: Expression[] = [];
    let start = first;
    let end = last;
    if (low % size !== 0) {
      options.push(builder.sequence(byte(first), walk(low % size, size - 1, left - 1)));
      start++;
    }
    if (high % size !== size - 1) {
      options.push(builder.sequence(byte(last), walk(0, high % size, left - 1)));
      end--;
    }
    if (start <= end) {
      options.push(builder.sequence(builder.set([mark | start, mark | end]), walk(0, size - 1, left - 1)));
    }
    return builder.choice(...options);
  };
  return walk(from, to, more);
}

const ESCAPES: readonly (readonly [number, string])[] = [
  [0x22, '\\"'],
  [0x5c, "\\\\"],
  [0x08, "\\b"],
  [0x0c, "\\f"],
  [0x0a, "\\n"],
  [0x0d, "\\r"],
  [0x09, "\\t"],
];

/**
 * One character of `set` inside a JSON string: itself, or its short escape where JSON (RFC 8259, section 7) demands
 * one. Other control characters are not offered: no sensible answer needs them.
 */
export function jsonCharacter(builder: Builder, set: CharacterSet): Expression {
  const plain = intersect(set, [
    [0x20, 0x21],
    [0x23, 0x5b],
    [0x5d, 0x7e],
    [0xa0, LAST_CHARACTER],
  ]);
  const escapes = ESCAPES.filter(([code]) => set.some(([from, to]) => from <= code && code <= to));
  return builder.choice(utf8(builder, plain), ...escapes.map(([, text]) => builder.text(text)));
}
