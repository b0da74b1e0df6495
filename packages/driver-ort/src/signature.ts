import type { Datatype } from "@assay/protocol";
import { count, isObject, list, text } from "./control.ts";
import type { JsonObject } from "./control.ts";
import type { JsonValue } from "@assay/core";
import { isDatatype } from "./datatypes.ts";

/** One input or output. `shape` has -1 for a free axis, whose name (or "") stands at the same place in `symbols`. */
export type Port = {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly symbols: readonly string[];
};

/** What the engine says of a model, in the graph's order. */
export type Signature = { readonly inputs: readonly Port[]; readonly outputs: readonly Port[] };

/** JSON form of a signature for a control frame. */
export function signatureToJson({ inputs, outputs }: Signature): JsonObject {
  return { inputs: inputs.map(portToJson), outputs: outputs.map(portToJson) };
}

function portToJson({ name, datatype, shape, symbols }: Port): JsonObject {
  return { name, datatype, shape: [...shape], symbols: [...symbols] };
}

/** A signature out of a control frame, or `undefined` when it is not one. */
export function signatureFromJson(value: JsonObject): Signature | undefined {
  const inputs = list(value["inputs"]).map(portFromJson);
  const outputs = list(value["outputs"]).map(portFromJson);
  if (!inputs.every(isPort) || !outputs.every(isPort)) return undefined;
  return { inputs, outputs };
}

function isPort(port: Port | undefined): port is Port {
  return port !== undefined;
}

function portFromJson(value: JsonValue): Port | undefined {
  if (!isObject(value)) return undefined;
  const datatype = text(value["datatype"]);
  if (!isDatatype(datatype)) return undefined;
  const shape = list(value["shape"]).map((size) => (size === -1 ? -1 : count(size)));
  const symbols = list(value["symbols"]).map(text);
  return symbols.length === shape.length ? { name: text(value["name"]), datatype, shape, symbols } : undefined;
}

/**
 * Whether the signature alone allows rows of several requests to run together: there are inputs and outputs, all
 * have a free first axis, and every input names it alike. Whether outputs really follow it is for the probe to see.
 */
export function mayBatch({ inputs, outputs }: Signature): boolean {
  const symbol = inputs[0]?.symbols[0];
  return (
    symbol !== undefined &&
    outputs.length > 0 &&
    inputs.every((port) => port.shape[0] === -1 && port.symbols[0] === symbol) &&
    outputs.every((port) => port.shape[0] === -1)
  );
}
