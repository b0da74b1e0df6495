import { AssayError } from "@assay/core";
import type { Tensor } from "../tensor.ts";
import type { OipParameters } from "./document.ts";
import { readDocument } from "./document.ts";
import type { EncodedBody } from "./encode.ts";
import { encodeMessage, tensorJson } from "./encode.ts";
import type { OipLimits } from "./limits.ts";
import { DEFAULT_OIP_LIMITS } from "./limits.ts";

/** An inference response, to be encoded. */
export type InferResponseParts = {
  readonly modelName: string;
  readonly modelVersion?: string;
  readonly id?: string;
  readonly parameters?: OipParameters;
  /** In the order of the answer, each in JSON or binary form as the request asked. */
  readonly outputs: readonly { readonly tensor: Tensor; readonly binary: boolean }[];
};

/** An inference response, decoded. `outputs` are views on the body where they came in binary form. */
export type InferResponse = {
  readonly modelName: string;
  readonly modelVersion?: string;
  readonly id?: string;
  readonly parameters: OipParameters;
  readonly outputs: readonly Tensor[];
};

/**
 * Encodes an answer. With at least one binary output the JSON is padded with spaces to a multiple of 8 bytes and
 * `headerLength` is to be sent as `Inference-Header-Content-Length`.
 *
 * Throws `tensor_data_size`, `tensor_shape_invalid` or `tensor_value_range` for a tensor whose bytes do not fit what
 * it says of itself, and for outputs in JSON form `value_not_json`, `bytes_not_utf8` or `datatype_needs_binary`.
 */
export function encodeInferResponse(response: InferResponseParts): EncodedBody {
  const fields = [`"model_name":${JSON.stringify(response.modelName)}`];
  if (response.modelVersion !== undefined) fields.push(`"model_version":${JSON.stringify(response.modelVersion)}`);
  if (response.id !== undefined) fields.push(`"id":${JSON.stringify(response.id)}`);
  if (response.parameters !== undefined && Object.keys(response.parameters).length > 0)
    fields.push(`"parameters":${JSON.stringify(response.parameters)}`);
  const outputs = response.outputs.map(({ tensor, binary }) => tensorJson(tensor, binary));
  fields.push(`"outputs":[${outputs.join()}]`);
  const binary = response.outputs.filter((output) => output.binary).map((output) => output.tensor.data);
  return encodeMessage(`{${fields.join()}}`, binary.length === 0 ? undefined : binary);
}

/**
 * Decodes an answer on the client's side; unknown fields are read over, since a newer server may add some. Throws
 * `response_malformed` without a model name, else the codes of {@link parseInferRequest}.
 */
export function parseInferResponse(
  body: Uint8Array,
  headerLength: number | undefined,
  limits: Partial<OipLimits> = {},
): InferResponse {
  const document = readDocument("response", body, headerLength, { ...DEFAULT_OIP_LIMITS, ...limits });
  if (document.modelName === undefined)
    throw new AssayError("response_malformed", "The response does not name its model.");
  return {
    modelName: document.modelName,
    ...(document.modelVersion === undefined ? {} : { modelVersion: document.modelVersion }),
    ...(document.id === undefined ? {} : { id: document.id }),
    parameters: document.parameters,
    outputs: document.tensors,
  };
}
