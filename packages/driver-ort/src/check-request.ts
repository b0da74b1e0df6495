import type { Tensor } from "@assay/protocol";
import { byteStringFault } from "./byte-strings.ts";
import { ELEMENT_BYTES, elementCount } from "./datatypes.ts";
import { ortError } from "./errors.ts";
import { MAX_RANK, MAX_TENSORS } from "./limits.ts";
import type { Port, Signature } from "./signature.ts";

export type TensorLimits = {
  /** Bytes of one tensor. */
  readonly maxTensorBytes: number;
  /** Elements of one tensor. */
  readonly maxTensorElements: number;
  /** Bytes of all tensors of a request together. */
  readonly maxFrameBytes: number;
};

/** What a request asks of a session: inputs in the graph's order and indexes of the outputs wanted. */
export type CheckedRequest = { readonly inputs: readonly Tensor[]; readonly outputs: readonly number[] };

/**
 * Refuses tensors that no model could be given: `tensor_too_large` past a limit, `input_shape` for sizes that are
 * no sizes or data of another length than its shape says, `input_datatype` for a BOOL byte other than 0 and 1 and
 * for BYTES elements that are not UTF-8 text. Returns the bytes of all tensors together.
 */
export function checkTensors(inputs: readonly Tensor[], limits: TensorLimits): number {
  if (inputs.length > MAX_TENSORS) {
    throw ortError("tensor_too_large", `The request has ${inputs.length} tensors, more than ${MAX_TENSORS}.`);
  }
  let total = 0;
  for (const tensor of inputs) {
    checkTensor(tensor, limits);
    total += tensor.data.length;
  }
  if (total > limits.maxFrameBytes) {
    throw ortError("tensor_too_large", `The tensors have ${total} bytes together, more than ${limits.maxFrameBytes}.`);
  }
  return total;
}

function checkTensor({ name, datatype, shape, data }: Tensor, limits: TensorLimits): void {
  if (shape.length > MAX_RANK) {
    throw ortError("tensor_too_large", `The tensor ${quoted(name)} has ${shape.length} axes, more than ${MAX_RANK}.`);
  }
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0 && size < 2 ** 32)) {
    throw ortError(
      "input_shape",
      `The tensor ${quoted(name)} has an axis whose size is not a whole number below 2^32.`,
    );
  }
  const elements = elementCount(shape);
  if (elements > limits.maxTensorElements) {
    throw ortError(
      "tensor_too_large",
      `The tensor ${quoted(name)} has more than ${limits.maxTensorElements} elements.`,
    );
  }
  if (data.length > limits.maxTensorBytes) {
    throw ortError("tensor_too_large", `The tensor ${quoted(name)} has more than ${limits.maxTensorBytes} bytes.`);
  }
  if (datatype === "BYTES") {
    const fault = byteStringFault(data, elements);
    if (fault === "framing") {
      throw ortError("input_shape", `The data of ${quoted(name)} is not ${elements} length-prefixed elements.`, [
        "Each element is a 4-byte little-endian length and its bytes.",
      ]);
    }
    if (fault === "text") {
      throw ortError("input_datatype", `An element of ${quoted(name)} is not UTF-8 text without U+0000.`, [
        "ONNX strings are text; send other bytes as UINT8.",
      ]);
    }
    return;
  }
  const expected = elements * ELEMENT_BYTES[datatype];
  if (data.length !== expected) {
    throw ortError(
      "input_shape",
      `The data of ${quoted(name)} has ${data.length} bytes where its shape needs ${expected}.`,
    );
  }
  if (datatype === "BOOL" && data.some((byte) => byte > 1)) {
    throw ortError("input_datatype", `The BOOL tensor ${quoted(name)} has a byte other than 0 and 1.`);
  }
}

/**
 * Matches a request with a model's signature. Throws `input_missing`, `input_unexpected`, `input_datatype`,
 * `input_shape` (rank, fixed sizes, or one axis name with two sizes) or `output_unknown`.
 */
export function checkRequest(
  inputs: readonly Tensor[],
  wanted: readonly string[] | undefined,
  signature: Signature,
): CheckedRequest {
  const given = new Map<string, Tensor>();
  for (const tensor of inputs) {
    if (given.has(tensor.name)) {
      throw ortError("input_unexpected", `The input ${quoted(tensor.name)} is given twice.`);
    }
    given.set(tensor.name, tensor);
  }
  const sizes = new Map<string, number>();
  const ordered = signature.inputs.map((port) => {
    const tensor = given.get(port.name);
    if (tensor === undefined) {
      throw ortError("input_missing", `The model needs an input ${quoted(port.name)}, which is not given.`, [
        `Its inputs are ${signature.inputs.map(describe).join(", ")}.`,
      ]);
    }
    given.delete(port.name);
    checkPort(port, tensor, sizes);
    return tensor;
  });
  for (const name of given.keys()) {
    throw ortError("input_unexpected", `The model has no input ${quoted(name)}.`, [
      `Its inputs are ${signature.inputs.map(describe).join(", ")}.`,
    ]);
  }
  return { inputs: ordered, outputs: outputIndexes(wanted, signature) };
}

function checkPort(port: Port, tensor: Tensor, sizes: Map<string, number>): void {
  if (tensor.datatype !== port.datatype) {
    throw ortError(
      "input_datatype",
      `The input ${quoted(port.name)} is ${tensor.datatype} where the model takes ${port.datatype}.`,
    );
  }
  if (tensor.shape.length !== port.shape.length) {
    throw ortError(
      "input_shape",
      `The input ${quoted(port.name)} has ${tensor.shape.length} axes, not ${port.shape.length}.`,
      [`The model takes ${describe(port)}.`],
    );
  }
  for (const [axis, size] of tensor.shape.entries()) {
    const symbol = port.symbols[axis] ?? "";
    const fixed = port.shape[axis] ?? -1;
    const expected = fixed >= 0 ? fixed : symbol === "" ? size : (sizes.get(symbol) ?? size);
    if (size !== expected) {
      throw ortError(
        "input_shape",
        `Axis ${axis} of the input ${quoted(port.name)} is ${size} where it must be ${expected}.`,
        [`The model takes ${describe(port)}.`],
      );
    }
    if (fixed < 0 && symbol !== "") sizes.set(symbol, size);
  }
}

function outputIndexes(wanted: readonly string[] | undefined, { outputs }: Signature): readonly number[] {
  if (wanted === undefined) return outputs.map((_, index) => index);
  if (wanted.length === 0) throw ortError("output_unknown", "The request asks for no output at all.");
  const indexes = wanted.map((name) => {
    const index = outputs.findIndex((port) => port.name === name);
    if (index >= 0) return index;
    throw ortError("output_unknown", `The model has no output ${quoted(name)}.`, [
      `Its outputs are ${outputs.map(describe).join(", ")}.`,
    ]);
  });
  if (new Set(indexes).size !== indexes.length) throw ortError("output_unknown", "An output is asked for twice.");
  return indexes;
}

function describe({ name, datatype, shape, symbols }: Port): string {
  const axes = shape.map((size, axis) => (size >= 0 ? String(size) : symbols[axis] || "-1"));
  return `${quoted(name)} ${datatype} [${axes.join(", ")}]`;
}

/** Names come from models and requests: shown, but never at a length that floods a log. */
function quoted(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}
