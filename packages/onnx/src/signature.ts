import { AssayError } from "@assay/core";
import type { Dimension, OnnxModel, OnnxType } from "./model.ts";
import type { ElementType, OipDatatype } from "./types.ts";
import { datatypeOf, elementTypeName, unsupported } from "./types.ts";

export type TensorSignature = {
  readonly name: string;
  readonly elementType: ElementType;
  readonly datatype: OipDatatype;
  /** Per axis a fixed size, a symbolic name or `null`; `null` altogether when the rank is not declared. */
  readonly dims: readonly Dimension[] | null;
  /** The protocol's view of `dims`: -1 for an axis that is free. `[]` also stands for an undeclared rank. */
  readonly shape: readonly number[];
};

export type GraphSignature = {
  /** In the graph's order. `optional` inputs have an initialiser that stands in when they are not fed. */
  readonly inputs: readonly (TensorSignature & { readonly optional: boolean })[];
  readonly outputs: readonly TensorSignature[];
};

/**
 * What a caller feeds and gets. A graph input that an initialiser backs is optional from IR version 4 on; in older
 * files every initialiser had to be listed as an input, so there it is not an input at all.
 *
 * Throws `datatype_unsupported`, naming tensor and type, for an input or output that cannot be served (complex,
 * 8-bit floats, sub-byte types, sequence, map, optional and sparse values), and `onnx_signature_invalid` for a
 * name that is empty or occurs twice, and for a negative size.
 */
export function graphSignature(model: OnnxModel): GraphSignature {
  const { graph } = model;
  const defaults = new Set<string>();
  for (const tensor of graph.initializers) defaults.add(tensor.name);
  for (const sparse of graph.sparseInitializers) if (sparse.values !== undefined) defaults.add(sparse.values.name);
  const inputs: (TensorSignature & { optional: boolean })[] = [];
  const seen = new Set<string>();
  for (const info of graph.inputs) {
    claim(seen, info.name, "input");
    const optional = defaults.has(info.name);
    if (optional && model.irVersion < 4) continue;
    inputs.push({ ...tensorSignature(info.name, info.type), optional });
  }
  const outputNames = new Set<string>();
  const outputs = graph.outputs.map((info) => {
    claim(outputNames, info.name, "output");
    return tensorSignature(info.name, info.type);
  });
  return { inputs, outputs };
}

function claim(seen: Set<string>, name: string, what: string): void {
  if (name === "") throw invalid(`An ${what} of the graph has no name.`);
  if (seen.has(name)) throw invalid(`The graph has two ${what}s named "${name}".`);
  seen.add(name);
}

function tensorSignature(name: string, type: OnnxType): TensorSignature {
  if (type.kind !== "tensor") throw unsupported(name, describeType(type));
  const datatype = datatypeOf(type.elementType, name);
  const shape = (type.shape ?? []).map((dimension) => {
    if (typeof dimension !== "number") return -1;
    if (!Number.isSafeInteger(dimension) || dimension < 0)
      throw invalid(`Tensor "${name}" declares an axis of size ${dimension}.`);
    return dimension;
  });
  return { name, elementType: type.elementType, datatype, dims: type.shape, shape };
}

/** A type as people write it, for example `sequence(FLOAT)`. */
export function describeType(type: OnnxType): string {
  switch (type.kind) {
    case "tensor":
      return elementTypeName(type.elementType);
    case "sparse_tensor":
      return `sparse_tensor(${elementTypeName(type.elementType)})`;
    case "sequence":
    case "optional":
      return `${type.kind}(${type.element === undefined ? "unknown" : describeType(type.element)})`;
    case "map":
      return `map(${elementTypeName(type.keyType)}, ${type.value === undefined ? "unknown" : describeType(type.value)})`;
    default:
      return "unknown";
  }
}

function invalid(sentence: string): AssayError<"onnx_signature_invalid"> {
  return new AssayError("onnx_signature_invalid", sentence);
}
