import { BATCH_HEADER_BYTES, decodeBatchHeader, decodeRecord, MAX_CALL_BYTES } from "./record.ts";
import type { RecordPlace } from "./record.ts";
import type { SegmentReader } from "./segment-reader.ts";

/**
 * Most bytes of records in one batch, and so most that recovery reads at once: a call of the largest size joins a
 * batch that was just short of its own limit.
 */
const MAX_BATCH_BYTES = MAX_CALL_BYTES;

/** The next batch of a segment, its end, or why what stands there is not a batch. */
export type BatchRead =
  | {
      readonly kind: "batch";
      readonly first: number;
      readonly count: number;
      /** Offset of the batch header, and of what follows the batch. */
      readonly at: number;
      readonly next: number;
      /** The records' bytes, whose first stands at `at + BATCH_HEADER_BYTES` of the segment. */
      readonly bytes: Buffer;
      readonly places: readonly RecordPlace[];
    }
  | { readonly kind: "end"; readonly at: number }
  | { readonly kind: "bad"; readonly at: number; readonly reason: string };

/** Reads and checks the batch at `at`, which must begin with record `first`. */
export async function readBatch(reader: SegmentReader, at: number, first: number, nonce: Buffer): Promise<BatchRead> {
  if (at >= reader.size) return { kind: "end", at };
  const bad = (reason: string): BatchRead => ({ kind: "bad", at, reason });
  const header = decodeBatchHeader(await reader.bytes(at, BATCH_HEADER_BYTES), 0, nonce);
  if (!header) return bad("there is no batch header");
  if (header.first !== first) return bad(`the batch begins with record ${header.first}, not ${first}`);
  if (header.count === 0 || header.bytes > MAX_BATCH_BYTES) return bad("the batch has impossible counts");
  const bytes = await reader.bytes(at + BATCH_HEADER_BYTES, header.bytes);
  if (bytes.length < header.bytes) return bad("the batch is cut off");
  const places: RecordPlace[] = [];
  let offset = 0;
  while (offset < bytes.length && places.length < header.count) {
    const place = decodeRecord(bytes, offset);
    if (!place) return bad(`record ${first + places.length} does not match its checksums`);
    places.push(place);
    offset = place.next;
  }
  if (places.length !== header.count || offset !== bytes.length)
    return bad("the batch has other records than it counts");
  return { kind: "batch", first, count: header.count, at, next: at + BATCH_HEADER_BYTES + header.bytes, bytes, places };
}

/** Offset of a whole batch header of this segment at or after `from`, or `undefined`: what tells damage from a torn end. */
export async function findBatchHeader(reader: SegmentReader, from: number, nonce: Buffer): Promise<number | undefined> {
  const step = 64 * 1024;
  // Headers stand at multiples of eight, as everything in a segment does.
  for (let at = from; at < reader.size; at += step) {
    const bytes = await reader.bytes(at, step + BATCH_HEADER_BYTES);
    for (let i = 0; i < step && i + BATCH_HEADER_BYTES <= bytes.length; i += 8) {
      if (decodeBatchHeader(bytes, i, nonce)) return at + i;
    }
  }
  return undefined;
}
