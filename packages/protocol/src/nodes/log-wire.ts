import { AssayError } from "@assay/core";
import type { LogRecord, StoredRecord } from "../log.ts";

/*
 * Records between a gateway and the sequencer of its log: a count, and for each record its index (8 bytes, zero when
 * it has none yet), a byte that is 1 for an erased opening, three lengths of 4 bytes, and the three parts.
 */

/** Limits of one call to a log elsewhere; a sequencer's own are larger, so that no call of this size is refused there. */
export const REMOTE_LOG_LIMITS = {
  maxRecords: 1024,
  maxBytes: 28 * 1024 * 1024,
  /** Records of one answer to a read, and their bytes; the rest is asked for again. */
  maxReadRecords: 4096,
  maxReadBytes: 36 * 1024 * 1024,
} as const;
const HEAD_BYTES = 4;
const RECORD_BYTES = 8 + 1 + 12;

/** Bytes that a record takes here. */
export function wireBytes({ entry, claims, opening }: LogRecord): number {
  return RECORD_BYTES + entry.length + claims.length + opening.length;
}

export function encodeRecords(records: readonly (LogRecord | StoredRecord)[]): Uint8Array {
  let length = HEAD_BYTES;
  for (const record of records) length += wireBytes(record);
  const out = Buffer.allocUnsafe(length);
  out.writeUInt32BE(records.length, 0);
  let at = HEAD_BYTES;
  for (const record of records) {
    out.writeBigUInt64BE(BigInt("index" in record ? record.index : 0), at);
    out[at + 8] = "erased" in record && record.erased ? 1 : 0;
    const parts = [record.entry, record.claims, record.opening];
    for (const [i, part] of parts.entries()) out.writeUInt32BE(part.length, at + 9 + 4 * i);
    at += RECORD_BYTES;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
  }
  return out;
}

/** Throws `log_message_invalid` for bytes that are cut off, run on, or hold more than `maxRecords`. */
export function decodeRecords(bytes: Uint8Array, maxRecords: number): StoredRecord[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < HEAD_BYTES) throw invalid("is cut off");
  const count = view.readUInt32BE(0);
  if (count > maxRecords) throw invalid(`holds ${count} records, more than ${maxRecords}`);
  const records: StoredRecord[] = [];
  let at = HEAD_BYTES;
  for (let i = 0; i < count; i++) {
    if (at + RECORD_BYTES > view.length) throw invalid("is cut off");
    const index = Number(view.readBigUInt64BE(at));
    const mark = view[at + 8];
    if (!Number.isSafeInteger(index) || mark === undefined || mark > 1) throw invalid("has an impossible record");
    const lengths = [0, 1, 2].map((part) => view.readUInt32BE(at + 9 + 4 * part));
    at += RECORD_BYTES;
    const [entry, claims, opening] = lengths.map((length) => {
      if (at + length > view.length) throw invalid("is cut off");
      const part = new Uint8Array(view.subarray(at, at + length));
      at += length;
      return part;
    });
    if (!entry || !claims || !opening) throw invalid("is cut off");
    records.push({ index, entry, claims, opening, erased: mark === 1 });
  }
  if (at !== view.length) throw invalid("runs on after its last record");
  return records;
}

function invalid(why: string): AssayError<"log_message_invalid"> {
  return new AssayError("log_message_invalid", `A message between a gateway and its log ${why}.`);
}
