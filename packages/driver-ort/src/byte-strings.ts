import { isUtf8 } from "node:buffer";

/** Why a BYTES tensor cannot be given to the engine, or `undefined` when it can. */
export type ByteStringFault = "framing" | "text";

/**
 * Checks the framing of a BYTES tensor (4-byte little-endian length, then the bytes, `count` times) and that every
 * element is UTF-8 without U+0000: the engines take strings, and one of them ends a string at a zero byte.
 */
export function byteStringFault(data: Uint8Array, count: number): ByteStringFault | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  let fault: ByteStringFault | undefined;
  for (let i = 0; i < count; i++) {
    if (at + 4 > data.length) return "framing";
    const end = at + 4 + view.getUint32(at, true);
    if (end > data.length) return "framing";
    const element = data.subarray(at + 4, end);
    if (!isUtf8(element) || element.includes(0)) fault = "text";
    at = end;
  }
  return at === data.length ? fault : "framing";
}

/** Elements of a BYTES tensor that {@link byteStringFault} found nothing wrong with. */
export function decodeByteStrings(data: Uint8Array): string[] {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const out: string[] = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const end = at + 4 + bytes.readUInt32LE(at);
    out.push(bytes.toString("utf8", at + 4, end));
    at = end;
  }
  return out;
}

/** The BYTES form of `elements`. */
export function encodeByteStrings(elements: readonly string[]): Uint8Array {
  const parts: Buffer[] = [];
  for (const element of elements) {
    const bytes = Buffer.from(element, "utf8");
    const head = Buffer.allocUnsafe(4);
    head.writeUInt32LE(bytes.length);
    parts.push(head, bytes);
  }
  return Buffer.concat(parts);
}

/** Byte offset at which each element starts, with the end of the last one appended. */
export function byteStringOffsets(data: Uint8Array): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const offsets: number[] = [];
  let at = 0;
  while (at + 4 <= data.length) {
    offsets.push(at);
    at += 4 + view.getUint32(at, true);
  }
  offsets.push(at);
  return offsets;
}
