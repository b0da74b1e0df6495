import { AssayError } from "@assay/core";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Deepest nesting of a value that is read over without being used. */
const MAX_SKIPPED_DEPTH = 32;

/** Powers of ten; up to 22 they are exact doubles, beyond that within half a unit in the last place. */
const POWERS = Float64Array.from({ length: 41 }, (_, i) => Number(`1e${i}`));
const EXACT_POWER = 22;

// One scratch double whose low word tells how near a value lies to the middle between two float32 values.
const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);

/**
 * Reads JSON (RFC 8259) from a text, in place: the hot path neither builds a tree nor an array of numbers. The one
 * class here, since it has a position that moves.
 */
export class Scanner {
  at = 0;
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  fail(expected: string): AssayError<"request_malformed"> {
    return new AssayError("request_malformed", `The JSON is wrong at character ${this.at}: expected ${expected}.`);
  }

  /** The next character that is not white space, which stays unread; NaN at the end. */
  peek(): number {
    const { text } = this;
    let { at } = this;
    let code = text.charCodeAt(at);
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) code = text.charCodeAt(++at);
    this.at = at;
    return code;
  }

  expect(code: number): void {
    if (this.peek() !== code) throw this.fail(JSON.stringify(String.fromCharCode(code)));
    this.at++;
  }

  /** Whether the next character is `code`, which is then read. */
  accept(code: number): boolean {
    if (this.peek() !== code) return false;
    this.at++;
    return true;
  }

  end(): void {
    if (!Number.isNaN(this.peek())) throw this.fail("the end");
  }

  string(): string {
    this.expect(QUOTE);
    const { text } = this;
    const start = this.at;
    let at = start;
    for (;;) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) {
        this.at = at + 1;
        return text.slice(start, at);
      }
      if (code === BACKSLASH) return this.#escaped(start, at);
      if (!(code >= 0x20)) {
        this.at = at;
        throw this.fail("a character of a string");
      }
      at++;
    }
  }

  #escaped(start: number, from: number): string {
    const { text } = this;
    let out = text.slice(start, from);
    this.at = from;
    for (;;) {
      const code = text.charCodeAt(this.at);
      if (code === QUOTE) {
        this.at++;
        // An escape may write half a surrogate pair, which no UTF-8 can carry.
        if (/\p{Surrogate}/u.test(out)) throw this.fail("a string that has a UTF-8 form");
        return out;
      }
      if (code !== BACKSLASH) {
        if (!(code >= 0x20)) throw this.fail("a character of a string");
        out += text.charAt(this.at++);
        continue;
      }
      const kind = text.charAt(this.at + 1);
      if (kind === "u") {
        const hex = text.slice(this.at + 2, this.at + 6);
        if (!/^[0-9a-fA-F]{4}$/.test(hex)) throw this.fail("four hexadecimal digits");
        out += String.fromCharCode(Number.parseInt(hex, 16));
        this.at += 6;
        continue;
      }
      const index = '"\\/bfnrt'.indexOf(kind);
      if (kind === "" || index < 0) throw this.fail("an escape");
      out += '"\\/\b\f\n\r\t'.charAt(index);
      this.at += 2;
    }
  }

  /**
   * A number as the nearest double. With `single`, a value that `Math.fround` maps to the same float32 as the
   * nearest double would; then a few roundings suffice where an exact conversion is dear.
   */
  number(single: boolean): number {
    this.peek();
    const { text } = this;
    const start = this.at;
    let at = start;
    let code = text.charCodeAt(at);
    const negative = code === 0x2d;
    if (negative) code = text.charCodeAt(++at);
    let mantissa = 0;
    let digits = 0;
    let power = 0;
    if (code === 0x30) code = text.charCodeAt(++at);
    else {
      if (!(code >= 0x31 && code <= 0x39)) throw this.fail("a number");
      do {
        mantissa = mantissa * 10 + (code - 0x30);
        digits++;
        code = text.charCodeAt(++at);
      } while (code >= 0x30 && code <= 0x39);
    }
    if (code === 0x2e) {
      code = text.charCodeAt(++at);
      if (!(code >= 0x30 && code <= 0x39)) throw this.fail("a digit after the point");
      do {
        mantissa = mantissa * 10 + (code - 0x30);
        if (mantissa !== 0) digits++;
        power--;
        code = text.charCodeAt(++at);
      } while (code >= 0x30 && code <= 0x39);
    }
    if (code === 0x65 || code === 0x45) {
      code = text.charCodeAt(++at);
      const minus = code === 0x2d;
      if (minus || code === 0x2b) code = text.charCodeAt(++at);
      if (!(code >= 0x30 && code <= 0x39)) throw this.fail("a digit of the exponent");
      let exponent = 0;
      do {
        exponent = exponent * 10 + (code - 0x30);
        code = text.charCodeAt(++at);
      } while (code >= 0x30 && code <= 0x39);
      power += minus ? -exponent : exponent;
    }
    this.at = at;
    const size = power < 0 ? -power : power;
    if (digits <= 15 && size <= EXACT_POWER) {
      // Both operands are exact, so one rounding gives the nearest double (Clinger's fast path).
      const scale = POWERS[size] ?? 1;
      const value = power < 0 ? mantissa / scale : mantissa * scale;
      return negative ? -value : value;
    }
    if (single && digits <= 19 && size < POWERS.length) {
      const scale = POWERS[size] ?? 1;
      const value = power < 0 ? mantissa / scale : mantissa * scale;
      // At most ten roundings happened, each half a unit in the last place of a double. Unless the value lies within
      // 64 units of the middle between two float32 values, they cannot change which of the two is nearer. Outside the
      // normal range the middles lie elsewhere, so that goes the slow way.
      if (value > 1.2e-38 && value < 3.4e38) {
        scratch[0] = value;
        const offset = ((scratchWords[0] ?? 0) & 0x1fff_ffff) - 0x1000_0000;
        if (offset > 64 || offset < -64) return negative ? -value : value;
      }
    }
    return Number(text.slice(start, at));
  }

  /**
   * An integer without fraction or exponent, so that nothing is rounded: a number where it is exact, else a bigint.
   * Minus zero is zero.
   */
  integer(): number | bigint {
    this.peek();
    const { text } = this;
    const start = this.at;
    let at = start;
    let code = text.charCodeAt(at);
    const negative = code === 0x2d;
    if (negative) code = text.charCodeAt(++at);
    if (!(code >= 0x30 && code <= 0x39)) throw this.fail("an integer");
    let value = 0;
    const first = at;
    do {
      value = value * 10 + (code - 0x30);
      code = text.charCodeAt(++at);
    } while (code >= 0x30 && code <= 0x39);
    if (text.charCodeAt(first) === 0x30 && at > first + 1) throw this.fail("an integer without leading zeros");
    if (code === 0x2e || code === 0x65 || code === 0x45) throw this.fail("an integer without fraction or exponent");
    this.at = at;
    if (at - first <= 15) return negative ? 0 - value : value;
    // The longest 64-bit integer has 20 characters; anything longer need not be converted to be refused.
    if (at - first > 20) return negative ? -(2n ** 65n) : 2n ** 65n;
    return BigInt(text.slice(start, at));
  }

  boolean(): boolean {
    const code = this.peek();
    if (code === 0x74 && this.text.startsWith("true", this.at)) {
      this.at += 4;
      return true;
    }
    if (code === 0x66 && this.text.startsWith("false", this.at)) {
      this.at += 5;
      return false;
    }
    throw this.fail("true or false");
  }

  /** Reads over any value, checking its syntax. */
  skip(depth = 0): void {
    if (depth > MAX_SKIPPED_DEPTH) throw this.fail(`at most ${MAX_SKIPPED_DEPTH} levels`);
    const code = this.peek();
    if (code === QUOTE) this.string();
    else if (code === 0x74 || code === 0x66) this.boolean();
    else if (code === 0x6e && this.text.startsWith("null", this.at)) this.at += 4;
    else if (code === OPEN) this.array(() => this.skip(depth + 1));
    else if (code === OPEN_OBJECT) this.object(() => this.skip(depth + 1));
    else this.number(false);
  }

  /** Reads an array, calling `element` with the position at each element. */
  array(element: (index: number) => void): void {
    this.expect(OPEN);
    if (this.accept(CLOSE)) return;
    for (let index = 0; ; index++) {
      element(index);
      if (this.accept(CLOSE)) return;
      this.expect(COMMA);
    }
  }

  /** Reads an object, calling `member` with the position at each value. A key that occurs twice is refused. */
  object(member: (key: string) => void): void {
    this.expect(OPEN_OBJECT);
    if (this.accept(CLOSE_OBJECT)) return;
    const seen = new Set<string>();
    for (;;) {
      const key = this.string();
      if (seen.has(key)) throw this.fail(`each key once, not ${JSON.stringify(key.slice(0, 80))} again`);
      seen.add(key);
      this.expect(0x3a);
      member(key);
      if (this.accept(CLOSE_OBJECT)) return;
      this.expect(COMMA);
    }
  }
}
