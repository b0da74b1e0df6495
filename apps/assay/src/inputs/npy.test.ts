import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeElements } from "./elements.ts";
import { MAX_ELEMENTS, MAX_NPY_HEADER } from "./limits.ts";
import { isNpy, readNpy, writeNpy } from "./npy.ts";

const code = (value: string) => expect.objectContaining({ code: value });

/** A file as numpy lays it out, with any header. */
function npy(header: string, data: Uint8Array = new Uint8Array(), version: [number, number] = [1, 0]): Uint8Array {
  const text = Buffer.from(header, "latin1");
  const length = Buffer.alloc(version[0] === 1 ? 2 : 4);
  length.writeUIntLE(text.length, 0, length.length);
  return Buffer.concat([Buffer.from([0x93]), Buffer.from("NUMPY"), Buffer.from(version), length, text, data]);
}

const header = (descr: string, shape: string, fortran = "False") =>
  `{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': ${shape}, }          \n`;

describe("files that numpy 2.4.6 wrote", () => {
  test.each<[string, string, string, number[], unknown[]]>([
    [
      "float32",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAACAPwAAAEAAAEBAAACAQAAAoEA=",
      "FP32",
      [2, 3],
      [0, 1, 2, 3, 4, 5],
    ],
    [
      "Fortran order",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAABAQAAAgD8AAIBAAAAAQAAAoEA=",
      "FP32",
      [2, 3],
      [0, 1, 2, 3, 4, 5],
    ],
    [
      "big endian",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPmk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAB/////gAAASw=",
      "INT32",
      [3],
      [1, -2, 300],
    ],
    [
      "version 2",
      "k05VTVBZAgB0AAAAeydkZXNjcic6ICc8ZjgnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMSwpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAD4Pw==",
      "FP64",
      [1],
      [1.5],
    ],
    [
      "version 3",
      "k05VTVBZAwB0AAAAeydkZXNjcic6ICd8YjEnLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAA==",
      "BOOL",
      [2],
      [true, false],
    ],
    [
      "a scalar half",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAPg==",
      "FP16",
      [],
      [1.5],
    ],
    [
      "byte strings",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnfFMyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAphYmMA",
      "BYTES",
      [2],
      ["ab", "c"],
    ],
    [
      "text",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPFUzJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIArpAAAAAAAAAAAAAAB6AAAAdwAAAAD2AQA=",
      "BYTES",
      [2],
      ["é", "zw😀"],
    ],
    [
      "an empty array",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDAsIDQpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo=",
      "INT64",
      [0, 4],
      [],
    ],
    [
      "the largest uint64",
      "k05VTVBZAQB2AHsnZGVzY3InOiAnPHU4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr//////////w==",
      "UINT64",
      [1],
      [18_446_744_073_709_551_615n],
    ],
  ])("%s", (_, base64, datatype, shape, values) => {
    const bytes = new Uint8Array(Buffer.from(base64, "base64"));
    expect(isNpy(bytes)).toBe(true);
    const tensor = readNpy(bytes, "x");
    expect(tensor).toMatchObject({ datatype, shape });
    expect(decodeElements(tensor.data, tensor.datatype)).toEqual(values);
    // What numpy wrote in its usual form is what the writer writes, byte for byte.
    if (["float32", "an empty array", "the largest uint64", "a scalar half"].includes(_))
      expect(Buffer.from(writeNpy(tensor)).toString("base64")).toBe(base64);
  });

  test("every cut of a file is refused", () => {
    const whole = new Uint8Array(
      readFileSync(new URL("../../../../models/digits/samples/held-out-labels.npy", import.meta.url)),
    );
    expect(readNpy(whole, "x").shape).toEqual([360]);
    for (let length = 0; length < whole.length; length += 1)
      expect(() => readNpy(whole.subarray(0, length), "x")).toThrow(code("input_file_invalid"));
  });
});

describe("refusals", () => {
  const one = new Uint8Array(4);
  test.each<[string, Uint8Array, string]>([
    ["object arrays, which hold pickles", npy(header("'|O'", "(1,)"), one), "input_format_unsupported"],
    ["structured types", npy(header("[('a', '<f4')]", "(1,)"), one), "input_format_unsupported"],
    ["complex numbers", npy(header("'<c8'", "(1,)"), new Uint8Array(8)), "input_format_unsupported"],
    ["dates", npy(header("'<M8[us]'", "(1,)"), new Uint8Array(8)), "input_format_unsupported"],
    ["native order", npy(header("'=f4'", "(1,)"), one), "input_format_unsupported"],
    ["text of no width", npy(header("'|S0'", "(60000000,)")), "input_format_unsupported"],
    ["version 0", npy(header("'<f4'", "(1,)"), one, [0, 0]), "input_file_invalid"],
    ["version 4", npy(header("'<f4'", "(1,)"), one, [4, 0]), "input_file_invalid"],
    ["version 1.1", npy(header("'<f4'", "(1,)"), one, [1, 1]), "input_file_invalid"],
    ["too little data", npy(header("'<f4'", "(2,)"), one), "input_file_invalid"],
    ["too much data", npy(header("'<f4'", "()"), new Uint8Array(5)), "input_file_invalid"],
    ["a missing key", npy("{'descr': '<f4', 'shape': (1,), }\n", one), "input_file_invalid"],
    [
      "a further key",
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}\n", one),
      "input_file_invalid",
    ],
    [
      "a repeated key",
      npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", one),
      "input_file_invalid",
    ],
    [
      "code instead of a value",
      npy("{'descr': '<f4', 'fortran_order': False, 'shape': f(1)}", one),
      "input_file_invalid",
    ],
    [
      "values in each other's place",
      npy("{'descr': True, 'fortran_order': '<f4', 'shape': (1,)}", one),
      "input_file_invalid",
    ],
    ["a shape that is no tuple", npy(header("'<f4'", "(1)"), one), "input_file_invalid"],
    ["a negative size", npy(header("'<f4'", "(-1,)"), one), "input_file_invalid"],
    ["no dict", npy("hello", one), "input_file_invalid"],
    ["a header that is no text", npy("\xff\xfe", one), "input_file_invalid"],
    ["a bool of 2", npy(header("'|b1'", "(1,)"), Uint8Array.of(2)), "input_file_invalid"],
    ["a number beyond Unicode", npy(header("'<U1'", "(1,)"), Uint8Array.of(0, 0, 0x11, 0)), "input_file_invalid"],
    ["half of a surrogate pair", npy(header("'<U1'", "(1,)"), Uint8Array.of(0, 0xd8, 0, 0)), "input_file_invalid"],
    ["too many elements", npy(header("'<f4'", `(${MAX_ELEMENTS + 1},)`), one), "input_too_large"],
    ["too many axes", npy(header("'<f4'", `(${"1, ".repeat(17)})`), one), "input_too_large"],
    ["a header without end", npy(" ".repeat(MAX_NPY_HEADER + 1)), "input_too_large"],
  ])("%s", (_, bytes, expected) => {
    expect(() => readNpy(bytes, "x")).toThrow(code(expected));
  });

  test("nothing but its own errors, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.uint8Array({ maxLength: 16 }), (text, data) => {
        try {
          readNpy(npy(`{'descr': '<f4', ${text}}`, data), "x");
        } catch (error) {
          expect(error).toMatchObject({ code: expect.stringMatching(/^input_/) });
        }
      }),
    );
  });

  test("types without a .npy form are not written", () => {
    for (const datatype of ["BYTES", "BF16"] as const)
      expect(() => writeNpy({ datatype, shape: [0], data: new Uint8Array() })).toThrow(
        code("input_format_unsupported"),
      );
  });
});

test("what is written reads back the same, in every type and shape", () => {
  const datatypes = [
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
  ] as const;
  fc.assert(
    fc.property(fc.constantFrom(...datatypes), fc.array(fc.nat(4), { maxLength: 4 }), (datatype, shape) => {
      const size = Number(/\d+$/.exec(datatype)?.[0]) / 8;
      const data = new Uint8Array(shape.reduce((a, b) => a * b, size)).map((__, index) => index * 7);
      const file = writeNpy({ datatype, shape, data });
      expect((file.length - data.length) % 64).toBe(0);
      expect(readNpy(file, "x")).toEqual({ datatype, shape, data });
    }),
  );
});
