import { compareBytes, utf8ToBytes } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { decodeBundle, encodeBundle, tensorFields } from "@assay/receipts";
import type { FieldValue, FullOpening, Side } from "@assay/receipts";

/** What the caller of an inference knows and the receipt only commits to. */
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

/**
 * The bundle with request and response opened (docs/spec/receipt.md section 6), so that whoever holds the file can see
 * what was asked and answered, and re-execute. Whether the openings are the signed ones is for verification to say.
 * Throws `claims_invalid`, `cbor_invalid` or `bundle_too_large`.
 */
export function openBundle(bytes: Uint8Array, known: KnownExchange): Uint8Array {
  const bundle = decodeBundle(bytes);
  const opening = (side: Side, fields: FieldValue[]): FullOpening => ({
    side,
    salt: known.masterSalt,
    fields: fields
      .map((field) => ({ field, key: utf8ToBytes(field.name) }))
      .sort((a, b) => compareBytes(a.key, b.key))
      .map(({ field }) => field),
  });
  const openings = [
    opening("request", [
      { name: "model", value: utf8ToBytes(known.modelAsked) },
      ...known.inputs.flatMap((tensor) => tensorFields("input", tensor)),
    ]),
    opening(
      "response",
      known.outputs.flatMap((tensor) => tensorFields("output", tensor)),
    ),
  ];
  const evidence = [...(bundle.evidence ?? [])];
  if (known.preprocessing && !evidence.some(({ type }) => type === "preprocessing"))
    evidence.push({ type: "preprocessing", data: known.preprocessing });
  return encodeBundle({ ...bundle, openings, ...(evidence.length === 0 ? {} : { evidence }) });
}
