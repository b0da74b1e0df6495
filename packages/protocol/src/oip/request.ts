import { AssayError } from "@assay/core";
import type { Datatype, Tensor } from "../tensor.ts";
import {
  checkTensorBytes,
  elementCount,
  elementSize,
  packBytesElements,
  quoteName,
  sizeMismatch,
} from "./datatypes.ts";
import type { OipParameters, OutputRequest } from "./document.ts";
import { malformed, readDocument } from "./document.ts";
import type { EncodedBody } from "./encode.ts";
import { encodeMessage, tensorJson } from "./encode.ts";
import type { OipLimits } from "./limits.ts";
import { DEFAULT_OIP_LIMITS } from "./limits.ts";

/** An inference request of the Open Inference Protocol v2, decoded. */
export type InferRequest = {
  readonly id?: string;
  /** Parameters of the request, without `binary_data_output`. */
  readonly parameters: OipParameters;
  /** Their `data` are views on the body where they came in binary form. */
  readonly inputs: readonly Tensor[];
  /** Outputs wanted, in order, and whether each is to be binary; absent means all of them. */
  readonly outputs?: readonly OutputRequest[];
  /** Whether outputs that the request does not select by name are to be binary. */
  readonly binaryOutput: boolean;
};

/** What the raw binary request, which names nothing, is read as: the model's only input. */
export type RawInput = {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 for an axis whose size is free; at most one is. */
  readonly shape: readonly number[];
};

export type InferRequestOptions = {
  readonly limits?: Partial<OipLimits>;
  /** Absent where the model has not exactly one input: then a raw request is refused. */
  readonly rawInput?: RawInput;
};

/**
 * Value of the header `Inference-Header-Content-Length`, bytes; `undefined` when it is absent. Throws
 * `header_length_invalid` for anything but a plain decimal number.
 */
export function parseHeaderLength(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^[0-9]{1,15}$/.test(value)) return Number(value);
  throw new AssayError("header_length_invalid", "Inference-Header-Content-Length is not a plain decimal number.");
}

/**
 * Decodes the body of `POST /v2/models/{model}/infer`. `headerLength` is the value of the header
 * `Inference-Header-Content-Length`: absent for a JSON body; the length of the JSON before binary tensors (binary
 * tensor data extension); 0 for a raw request whose whole body is the single input.
 *
 * Refuses, naming the tensor: `request_malformed` (JSON, missing or unknown fields, keys twice),
 * `request_too_large`, `request_limit_exceeded`, `header_length_invalid`, `trailing_bytes`, `tensor_duplicate`,
 * `datatype_unknown`, `tensor_shape_invalid`, `tensor_too_large`, `tensor_data_missing`, `tensor_data_invalid`,
 * `tensor_data_size`, `tensor_nesting`, `tensor_value_range`, `datatype_needs_binary`, `parameter_unsupported`,
 * `raw_request_unsupported`.
 */
export function parseInferRequest(
  body: Uint8Array,
  headerLength: number | undefined,
  options: InferRequestOptions = {},
): InferRequest {
  const limits: OipLimits = { ...DEFAULT_OIP_LIMITS, ...options.limits };
  if (headerLength === 0) return rawRequest(body, options.rawInput, limits);
  const document = readDocument("request", body, headerLength, limits);
  if (document.tensors.length === 0) throw malformed("The request has no inputs.");
  const { binary_data_output: binaryOutput = false, ...parameters } = document.parameters;
  if (typeof binaryOutput !== "boolean") throw malformed("binary_data_output is not a boolean.");
  return {
    ...(document.id === undefined ? {} : { id: document.id }),
    parameters,
    inputs: document.tensors,
    ...(document.outputs === undefined || document.outputs.length === 0
      ? {}
      : { outputs: document.outputs.map(({ name, binary }) => ({ name, binary: binary ?? binaryOutput })) }),
    binaryOutput,
  };
}

function rawRequest(body: Uint8Array, input: RawInput | undefined, limits: OipLimits): InferRequest {
  if (body.length > limits.maxBodyBytes) {
    throw new AssayError("request_too_large", `The body has ${body.length} bytes, more than ${limits.maxBodyBytes}.`);
  }
  if (input === undefined) {
    throw new AssayError("raw_request_unsupported", "A raw request needs a model with exactly one input.");
  }
  const { name, datatype } = input;
  // Raw BYTES are one element, whose length is the body's and not repeated in it.
  const data = datatype === "BYTES" ? packBytesElements([body]) : body;
  const elements = datatype === "BYTES" ? 1 : body.length / elementSize(datatype);
  const shape = resolveShape(name, input.shape, elements);
  const tensor: Tensor = { name, datatype, shape, data };
  checkTensorBytes(tensor, elementCount(name, shape, limits));
  return { parameters: {}, inputs: [tensor], binaryOutput: true };
}

function resolveShape(name: string, shape: readonly number[], elements: number): number[] {
  const free = shape.filter((size) => size < 0).length;
  if (free === 0) return [...shape];
  const fixed = shape.reduce((product, size) => (size < 0 ? product : product * size), 1);
  if (free > 1) {
    const sentence = `A raw request cannot tell the shape of input ${quoteName(name)}, of which ${free} axes are free.`;
    throw new AssayError("raw_request_unsupported", sentence);
  }
  const size = elements / fixed;
  if (!Number.isSafeInteger(size)) throw sizeMismatch(name, `cannot be made of ${elements} elements`);
  return shape.map((declared) => (declared < 0 ? size : declared));
}

export type InferRequestParts = {
  readonly id?: string;
  readonly parameters?: OipParameters;
  readonly inputs: readonly Tensor[];
  readonly outputs?: readonly OutputRequest[];
  /** Whether outputs come back in binary form unless selected otherwise. Default: as `binary`. */
  readonly binaryOutput?: boolean;
  /** Whether inputs are sent in binary form. Default true: JSON costs about a hundred times more to read. */
  readonly binary?: boolean;
};

/**
 * Encodes a request for `POST /v2/models/{model}/infer`; send `headerLength`, where there is one, as
 * `Inference-Header-Content-Length`. Throws what {@link encodeInferResponse} throws.
 */
export function encodeInferRequest(request: InferRequestParts): EncodedBody {
  const binary = request.binary ?? true;
  const binaryOutput = request.binaryOutput ?? binary;
  const fields: string[] = [];
  if (request.id !== undefined) fields.push(`"id":${JSON.stringify(request.id)}`);
  const parameters = { ...request.parameters, ...(binaryOutput ? { binary_data_output: true } : {}) };
  if (Object.keys(parameters).length > 0) fields.push(`"parameters":${JSON.stringify(parameters)}`);
  fields.push(`"inputs":[${request.inputs.map((tensor) => tensorJson(tensor, binary)).join()}]`);
  if (request.outputs !== undefined) {
    const outputs = request.outputs.map(
      ({ name, binary }) => `{"name":${JSON.stringify(name)},"parameters":{"binary_data":${binary}}}`,
    );
    fields.push(`"outputs":[${outputs.join()}]`);
  }
  return encodeMessage(`{${fields.join()}}`, binary ? request.inputs.map((tensor) => tensor.data) : undefined);
}
