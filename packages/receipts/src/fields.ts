import {
  AssayError,
  compareBytes,
  concatBytes,
  encodeCbor,
  merkleLevels,
  merklePath,
  merkleRootFromPath,
  utf8ToBytes,
} from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { LIMIT } from "./labels.ts";
import { utf8Length } from "./table.ts";

type Hash = Pick<CryptoSuite, "sha256">;

/** One named value of a request or a response. */
export type FieldValue = { readonly name: string; readonly value: Uint8Array };
/** Which tree a field belongs to. */
export type Side = "request" | "response";

/** The commitment to one side: its root (32 bytes) and how many fields it has. */
export type FieldTree = {
  readonly root: Uint8Array;
  readonly count: number;
  readonly levels: readonly (readonly Uint8Array[])[];
};

const SALT_TAG = utf8ToBytes("assay/salt/1\0");
const SIDE_BYTE: Record<Side, Uint8Array> = { request: new Uint8Array([1]), response: new Uint8Array([2]) };
const NUL = new Uint8Array([0]);
const LEAF = new Uint8Array([0]);
/** Values above this are hashed where they lie instead of being copied next to their salt. */
const STREAMED_BYTES = 4096;

/** Salt of one field, 32 bytes: SHA-256("assay/salt/1" NUL || master || side || name). Knowing it tells nothing of others. */
export function fieldSalt(suite: Hash, master: Uint8Array, side: Side, name: Uint8Array): Uint8Array {
  return suite.sha256(concatBytes(SALT_TAG, master, SIDE_BYTE[side], name));
}

/** Leaf of one field: the RFC 6962 leaf hash of salt || name || NUL || value. */
export function fieldLeaf(suite: Hash, salt: Uint8Array, name: Uint8Array, value: Uint8Array): Uint8Array {
  return value.length > STREAMED_BYTES
    ? suite.sha256(LEAF, salt, name, NUL, value)
    : suite.sha256(concatBytes(LEAF, salt, name, NUL, value));
}

/**
 * Commits to the fields of one side under a 32-byte master salt. Fields are sorted by the bytes of their names.
 * Throws `field_invalid` for an empty, duplicate or NUL-holding name, or more than 10,000 fields.
 */
export function commitFields(suite: Hash, master: Uint8Array, side: Side, fields: readonly FieldValue[]): FieldTree {
  const sorted = sortFields(fields);
  const leaves = sorted.map(({ key, value }) => fieldLeaf(suite, fieldSalt(suite, master, side, key), key, value));
  const levels = merkleLevels(suite.sha256, leaves);
  return { root: levels.at(-1)?.[0] ?? suite.sha256(new Uint8Array()), count: leaves.length, levels };
}

function sortFields(fields: readonly FieldValue[]): { key: Uint8Array; value: Uint8Array }[] {
  if (fields.length > LIMIT.openedFields)
    throw invalid(`There are ${fields.length} fields, more than ${LIMIT.openedFields}.`);
  const sorted = fields.map(({ name, value }) => {
    if (!isFieldName(name)) throw invalid(`The field name ${JSON.stringify(name)} is not allowed.`);
    return { key: utf8ToBytes(name), value };
  });
  sorted.sort((a, b) => compareBytes(a.key, b.key));
  for (let i = 1; i < sorted.length; i++) {
    const [a, b] = [sorted[i - 1], sorted[i]];
    if (a && b && compareBytes(a.key, b.key) === 0) throw invalid("Two fields have the same name.");
  }
  return sorted;
}

// A name without NUL ends where its leaf's NUL stands; with one, the border between name and value could be moved.
function isFieldName(name: string): boolean {
  return name.length > 0 && utf8Length(name) <= 1024 && !name.includes("\0");
}

/** Everything of one side, with the salt that opens it. */
export type FullOpening = { readonly side: Side; readonly salt: Uint8Array; readonly fields: readonly FieldValue[] };

/** One field with its own salt and audit path: discloses it and the number of its siblings, nothing else. */
export type FieldOpening = {
  readonly side: Side;
  readonly name: string;
  readonly salt: Uint8Array;
  readonly value: Uint8Array;
  readonly index: number;
  readonly path: readonly Uint8Array[];
};

/** Opens one field out of a full opening. Throws `field_unknown` when there is none of that name. */
export function openField(suite: Hash, opening: FullOpening, name: string): FieldOpening {
  const sorted = sortFields(opening.fields);
  const key = utf8ToBytes(name);
  const index = sorted.findIndex((field) => compareBytes(field.key, key) === 0);
  const field = sorted[index];
  if (!field) {
    throw new AssayError("field_unknown", `The ${opening.side} has no field named ${name}.`, {
      hints: [`It has: ${opening.fields.map((known) => known.name).join(", ")}.`],
    });
  }
  const { levels } = commitFields(suite, opening.salt, opening.side, opening.fields);
  const salt = fieldSalt(suite, opening.salt, opening.side, key);
  return { side: opening.side, name, salt, value: field.value, index, path: merklePath(levels, index) };
}

/** Whether one opened field, under a name that a field may have, is in the tree of `root` with `count` fields. */
export function checkField(suite: Hash, field: FieldOpening, root: Uint8Array, count: number): boolean {
  if (!isFieldName(field.name) || field.salt.length !== 32) return false;
  const leaf = fieldLeaf(suite, field.salt, utf8ToBytes(field.name), field.value);
  const found = merkleRootFromPath(suite.sha256, leaf, field.index, count, field.path);
  return found !== undefined && compareBytes(found, root) === 0;
}

/** A tensor as the receipt commits to it: datatype (Open Inference Protocol name), sizes, row-major little-endian bytes. */
export type CommittedTensor = {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
};

/** The two fields of a tensor: `<prefix>/<name>/meta` = CBOR [datatype, shape] and `<prefix>/<name>/data` = its bytes. */
export function tensorFields(prefix: "input" | "output", tensor: CommittedTensor): [FieldValue, FieldValue] {
  return [
    { name: `${prefix}/${tensor.name}/data`, value: tensor.data },
    { name: `${prefix}/${tensor.name}/meta`, value: encodeCbor([tensor.datatype, tensor.shape]) },
  ];
}

function invalid(message: string): AssayError<"field_invalid"> {
  return new AssayError("field_invalid", message, {
    hints: ["Field names are unique, 1 to 1,024 bytes of UTF-8, without NUL; a side has at most 10,000."],
  });
}
