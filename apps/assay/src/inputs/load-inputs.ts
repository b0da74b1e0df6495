import { isAssayError } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { ELEMENT_BYTES } from "./elements.ts";
import { describeType, inputError } from "./input-error.ts";
import type { TensorSignature } from "./input-error.ts";
import { jsonTensor } from "./json-input.ts";
import { MAX_FILE_BYTES, MAX_INPUTS, MAX_SPEC_CHARS } from "./limits.ts";
import { isNpy, readNpy } from "./npy.ts";
import { decodePng, isPng } from "./png.ts";
import { audioTensor, imageTensor } from "./preprocessing.ts";
import type { Preprocessing, PreprocessingDocument } from "./preprocessing.ts";
import { checkSize, elementCount, fitShape } from "./shapes.ts";
import { decodeWav, isWav } from "./wav.ts";

export type LoadInputsOptions = {
  /** The model's inputs, in its order; -1 is a free axis. */
  readonly signature: readonly TensorSignature[];
  /** The document the model ships, where it ships one. */
  readonly preprocessing?: Preprocessing;
  /** Reads a file, refusing more than `limitBytes`; `readFileBytes` is the real one. */
  readonly readFile: (path: string, limitBytes: number) => Promise<Uint8Array>;
  /** Reads standard input, likewise. Called at most once. */
  readonly stdin: (limitBytes: number) => Promise<Uint8Array>;
};

export type LoadedInputs = {
  /** One for each input of the model, in the model's order. */
  readonly tensors: readonly Tensor[];
  /** Present when a picture or recording went through the document, with the inputs that did. */
  readonly preprocessing:
    | { readonly digest: string; readonly document: PreprocessingDocument; readonly inputs: readonly string[] }
    | undefined;
};

type Kind = "png" | "wav" | "npy" | "json" | "raw";

const KIND_BY_ENDING: ReadonlyMap<string, Kind> = new Map([
  ["png", "png"],
  ["wav", "wav"],
  ["wave", "wav"],
  ["npy", "npy"],
  ["json", "json"],
  ["bin", "raw"],
  ["raw", "raw"],
]);

const INSTEAD: ReadonlyMap<string, string> = new Map([
  ["jpg", "Save the picture as PNG."],
  ["jpeg", "Save the picture as PNG."],
  ["gif", "Save the picture as PNG."],
  ["webp", "Save the picture as PNG."],
  ["bmp", "Save the picture as PNG."],
  ["mp3", "Save the recording as WAV."],
  ["ogg", "Save the recording as WAV."],
  ["flac", "Save the recording as WAV."],
  ["m4a", "Save the recording as WAV."],
  ["npz", "Save each array by itself as .npy and name it as an input of its own."],
  ["pkl", "Pickles run code when they are read; save the array as .npy."],
  ["pt", "Save the tensor as .npy."],
]);

/**
 * Turns `name=value` of the command line into the model's tensors. A value is inline JSON (`3`, `[[1,2],[3,4]]`),
 * a file (`@three.png`, `.wav`, `.npy`, `.json`, `.bin`, `.raw`) or standard input (`@-`, whose kind is told from its
 * first bytes); for a BYTES input any other text is the text itself. Pictures and recordings go through the model's
 * preprocessing document and are refused without one, since a guessed scale gives wrong answers that look right.
 *
 * Throws `input_spec_invalid`, `input_unexpected`, `input_duplicate`, `input_missing`, `input_file_missing`,
 * `input_file_unreadable`, `input_format_unsupported`, `input_file_invalid`, `input_too_large`, `input_shape`,
 * `input_datatype`, `input_value`, `input_blank`, `preprocessing_missing` or `preprocessing_invalid`.
 *
 * @example
 * const { tensors } = await loadInputs(["x=[[1,2,3,4]]"], { signature, readFile: readFileBytes, stdin });
 */
export async function loadInputs(specs: readonly string[], options: LoadInputsOptions): Promise<LoadedInputs> {
  const given = splitSpecs(specs, options.signature);
  const missing = options.signature.filter(({ name }) => !given.has(name));
  if (missing.length > 0)
    throw inputError(
      "input_missing",
      `The model also needs ${missing.map(({ name }) => `"${name}"`).join(", ")}.`,
      missing.map((wanted) => `Add --input ${wanted.name}=…; it is ${describeType(wanted)}.`),
    );
  if ([...given.values()].filter((value) => value === "@-").length > 1)
    throw inputError("input_spec_invalid", "Standard input can stand for one input only.");
  const prepared: string[] = [];
  const tensors: Tensor[] = [];
  for (const wanted of options.signature) {
    const value = given.get(wanted.name) ?? "";
    const tensor = value.startsWith("@")
      ? await fromFile(value.slice(1), wanted, options, prepared)
      : inline(value, wanted);
    tensors.push(tensor);
  }
  const { preprocessing } = options;
  const used = preprocessing !== undefined && prepared.length > 0;
  return { tensors, preprocessing: used ? { ...preprocessing, inputs: prepared } : undefined };
}

function splitSpecs(specs: readonly string[], signature: readonly TensorSignature[]): Map<string, string> {
  if (specs.length > MAX_INPUTS)
    throw inputError("input_too_large", `There are ${specs.length} inputs, more than ${MAX_INPUTS}.`);
  const names = signature.map(({ name }) => name);
  const known = [`The model's inputs: ${signature.map((each) => `${each.name} (${describeType(each)})`).join(", ")}.`];
  const given = new Map<string, string>();
  for (const spec of specs) {
    if (spec.length > MAX_SPEC_CHARS)
      throw inputError("input_too_large", `An inline input has more than ${MAX_SPEC_CHARS} characters.`, [
        "Put it into a file and name that with @.",
      ]);
    // A tensor's name may itself hold "=", so the longest declared name that fits wins.
    const name = names.filter((each) => spec.startsWith(`${each}=`)).sort((a, b) => b.length - a.length)[0];
    const end = name === undefined ? spec.indexOf("=") : name.length;
    if (end <= 0 || end === spec.length - 1)
      throw inputError("input_spec_invalid", `"${spec.slice(0, 80)}" is not of the form name=value.`, known);
    if (name === undefined)
      throw inputError("input_unexpected", `The model has no input "${spec.slice(0, Math.min(end, 80))}".`, known);
    if (given.has(name)) throw inputError("input_duplicate", `Input "${name}" is given twice.`);
    given.set(name, spec.slice(end + 1));
  }
  return given;
}

function inline(value: string, wanted: TensorSignature): Tensor {
  const plainText = wanted.datatype === "BYTES" && !/^\s*["[{]/.test(value);
  return jsonTensor(plainText ? JSON.stringify(value) : value, wanted);
}

async function fromFile(
  path: string,
  wanted: TensorSignature,
  options: LoadInputsOptions,
  prepared: string[],
): Promise<Tensor> {
  if (path === "") throw inputError("input_spec_invalid", `Input "${wanted.name}" names no file after @.`);
  const ending = /\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? "";
  const instead = path === "-" ? undefined : INSTEAD.get(ending);
  if (instead !== undefined)
    throw inputError("input_format_unsupported", `Input "${wanted.name}": .${ending} files are not read.`, [instead]);
  const bytes = path === "-" ? await readStdin(wanted, options) : await readPath(path, wanted, options);
  const kind = (path === "-" ? undefined : KIND_BY_ENDING.get(ending)) ?? sniff(bytes, wanted);
  return decode(kind, bytes, wanted, options.preprocessing, prepared);
}

async function readStdin(wanted: TensorSignature, { stdin }: LoadInputsOptions): Promise<Uint8Array> {
  const bytes = await stdin(MAX_FILE_BYTES);
  if (bytes.length === 0) throw inputError("input_file_invalid", `Input "${wanted.name}": standard input is empty.`);
  return within(bytes, wanted);
}

async function readPath(path: string, wanted: TensorSignature, { readFile }: LoadInputsOptions): Promise<Uint8Array> {
  try {
    return within(await readFile(path, MAX_FILE_BYTES), wanted);
  } catch (cause) {
    if (isAssayError(cause)) throw cause;
    const code = (cause as { code?: unknown } | null)?.code;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw inputError("input_file_missing", `Input "${wanted.name}": there is no file ${path}.`, [], cause);
    const why = code === "EISDIR" ? "is a folder" : "cannot be read";
    throw inputError("input_file_unreadable", `Input "${wanted.name}": ${path} ${why}.`, [], cause);
  }
}

function within(bytes: Uint8Array, wanted: TensorSignature): Uint8Array {
  if (bytes.length > MAX_FILE_BYTES)
    throw inputError("input_too_large", `Input "${wanted.name}" has more than ${MAX_FILE_BYTES} bytes.`);
  return bytes;
}

function sniff(bytes: Uint8Array, wanted: TensorSignature): Kind {
  if (isPng(bytes)) return "png";
  if (isWav(bytes)) return "wav";
  if (isNpy(bytes)) return "npy";
  const first = String.fromCharCode(...bytes.subarray(0, 64)).trimStart()[0] ?? "";
  if (/[[{"\-0-9tf]/.test(first)) return "json";
  throw inputError("input_format_unsupported", `Input "${wanted.name}": the kind of file is not recognised.`, [
    "PNG, WAV, .npy and JSON are; raw little-endian bytes in a file that ends in .bin or .raw.",
  ]);
}

function decode(
  kind: Kind,
  bytes: Uint8Array,
  wanted: TensorSignature,
  preprocessing: Preprocessing | undefined,
  prepared: string[],
): Tensor {
  switch (kind) {
    case "json":
      return jsonTensor(bytes, wanted);
    case "raw":
      return rawTensor(bytes, wanted);
    case "npy": {
      const array = readNpy(bytes, wanted.name);
      return { ...array, name: wanted.name, shape: fitShape(array, wanted) };
    }
    case "png":
    case "wav": {
      const preparation = preprocessing?.document.inputs.find(({ input }) => input === wanted.name);
      const what = kind === "png" ? "picture" : "recording";
      if (preparation === undefined)
        throw inputError(
          "preprocessing_missing",
          `Input "${wanted.name}": the model does not say how a ${what} becomes ${describeType(wanted)}.`,
          ["Give the finished tensor as .npy, JSON or raw bytes."],
        );
      prepared.push(wanted.name);
      if (kind === "png" && preparation.kind === "image")
        return imageTensor(decodePng(bytes, wanted.name), preparation, wanted);
      if (kind === "wav" && preparation.kind === "audio")
        return audioTensor(decodeWav(bytes, wanted.name), preparation, wanted);
      throw inputError("input_format_unsupported", `Input "${wanted.name}" takes ${preparation.kind}, not a ${what}.`);
    }
  }
}

/** Little-endian elements as they are; the one free axis follows from their number. */
function rawTensor(bytes: Uint8Array, wanted: TensorSignature): Tensor {
  if (wanted.datatype === "BYTES")
    throw inputError("input_format_unsupported", `Input "${wanted.name}" holds texts, which raw bytes do not divide.`, [
      "Give them as JSON.",
    ]);
  const free = wanted.shape.filter((axis) => axis === -1).length;
  const rowBytes = elementCount(wanted.shape.filter((axis) => axis !== -1)) * ELEMENT_BYTES[wanted.datatype];
  const size = free === 0 ? 1 : bytes.length / rowBytes;
  const fits = free === 0 ? bytes.length === rowBytes : Number.isInteger(size);
  if (free > 1 || !fits)
    throw inputError(
      "input_shape",
      `Input "${wanted.name}": the model wants ${describeType(wanted)}; ${bytes.length} raw bytes do not say which shape that is.`,
      ["Give it as .npy, which carries its shape."],
    );
  const shape = wanted.shape.map((axis) => (axis === -1 ? size : axis));
  checkSize(shape, wanted.name);
  if (wanted.datatype === "BOOL" && bytes.some((byte) => byte > 1))
    throw inputError("input_value", `Input "${wanted.name}": a raw BOOL is neither 0 nor 1.`);
  return { name: wanted.name, datatype: wanted.datatype, shape, data: bytes };
}
