import type { FileOps } from "./file-ops.ts";

/** Read-ahead per request: large enough that a scan costs few system calls, small enough to stay a short pause. */
const WINDOW_BYTES = 256 * 1024;

/** Reads of one file through a window that moves forward. */
export type SegmentReader = {
  /** Bytes `[at, at + length)`, fewer at the end of the file. Valid until the next call. */
  bytes(at: number, length: number): Promise<Buffer>;
  readonly size: number;
};

/** A reader of the first `size` bytes of an open file. */
export function segmentReader(files: FileOps, file: number, size: number): SegmentReader {
  let window: Buffer = Buffer.alloc(0);
  let start = 0;
  return {
    size,
    async bytes(at, length) {
      const end = Math.min(size, at + length);
      if (at >= end) return Buffer.alloc(0);
      if (at < start || end > start + window.length) {
        const wanted = Math.min(size - at, Math.max(WINDOW_BYTES, end - at));
        const fresh = Buffer.allocUnsafe(wanted);
        const got = await files.read(file, fresh, at);
        window = fresh.subarray(0, got);
        start = at;
      }
      return window.subarray(at - start, Math.min(end - start, window.length));
    },
  };
}
