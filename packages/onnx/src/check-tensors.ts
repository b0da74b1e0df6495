import type { CheckLimits } from "./check.ts";
import type { Findings } from "./findings.ts";
import { quote } from "./findings.ts";
import type {
  OnnxAttribute,
  OnnxEntry,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxSparseTensor,
  OnnxTensor,
} from "./model.ts";
import { pathFault } from "./path.ts";
import { elementBits, elementTypeName, isKnownElementType, isLowBit, STRING } from "./types.ts";

/** Where a tensor's bytes lie in a file beside the model. */
type ExternalRange = { readonly path: string; readonly offset: number; readonly length: number };

/** Keys of external data that the format defines (TensorProto.external_data). */
const EXTERNAL_KEYS: ReadonlySet<string> = new Set(["location", "offset", "length", "checksum", "basepath"]);

/**
 * Checks every tensor stored in or beside the model, wherever it stands: initialisers, attributes, sparse parts,
 * subgraphs and functions. A declared shape must agree with the bytes that are really there.
 */
export function checkTensors(
  model: OnnxModel,
  findings: Findings,
  limits: CheckLimits,
): { readonly elements: number; readonly externalPaths: readonly string[] } {
  const ranges: (ExternalRange & { readonly tensor: string })[] = [];
  let elements = 0;
  eachTensor(model, (tensor) => {
    const count = checkTensor(tensor, findings, limits);
    if (count === undefined) return;
    elements += count;
    if (tensor.storage.kind !== "external") return;
    const range = checkExternal(tensor, tensor.storage.entries, count, findings, limits);
    if (range !== undefined) ranges.push({ ...range, tensor: tensor.name });
  });
  if (elements > limits.maxTotalElements) {
    const most = limits.maxTotalElements;
    findings.refuse("tensors_too_large", `The tensors hold ${elements} elements together, more than ${most}.`);
  }
  checkOverlaps(ranges, findings);
  return { elements, externalPaths: [...new Set(ranges.map((range) => range.path))].sort() };
}

function eachTensor(model: OnnxModel, visit: (tensor: OnnxTensor) => void): void {
  const sparse = (tensor: OnnxSparseTensor): void => {
    if (tensor.values !== undefined) visit(tensor.values);
    if (tensor.indices !== undefined) visit(tensor.indices);
  };
  const attributes = (list: readonly OnnxAttribute[]): void => {
    for (const attribute of list) {
      attribute.tensors.forEach(visit);
      attribute.sparseTensors.forEach(sparse);
      attribute.graphs.forEach(graph);
    }
  };
  const nodes = (list: readonly OnnxNode[]): void => {
    for (const node of list) attributes(node.attributes);
  };
  const graph = (at: OnnxGraph): void => {
    at.initializers.forEach(visit);
    at.sparseInitializers.forEach(sparse);
    nodes(at.nodes);
  };
  graph(model.graph);
  for (const fn of model.functions) {
    attributes(fn.attributeDefaults);
    nodes(fn.nodes);
  }
}

/** Elements of the tensor, or `undefined` when its shape or type makes no sense. */
function checkTensor(tensor: OnnxTensor, findings: Findings, limits: CheckLimits): number | undefined {
  const what = `Tensor ${quote(tensor.name)}`;
  const { elementType, storage } = tensor;
  if (!isKnownElementType(elementType)) {
    findings.refuse("tensor_type_unknown", `${what} has type ${elementTypeName(elementType)}.`);
    return undefined;
  }
  if (isLowBit(elementType)) {
    const type = elementTypeName(elementType);
    findings.refuse("low_bit_type", `${what} has type ${type}, on which the engines abort.`);
  }
  let count = 1;
  for (const dim of tensor.dims) {
    if (dim < 0 || !Number.isSafeInteger(dim)) {
      findings.refuse("tensor_shape_invalid", `${what} declares an axis of size ${dim}.`);
      return undefined;
    }
    count *= dim;
  }
  if (!(count <= limits.maxTensorElements)) {
    findings.refuse("tensor_too_large", `${what} declares more than ${limits.maxTensorElements} elements.`);
    return undefined;
  }
  if (storage.kind === "ambiguous") {
    findings.refuse("tensor_storage_ambiguous", `${what} stores its elements in more than one way.`);
    return undefined;
  }
  if (storage.kind === "external") return count;
  const fault = storageFault(tensor, count);
  if (fault !== undefined) findings.refuse("tensor_size_mismatch", `${what} ${fault}.`);
  return count;
}

function storageFault(tensor: OnnxTensor, count: number): string | undefined {
  const { elementType, storage } = tensor;
  if (storage.kind === "none") return count === 0 ? undefined : `declares ${count} elements and stores none`;
  if (storage.kind === "raw") {
    if (elementType === STRING) return "stores strings as raw bytes, which the format forbids";
    const expected = byteLength(elementType, count);
    return storage.length === expected ? undefined : `declares ${expected} bytes and stores ${storage.length}`;
  }
  if (storage.kind !== "typed") return undefined;
  const expected = typedEntries(elementType, count);
  if (expected === undefined || expected.field !== storage.field)
    return `stores ${elementTypeName(elementType)} in ${storage.field}`;
  if (storage.count === expected.entries) return undefined;
  return `declares ${expected.entries} entries of ${storage.field} and stores ${storage.count}`;
}

function byteLength(elementType: number, count: number): number {
  return Math.ceil((count * elementBits(elementType)) / 8);
}

/** Which typed field holds an element type, and how many entries `count` elements take (TensorProto's comments). */
function typedEntries(elementType: number, count: number): { field: string; entries: number } | undefined {
  switch (elementType) {
    case 1:
      return { field: "float_data", entries: count };
    case 14:
      return { field: "float_data", entries: 2 * count };
    case 8:
      return { field: "string_data", entries: count };
    case 7:
      return { field: "int64_data", entries: count };
    case 11:
      return { field: "double_data", entries: count };
    case 15:
      return { field: "double_data", entries: 2 * count };
    case 12:
    case 13:
      return { field: "uint64_data", entries: count };
    default:
      // Sub-byte elements are packed into bytes, and each byte takes one entry.
      return { field: "int32_data", entries: isLowBit(elementType) ? byteLength(elementType, count) : count };
  }
}

function checkExternal(
  tensor: OnnxTensor,
  entries: readonly OnnxEntry[],
  count: number,
  findings: Findings,
  limits: CheckLimits,
): ExternalRange | undefined {
  const what = `External data of tensor ${quote(tensor.name)}`;
  const values = new Map<string, string>();
  for (const { key, value } of entries) {
    if (!EXTERNAL_KEYS.has(key)) {
      findings.refuse("external_data_malformed", `${what} has an unknown key ${quote(key)}.`);
      return undefined;
    }
    if (values.has(key)) {
      findings.refuse("external_data_malformed", `${what} gives ${key} twice.`);
      return undefined;
    }
    values.set(key, value);
  }
  if (values.has("basepath")) {
    findings.refuse("external_data_path", `${what} names a base path, which would move it out of the model's files.`);
    return undefined;
  }
  if (tensor.elementType === STRING) {
    findings.refuse("external_data_malformed", `${what} would be strings, which the format forbids.`);
    return undefined;
  }
  const path = values.get("location") ?? "";
  const fault = pathFault(path);
  if (fault !== undefined) {
    findings.refuse("external_data_path", `${what} has location ${quote(path)}: ${fault}.`);
    return undefined;
  }
  const expected = byteLength(tensor.elementType, count);
  const offset = decimal(values.get("offset") ?? "0");
  const length = decimal(values.get("length") ?? String(expected));
  if (offset === undefined || length === undefined) {
    findings.refuse("external_data_range", `${what} has an offset or length that is not a plain decimal number.`);
    return undefined;
  }
  if (length !== expected) {
    findings.refuse("external_data_range", `${what} has length ${length}, but the tensor takes ${expected} bytes.`);
    return undefined;
  }
  const size = limits.externalFiles.get(path);
  if (size === undefined) {
    findings.refuse("external_data_missing", `${what} lies in ${quote(path)}, which is not among the model's files.`);
    return undefined;
  }
  if (offset + length > size) {
    findings.refuse(
      "external_data_range",
      `${what} ends at byte ${offset + length} of ${quote(path)}, past its ${size}.`,
    );
    return undefined;
  }
  return { path, offset, length };
}

/** A decimal without sign, leading zeros or exponent, at most 2^53; engines read other forms differently. */
function decimal(text: string): number | undefined {
  if (!/^(?:0|[1-9][0-9]{0,15})$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

function checkOverlaps(ranges: readonly (ExternalRange & { readonly tensor: string })[], findings: Findings): void {
  const sorted = ranges
    .filter((range) => range.length > 0)
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.offset - b.offset));
  let last: (typeof sorted)[number] | undefined;
  for (const range of sorted) {
    if (last !== undefined && last.path === range.path && range.offset < last.offset + last.length) {
      const names = `${quote(last.tensor)} and ${quote(range.tensor)}`;
      findings.refuse("external_data_overlap", `Tensors ${names} overlap in ${quote(range.path)}.`);
    }
    // The one that reaches furthest stays, so that a long range is compared with all that it covers.
    if (last === undefined || last.path !== range.path || range.offset + range.length > last.offset + last.length)
      last = range;
  }
}
