import { ortError } from "./errors.ts";

/** Protobuf fields of `onnx.proto` that lead to a graph's weights. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;
const TENSOR_EXTERNAL_DATA = 13;
const TENSOR_DATA_LOCATION = 14;
/** Fields of a model nobody needs more of; past this the file is not a model but an attack on its reader. */
const MAX_FIELDS = 2_000_000;

type Field = {
  readonly number: number;
  readonly wire: number;
  readonly from: number;
  readonly start: number;
  readonly end: number;
};

/** Names of the files that the graph's weights are kept in, each once. Throws `model_invalid` for broken protobuf. */
export function externalFiles(model: Uint8Array): string[] {
  const locations = new Set<string>();
  const graph = subgraph(model);
  if (graph === undefined) return [];
  for (const tensor of fields(model, graph.start, graph.end)) {
    if (tensor.number !== GRAPH_INITIALIZER || tensor.wire !== 2) continue;
    const entries = externalEntries(model, tensor);
    if (entries === undefined) continue;
    const location = entries.get("location");
    if (location === undefined) throw ortError("model_invalid", "A weight is kept elsewhere but does not say where.");
    locations.add(location);
  }
  return [...locations];
}

/**
 * The model with every external weight of its graph copied into it. `offset` and `length` of a weight must lie in
 * its file; both are optional (the whole rest). Throws `model_invalid` for a bad range and past `maxBytes`.
 */
export function inlineExternalData(
  model: Uint8Array,
  weights: ReadonlyMap<string, Uint8Array>,
  maxBytes: number,
): Uint8Array {
  const graph = subgraph(model);
  if (graph === undefined) return model;
  const pieces: Uint8Array[] = [];
  let copied = graph.start;
  for (const tensor of fields(model, graph.start, graph.end)) {
    if (tensor.number !== GRAPH_INITIALIZER || tensor.wire !== 2) continue;
    const entries = externalEntries(model, tensor);
    if (entries === undefined) continue;
    pieces.push(model.subarray(copied, tensor.from));
    copied = tensor.end;
    const own: Uint8Array[] = [];
    for (const part of fields(model, tensor.start, tensor.end)) {
      const moved = [TENSOR_RAW_DATA, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION].includes(part.number);
      if (!moved) own.push(model.subarray(part.from, part.end));
    }
    const data = range(weights.get(entries.get("location") ?? ""), entries);
    own.push(...lengthPrefixed(TENSOR_RAW_DATA, data));
    pieces.push(...lengthPrefixed(GRAPH_INITIALIZER, ...own));
  }
  pieces.push(model.subarray(copied, graph.end));
  const out = [model.subarray(0, graph.from), ...lengthPrefixed(MODEL_GRAPH, ...pieces), model.subarray(graph.end)];
  let total = 0;
  for (const piece of out) total += piece.length;
  if (total > maxBytes) {
    throw ortError("model_invalid", `The model has ${total} bytes with its weights, more than ${maxBytes}.`);
  }
  return Buffer.concat(out, total);
}

function subgraph(model: Uint8Array): Field | undefined {
  let graph: Field | undefined;
  for (const field of fields(model, 0, model.length)) {
    if (field.number !== MODEL_GRAPH || field.wire !== 2) continue;
    // Protobuf would merge two graphs; a file that relies on it is not worth the doubt.
    if (graph !== undefined) throw ortError("model_invalid", "The model has more than one graph.");
    graph = field;
  }
  return graph;
}

/** Keys and values of a tensor whose data is external, or `undefined` when it is not. */
function externalEntries(model: Uint8Array, tensor: Field): Map<string, string> | undefined {
  let external = false;
  const entries = new Map<string, string>();
  for (const field of fields(model, tensor.start, tensor.end)) {
    if (field.number === TENSOR_DATA_LOCATION && field.wire === 0)
      external = varint(model, field.start, field.end).value === 1;
    if (field.number !== TENSOR_EXTERNAL_DATA || field.wire !== 2) continue;
    let key = "";
    let value = "";
    for (const part of fields(model, field.start, field.end)) {
      const text = Buffer.from(model.buffer, model.byteOffset + part.start, part.end - part.start).toString("utf8");
      if (part.number === 1 && part.wire === 2) key = text;
      if (part.number === 2 && part.wire === 2) value = text;
    }
    if (entries.has(key)) throw ortError("model_invalid", "A weight says twice where it is kept.");
    entries.set(key, value);
  }
  return external ? entries : undefined;
}

function range(file: Uint8Array | undefined, entries: ReadonlyMap<string, string>): Uint8Array {
  const bytes = file ?? new Uint8Array();
  const offset = whole(entries.get("offset") ?? "0");
  const length = entries.has("length") ? whole(entries.get("length") ?? "") : bytes.length - offset;
  if (length < 0 || offset + length > bytes.length) {
    throw ortError("model_invalid", `A weight claims ${length} bytes from ${offset} on of a file of ${bytes.length}.`);
  }
  return bytes.subarray(offset, offset + length);
}

function whole(text: string): number {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw ortError("model_invalid", "A weight's place in its file is not a whole number.");
  return value;
}

function lengthPrefixed(number: number, ...parts: readonly Uint8Array[]): Uint8Array[] {
  let length = 0;
  for (const part of parts) length += part.length;
  const head = [(number << 3) | 2];
  let left = length;
  while (left > 0x7f) {
    head.push((left % 128) | 0x80);
    left = Math.floor(left / 128);
  }
  head.push(left);
  return [Uint8Array.from(head), ...parts];
}

function* fields(bytes: Uint8Array, start: number, end: number): Generator<Field> {
  let at = start;
  for (let count = 0; at < end; count++) {
    if (count > MAX_FIELDS) throw broken();
    const from = at;
    const tag = varint(bytes, at, end);
    at = tag.next;
    const number = Math.floor(tag.value / 8);
    const wire = tag.value % 8;
    let from2 = at;
    if (wire === 0) at = varint(bytes, at, end).next;
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint(bytes, at, end);
      from2 = length.next;
      at = from2 + length.value;
    } else throw broken();
    if (at > end || number === 0) throw broken();
    yield { number, wire, from, start: from2, end: at };
  }
}

function varint(bytes: Uint8Array, start: number, end: number): { value: number; next: number } {
  let value = 0;
  let scale = 1;
  for (let at = start; at < end && at < start + 10; at++) {
    const byte = bytes[at] ?? 0;
    // Beyond 2^53 the value is wrong, but only lengths and tags are used, and those are checked against the end.
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte < 0x80) return { value, next: at + 1 };
  }
  throw broken();
}

function broken(): Error {
  return ortError("model_invalid", "The file is not well-formed protobuf.");
}
