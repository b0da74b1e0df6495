import { decode as cborgDecode, encode as cborgEncode, rfc8949EncodeOptions } from "cborg";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CborTag, CborWriter, bytesToHex, decodeCbor, encodeCbor, hexToBytes } from "./index.ts";
import type { CborValue } from "./index.ts";

const value = fc.letrec<{ any: CborValue }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.maxSafeInteger(),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: -(2n ** 64n), max: -(2n ** 53n) }),
    fc.string({ unit: "grapheme" }),
    fc.uint8Array({ maxLength: 300 }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("any"), { maxLength: 5 }),
    fc
      .uniqueArray(fc.tuple(fc.oneof(fc.integer(), fc.string()), tie("any")), {
        selector: ([key]) => key,
        maxLength: 5,
      })
      .map((entries) => new Map(entries)),
  ),
})).any;

describe("encodeCbor", () => {
  test("round trips every value, and re-encodes to the same bytes", () => {
    fc.assert(
      fc.property(value, (input) => {
        const bytes = encodeCbor(input);
        expect(decodeCbor(bytes)).toEqual(input);
        expect(encodeCbor(decodeCbor(bytes))).toEqual(bytes);
      }),
      { numRuns: 500 },
    );
  });

  test("agrees with cborg, an implementation of others", () => {
    fc.assert(
      fc.property(value, (input) => {
        const bytes = encodeCbor(input);
        expect(bytesToHex(cborgEncode(input, rfc8949EncodeOptions))).toBe(bytesToHex(bytes));
        expect(cborgDecode(bytes, { useMaps: true })).toEqual(input);
      }),
      { numRuns: 500 },
    );
  });

  test("sorts keys by their encodings: small before large, non-negative before negative, integers before texts", () => {
    const map = new Map<number | string, CborValue>([
      ["b", 1],
      ["aa", 2],
      [-1, 3],
      [100, 4],
      [2, 5],
    ]);
    expect(bytesToHex(encodeCbor(map))).toBe("a50205186404200361620162616102");
  });

  test("writes the examples of RFC 8949 appendix A", () => {
    const examples: [CborValue, string][] = [
      [23, "17"],
      [24, "1818"],
      [1000000000000, "1b000000e8d4a51000"],
      [18446744073709551615n, "1bffffffffffffffff"],
      [-18446744073709551616n, "3bffffffffffffffff"],
      [-1000, "3903e7"],
      ["\u6c34", "63e6b0b4"],
      [new CborTag(32, "http://www.example.com"), "d82076687474703a2f2f7777772e6578616d706c652e636f6d"],
      [[1, [2, 3], [4, 5]], "8301820203820405"],
    ];
    for (const [input, hex] of examples) {
      expect(bytesToHex(encodeCbor(input))).toBe(hex);
      expect(decodeCbor(hexToBytes(hex))).toEqual(input);
    }
  });

  test("refuses what has no encoding", () => {
    for (const input of [0.5, Number.NaN, 2 ** 53, 1n << 64n, -(1n << 64n) - 1n]) {
      expect(() => encodeCbor(input)).toThrow(expect.objectContaining({ code: "cbor_unencodable" }));
    }
  });

  test("a writer can be reused after reset", () => {
    const writer = new CborWriter();
    writer.text("first");
    writer.reset();
    writer.int(7);
    expect(bytesToHex(writer.finish())).toBe("07");
  });
});

describe("decodeCbor refuses", () => {
  const refusals: Record<string, string> = {
    "nothing at all": "",
    "a one-byte integer that fits in the head": "1817",
    "a two-byte integer that fits in one": "1900ff",
    "a four-byte integer that fits in two": "1a0000ffff",
    "an eight-byte integer that fits in four": "1b00000000ffffffff",
    "an indefinite byte string": "5f4100ff",
    "an indefinite array": "9f01ff",
    "an indefinite map": "bf0102ff",
    "a break alone": "ff",
    "unsorted keys": "a202010102",
    "duplicate keys": "a201010102",
    "a byte string as a key": "a1410001",
    "a half float": "f93c00",
    "a double": "fb3ff0000000000000",
    undefined: "f7",
    "an unassigned simple value": "f0",
    "a simple value in two bytes": "f820",
    "trailing bytes": "0000",
    "a truncated text": "6261",
    "an overlong UTF-8 form": "62c080",
    "a surrogate in UTF-8": "63eda080",
    "a length beyond the input": "5affffffff",
    "an array length beyond the input": "9affffffff",
    "a reserved head": "1c",
  };
  for (const [name, hex] of Object.entries(refusals)) {
    test(name, () => {
      expect(() => decodeCbor(hexToBytes(hex))).toThrow(expect.objectContaining({ code: "cbor_invalid" }));
    });
  }

  test("nesting, items and bytes past their limits", () => {
    const deep = hexToBytes(`${"81".repeat(5)}00`);
    expect(decodeCbor(deep, { maxDepth: 5 })).toEqual([[[[[0]]]]]);
    expect(() => decodeCbor(deep, { maxDepth: 4 })).toThrow(/nests deeper/);
    const wide = encodeCbor([1, 2, 3]);
    expect(decodeCbor(wide, { maxItems: 4 })).toEqual([1, 2, 3]);
    expect(() => decodeCbor(wide, { maxItems: 3 })).toThrow(/more items/);
    expect(() => decodeCbor(wide, { maxBytes: 3 })).toThrow(/bytes long/);
  });

  test("random bytes with nothing but a coded error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(encodeCbor(decodeCbor(bytes))).toEqual(bytes);
        } catch (error) {
          expect(error).toMatchObject({ code: "cbor_invalid" });
        }
      }),
      { numRuns: 2000 },
    );
  });
});
