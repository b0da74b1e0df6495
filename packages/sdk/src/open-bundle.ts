import { compareBytes, utf8ToBytes } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { decodeBundle, encodeBundle, tensorFields } from "@assay/receipts";
import type { Bundle, FieldValue, FullOpening, Side } from "@assay/receipts";

/** What the caller of an inference over tensors knows and the receipt only commits to. */
export type KnownExchange = {
  /** 32 bytes that only the caller was given. */
  readonly masterSalt: Uint8Array;
  /** The model's name as it was asked for: `ns/name` or `ns/name@version`. */
  readonly modelAsked: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** The preprocessing document whose digest was sent, in the bytes that were hashed. */
  readonly preprocessing?: Uint8Array;
};

/** The same of any request: the fields that each side consists of. A side that is left out stays closed. */
export type KnownFields = {
  readonly masterSalt: Uint8Array;
  readonly request?: readonly FieldValue[];
  readonly response?: readonly FieldValue[];
};

/**
 * The bundle with request and response opened (docs/spec/receipt.md section 6), so that whoever holds the file can see
 * what was asked and answered, and re-execute. Whether the openings are the signed ones is for verification to say.
 * Throws `claims_invalid`, `cbor_invalid` or `bundle_too_large`.
 */
export function openBundle(bytes: Uint8Array, known: KnownExchange | KnownFields): Uint8Array {
  const bundle = decodeBundle(bytes);
  if (!("modelAsked" in known)) return encodeBundle(withOpenings(bundle, known));
  const opened = withOpenings(bundle, {
    masterSalt: known.masterSalt,
    request: [
      { name: "model", value: utf8ToBytes(known.modelAsked) },
      ...known.inputs.flatMap((tensor) => tensorFields("input", tensor)),
    ],
    response: known.outputs.flatMap((tensor) => tensorFields("output", tensor)),
  });
  const evidence = [...(bundle.evidence ?? [])];
  if (known.preprocessing && !evidence.some(({ type }) => type === "preprocessing"))
    evidence.push({ type: "preprocessing", data: known.preprocessing });
  return encodeBundle({ ...opened, ...(evidence.length === 0 ? {} : { evidence }) });
}

function withOpenings(bundle: Bundle, known: KnownFields): Bundle {
  const opening = (side: Side, fields: readonly FieldValue[] | undefined): FullOpening[] =>
    fields
      ? [
          {
            side,
            salt: known.masterSalt,
            fields: fields
              .map((field) => ({ field, key: utf8ToBytes(field.name) }))
              .sort((a, b) => compareBytes(a.key, b.key))
              .map(({ field }) => field),
          },
        ]
      : [];
  const openings = [...opening("request", known.request), ...opening("response", known.response)];
  // What the bundle brought along is left out: what was exchanged, the caller knows better than any server.
  const { openings: _openings, ...closed } = bundle;
  return openings.length === 0 ? closed : { ...closed, openings };
}
