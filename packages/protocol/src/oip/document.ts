import { AssayError } from "@assay/core";
import type { Datatype, Tensor } from "../tensor.ts";
import { checkTensorBytes, DATATYPES, elementCount, isDatatype, quoteName, sizeMismatch } from "./datatypes.ts";
import type { OipLimits } from "./limits.ts";
import { readJsonData } from "./read-data.ts";
import { Scanner } from "./scan.ts";

/** Values that the protocol allows in a `parameters` object. */
export type OipParameters = Readonly<Record<string, string | number | boolean>>;

/** One selected output of a request. */
export type OutputRequest = { readonly name: string; readonly binary: boolean };

/** What requests and responses have in common once read. */
export type OipDocument = {
  readonly id: string | undefined;
  readonly modelName: string | undefined;
  readonly modelVersion: string | undefined;
  readonly parameters: OipParameters;
  readonly tensors: readonly Tensor[];
  readonly outputs: readonly OutputSelection[] | undefined;
};

type OutputSelection = { readonly name: string; readonly binary: boolean | undefined };

const EMPTY: OipParameters = Object.freeze({});
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads the JSON part of a message and takes its binary tensors from the bytes behind it, without copying. A request
 * refuses fields it does not know, since it could not honour them; a response reads over them.
 */
export function readDocument(
  kind: "request" | "response",
  body: Uint8Array,
  headerLength: number | undefined,
  limits: OipLimits,
): OipDocument {
  if (body.length > limits.maxBodyBytes) {
    throw new AssayError("request_too_large", `The body has ${body.length} bytes, more than ${limits.maxBodyBytes}.`);
  }
  const jsonLength = headerLength ?? body.length;
  if (!Number.isSafeInteger(jsonLength) || jsonLength < 0 || jsonLength > body.length) {
    const length = `Inference-Header-Content-Length is ${jsonLength}, but the body has ${body.length} bytes`;
    throw new AssayError("header_length_invalid", `${length}.`);
  }
  if (jsonLength > limits.maxJsonBytes) {
    throw new AssayError("request_too_large", `The JSON has ${jsonLength} bytes, more than ${limits.maxJsonBytes}.`, {
      hints: ["Tensors in binary form have a larger allowance."],
    });
  }
  const scanner = new Scanner(decode(body.subarray(0, jsonLength)));
  const reader: Reader = { scanner, limits, kind, body, hasBinary: headerLength !== undefined, at: jsonLength };
  let id: string | undefined;
  let modelName: string | undefined;
  let modelVersion: string | undefined;
  let parameters = EMPTY;
  let tensors: Tensor[] | undefined;
  let outputs: OutputSelection[] | undefined;
  const list = kind === "request" ? "inputs" : "outputs";
  scanner.object((key) => {
    if (key === "id") id = readName(reader, "id");
    else if (key === "parameters") parameters = readParameters(reader);
    else if (key === list) tensors = readTensors(reader);
    else if (key === "outputs") outputs = readSelection(reader);
    else if (kind === "response" && key === "model_name") modelName = readName(reader, key);
    else if (kind === "response" && key === "model_version") modelVersion = readName(reader, key);
    else unknown(reader, key);
  });
  scanner.end();
  if (tensors === undefined) throw malformed(`The ${kind} has no ${list}.`);
  if (reader.at !== body.length) {
    const left = body.length - reader.at;
    throw new AssayError("trailing_bytes", `The body has ${left} bytes after the last tensor.`);
  }
  return { id, modelName, modelVersion, parameters, tensors, outputs };
}

type Reader = {
  readonly scanner: Scanner;
  readonly limits: OipLimits;
  readonly kind: "request" | "response";
  readonly body: Uint8Array;
  readonly hasBinary: boolean;
  /** Where the next binary tensor begins in the body. */
  at: number;
};

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw malformed("The JSON is not UTF-8.", cause);
  }
}

function readTensors(reader: Reader): Tensor[] {
  const tensors: Tensor[] = [];
  const names = new Set<string>();
  reader.scanner.array((index) => {
    if (index === reader.limits.maxTensors) throw limit("tensors", reader.limits.maxTensors);
    const tensor = readTensor(reader, index);
    claim(names, tensor.name);
    tensors.push(tensor);
  });
  return tensors;
}

function readTensor(reader: Reader, index: number): Tensor {
  const { scanner, limits } = reader;
  let name: string | undefined;
  let shape: number[] | undefined;
  let datatype: Datatype | undefined;
  let parameters: OipParameters | undefined;
  let data: Uint8Array | undefined;
  let dataAt = -1;
  scanner.object((key) => {
    switch (key) {
      case "name":
        name = readName(reader, "name");
        break;
      case "shape":
        shape = readShape(reader, name ?? `#${index}`);
        break;
      case "datatype":
        datatype = readDatatype(reader, name ?? `#${index}`);
        break;
      case "parameters":
        parameters = readParameters(reader);
        break;
      case "data":
        dataAt = scanner.at;
        if (name !== undefined && shape !== undefined && datatype !== undefined)
          data = readJsonData(scanner, name, datatype, shape, elementCount(name, shape, limits));
        // Its type is not known yet: the data is read over now and again at the end.
        else scanner.skip();
        break;
      default:
        unknown(reader, key);
    }
  });
  if (name === undefined) throw malformed(`Tensor ${index} has no name.`);
  if (shape === undefined) throw malformed(`Tensor ${quoteName(name)} has no shape.`);
  if (datatype === undefined) throw malformed(`Tensor ${quoteName(name)} has no datatype.`);
  const count = elementCount(name, shape, limits);
  const size = binarySize(reader, name, parameters);
  if (size === undefined) {
    if (dataAt < 0) {
      throw new AssayError("tensor_data_missing", `Tensor ${quoteName(name)} has neither data nor binary_data_size.`);
    }
    if (data === undefined) {
      const end = scanner.at;
      scanner.at = dataAt;
      data = readJsonData(scanner, name, datatype, shape, count);
      scanner.at = end;
    }
    return { name, datatype, shape, data };
  }
  if (dataAt >= 0) throw malformed(`Tensor ${quoteName(name)} has both data and binary_data_size.`);
  if (size > reader.body.length - reader.at)
    throw sizeMismatch(name, `declares ${size} binary bytes and ${reader.body.length - reader.at} are left`);
  const tensor: Tensor = { name, datatype, shape, data: reader.body.subarray(reader.at, reader.at + size) };
  checkTensorBytes(tensor, count);
  reader.at += size;
  return tensor;
}

function binarySize(reader: Reader, name: string, parameters: OipParameters | undefined): number | undefined {
  let size: number | undefined;
  for (const [key, value] of Object.entries(parameters ?? EMPTY)) {
    if (key === "binary_data_size") {
      if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
        throw malformed(`Tensor ${quoteName(name)} has a binary_data_size that is not a size.`);
      if (!reader.hasBinary) {
        throw malformed(
          `Tensor ${quoteName(name)} is binary, but the request does not say where its JSON ends.`,
          undefined,
          ["Send the header Inference-Header-Content-Length with the length of the JSON."],
        );
      }
      size = value;
    } else if (reader.kind === "request") throw unsupportedParameter(`Tensor ${quoteName(name)}`, key);
  }
  return size;
}

function readSelection(reader: Reader): OutputSelection[] {
  const selection: OutputSelection[] = [];
  const names = new Set<string>();
  reader.scanner.array((index) => {
    if (index === reader.limits.maxTensors) throw limit("outputs", reader.limits.maxTensors);
    let name: string | undefined;
    let binary: boolean | undefined;
    let parameters = EMPTY;
    reader.scanner.object((key) => {
      if (key === "name") name = readName(reader, "name");
      else if (key === "parameters") parameters = readParameters(reader);
      else unknown(reader, key);
    });
    if (name === undefined) throw malformed(`Output ${index} has no name.`);
    claim(names, name);
    for (const [key, value] of Object.entries(parameters)) {
      if (key !== "binary_data") throw unsupportedParameter(`Output ${quoteName(name)}`, key);
      if (typeof value !== "boolean")
        throw malformed(`Output ${quoteName(name)} has a binary_data that is no boolean.`);
      binary = value;
    }
    selection.push({ name, binary });
  });
  return selection;
}

function readParameters(reader: Reader): OipParameters {
  const { scanner } = reader;
  const entries: [string, string | number | boolean][] = [];
  scanner.object((key) => {
    if (entries.length === reader.limits.maxParameters) throw limit("parameters", reader.limits.maxParameters);
    if (key.length > reader.limits.maxNameLength) throw limit("characters in a name", reader.limits.maxNameLength);
    const code = scanner.peek();
    if (code === 0x22) entries.push([key, scanner.string()]);
    else if (code === 0x74 || code === 0x66) entries.push([key, scanner.boolean()]);
    else if (code === 0x2d || (code >= 0x30 && code <= 0x39)) {
      const value = scanner.number(false);
      // Beyond 2^53 a number would silently become another one.
      if (!Number.isFinite(value) || Math.abs(value) > Number.MAX_SAFE_INTEGER)
        throw malformed(`Parameter ${quoteName(key)} is a number beyond 2^53.`);
      entries.push([key, value]);
    } else throw malformed(`Parameter ${quoteName(key)} is not a string, number or boolean.`);
  });
  // fromEntries defines own properties, so a key "__proto__" is data like any other.
  return Object.fromEntries(entries);
}

function readShape(reader: Reader, name: string): number[] {
  const shape: number[] = [];
  const { scanner, limits } = reader;
  scanner.array((index) => {
    if (index === limits.maxRank)
      throw new AssayError("tensor_too_large", `Tensor ${quoteName(name)} has more than ${limits.maxRank} axes.`);
    const start = scanner.at;
    const code = scanner.peek();
    if (code !== 0x2d && !(code >= 0x30 && code <= 0x39)) throw scanner.fail("the size of an axis");
    const lexeme = scanner.number(false);
    if (!Number.isSafeInteger(lexeme) || lexeme < 0) {
      throw new AssayError("tensor_shape_invalid", `Tensor ${quoteName(name)} has an axis of size ${lexeme}.`);
    }
    scanner.at = start;
    shape.push(Number(scanner.integer()));
  });
  return shape;
}

function readDatatype(reader: Reader, name: string): Datatype {
  const text = reader.scanner.string();
  if (isDatatype(text)) return text;
  throw new AssayError("datatype_unknown", `Tensor ${quoteName(name)} has the unknown datatype ${quoteName(text)}.`, {
    hints: [`Datatypes: ${DATATYPES.join(", ")}.`],
  });
}

function readName(reader: Reader, what: string): string {
  const name = reader.scanner.string();
  if (name.length > reader.limits.maxNameLength) throw limit(`characters in a ${what}`, reader.limits.maxNameLength);
  if (name === "" && what === "name") throw malformed("A name is empty.");
  return name;
}

function claim(names: Set<string>, name: string): void {
  if (names.has(name)) throw new AssayError("tensor_duplicate", `Tensor ${quoteName(name)} occurs twice.`);
  names.add(name);
}

function unknown(reader: Reader, key: string): void {
  if (reader.kind === "request") throw malformed(`The request has an unknown field ${quoteName(key)}.`);
  reader.scanner.skip();
}

function unsupportedParameter(of: string, key: string): AssayError<"parameter_unsupported"> {
  return new AssayError("parameter_unsupported", `${of} has the parameter ${quoteName(key)}, which is not supported.`, {
    hints: ["Supported: binary_data_size on inputs, binary_data on outputs. Shared memory and classification are not."],
  });
}

export function malformed(
  sentence: string,
  cause?: unknown,
  hints: readonly string[] = [],
): AssayError<"request_malformed"> {
  return new AssayError("request_malformed", sentence, { hints, ...(cause === undefined ? {} : { cause }) });
}

function limit(what: string, most: number): AssayError<"request_limit_exceeded"> {
  return new AssayError("request_limit_exceeded", `The message has more than ${most} ${what}.`);
}
