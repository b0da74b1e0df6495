import { randomBytes } from "node:crypto";
import { AssayError } from "@assay/core";
import type { StoredRecord } from "@assay/protocol";
import { findBatchHeader, readBatch } from "./batch-reader.ts";
import type { BatchRead } from "./batch-reader.ts";
import { corrupt, fileError } from "./errors.ts";
import { writeAll, writeDurable } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";
import type { Fence } from "./lock.ts";
import {
  BATCH_HEADER_BYTES,
  decodeBatchHeader,
  decodeRecord,
  decodeSegmentHeader,
  encodeBatchHeader,
  encodeSegmentHeader,
  erasedMark,
  NONCE_BYTES,
  recordLengths,
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from "./record.ts";
import type { SegmentHeader } from "./record.ts";
import { segmentReader } from "./segment-reader.ts";
import type { SegmentReader } from "./segment-reader.ts";

/**
 * A segment is closed at this size: small enough to copy and to scan in a second, large enough that a year at ten
 * records a second is under two thousand files. Offsets within a segment fit 32 bits with much to spare.
 */
export const SEGMENT_BYTES = 128 * 1024 * 1024;
const INDEX_ENTRY_BYTES = 4;
/** Most bytes {@link Journal.readRange} holds at once; a longer range comes back shortened. */
const MAX_RANGE_BYTES = 32 * 1024 * 1024;

type Segment = SegmentHeader & { readonly name: string };
type PendingBatch = { readonly segment: Segment; readonly first: number; readonly count: number; readonly at: number };

/** Batches read for the tree, in order, with the offsets that {@link Journal.writeIndex} keeps of them. */
type JournalBatch = BatchRead & { kind: "batch" } & { readonly segment: Segment };

/** The durable store of records: see `record.ts` for its bytes. One writer at a time; readers as many as like. */
export type Journal = {
  /** Records on stable storage. */
  readonly size: () => number;
  /**
   * Writes a batch whose header place is still empty at the start of `buffer`, and returns when it is on stable
   * storage. Throws `log_full`, `log_read_only` (nothing was kept, try again later), `log_fenced` or `log_failed`
   * (this journal takes no more).
   */
  append(buffer: Buffer, count: number): Promise<void>;
  /** Batches from record `from` on, a batch's first record, up to `to`. Throws `log_corrupt`. */
  batches(from: number, to: number): AsyncGenerator<JournalBatch>;
  /** Makes the offsets of batches durable, so that their records are found without a scan. */
  writeIndex(batches: readonly IndexedBatch[]): Promise<void>;
  /** Declares records below `size` findable through the index. */
  indexed(size: number): void;
  readonly read: (index: number) => Promise<StoredRecord | undefined>;
  readonly readRange: (from: number, limit: number) => Promise<readonly StoredRecord[]>;
  readonly eraseOpening: (index: number) => Promise<void>;
  /** Why the journal takes nothing more, if so. */
  readonly failure: () => AssayError | undefined;
  close(): Promise<void>;
};

/** What the index keeps of a batch: the offset of each of its records. */
export type IndexedBatch = { readonly segment: Segment; readonly first: number; readonly offsets: readonly number[] };

/**
 * Opens the journal in `directory`, cutting off what a crash left half written. `checkpointed` is the size of the
 * last signed checkpoint: fewer records than that, or damage in front of a whole later batch, is `log_corrupt`. A
 * damaged last batch that no checkpoint covers cannot be told from a torn one, and is cut.
 */
export async function openJournal(options: {
  readonly directory: string;
  readonly files: FileOps;
  readonly fence: Fence;
  readonly checkpointed: number;
  readonly segmentBytes?: number;
}): Promise<Journal> {
  const { directory, files, fence, checkpointed, segmentBytes = SEGMENT_BYTES } = options;
  const segments: Segment[] = [];
  let pending: PendingBatch[] = [];
  let indexedSize = checkpointed;
  let size = 0;
  let writer: { segment: Segment; file: number; end: number } | undefined;
  let dirtyTail = false;
  let failure: AssayError | undefined;

  const pathOf = (segment: Segment): string => `${directory}/${segment.name}`;
  const indexPath = (segment: Segment): string => `${directory}/${segment.name.replace(/seg$/, "idx")}`;
  const firstAfter = (i: number): number => segments[i + 1]?.first ?? Number.POSITIVE_INFINITY;
  function segmentOf(index: number): Segment | undefined {
    let low = 0;
    let high = segments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((segments[middle]?.first ?? 0) <= index) low = middle + 1;
      else high = middle;
    }
    return segments[low - 1];
  }
  async function withFile<T>(path: string, flags: "r" | "r+", use: (file: number) => Promise<T>): Promise<T> {
    const file = await files.open(path, flags);
    try {
      return await use(file);
    } finally {
      await files.close(file);
    }
  }

  await recover();

  async function recover(): Promise<void> {
    const names = (await files.readdir(directory)).filter((name) => /^[0-9]{16}\.seg$/.test(name)).sort();
    for (const [i, name] of names.entries()) {
      const last = i === names.length - 1;
      const header = await withFile(`${directory}/${name}`, "r", async (file) => {
        const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
        const got = await files.read(file, bytes, 0);
        const decoded = decodeSegmentHeader(bytes.subarray(0, got));
        // A crash while a segment is made leaves a last file with no more than a torn header, and nothing was in it.
        if (!decoded && !(last && (await files.size(file)) <= SEGMENT_HEADER_BYTES)) {
          throw corrupt(`The journal segment ${name} has no valid header at offset 0.`);
        }
        return decoded;
      });
      if (header && header.first !== Number(name.slice(0, 16)))
        throw corrupt(`The journal segment ${name} has another name than its header.`);
      if (header) segments.push({ ...header, name });
      else await removeSegment(name);
    }
    const [oldest] = segments;
    if (oldest && oldest.first !== 0)
      throw corrupt(`The journal begins with record ${oldest.first}; earlier segments are missing.`);
    await scanTail();
    if (size < checkpointed) {
      throw corrupt(`The journal holds ${size} records, but a checkpoint over ${checkpointed} was signed.`);
    }
  }

  // Everything below the checkpoint was indexed before it was signed, so only what came after it is read.
  async function scanTail(): Promise<void> {
    const start = checkpointed > 0 ? segmentOf(checkpointed - 1) : segments[0];
    size = start?.first ?? 0;
    for (let i = start ? segments.indexOf(start) : 0; i < segments.length; i++) {
      const segment = segments[i];
      if (!segment) break;
      if (segment.first !== size)
        throw corrupt(`The journal segment ${segment.name} follows record ${size}; records between are missing.`);
      const from = segment === start ? await endOfIndexed(segment) : SEGMENT_HEADER_BYTES;
      const lost = size < checkpointed && segment === start;
      const offsets: number[] = [];
      await scanSegment(segment, from, firstAfter(i), lost ? offsets : undefined);
      // The index of the checkpointed records was lost; the scan has just found them again.
      if (lost) await writeOffsets(segment, segment.first, offsets);
    }
    const last = segments.at(-1);
    if (last && last.first === size && size >= checkpointed) {
      segments.pop();
      await removeSegment(last.name);
    }
  }

  async function scanSegment(segment: Segment, from: number, stop: number, offsets?: number[]): Promise<void> {
    await withFile(pathOf(segment), stop === Number.POSITIVE_INFINITY ? "r+" : "r", async (file) => {
      const reader = segmentReader(files, file, await files.size(file));
      let at = from;
      // What a superseded sequencer wrote behind its successor's first record was never acknowledged.
      while (size < stop) {
        const batch = await readBatch(reader, at, size, segment.nonce);
        if (batch.kind === "batch") {
          pending.push({ segment, first: batch.first, count: batch.count, at });
          if (offsets) offsets.push(...recordOffsets(batch));
          size += batch.count;
          at = batch.next;
          continue;
        }
        if (stop !== Number.POSITIVE_INFINITY)
          throw damaged(segment, at, batch.kind === "bad" ? batch.reason : "it ends early");
        if (batch.kind === "end") return;
        const later = await findBatchHeader(reader, at + 8, segment.nonce);
        if (later !== undefined)
          throw damaged(segment, at, `${batch.reason}, yet a later batch stands at offset ${later}`);
        if (size < checkpointed) throw damaged(segment, at, batch.reason);
        await files.truncate(file, at);
        await files.fdatasync(file);
        return;
      }
      if (size !== stop && stop !== Number.POSITIVE_INFINITY)
        throw damaged(segment, at, "it runs into the next segment");
    });
  }

  function damaged(segment: Segment, at: number, reason: string): AssayError {
    return corrupt(`The journal segment ${segment.name} is damaged at offset ${at}: ${reason}.`);
  }

  // The end of the last checkpointed record; from the start of the segment if the index cannot say.
  async function endOfIndexed(segment: Segment): Promise<number> {
    if (checkpointed <= segment.first) return SEGMENT_HEADER_BYTES;
    const end = await withFile(pathOf(segment), "r", async (file) => {
      const offset = await offsetOf(segment, checkpointed - 1);
      if (offset === undefined || offset < SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES) return undefined;
      const record = await readRecordBytes(file, offset);
      return record && decodeRecord(record, 0) ? offset + record.length : undefined;
    });
    if (end === undefined) return SEGMENT_HEADER_BYTES;
    size = checkpointed;
    return end;
  }

  async function offsetOf(segment: Segment, index: number): Promise<number | undefined> {
    const bytes = Buffer.alloc(INDEX_ENTRY_BYTES);
    try {
      return await withFile(indexPath(segment), "r", async (file) => {
        const got = await files.read(file, bytes, (index - segment.first) * INDEX_ENTRY_BYTES);
        return got === INDEX_ENTRY_BYTES ? bytes.readUInt32BE(0) : undefined;
      });
    } catch {
      return undefined;
    }
  }

  async function writeOffsets(segment: Segment, first: number, offsets: readonly number[]): Promise<void> {
    const bytes = Buffer.alloc(offsets.length * INDEX_ENTRY_BYTES);
    for (const [i, offset] of offsets.entries()) bytes.writeUInt32BE(offset, i * INDEX_ENTRY_BYTES);
    if (first === segment.first) {
      await writeDurable(files, indexPath(segment), bytes);
      await files.syncDirectory(directory);
      return;
    }
    await withFile(indexPath(segment), "r+", async (file) => {
      await writeAll(files, file, bytes, (first - segment.first) * INDEX_ENTRY_BYTES);
      await files.fdatasync(file);
    });
  }

  async function readRecordBytes(file: number, offset: number): Promise<Buffer | undefined> {
    const head = Buffer.alloc(RECORD_HEADER_BYTES);
    if ((await files.read(file, head, offset)) < RECORD_HEADER_BYTES) return undefined;
    const lengths = recordLengths(head, 0);
    if (!lengths) return undefined;
    const bytes = Buffer.alloc(lengths.total);
    return (await files.read(file, bytes, offset)) === lengths.total ? bytes : undefined;
  }

  async function removeSegment(name: string): Promise<void> {
    await files.unlink(`${directory}/${name}`);
    const index = name.replace(/seg$/, "idx");
    if ((await files.readdir(directory)).includes(index)) await files.unlink(`${directory}/${index}`);
    await files.syncDirectory(directory);
  }

  // Every opening begins a segment of its own, so that a superseded sequencer never writes where its successor does.
  async function startSegment(): Promise<{ segment: Segment; file: number; end: number }> {
    if (writer) await files.close(writer.file);
    writer = undefined;
    const header: SegmentHeader = { epoch: fence.epoch, first: size, nonce: randomBytes(NONCE_BYTES) };
    const name = `${String(size).padStart(16, "0")}.seg`;
    const file = await files.open(`${directory}/${name}`, "wx+");
    try {
      await writeAll(files, file, encodeSegmentHeader(header), 0);
      await files.fdatasync(file);
      await files.syncDirectory(directory);
    } catch (error) {
      // The name must be free again for the next attempt; if even that fails, the next opening cleans up.
      await files.close(file);
      await files.unlink(`${directory}/${name}`).catch(() => undefined);
      throw error;
    }
    const segment = { ...header, name };
    segments.push(segment);
    writer = { segment, file, end: SEGMENT_HEADER_BYTES };
    return writer;
  }

  async function locate(index: number): Promise<{ segment: Segment; offset: number }> {
    const segment = segmentOf(index);
    if (!segment) throw corrupt(`No journal segment holds record ${index}.`);
    const offset = index < indexedSize ? await offsetOf(segment, index) : await offsetOfPending(index);
    if (offset === undefined) throw corrupt(`The journal's index does not say where record ${index} is.`);
    return { segment, offset };
  }

  async function offsetOfPending(index: number): Promise<number | undefined> {
    const batch = pending.find((one) => index >= one.first && index < one.first + one.count);
    if (!batch) return undefined;
    return withFile(pathOf(batch.segment), "r", async (file) => {
      let offset = batch.at + BATCH_HEADER_BYTES;
      const head = Buffer.alloc(RECORD_HEADER_BYTES);
      for (let i = batch.first; i < index; i++) {
        await files.read(file, head, offset);
        offset += recordLengths(head, 0)?.total ?? 0;
      }
      return offset;
    });
  }

  function toRecord(
    bytes: Buffer,
    at: number,
    index: number,
    segment: Segment,
    offset: number,
  ): { record: StoredRecord; next: number } {
    const place = decodeRecord(bytes, at);
    if (!place) throw damaged(segment, offset, `record ${index} does not match its checksums`);
    const part = (from: number, to: number): Uint8Array => new Uint8Array(bytes.subarray(from, to));
    const opening = place.erased ? new Uint8Array() : part(place.opening, place.end);
    const entry = part(place.entry, place.claims);
    const record = { index, entry, claims: part(place.claims, place.opening), opening, erased: place.erased };
    return { record, next: place.next };
  }

  return {
    size: () => size,
    failure: () => failure,
    async append(buffer, count) {
      if (failure) throw failure;
      try {
        fence.assertHeld();
        if (dirtyTail && writer) {
          await files.truncate(writer.file, writer.end);
          dirtyTail = false;
        }
        let to = writer;
        if (!to || to.end >= segmentBytes) to = await startSegment();
        encodeBatchHeader(buffer, { first: size, count, bytes: buffer.length - BATCH_HEADER_BYTES }, to.segment);
        try {
          await writeAll(files, to.file, buffer, to.end);
        } catch (error) {
          dirtyTail = true;
          await files.truncate(to.file, to.end).then(
            () => (dirtyTail = false),
            () => undefined,
          );
          throw error;
        }
        await files.fdatasync(to.file);
        fence.assertHeld();
        pending.push({ segment: to.segment, first: size, count, at: to.end });
        to.end += buffer.length;
        size += count;
      } catch (error) {
        const known = fileError(error, "append to the journal");
        if (known.code !== "log_full" && known.code !== "log_read_only") failure ??= known;
        throw known;
      }
    },
    async *batches(from, to) {
      let next = from;
      while (next < to) {
        const at = pending.find((batch) => batch.first === next);
        if (!at) throw corrupt(`No batch of the journal begins with record ${next}.`);
        const { segment } = at;
        const run = pending.filter((batch) => batch.segment === segment && batch.first >= next && batch.first < to);
        const last = run.at(-1) ?? at;
        const file = await files.open(pathOf(segment), "r");
        try {
          const reader: SegmentReader = segmentReader(files, file, await files.size(file));
          for (let offset = at.at; next < last.first + last.count;) {
            const batch = await readBatch(reader, offset, next, segment.nonce);
            if (batch.kind !== "batch")
              throw damaged(segment, offset, batch.kind === "bad" ? batch.reason : "it ends early");
            yield { ...batch, segment };
            next += batch.count;
            offset = batch.next;
          }
        } finally {
          await files.close(file);
        }
      }
    },
    async writeIndex(batches) {
      let at = 0;
      while (at < batches.length) {
        const segment = batches[at]?.segment;
        if (!segment) return;
        const run = batches.slice(at).filter((batch) => batch.segment === segment);
        at += run.length;
        await writeOffsets(
          segment,
          run[0]?.first ?? 0,
          run.flatMap((batch) => batch.offsets),
        );
      }
    },
    indexed(upTo) {
      indexedSize = Math.max(indexedSize, upTo);
      pending = pending.filter((batch) => batch.first >= indexedSize);
    },
    async read(index) {
      if (!Number.isSafeInteger(index) || index < 0 || index >= size) return undefined;
      const { segment, offset } = await locate(index);
      const bytes = await withFile(pathOf(segment), "r", (file) => readRecordBytes(file, offset));
      if (!bytes) throw damaged(segment, offset, `record ${index} is cut off`);
      return toRecord(bytes, 0, index, segment, offset).record;
    },
    async readRange(from, limit) {
      if (!Number.isSafeInteger(from) || from < 0 || !Number.isSafeInteger(limit) || limit < 0) {
        throw new AssayError("log_range", `There are no ${limit} records from ${from} on.`);
      }
      const records: StoredRecord[] = [];
      const end = Math.min(size, from + limit);
      let held = 0;
      let next = from;
      while (next < end && held < MAX_RANGE_BYTES) {
        const { segment, offset } = await locate(next);
        const stop = Math.min(end, firstAfter(segments.indexOf(segment)));
        const file = await files.open(pathOf(segment), "r");
        try {
          const reader = segmentReader(files, file, await files.size(file));
          for (let at = offset; next < stop && held < MAX_RANGE_BYTES; next++) {
            // A batch's header may stand between two records; nothing else does.
            const peek = await reader.bytes(at, BATCH_HEADER_BYTES);
            if (next !== from && isBatchStart(peek, segment, next)) at += BATCH_HEADER_BYTES;
            const total = recordLengths(await reader.bytes(at, RECORD_HEADER_BYTES), 0)?.total ?? RECORD_HEADER_BYTES;
            const { record, next: length } = toRecord(await reader.bytes(at, total), 0, next, segment, at);
            records.push(record);
            held += length;
            at += length;
          }
        } finally {
          await files.close(file);
        }
      }
      return records;
    },
    async eraseOpening(index) {
      if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
        throw new AssayError("log_range", `There is no record ${index}.`);
      }
      const { segment, offset } = await locate(index);
      try {
        await withFile(pathOf(segment), "r+", async (file) => {
          const bytes = await readRecordBytes(file, offset);
          const place = bytes ? decodeRecord(bytes, 0) : undefined;
          if (!place) throw damaged(segment, offset, `record ${index} does not match its checksums`);
          // First the mark, which makes the opening's checksum void, then the zeros: a crash between them leaves a
          // valid record whose erasure was not acknowledged and is finished by asking again.
          await writeAll(files, file, erasedMark(), offset);
          await files.fdatasync(file);
          await writeAll(files, file, Buffer.alloc(place.end - place.opening), offset + place.opening);
          await files.fdatasync(file);
        });
      } catch (error) {
        throw fileError(error, "erase an opening");
      }
    },
    async close() {
      failure ??= new AssayError("log_closed", "The log is closed.");
      if (writer) await files.close(writer.file);
      writer = undefined;
    },
  };
}

/** Offsets in the segment of a batch's records. */
export function recordOffsets(batch: BatchRead & { kind: "batch" }): number[] {
  const base = batch.at + BATCH_HEADER_BYTES;
  return batch.places.map((_, i) => base + (i === 0 ? 0 : (batch.places[i - 1]?.next ?? 0)));
}

function isBatchStart(bytes: Buffer, segment: Segment, first: number): boolean {
  return decodeBatchHeader(bytes, 0, segment.nonce)?.first === first;
}
