import { crc32 } from "node:zlib";
import { AssayError } from "@assay/core";
import type { LogRecord } from "@assay/protocol";
import { MAX_ENTRY_BYTES } from "@assay/tlog";

/*
 * The journal's bytes. Everything is big-endian and every structure begins at a multiple of eight, so that the
 * eight bytes which mark an opening as erased never straddle a disk sector.
 *
 *   segment  = segment header, batch...
 *   header   = "ASSAYLOG", u32 version, u32 epoch, u64 first index, 8 bytes nonce, u32 crc, u32 zero
 *   batch    = u32 magic, u32 epoch, 8 bytes nonce, u64 first index, u32 count, u32 bytes, u32 crc, u32 zero, record...
 *   record   = u32 erased, u32 opening crc, u32 body crc, u32 entry, claims and opening lengths,
 *              entry, claims, opening, zeros up to a multiple of eight
 *
 * The body crc covers the three lengths, the entry and the claims; the opening has its own, so that a record stays
 * valid when its opening is overwritten. A batch is what one fdatasync acknowledged. The nonce is random per segment:
 * without it the bytes of a stored record could be made to look like a later batch.
 */

export const SEGMENT_HEADER_BYTES = 40;
export const BATCH_HEADER_BYTES = 40;
export const RECORD_HEADER_BYTES = 24;
export const NONCE_BYTES = 8;
const SEGMENT_MAGIC = Buffer.from("ASSAYLOG", "latin1");
/** Version of the journal's layout; another one is refused, not guessed at. */
const JOURNAL_VERSION = 1;
const BATCH_MAGIC = 0x41424348;
const ERASED = 0x45524153;

/** Claims are a few kilobytes of CBOR; a megabyte leaves room for long chains of evidence. */
export const MAX_CLAIMS_BYTES = 1024 * 1024;
/** An opening holds a request and a response; larger tensors belong in the blob store. */
export const MAX_OPENING_BYTES = 16 * 1024 * 1024;
/** Records of one call are written and acknowledged together, so a call has to fit in memory. */
export const MAX_CALL_RECORDS = 4096;
export const MAX_CALL_BYTES = 32 * 1024 * 1024;

const padded = (length: number): number => (length + 7) & ~7;

/** Bytes that a record takes in a segment. */
function recordBytes(record: LogRecord): number {
  return padded(RECORD_HEADER_BYTES + record.entry.length + record.claims.length + record.opening.length);
}

/** Throws `log_entry_too_large` for a record, or a call's records together, beyond the limits; else their bytes. */
export function checkRecords(records: readonly LogRecord[]): number {
  if (records.length > MAX_CALL_RECORDS) throw tooLarge(`A call appends ${records.length} records`, MAX_CALL_RECORDS);
  let bytes = 0;
  for (const record of records) {
    const { entry, claims, opening } = record;
    if (entry.length > MAX_ENTRY_BYTES) throw tooLarge(`An entry has ${entry.length} bytes`, MAX_ENTRY_BYTES);
    if (claims.length > MAX_CLAIMS_BYTES) throw tooLarge(`Claims have ${claims.length} bytes`, MAX_CLAIMS_BYTES);
    if (opening.length > MAX_OPENING_BYTES) throw tooLarge(`An opening has ${opening.length} bytes`, MAX_OPENING_BYTES);
    bytes += recordBytes(record);
  }
  if (bytes > MAX_CALL_BYTES) throw tooLarge(`A call appends ${bytes} bytes`, MAX_CALL_BYTES);
  return bytes;
}

function tooLarge(what: string, limit: number): AssayError<"log_entry_too_large"> {
  return new AssayError("log_entry_too_large", `${what}.`, { hints: [`The limit is ${limit}.`] });
}

/** What a segment says of itself. */
export type SegmentHeader = { readonly epoch: number; readonly first: number; readonly nonce: Buffer };

export function encodeSegmentHeader({ epoch, first, nonce }: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  SEGMENT_MAGIC.copy(bytes, 0);
  bytes.writeUInt32BE(JOURNAL_VERSION, 8);
  bytes.writeUInt32BE(epoch, 12);
  bytes.writeBigUInt64BE(BigInt(first), 16);
  nonce.copy(bytes, 24);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 32)), 32);
  return bytes;
}

/** The header, or `undefined` when the bytes are torn. Throws `log_format_unknown` for a later version. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(SEGMENT_MAGIC)) return undefined;
  if (bytes.readUInt32BE(32) !== crc32(bytes.subarray(0, 32))) return undefined;
  const version = bytes.readUInt32BE(8);
  if (version !== JOURNAL_VERSION) {
    throw new AssayError("log_format_unknown", `The journal has layout version ${version}, not ${JOURNAL_VERSION}.`);
  }
  return {
    epoch: bytes.readUInt32BE(12),
    first: Number(bytes.readBigUInt64BE(16)),
    nonce: Buffer.from(bytes.subarray(24, 32)),
  };
}

/** What a batch says of itself. */
export type BatchHeader = { readonly first: number; readonly count: number; readonly bytes: number };

/** Puts a batch header at the start of `into`. */
export function encodeBatchHeader(into: Buffer, header: BatchHeader, segment: SegmentHeader): void {
  into.writeUInt32BE(BATCH_MAGIC, 0);
  into.writeUInt32BE(segment.epoch, 4);
  segment.nonce.copy(into, 8);
  into.writeUInt32BE(Math.floor(header.first / 2 ** 32), 16);
  into.writeUInt32BE(header.first % 2 ** 32, 20);
  into.writeUInt32BE(header.count, 24);
  into.writeUInt32BE(header.bytes, 28);
  into.writeUInt32BE(crc32(into.subarray(0, 32)), 32);
  into.writeUInt32BE(0, 36);
}

/** The batch header at `at`, or `undefined` when there is none of this segment. */
export function decodeBatchHeader(bytes: Buffer, at: number, nonce: Buffer): BatchHeader | undefined {
  if (at + BATCH_HEADER_BYTES > bytes.length || bytes.readUInt32BE(at) !== BATCH_MAGIC) return undefined;
  if (nonce.compare(bytes, at + 8, at + 8 + NONCE_BYTES) !== 0) return undefined;
  if (bytes.readUInt32BE(at + 32) !== crc32(bytes.subarray(at, at + 32))) return undefined;
  const first = bytes.readUInt32BE(at + 16) * 2 ** 32 + bytes.readUInt32BE(at + 20);
  return { first, count: bytes.readUInt32BE(at + 24), bytes: bytes.readUInt32BE(at + 28) };
}

/** Puts `record` at `at` and returns the offset after it. */
export function encodeRecord(into: Buffer, at: number, record: LogRecord): number {
  const { entry, claims, opening } = record;
  const body = at + RECORD_HEADER_BYTES;
  into.writeUInt32BE(0, at);
  into.writeUInt32BE(entry.length, at + 12);
  into.writeUInt32BE(claims.length, at + 16);
  into.writeUInt32BE(opening.length, at + 20);
  into.set(entry, body);
  into.set(claims, body + entry.length);
  const from = body + entry.length + claims.length;
  into.set(opening, from);
  into.writeUInt32BE(opening.length === 0 ? 0 : crc32(opening), at + 4);
  into.writeUInt32BE(crc32(into.subarray(at + 12, from)), at + 8);
  const end = from + opening.length;
  const next = at + padded(end - at);
  into.fill(0, end, next);
  return next;
}

/** Where the parts of a record stand in a buffer. */
export type RecordPlace = {
  readonly entry: number;
  readonly claims: number;
  readonly opening: number;
  readonly end: number;
  /** Offset of the next record. */
  readonly next: number;
  readonly erased: boolean;
};

/** The places of the record at `at`, or `undefined` when its header is torn, its lengths impossible or its sums wrong. */
export function decodeRecord(bytes: Buffer, at: number): RecordPlace | undefined {
  const lengths = recordLengths(bytes, at);
  if (!lengths || at + lengths.total > bytes.length) return undefined;
  const mark = bytes.readUInt32BE(at);
  if (mark !== 0 && mark !== ERASED) return undefined;
  const entry = at + RECORD_HEADER_BYTES;
  const claims = entry + lengths.entry;
  const opening = claims + lengths.claims;
  const end = opening + lengths.opening;
  if (crc32(bytes.subarray(at + 12, opening)) !== bytes.readUInt32BE(at + 8)) return undefined;
  const sum = lengths.opening === 0 ? 0 : crc32(bytes.subarray(opening, end));
  if (mark === 0 && sum !== bytes.readUInt32BE(at + 4)) return undefined;
  return { entry, claims, opening, end, next: at + lengths.total, erased: mark === ERASED };
}

/** Lengths from a record's header, unverified, or `undefined` when they are beyond the limits or cut off. */
export function recordLengths(
  bytes: Buffer,
  at: number,
): { entry: number; claims: number; opening: number; total: number } | undefined {
  if (at + RECORD_HEADER_BYTES > bytes.length) return undefined;
  const entry = bytes.readUInt32BE(at + 12);
  const claims = bytes.readUInt32BE(at + 16);
  const opening = bytes.readUInt32BE(at + 20);
  if (entry > MAX_ENTRY_BYTES || claims > MAX_CLAIMS_BYTES || opening > MAX_OPENING_BYTES) return undefined;
  return { entry, claims, opening, total: padded(RECORD_HEADER_BYTES + entry + claims + opening) };
}

/**
 * The eight bytes that stand in front of an erased record: the mark, and nothing of the opening's checksum, which
 * would let a guess at a short opening be confirmed.
 */
export function erasedMark(): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(ERASED, 0);
  return bytes;
}
