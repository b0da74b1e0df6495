import type { Tensor } from "../tensor.ts";
import { checkTensorBytes, elementCount } from "./datatypes.ts";
import { DEFAULT_OIP_LIMITS } from "./limits.ts";
import { printJsonData } from "./print.ts";

/**
 * An encoded body in pieces, so that large tensors are not copied: write the chunks one after the other, or join
 * them with {@link joinBody}.
 */
export type EncodedBody = {
  readonly chunks: readonly Uint8Array[];
  readonly byteLength: number;
  /** Value of `Inference-Header-Content-Length`, bytes; absent when the body is JSON alone. */
  readonly headerLength?: number;
  readonly contentType: "application/json" | "application/octet-stream";
};

/** The JSON before binary tensors ends at a multiple of this, so that a reader may view the first one in place. */
const ALIGNMENT = 8;

// What is written has no length limit of its own: a tensor that exists may be sent.
const UNBOUNDED = { ...DEFAULT_OIP_LIMITS, maxElements: Number.MAX_SAFE_INTEGER };

const encoder = new TextEncoder();

/** One array of all chunks. */
export function joinBody(body: EncodedBody): Uint8Array {
  const [first] = body.chunks;
  if (first !== undefined && body.chunks.length === 1) return first;
  const out = new Uint8Array(body.byteLength);
  let at = 0;
  for (const chunk of body.chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** The JSON object of one tensor; its shape and bytes are checked against each other first. */
export function tensorJson(tensor: Tensor, binary: boolean): string {
  const { name, datatype, shape, data } = tensor;
  checkTensorBytes(tensor, elementCount(name, shape, UNBOUNDED));
  const head = `{"name":${JSON.stringify(name)},"shape":[${shape.join()}],"datatype":"${datatype}"`;
  return binary
    ? `${head},"parameters":{"binary_data_size":${data.length}}}`
    : `${head},"data":${printJsonData(tensor)}}`;
}

/** `json`, and behind it the binary tensors if there are any, even if all of them are empty. */
export function encodeMessage(json: string, binary: readonly Uint8Array[] | undefined): EncodedBody {
  const text = encoder.encode(json);
  if (binary === undefined) return { chunks: [text], byteLength: text.length, contentType: "application/json" };
  const headerLength = Math.ceil(text.length / ALIGNMENT) * ALIGNMENT;
  const header = new Uint8Array(headerLength).fill(0x20);
  header.set(text);
  let byteLength = headerLength;
  for (const chunk of binary) byteLength += chunk.length;
  return { chunks: [header, ...binary], byteLength, headerLength, contentType: "application/octet-stream" };
}
