import { AssayError, base64ToBytes, bytesToBase64, concatBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite, SignatureAlgorithm } from "@assay/core";

/**
 * What a key signs: `note` is plain Ed25519 over the note text (signed-note, type 0x01); the cosignatures are
 * timestamped statements about a checkpoint (tlog-cosignature, types 0x04 and 0x06).
 */
export type NoteKeyKind = "note" | "cosignature-ed25519" | "cosignature-ml-dsa-44";

/** A verifier key: who signs, under which short id, with which algorithm. */
export type NoteKey = {
  readonly name: string;
  /** Big-endian uint32: the first four bytes of SHA-256(name || 0x0A || type || public key). */
  readonly id: number;
  readonly kind: NoteKeyKind;
  readonly publicKey: Uint8Array;
};

type KindFacts = {
  readonly type: number;
  readonly algorithm: SignatureAlgorithm;
  readonly keyBytes: number;
  /** Bytes after the key id in a signature line. */
  readonly signatureBytes: number;
  readonly timestamped: boolean;
};

const KINDS: Readonly<Record<NoteKeyKind, KindFacts>> = {
  note: { type: 0x01, algorithm: "ed25519", keyBytes: 32, signatureBytes: 64, timestamped: false },
  "cosignature-ed25519": { type: 0x04, algorithm: "ed25519", keyBytes: 32, signatureBytes: 72, timestamped: true },
  "cosignature-ml-dsa-44": {
    type: 0x06,
    algorithm: "ml-dsa-44",
    keyBytes: 1312,
    signatureBytes: 2428,
    timestamped: true,
  },
};
const KIND_NAMES: readonly NoteKeyKind[] = ["note", "cosignature-ed25519", "cosignature-ml-dsa-44"];

/** The subtree/v1 message gives the cosigner's name one length byte, so no key here has a longer one. */
export const MAX_KEY_NAME_BYTES = 255;
/** An ML-DSA-44 vkey is about 2,000 characters with the longest name. */
const MAX_VKEY_CHARS = 4096;

/** Type byte, algorithm and lengths of a kind of key. */
export function kindFacts(kind: NoteKeyKind): KindFacts {
  return KINDS[kind];
}

/** Whether `name` may stand in a signature line: 1 to 255 bytes, no Unicode space, plus sign or control character. */
export function isKeyName(name: string): boolean {
  return /^[^\s\u0085+\p{Cc}\p{Cs}]+$/u.test(name) && utf8ToBytes(name).length <= MAX_KEY_NAME_BYTES;
}

/** The verifier key of `name`. Throws `note_key_invalid` for a bad name or a public key of the wrong length. */
export function noteKey(name: string, kind: NoteKeyKind, publicKey: Uint8Array, suite: CryptoSuite): NoteKey {
  if (!isKeyName(name))
    throw invalid("its name is empty, too long, or has a space, a plus sign or a control character");
  const { type, keyBytes } = KINDS[kind];
  if (publicKey.length !== keyBytes) throw invalid(`a ${kind} key has ${keyBytes} bytes, not ${publicKey.length}`);
  const digest = suite.sha256(concatBytes(utf8ToBytes(name), new Uint8Array([0x0a, type]), publicKey));
  return { name, id: readUint32(digest, 0), kind, publicKey };
}

/** The text form of a verifier key, `name+id+base64` (signed-note, "Verifier keys"). */
export function formatVkey(key: NoteKey): string {
  const material = concatBytes(new Uint8Array([KINDS[key.kind].type]), key.publicKey);
  return `${key.name}+${formatKeyId(key.id)}+${bytesToBase64(material)}`;
}

/**
 * The key that `vkey` spells. Throws `note_key_invalid` for a malformed text, a signature type other than 0x01,
 * 0x04 and 0x06, a public key of the wrong length, or an id that does not follow from name and key.
 */
export function parseVkey(vkey: string, suite: CryptoSuite): NoteKey {
  if (vkey.length > MAX_VKEY_CHARS) throw invalid(`it has more than ${MAX_VKEY_CHARS} characters`);
  const first = vkey.indexOf("+");
  const second = vkey.indexOf("+", first + 1);
  if (first < 0 || second < 0) throw invalid("it does not have three parts joined by plus signs");
  let material: Uint8Array;
  try {
    material = base64ToBytes(vkey.slice(second + 1));
  } catch (cause) {
    throw invalid("its key is not base64", cause);
  }
  const kind = KIND_NAMES.find((name) => KINDS[name].type === material[0]);
  if (!kind) throw invalid("its signature type is none of 0x01, 0x04 and 0x06");
  const key = noteKey(vkey.slice(0, first), kind, material.slice(1), suite);
  if (vkey.slice(first + 1, second) !== formatKeyId(key.id))
    throw invalid("its id does not follow from its name and key");
  return key;
}

/** Eight lower-case hexadecimal digits. */
function formatKeyId(id: number): string {
  return id.toString(16).padStart(8, "0");
}

/** Whether two keys are the same signer under the same name: what a signature line is matched by. */
export function sameKey(a: { name: string; id: number }, b: { name: string; id: number }): boolean {
  return a.name === b.name && a.id === b.id;
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

/** `value` as eight big-endian bytes. */
export function uint64Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  let rest = value;
  for (let i = 7; i >= 0; i--) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  return bytes;
}

/** Eight big-endian bytes as a number, or `undefined` above 2^53 - 1. */
export function readUint64(bytes: Uint8Array, at: number): number | undefined {
  const value = readUint32(bytes, at) * 2 ** 32 + readUint32(bytes, at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
}

function invalid(reason: string, cause?: unknown): AssayError<"note_key_invalid"> {
  return new AssayError("note_key_invalid", `The verifier key is refused: ${reason}.`, { cause });
}
