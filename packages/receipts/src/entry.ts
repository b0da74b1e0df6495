import { AssayError, CborWriter, decodeCbor } from "@assay/core";
import type { CborValue } from "@assay/core";
import { LIMIT, PROFILE } from "./labels.ts";

/** Most envelopes one log entry holds: an execution with its service statement, or one of another kind. */
export const MAX_ENVELOPES = 4;

/**
 * The log's leaf: CBOR ["urn:assay:entry:1", envelope, …]. Envelopes are hash envelopes, so nothing of payer,
 * usage or prompt enters the log. Throws `entry_invalid` past 65,535 bytes or 4 envelopes.
 */
export function encodeEntry(envelopes: readonly Uint8Array[]): Uint8Array {
  if (envelopes.length === 0 || envelopes.length > MAX_ENVELOPES) throw invalid(`holds ${envelopes.length} envelopes`);
  const writer = new CborWriter();
  writer.array(1 + envelopes.length);
  writer.text(PROFILE.entry);
  for (const envelope of envelopes) writer.bytes(envelope);
  const entry = writer.finish();
  if (entry.length > LIMIT.entryBytes) throw invalid(`is ${entry.length} bytes long`);
  return entry;
}

/** The envelopes of a log entry. Throws `entry_invalid` or `cbor_invalid`. */
export function decodeEntry(entry: Uint8Array): Uint8Array[] {
  const value = decodeCbor(entry, { maxBytes: LIMIT.entryBytes, maxDepth: 1, maxItems: 2 + MAX_ENVELOPES });
  if (!Array.isArray(value)) throw invalid("is not an array");
  const [tag, ...rest] = value as readonly CborValue[];
  if (tag !== PROFILE.entry) throw invalid("does not begin with its profile");
  if (rest.length === 0 || rest.length > MAX_ENVELOPES) throw invalid(`holds ${rest.length} envelopes`);
  return rest.map((item) => {
    if (!(item instanceof Uint8Array)) throw invalid("holds something that is not an envelope");
    return item;
  });
}

function invalid(why: string): AssayError<"entry_invalid"> {
  return new AssayError("entry_invalid", `The log entry ${why}.`, {
    hints: [`An entry holds 1 to ${MAX_ENVELOPES} envelopes in at most ${LIMIT.entryBytes} bytes.`],
  });
}
