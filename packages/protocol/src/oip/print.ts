import { AssayError } from "@assay/core";
import type { Tensor } from "../tensor.ts";
import { bytesElements, quoteName, typedData } from "./datatypes.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Powers of ten, all of them exact doubles. */
const POWERS = Float64Array.from({ length: 16 }, (_, i) => Number(`1e${i}`));

/**
 * The `data` array of a tensor as JSON text, flat and row-major. Integers are exact digits (a client that reads them
 * as doubles loses those beyond 2^53, which is the client's to avoid); FP32 is the shortest decimal that reads back
 * to the same float32, FP64 the shortest that reads back to the same double; minus zero keeps its sign.
 *
 * Throws `value_not_json` for NaN and infinities, `bytes_not_utf8` for BYTES that are not text and
 * `datatype_needs_binary` for FP16 and BF16: all of these travel in binary form.
 */
export function printJsonData(tensor: Tensor): string {
  const { name, datatype } = tensor;
  switch (datatype) {
    case "FP16":
    case "BF16":
      throw new AssayError(
        "datatype_needs_binary",
        `Tensor ${quoteName(name)} is ${datatype}, which has no JSON form.`,
        {
          hints: [ASK_BINARY],
        },
      );
    case "BYTES":
      return printBytes(tensor);
    case "BOOL": {
      const parts: string[] = [];
      for (const byte of tensor.data) parts.push(byte === 0 ? "false" : "true");
      return `[${parts.join()}]`;
    }
    case "FP32":
    case "FP64": {
      const parts: string[] = [];
      for (const value of typedData(tensor) as Float32Array | Float64Array) {
        if (!Number.isFinite(value)) {
          throw new AssayError("value_not_json", `Tensor ${quoteName(name)} holds ${value}, which has no JSON form.`, {
            hints: [ASK_BINARY],
          });
        }
        parts.push(datatype === "FP32" ? printFloat32(value) : printFloat64(value));
      }
      return `[${parts.join()}]`;
    }
    default:
      return `[${typedData(tensor).join()}]`;
  }
}

const ASK_BINARY = 'Ask for the output in binary form: "parameters": {"binary_data": true}.';

function printBytes(tensor: Tensor): string {
  const parts: string[] = [];
  for (const element of bytesElements(tensor)) {
    let text: string;
    try {
      text = decoder.decode(element);
    } catch (cause) {
      const sentence = `Tensor ${quoteName(tensor.name)} holds BYTES that are not UTF-8, which have no JSON form.`;
      throw new AssayError("bytes_not_utf8", sentence, { hints: [ASK_BINARY], cause });
    }
    parts.push(JSON.stringify(text));
  }
  return `[${parts.join()}]`;
}

function printFloat64(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

/**
 * The shortest decimal whose nearest double rounds to this float32. Nine digits always do (IEEE 754 section 5.12.2).
 * In the ordinary range the search starts at six, which every float32 there keeps, so that a shorter decimal only
 * ends in zeros; the digits are then printed from an integer, which costs half of printing a double.
 */
function printFloat32(value: number): string {
  if (value === 0) return Object.is(value, -0) ? "-0" : "0";
  const size = Math.abs(value);
  if (size >= 1e-6 && size < 1e6) {
    for (let digits = 6, places = Math.max(0, 5 - Math.floor(Math.log10(size))); digits <= 9; digits++, places++) {
      // With an exact power and an integer below 2^53 the division rounds once: the quotient is the nearest double of
      // the decimal, which is what a reader will see.
      const power = POWERS[places] ?? 1;
      const integer = Math.round(size * power);
      if (Math.fround(integer / power) === size) return (value < 0 ? "-" : "") + placePoint(integer, places);
    }
  }
  for (let digits = 1; digits <= 9; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return String(candidate);
  }
  return String(value);
}

/** `integer` divided by ten to the power of `places`, without the zeros at its end. */
function placePoint(integer: number, places: number): string {
  let rest = integer;
  let left = places;
  while (left > 0 && rest % 10 === 0) {
    rest /= 10;
    left--;
  }
  const digits = String(rest);
  if (left === 0) return digits;
  const point = digits.length - left;
  return point > 0 ? `${digits.slice(0, point)}.${digits.slice(point)}` : `0.${"0".repeat(-point)}${digits}`;
}
