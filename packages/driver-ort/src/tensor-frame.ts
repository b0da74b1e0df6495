import { MAX_RANK, MAX_TENSORS } from "./limits.ts";

/** A tensor on the wire: its name and datatype are known from the session's metadata by position. */
export type WireTensor = { readonly shape: readonly number[]; readonly data: readonly Uint8Array[] };

/** What was read back: the data is a view into the frame's body. */
export type ReadTensor = { readonly shape: readonly number[]; readonly data: Uint8Array };

const ZEROS = new Uint8Array(8);

/**
 * The body of a run or a result: two words of the caller's choice, a list of 16-bit numbers, then tensors with
 * their sizes, each padded to 8 bytes. A tensor may come in parts (the rows of a batch), which are not copied.
 */
export function encodeTensors(
  first: number,
  second: number,
  numbers: readonly number[],
  tensors: readonly WireTensor[],
): Uint8Array[] {
  let size = 16 + numbers.length * 2;
  size = padded(size);
  for (const tensor of tensors) size += padded(8 + tensor.shape.length * 4);
  const head = Buffer.alloc(size);
  head.writeUInt32LE(first, 0);
  head.writeUInt32LE(second, 4);
  head.writeUInt16LE(numbers.length, 8);
  head.writeUInt16LE(tensors.length, 10);
  let at = 16;
  for (const number of numbers) at = head.writeUInt16LE(number, at);
  at = padded(at);
  const pieces: Uint8Array[] = [head];
  for (const { shape, data } of tensors) {
    let length = 0;
    for (const part of data) length += part.length;
    head.writeUInt32LE(length, at);
    head.writeUInt8(shape.length, at + 4);
    for (let axis = 0; axis < shape.length; axis++) head.writeUInt32LE(shape[axis] ?? 0, at + 8 + axis * 4);
    at += padded(8 + shape.length * 4);
    pieces.push(...data);
    if (length % 8 !== 0) pieces.push(ZEROS.subarray(0, 8 - (length % 8)));
  }
  return pieces;
}

export type TensorFrame = {
  readonly first: number;
  readonly second: number;
  readonly numbers: readonly number[];
  readonly tensors: readonly ReadTensor[];
};

/** Reads what {@link encodeTensors} wrote, or returns `undefined` when counts, ranks or lengths do not add up. */
export function decodeTensors(body: Uint8Array): TensorFrame | undefined {
  if (body.length < 16) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const count = view.getUint16(8, true);
  const tensorCount = view.getUint16(10, true);
  if (count > MAX_TENSORS || tensorCount > MAX_TENSORS) return undefined;
  let at = padded(16 + count * 2);
  if (at > body.length) return undefined;
  const numbers: number[] = [];
  for (let i = 0; i < count; i++) numbers.push(view.getUint16(16 + i * 2, true));
  const shapes: number[][] = [];
  const lengths: number[] = [];
  for (let i = 0; i < tensorCount; i++) {
    if (at + 8 > body.length) return undefined;
    const rank = view.getUint8(at + 4);
    if (rank > MAX_RANK || at + 8 + rank * 4 > body.length) return undefined;
    lengths.push(view.getUint32(at, true));
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) shape.push(view.getUint32(at + 8 + axis * 4, true));
    shapes.push(shape);
    at += padded(8 + rank * 4);
  }
  const tensors: ReadTensor[] = [];
  for (const [i, shape] of shapes.entries()) {
    const length = lengths[i] ?? 0;
    if (at + padded(length) > body.length) return undefined;
    tensors.push({ shape, data: body.subarray(at, at + length) });
    at += padded(length);
  }
  if (at !== body.length) return undefined;
  return { first: view.getUint32(0, true), second: view.getUint32(4, true), numbers, tensors };
}

function padded(length: number): number {
  return Math.ceil(length / 8) * 8;
}
