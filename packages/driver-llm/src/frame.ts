/**
 * Frames between a parent and its children: a 16-byte header (magic, kind, request id, body length; little-endian
 * 32-bit words) and a body. Many requests share one channel, so every frame says whose it is.
 */
const HEADER_BYTES = 16;
const MAGIC = 0x314c_5341; // "ASL1"

export const KIND = {
  load: 1,
  release: 2,
  generate: 3,
  check: 4,
  embed: 5,
  recheck: 6,
  cancel: 7,
  credit: 8,
  ping: 9,
  hello: 17,
  loaded: 18,
  started: 19,
  events: 20,
  done: 21,
  failed: 22,
  pong: 23,
} as const;

export type FrameSink = { write(bytes: Uint8Array): unknown };

/** Writes one frame in one piece: frames here are small, and one system call costs less than two. */
export function writeFrame(sink: FrameSink, kind: number, id: number, body: Uint8Array): void {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32LE(MAGIC, 0);
  frame.writeUInt32LE(kind, 4);
  frame.writeUInt32LE(id, 8);
  frame.writeUInt32LE(body.length, 12);
  frame.set(body, HEADER_BYTES);
  sink.write(frame);
}

/**
 * Cuts a byte stream into frames. The returned function takes the next chunk; it gives a sentence when the stream is
 * malformed, after which it must not be used. Refuses a wrong magic, an unknown kind and a body past `maxBodyBytes`
 * before anything is allocated for it.
 */
export function createFrameReader(options: {
  readonly kinds: readonly number[];
  readonly maxBodyBytes: number;
  readonly onFrame: (kind: number, id: number, body: Uint8Array) => void;
}): (chunk: Uint8Array) => string | undefined {
  const header = Buffer.alloc(HEADER_BYTES);
  let headerFilled = 0;
  let body: Uint8Array | undefined;
  let bodyFilled = 0;

  const fault = (): string | undefined => {
    if (header.readUInt32LE(0) !== MAGIC) return "The frame does not start with its magic number.";
    const kind = header.readUInt32LE(4);
    if (!options.kinds.includes(kind)) return `Frames of kind ${kind} are not expected here.`;
    const length = header.readUInt32LE(12);
    if (length > options.maxBodyBytes) return `A frame of ${length} bytes is longer than ${options.maxBodyBytes}.`;
    return undefined;
  };

  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      if (body === undefined) {
        const take = Math.min(HEADER_BYTES - headerFilled, chunk.length - at);
        header.set(chunk.subarray(at, at + take), headerFilled);
        headerFilled += take;
        at += take;
        if (headerFilled < HEADER_BYTES) break;
        const wrong = fault();
        if (wrong !== undefined) return wrong;
        body = new Uint8Array(header.readUInt32LE(12));
        bodyFilled = 0;
      }
      const take = Math.min(body.length - bodyFilled, chunk.length - at);
      body.set(chunk.subarray(at, at + take), bodyFilled);
      bodyFilled += take;
      at += take;
      if (bodyFilled < body.length) break;
      const whole = body;
      headerFilled = 0;
      body = undefined;
      options.onFrame(header.readUInt32LE(4), header.readUInt32LE(8), whole);
    }
    return undefined;
  };
}
