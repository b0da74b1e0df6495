import { AssayError, utf8ToBytes } from "@assay/core";
import type { ReadLimits } from "./limits.ts";
import { DEFAULT_READ_LIMITS } from "./limits.ts";
import type { Field } from "./wire.ts";
import { BYTES, eachField, FIXED32, VARINT } from "./wire.ts";

/**
 * Encoded bytes as a list of pieces, most of them views on the original file: rewriting a large model copies its
 * weights once, in {@link joinChunks}, and never re-encodes them.
 */
export type Chunks = readonly Uint8Array[];

/** What to do with one field: `true` keeps its bytes as they are, `false` drops it, chunks replace it. */
export type Edit = boolean | Chunks;

const MAX_JOINED_BYTES = 2_147_483_647;

/** One varint field holding an int64 (negative values take ten bytes, as in every protobuf encoder). */
export function varintField(number: number, value: number | bigint): Chunks {
  return [new Uint8Array([...varint(number * 8 + VARINT), ...varint(BigInt.asUintN(64, BigInt(value)))])];
}

/** One field holding a float32. */
export function floatField(number: number, value: number): Chunks {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setFloat32(0, value, true);
  return [new Uint8Array(varint(number * 8 + FIXED32)), bytes];
}

/** One length-delimited field holding UTF-8 text. */
export function stringField(number: number, text: string): Chunks {
  return messageField(number, [utf8ToBytes(text)]);
}

/** One length-delimited field holding a nested message or bytes, given as its already encoded payload. */
export function messageField(number: number, payload: Chunks): Chunks {
  return [new Uint8Array([...varint(number * 8 + BYTES), ...varint(byteLength(payload))]), ...payload];
}

export function byteLength(chunks: Chunks): number {
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  return length;
}

/** One array of all chunks. Throws `onnx_rewrite_too_large` past 2 GiB, which protobuf cannot carry. */
export function joinChunks(chunks: Chunks): Uint8Array {
  const length = byteLength(chunks);
  if (length > MAX_JOINED_BYTES)
    throw new AssayError("onnx_rewrite_too_large", `The rewritten model would take ${length} bytes.`);
  const out = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/**
 * Rewrites one message, the bytes `[from, to)` of a file, field by field: `edit` is asked for each field in order
 * and `append` goes to the end. Everything kept is the original bytes, unknown fields included. To rewrite a nested
 * message, return `messageField(number, rewriteMessage(bytes, field.from, field.to, ...))` from the outer `edit`;
 * to append an element to a repeated field, put it in `append`, since protobuf only orders equal field numbers.
 *
 * Throws what {@link readModel} throws for bytes that are not a message.
 */
export function rewriteMessage(
  bytes: Uint8Array,
  from: number,
  to: number,
  edit: (field: Readonly<Field>) => Edit,
  append: Chunks = [],
  limits: Partial<ReadLimits> = {},
): Chunks {
  const out: Uint8Array[] = [];
  const budget = { limits: { ...DEFAULT_READ_LIMITS, ...limits }, fields: 0, nodes: 0 };
  let keptFrom = from;
  const flush = (end: number): void => {
    if (end > keptFrom) out.push(bytes.subarray(keptFrom, end));
  };
  eachField(bytes, from, to, budget, 1, (field) => {
    // The visit may recurse into this function, so the reused field is copied before it is handed out.
    const { number, wire, start, from: payload, to: end } = field;
    const decision = edit({ number, wire, start, from: payload, to: end });
    if (decision === true) return;
    flush(start);
    if (decision !== false) for (const chunk of decision) out.push(chunk);
    keptFrom = end;
  });
  flush(to);
  for (const chunk of append) out.push(chunk);
  return out;
}

/** Rewrites the graph of a model file and leaves everything around it as it is; the graph is field 7 of the model. */
export function rewriteGraph(
  model: Uint8Array,
  edit: (field: Readonly<Field>) => Edit,
  append: Chunks = [],
  limits: Partial<ReadLimits> = {},
): Chunks {
  return rewriteMessage(
    model,
    0,
    model.length,
    (field) => field.number !== 7 || messageField(7, rewriteMessage(model, field.from, field.to, edit, append, limits)),
    [],
    limits,
  );
}

function varint(value: number | bigint): number[] {
  const out: number[] = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    out.push(rest === 0n ? low : low | 0x80);
  } while (rest !== 0n);
  return out;
}
