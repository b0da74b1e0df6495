import { AssayError } from "@assay/core";
import { TILE_WIDTH } from "./tiles.ts";

/** Longest log entry, bytes: an entry bundle prefixes it with a 16-bit length (tlog-tiles, "Log entries"). */
export const MAX_ENTRY_BYTES = 65_535;

/**
 * An entry bundle: each entry behind its big-endian 16-bit length. Throws `tlog_entry_too_large` for an entry
 * above 65,535 bytes and `tlog_range` unless there are 1 to 256 entries.
 */
export function encodeBundle(entries: readonly Uint8Array[]): Uint8Array {
  if (entries.length < 1 || entries.length > TILE_WIDTH) {
    throw new AssayError(
      "tlog_range",
      `A bundle of ${entries.length} entries does not exist; it has 1 to ${TILE_WIDTH}.`,
    );
  }
  let length = 0;
  for (const entry of entries) {
    if (entry.length > MAX_ENTRY_BYTES) {
      throw new AssayError("tlog_entry_too_large", `An entry has ${entry.length} bytes.`, {
        hints: [`An entry has at most ${MAX_ENTRY_BYTES} bytes.`],
      });
    }
    length += 2 + entry.length;
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const entry of entries) {
    bytes[at++] = entry.length >> 8;
    bytes[at++] = entry.length & 0xff;
    bytes.set(entry, at);
    at += entry.length;
  }
  return bytes;
}

/** The entries of a bundle of exactly `width`, as views on `bytes`. Throws `tlog_bundle_malformed`. */
export function decodeBundle(bytes: Uint8Array, width: number): Uint8Array[] {
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length && entries.length <= width) {
    const length = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    const end = at + 2 + length;
    if (end > bytes.length) throw malformed(`entry ${entries.length} runs past its end`);
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  if (entries.length !== width || at !== bytes.length) throw malformed(`it does not hold exactly ${width} entries`);
  return entries;
}

function malformed(reason: string): AssayError<"tlog_bundle_malformed"> {
  return new AssayError("tlog_bundle_malformed", `The entry bundle is malformed: ${reason}.`);
}
