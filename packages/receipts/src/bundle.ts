import { AssayError, CborWriter, decodeCbor } from "@assay/core";
import { LIMIT, PROFILE } from "./labels.ts";
import { readTable, table, writeTable } from "./table.ts";
import type { FieldKind, OpenMap } from "./table.ts";
import type { FieldOpening, FullOpening } from "./fields.ts";

const required = true;
const hash: FieldKind = { type: "bytes", min: 32, max: 32 };
const bytes = (max: number): FieldKind => ({ type: "bytes", min: 0, max });
const list = (of: FieldKind, max: number): FieldKind => ({ type: "list", of, max });
const map = (fields: Parameters<typeof table>[0]): FieldKind => ({ type: "map", fields: table(fields) });
const side: FieldKind = { type: "text", oneOf: ["request", "response"] };
const text = (maxBytes: number): FieldKind => ({ type: "text", maxBytes });
const uint: FieldKind = { type: "uint" };

/** A checkpoint may carry several ML-DSA-44 cosignatures of 3.3 kB each. */
const MAX_NOTE_BYTES = 256 * 1024;

const bundleTable = table([
  { key: "profile", name: "profile", kind: { type: "text", oneOf: [PROFILE.bundle] }, required },
  {
    key: "statements",
    name: "statements",
    required,
    kind: list(
      map([
        { key: "envelope", name: "envelope", kind: bytes(LIMIT.envelopeBytes), required },
        { key: "claims", name: "claims", kind: bytes(LIMIT.claimsBytes), required },
      ]),
      LIMIT.statements,
    ),
  },
  {
    key: "keysets",
    name: "keysets",
    required,
    kind: list(
      map([
        { key: "envelope", name: "envelope", kind: bytes(LIMIT.envelopeBytes), required },
        { key: "document", name: "document", kind: bytes(LIMIT.claimsBytes), required },
      ]),
      LIMIT.keysets,
    ),
  },
  {
    key: "log",
    name: "log",
    kind: list(
      map([
        { key: "entry", name: "entry", kind: bytes(LIMIT.entryBytes), required },
        { key: "index", name: "index", kind: uint, required },
        { key: "path", name: "path", kind: list(hash, 63), required },
        { key: "checkpoint", name: "checkpoint", kind: uint, required },
      ]),
      LIMIT.logProofs,
    ),
  },
  { key: "checkpoints", name: "checkpoints", kind: list(text(MAX_NOTE_BYTES), LIMIT.logProofs) },
  {
    key: "evidence",
    name: "evidence",
    kind: list(
      map([
        { key: "type", name: "type", kind: text(256), required },
        { key: "data", name: "data", kind: bytes(LIMIT.bundleBytes), required },
      ]),
      LIMIT.evidence,
    ),
  },
  { key: "anchors", name: "anchors", kind: list({ type: "open" }, 16) },
  {
    key: "openings",
    name: "openings",
    kind: list(
      map([
        { key: "side", name: "side", kind: side, required },
        { key: "salt", name: "salt", kind: hash, required },
        {
          key: "fields",
          name: "fields",
          required,
          kind: list(
            map([
              { key: "name", name: "name", kind: text(LIMIT.textBytes), required },
              { key: "value", name: "value", kind: bytes(LIMIT.bundleBytes), required },
            ]),
            LIMIT.openedFields,
          ),
        },
      ]),
      2,
    ),
  },
  {
    key: "fields",
    name: "fields",
    kind: list(
      map([
        { key: "side", name: "side", kind: side, required },
        { key: "name", name: "name", kind: text(LIMIT.textBytes), required },
        { key: "salt", name: "salt", kind: hash, required },
        { key: "value", name: "value", kind: bytes(LIMIT.bundleBytes), required },
        { key: "index", name: "index", kind: uint, required },
        { key: "path", name: "path", kind: list(hash, 63), required },
      ]),
      LIMIT.openedFields,
    ),
  },
]);

/** A signed statement and the claims that its payload is the SHA-256 of. */
export type BundledStatement = { readonly envelope: Uint8Array; readonly claims: Uint8Array };

/** That an entry is in the log: its index, audit path and the checkpoint (by position in the bundle). */
export type BundledProof = {
  readonly entry: Uint8Array;
  readonly index: number;
  readonly path: readonly Uint8Array[];
  readonly checkpoint: number;
};

/** Everything needed to check one receipt for ever. The first statement is the execution. */
export type Bundle = {
  readonly profile: typeof PROFILE.bundle;
  readonly statements: readonly BundledStatement[];
  readonly keysets: readonly { readonly envelope: Uint8Array; readonly document: Uint8Array }[];
  readonly log?: readonly BundledProof[];
  /** Signed notes (C2SP tlog-checkpoint), cosignatures included. */
  readonly checkpoints?: readonly string[];
  /** Blobs that claims name by SHA-256: attestation evidence, collateral, proofs, preprocessing documents. */
  readonly evidence?: readonly { readonly type: string; readonly data: Uint8Array }[];
  readonly anchors?: readonly OpenMap[];
  readonly openings?: readonly FullOpening[];
  readonly fields?: readonly FieldOpening[];
};

/** The one encoding of a bundle: deterministic CBOR. Throws `claims_invalid` or `bundle_too_large`. */
export function encodeBundle(bundle: Bundle): Uint8Array {
  const writer = new CborWriter();
  writeTable(writer, bundleTable, bundle);
  const encoded = writer.finish();
  if (encoded.length > LIMIT.bundleBytes) throw tooLarge(encoded.length);
  return encoded;
}

/** Reads a bundle. Throws `bundle_too_large`, `claims_invalid` or `cbor_invalid`; non-canonical bytes are refused. */
export function decodeBundle(encoded: Uint8Array): Bundle {
  if (encoded.length > LIMIT.bundleBytes) throw tooLarge(encoded.length);
  const value = decodeCbor(encoded, { maxBytes: LIMIT.bundleBytes, maxDepth: 12, maxItems: 500_000 });
  return readTable(bundleTable, value, "bundle") as unknown as Bundle;
}

function tooLarge(size: number): AssayError<"bundle_too_large"> {
  return new AssayError("bundle_too_large", `The bundle is ${size} bytes long.`, {
    hints: [`A bundle has at most ${LIMIT.bundleBytes} bytes: leave large openings out and keep them beside it.`],
  });
}
