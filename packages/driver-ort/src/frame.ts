/**
 * Frames between a parent and its children: a 16-byte header (magic, kind, id, body length; little-endian 32-bit
 * words) and a body. Bodies are padded to 8 bytes by their writers, so tensors inside stay aligned.
 */
export const HEADER_BYTES = 16;
const MAGIC = 0x314f_5341; // "ASO1"

export const KIND = {
  load: 1,
  run: 2,
  release: 3,
  probe: 4,
  hello: 17,
  loaded: 18,
  result: 19,
  failed: 20,
  done: 21,
} as const;

export type FrameSink = { write(bytes: Uint8Array): unknown; cork(): void; uncork(): void };

/** Pieces below this are copied into one buffer: one system call costs less than a vector of small ones. */
const COALESCE_BYTES = 32 * 1024;

/** Writes one frame whose body is `pieces` in order. Large pieces are written as they are, without a copy. */
export function writeFrame(sink: FrameSink, kind: number, id: number, pieces: readonly Uint8Array[]): void {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const small = length <= COALESCE_BYTES;
  const head = Buffer.allocUnsafe(HEADER_BYTES + (small ? length : 0));
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(kind, 4);
  head.writeUInt32LE(id, 8);
  head.writeUInt32LE(length, 12);
  if (small) {
    let at = HEADER_BYTES;
    for (const piece of pieces) {
      head.set(piece, at);
      at += piece.length;
    }
    sink.write(head);
    return;
  }
  sink.cork();
  sink.write(head);
  for (const piece of pieces) if (piece.length > 0) sink.write(piece);
  sink.uncork();
}

export type FrameReader = {
  /** Takes the next chunk; returns a sentence when the stream is malformed, after which it must not be used. */
  push(chunk: Uint8Array): string | undefined;
};

/**
 * Cuts a byte stream into frames. `onFrame` gets each body as its own 8-byte aligned buffer, so that what a
 * consumer keeps does not pin a whole socket chunk. Refuses a wrong magic, an unknown kind and a body past
 * `maxBodyBytes` before anything is allocated for it.
 */
export function createFrameReader(options: {
  readonly kinds: readonly number[];
  readonly maxBodyBytes: number;
  readonly onFrame: (kind: number, id: number, body: Uint8Array) => void;
}): FrameReader {
  const header = Buffer.alloc(HEADER_BYTES);
  let headerFilled = 0;
  let body: Uint8Array | undefined;
  let bodyFilled = 0;
  let fault: string | undefined;

  const finish = (bytes: Uint8Array): void => {
    const kind = header.readUInt32LE(4);
    const id = header.readUInt32LE(8);
    headerFilled = 0;
    body = undefined;
    options.onFrame(kind, id, bytes);
  };

  const push = (chunk: Uint8Array): string | undefined => {
    let at = 0;
    while (at < chunk.length && fault === undefined) {
      if (body === undefined) {
        const take = Math.min(HEADER_BYTES - headerFilled, chunk.length - at);
        header.set(chunk.subarray(at, at + take), headerFilled);
        headerFilled += take;
        at += take;
        if (headerFilled < HEADER_BYTES) break;
        const length = header.readUInt32LE(12);
        fault = headerFault(header, options.kinds, options.maxBodyBytes);
        if (fault !== undefined) break;
        body = new Uint8Array(new ArrayBuffer(length));
        bodyFilled = 0;
        if (length === 0) finish(body);
        continue;
      }
      const take = Math.min(body.length - bodyFilled, chunk.length - at);
      body.set(chunk.subarray(at, at + take), bodyFilled);
      bodyFilled += take;
      at += take;
      if (bodyFilled === body.length) finish(body);
    }
    return fault;
  };
  return { push };
}

function headerFault(header: Buffer, kinds: readonly number[], maxBodyBytes: number): string | undefined {
  if (header.readUInt32LE(0) !== MAGIC) return "The frame does not start with its magic number.";
  const kind = header.readUInt32LE(4);
  if (!kinds.includes(kind)) return `Frames of kind ${kind} are not expected here.`;
  const length = header.readUInt32LE(12);
  if (length > maxBodyBytes) return `A frame of ${length} bytes is longer than ${maxBodyBytes}.`;
  return undefined;
}
