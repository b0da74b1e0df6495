import type { AssayError } from "@assay/core";
import type { SessionMetadata } from "../runtime.ts";
import type { ErrorDocument, ModelMetadata, ModelReady, ServerMetadata } from "./schemas.ts";

/** Extensions that the codecs of this folder speak. */
export const OIP_EXTENSIONS = ["binary_tensor_data"] as const;

/** Document of `GET /v2`. */
export function serverMetadata(name: string, version: string, extensions: readonly string[] = []): ServerMetadata {
  return { name, version, extensions: [...OIP_EXTENSIONS, ...extensions] };
}

/** Document of `GET /v2/models/{model}`: what the session says of the model, -1 for a free axis. */
export function modelMetadata(
  name: string,
  versions: readonly string[],
  session: Pick<SessionMetadata, "inputs" | "outputs">,
): ModelMetadata {
  return {
    name,
    versions: [...versions],
    platform: "onnx_onnxv1",
    inputs: session.inputs.map(tensorMetadata),
    outputs: session.outputs.map(tensorMetadata),
  };
}

function tensorMetadata({ name, datatype, shape }: SessionMetadata["inputs"][number]): ModelMetadata["inputs"][number] {
  return { name, datatype, shape: [...shape] };
}

/** Document of `GET /v2/models/{model}/ready`. */
export function modelReady(name: string, ready: boolean): ModelReady {
  return { name, ready };
}

/** Body of an error answer: the protocol's `error`, with the stable code and hints beside it. */
export function errorDocument(error: AssayError): ErrorDocument {
  return {
    error: error.message,
    code: error.code,
    ...(error.hints.length === 0 ? {} : { hints: [...error.hints] }),
  };
}
