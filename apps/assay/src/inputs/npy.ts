import { bytesToUtf8, utf8ToBytes } from "@assay/core";
import type { Datatype, Tensor } from "@assay/protocol";
import { ELEMENT_BYTES, joinBytes, lengthPrefixed } from "./elements.ts";
import { inputError } from "./input-error.ts";
import { MAX_ELEMENTS, MAX_NPY_HEADER, MAX_RANK } from "./limits.ts";
import { elementCount } from "./shapes.ts";

const MAGIC = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59);

const NUMERIC: Readonly<Record<string, Exclude<Datatype, "BYTES">>> = {
  b1: "BOOL",
  u1: "UINT8",
  u2: "UINT16",
  u4: "UINT32",
  u8: "UINT64",
  i1: "INT8",
  i2: "INT16",
  i4: "INT32",
  i8: "INT64",
  f2: "FP16",
  f4: "FP32",
  f8: "FP64",
};

/** Whether `bytes` begin as a `.npy` file does. */
export function isNpy(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, index) => bytes[index] === byte);
}

/**
 * A `.npy` file (format versions 1 to 3 of numpy's "A simple file format for NumPy arrays") as row-major,
 * little-endian bytes. Byte strings (`S`) and text (`U`) become BYTES elements without their padding. Throws
 * `input_file_invalid` for anything malformed, `input_format_unsupported` for object arrays (they hold pickles,
 * which run code), structured types and further dtypes, and `input_too_large` beyond the limits.
 */
export function readNpy(bytes: Uint8Array, input: string): Omit<Tensor, "name"> {
  const { header, body } = split(bytes, input);
  const { descr, fortran, shape } = parseHeader(header, input);
  const count = elementCount(shape);
  if (shape.length > MAX_RANK || count > MAX_ELEMENTS)
    throw inputError(
      "input_too_large",
      `Input "${input}": the .npy file holds ${count} elements in ${shape.length} axes.`,
    );
  const [, order = "", kind = "", width = ""] = /^([<>|=])([a-zA-Z])([0-9]{0,7})$/.exec(descr) ?? [];
  if (kind === "O") throw unsupported(input, "object arrays hold pickles, which run code", descr);
  const text = kind === "S" || kind === "U";
  const datatype = text ? "BYTES" : NUMERIC[`${kind}${width}`];
  if (datatype === undefined || order === "=" || Number(width) === 0)
    throw unsupported(input, "this dtype has no tensor type", descr);
  const size = text ? Number(width) * (kind === "U" ? 4 : 1) : ELEMENT_BYTES[datatype as Exclude<Datatype, "BYTES">];
  if (body.length !== count * size)
    throw invalid(input, `its header announces ${count * size} bytes of data and ${body.length} follow`);
  const rows = fortran ? toRowMajor(body, shape, size) : body;
  if (text) return { datatype: "BYTES", shape, data: textElements(rows, size, count, kind, order, input) };
  const data = order === ">" && size > 1 ? swapped(rows, size) : rows.slice();
  if (datatype === "BOOL" && data.some((byte) => byte > 1)) throw invalid(input, "a bool is neither 0 nor 1");
  return { datatype, shape, data };
}

function split(bytes: Uint8Array, input: string): { header: string; body: Uint8Array } {
  const [major = 0, minor] = bytes.subarray(6, 8);
  if (!isNpy(bytes) || major < 1 || major > 3 || minor !== 0) throw invalid(input, "it does not begin as one");
  const start = major === 1 ? 10 : 12;
  if (bytes.length < start) throw invalid(input, "it ends inside its header");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  if (length > MAX_NPY_HEADER)
    throw inputError("input_too_large", `Input "${input}": the .npy header has ${length} bytes.`);
  if (bytes.length < start + length) throw invalid(input, "it ends inside its header");
  try {
    return { header: bytesToUtf8(bytes.subarray(start, start + length)), body: bytes.subarray(start + length) };
  } catch (cause) {
    throw invalid(input, "its header is not text", cause);
  }
}

// The header is a Python dict literal. Only the three keys that the format defines are read, in any order, each as
// the one literal it can be; a list in `descr` is a structured type.
const ENTRY =
  /^\s*'(descr|fortran_order|shape)'\s*:\s*('[^'\\]{1,32}'|True|False|\(\s*(?:\d{1,15}\s*(?:,\s*\d{1,15}\s*)*,?)?\s*\))\s*,?/;

function parseHeader(header: string, input: string): { descr: string; fortran: boolean; shape: number[] } {
  if (/'descr'\s*:\s*[[(]/.test(header))
    throw unsupported(input, "structured types have no tensor type", header.trim());
  const outer = /^\{(.*)\}\s*$/s.exec(header);
  const found = new Map<string, string>();
  let rest = outer?.[1] ?? "";
  for (let entry = ENTRY.exec(rest); entry !== null; entry = ENTRY.exec(rest)) {
    if (found.has(entry[1] ?? "")) throw invalid(input, "its header repeats a key");
    found.set(entry[1] ?? "", entry[2] ?? "");
    rest = rest.slice(entry[0].length);
  }
  const descr = found.get("descr");
  const order = found.get("fortran_order");
  const shape = found.get("shape");
  if (
    outer === null ||
    rest.trim() !== "" ||
    !descr?.startsWith("'") ||
    !shape?.startsWith("(") ||
    !/^[TF]/.test(order ?? "")
  )
    throw invalid(input, "its header is not the three entries of the format");
  if (/^\(\s*\d+\s*\)$/.test(shape)) throw invalid(input, "its shape is a number, not a tuple");
  return { descr: descr.slice(1, -1), fortran: order === "True", shape: (shape.match(/\d+/g) ?? []).map(Number) };
}

function toRowMajor(data: Uint8Array, shape: readonly number[], size: number): Uint8Array {
  const out = new Uint8Array(data.length);
  const index = shape.map(() => 0);
  for (let at = 0; at < data.length; at += size) {
    let from = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) from = from * (shape[axis] ?? 1) + (index[axis] ?? 0);
    out.set(data.subarray(from * size, (from + 1) * size), at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      index[axis] = next === shape[axis] ? 0 : next;
      if (next !== shape[axis]) break;
    }
  }
  return out;
}

function swapped(data: Uint8Array, size: number): Uint8Array {
  const out = data.slice();
  for (let at = 0; at < out.length; at += size) out.subarray(at, at + size).reverse();
  return out;
}

function textElements(
  data: Uint8Array,
  size: number,
  count: number,
  kind: string,
  order: string,
  input: string,
): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let index = 0; index < count; index++) {
    const element = data.subarray(index * size, (index + 1) * size);
    parts.push(...lengthPrefixed(kind === "S" ? withoutPadding(element) : utf8ToBytes(utf32(element, order, input))));
  }
  return joinBytes(parts);
}

function withoutPadding(element: Uint8Array): Uint8Array {
  let end = element.length;
  while (end > 0 && element[end - 1] === 0) end--;
  return element.subarray(0, end);
}

function utf32(element: Uint8Array, order: string, input: string): string {
  const view = new DataView(element.buffer, element.byteOffset, element.byteLength);
  const points = Array.from({ length: element.length / 4 }, (_, index) => view.getUint32(index * 4, order !== ">"));
  while (points.at(-1) === 0) points.pop();
  if (points.some((point) => point > 0x10_ffff || (point >= 0xd800 && point < 0xe000)))
    throw invalid(input, "it holds a number that is no Unicode character");
  return points.map((point) => String.fromCodePoint(point)).join("");
}

/**
 * `tensor` as a `.npy` file, version 1.0, C order, data on a 64-byte boundary, as numpy itself writes it. Throws
 * `input_format_unsupported` for BYTES and BF16, which numpy has no plain dtype for.
 */
export function writeNpy(tensor: Pick<Tensor, "datatype" | "shape" | "data">): Uint8Array {
  const code = Object.entries(NUMERIC).find(([, datatype]) => datatype === tensor.datatype)?.[0];
  if (code === undefined)
    throw inputError("input_format_unsupported", `A ${tensor.datatype} tensor has no .npy form.`, [
      "Use JSON instead.",
    ]);
  const descr = `${code.endsWith("1") ? "|" : "<"}${code}`;
  const shape = tensor.shape.length === 1 ? `(${tensor.shape[0]},)` : `(${tensor.shape.join(", ")})`;
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const total = Math.ceil((10 + header.length + 1) / 64) * 64;
  const padded = utf8ToBytes(`${header.padEnd(total - 11)}\n`);
  const length = new Uint8Array(2);
  new DataView(length.buffer).setUint16(0, padded.length, true);
  return joinBytes([MAGIC, Uint8Array.of(1, 0), length, padded, tensor.data]);
}

function invalid(input: string, why: string, cause?: unknown) {
  return inputError("input_file_invalid", `Input "${input}" is not a sound .npy file: ${why}.`, [], cause);
}

function unsupported(input: string, why: string, descr: string) {
  return inputError("input_format_unsupported", `Input "${input}": ${why} (dtype ${descr.slice(0, 60)}).`, [
    "Save a plain numeric array, for example with array.astype(np.float32).",
  ]);
}
