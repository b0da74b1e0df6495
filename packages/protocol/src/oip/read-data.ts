import { AssayError } from "@assay/core";
import type { Datatype } from "../tensor.ts";
import { assertLittleEndian, packBytesElements, quoteName, sizeMismatch } from "./datatypes.ts";
import type { Scanner } from "./scan.ts";

const encoder = new TextEncoder();

const COMMA = 0x2c;
const OPEN = 0x5b;
const CLOSE = 0x5d;

/** Reads `count` elements, separated by commas, to the output from element `from` on. */
type Row = (scanner: Scanner, from: number, count: number) => void;
type Sink = { readonly row: Row; finish(): Uint8Array };

const INTEGER_RANGES = {
  UINT8: [0, 255],
  UINT16: [0, 65_535],
  UINT32: [0, 4_294_967_295],
  INT8: [-128, 127],
  INT16: [-32_768, 32_767],
  INT32: [-2_147_483_648, 2_147_483_647],
} as const;

/**
 * Reads the `data` of a tensor, flat or nested as its shape, into the bytes of {@link Tensor}. Floats are the
 * nearest double and then, for FP32, the nearest float32; integers are exact and must be written without fraction
 * or exponent.
 *
 * Throws `tensor_data_size` for another number of elements, `tensor_nesting` for nesting that is neither flat nor
 * the shape's, `tensor_value_range` for a value outside the datatype (also a finite number that would become an
 * infinity; NaN and infinities have no JSON form at all), `tensor_data_invalid` for an element of another JSON type,
 * `datatype_needs_binary` for FP16 and BF16.
 */
export function readJsonData(
  scanner: Scanner,
  name: string,
  datatype: Datatype,
  shape: readonly number[],
  count: number,
): Uint8Array {
  // Each element takes a character and a separator: a shape that promises more than the text can hold is refused
  // before anything of its size is allocated.
  if (count > (scanner.text.length - scanner.at + 1) / 2) throw wrongCount(name, count);
  const sink = sinkOf(name, datatype, count);
  if (scanner.peek() !== OPEN) throw notData(name, datatype, scanner);
  const start = scanner.at;
  scanner.at++;
  const nested = scanner.peek() === OPEN;
  if (nested && shape.length > 1) {
    scanner.at = start;
    readLevel(scanner, name, shape, 0, 0, sink.row);
  } else if (nested) throw nesting(name, shape);
  else readFlat(scanner, name, count, sink.row);
  return sink.finish();
}

function readFlat(scanner: Scanner, name: string, count: number, row: Row): void {
  if (count > 0) {
    if (scanner.peek() === CLOSE) throw wrongCount(name, count);
    row(scanner, 0, count);
  }
  if (scanner.accept(CLOSE)) return;
  // Another element, where the last one should have been, or something that is no JSON at all.
  const next = scanner.peek();
  throw next === COMMA || count === 0 ? wrongCount(name, count) : scanner.fail("a closing bracket");
}

/** Reads one level of a nested array and gives the element it stopped before. */
function readLevel(
  scanner: Scanner,
  name: string,
  shape: readonly number[],
  axis: number,
  from: number,
  row: Row,
): number {
  if (!scanner.accept(OPEN)) throw nesting(name, shape);
  const size = shape[axis] ?? 0;
  let at = from;
  if (axis === shape.length - 1) {
    const next = scanner.peek();
    if (next === OPEN || (next === CLOSE && size > 0)) throw nesting(name, shape);
    if (size > 0) row(scanner, at, size);
    at += size;
  } else {
    for (let i = 0; i < size; i++) {
      if (i > 0 && !scanner.accept(COMMA)) throw nesting(name, shape);
      at = readLevel(scanner, name, shape, axis + 1, at, row);
    }
  }
  if (scanner.accept(CLOSE)) return at;
  const next = scanner.peek();
  throw next === COMMA || next === OPEN ? nesting(name, shape) : scanner.fail("a closing bracket");
}

/** Reads a comma between two elements; a bracket in its place means that the count is wrong. */
function separate(scanner: Scanner, name: string): void {
  const code = scanner.text.charCodeAt(scanner.at);
  if (code === COMMA) {
    scanner.at++;
    return;
  }
  if (scanner.accept(COMMA)) return;
  if (scanner.peek() === CLOSE) throw sizeMismatch(name, "has fewer elements than its shape");
  throw scanner.fail("a comma");
}

function sinkOf(name: string, datatype: Datatype, count: number): Sink {
  assertLittleEndian();
  switch (datatype) {
    case "FP32": {
      const out = new Float32Array(count);
      return {
        row(scanner, from, length) {
          for (let i = 0; i < length; i++) {
            if (i > 0) separate(scanner, name);
            checkNumber(scanner, name, datatype);
            const value = Math.fround(scanner.number(true));
            if (value === Infinity || value === -Infinity) throw outOfRange(name, datatype);
            out[from + i] = value;
          }
        },
        finish: () => new Uint8Array(out.buffer),
      };
    }
    case "FP64": {
      const out = new Float64Array(count);
      return {
        row(scanner, from, length) {
          for (let i = 0; i < length; i++) {
            if (i > 0) separate(scanner, name);
            checkNumber(scanner, name, datatype);
            const value = scanner.number(false);
            if (value === Infinity || value === -Infinity) throw outOfRange(name, datatype);
            out[from + i] = value;
          }
        },
        finish: () => new Uint8Array(out.buffer),
      };
    }
    case "INT64":
    case "UINT64":
      return bigSink(name, datatype, count);
    case "BOOL": {
      const out = new Uint8Array(count);
      return {
        row(scanner, from, length) {
          for (let i = 0; i < length; i++) {
            if (i > 0) separate(scanner, name);
            const code = scanner.peek();
            if (code !== 0x74 && code !== 0x66) throw notData(name, datatype, scanner);
            out[from + i] = scanner.boolean() ? 1 : 0;
          }
        },
        finish: () => out,
      };
    }
    case "BYTES": {
      const out: Uint8Array[] = [];
      return {
        row(scanner, _, length) {
          for (let i = 0; i < length; i++) {
            if (i > 0) separate(scanner, name);
            if (scanner.peek() !== 0x22) throw notData(name, datatype, scanner);
            out.push(encoder.encode(scanner.string()));
          }
        },
        finish: () => packBytesElements(out),
      };
    }
    case "FP16":
    case "BF16":
      throw new AssayError(
        "datatype_needs_binary",
        `Tensor ${quoteName(name)} is ${datatype}, which has no JSON form.`,
        {
          hints: ["Send it in binary form: parameters.binary_data_size and the bytes after the JSON."],
        },
      );
    default:
      return integerSink(name, datatype, count);
  }
}

function integerSink(name: string, datatype: keyof typeof INTEGER_RANGES, count: number): Sink {
  const [least, most] = INTEGER_RANGES[datatype];
  const out = integerArray(datatype, count);
  return {
    row(scanner, from, length) {
      for (let i = 0; i < length; i++) {
        if (i > 0) separate(scanner, name);
        checkNumber(scanner, name, datatype);
        const value = readInteger(scanner, name, datatype);
        if (typeof value === "bigint" || value < least || value > most) throw outOfRange(name, datatype);
        out[from + i] = value;
      }
    },
    finish: () => new Uint8Array(out.buffer),
  };
}

function integerArray(datatype: keyof typeof INTEGER_RANGES, count: number) {
  switch (datatype) {
    case "UINT8":
      return new Uint8Array(count);
    case "UINT16":
      return new Uint16Array(count);
    case "UINT32":
      return new Uint32Array(count);
    case "INT8":
      return new Int8Array(count);
    case "INT16":
      return new Int16Array(count);
    default:
      return new Int32Array(count);
  }
}

function bigSink(name: string, datatype: "INT64" | "UINT64", count: number): Sink {
  const out = new BigInt64Array(count);
  const words = new Uint32Array(out.buffer);
  const least = datatype === "INT64" ? -(2n ** 63n) : 0n;
  const most = datatype === "INT64" ? 2n ** 63n - 1n : 2n ** 64n - 1n;
  return {
    row(scanner, from, length) {
      for (let i = 0; i < length; i++) {
        if (i > 0) separate(scanner, name);
        checkNumber(scanner, name, datatype);
        const value = readInteger(scanner, name, datatype);
        if (typeof value === "number" && value >= 0) {
          // The ordinary case, without a bigint per element.
          words[2 * (from + i)] = value;
          words[2 * (from + i) + 1] = value / 4_294_967_296;
          continue;
        }
        const wide = BigInt(value);
        if (wide < least || wide > most) throw outOfRange(name, datatype);
        out[from + i] = BigInt.asIntN(64, wide);
      }
    },
    finish: () => new Uint8Array(out.buffer),
  };
}

function readInteger(scanner: Scanner, name: string, datatype: Datatype): number | bigint {
  const start = scanner.at;
  try {
    return scanner.integer();
  } catch (cause) {
    // A number with a fraction or an exponent is good JSON, but not a value of this tensor.
    scanner.at = start;
    scanner.number(false);
    throw new AssayError("tensor_value_range", `Tensor ${quoteName(name)} has a value that is not ${datatype}.`, {
      hints: ["Integers are written without fraction and exponent, so that none is rounded."],
      cause,
    });
  }
}

function checkNumber(scanner: Scanner, name: string, datatype: Datatype): void {
  const code = scanner.peek();
  if (code !== 0x2d && !(code >= 0x30 && code <= 0x39)) throw notData(name, datatype, scanner);
}

function notData(name: string, datatype: Datatype, scanner: Scanner): AssayError {
  const next = scanner.text.slice(scanner.at, scanner.at + 1);
  if (next === "]" || next === "[") {
    return new AssayError("tensor_nesting", `Tensor ${quoteName(name)} is nested in another way than its shape.`);
  }
  return new AssayError("tensor_data_invalid", `Tensor ${quoteName(name)} has an element that is not ${datatype}.`, {
    hints: ["BOOL takes true and false, BYTES takes strings, every other datatype takes numbers, in one array."],
  });
}

function outOfRange(name: string, datatype: Datatype): AssayError<"tensor_value_range"> {
  return new AssayError("tensor_value_range", `Tensor ${quoteName(name)} has a value outside ${datatype}.`);
}

function nesting(name: string, shape: readonly number[]): AssayError<"tensor_nesting"> {
  const sentence = `Tensor ${quoteName(name)} is nested in another way than its shape [${shape.join(", ")}].`;
  return new AssayError("tensor_nesting", sentence, { hints: ["Data is either flat or nested exactly as the shape."] });
}

function wrongCount(name: string, count: number): AssayError<"tensor_data_size"> {
  return sizeMismatch(name, `does not have the ${count} elements of its shape`);
}
