import { AssayError, concatBytes, isAssayError, utf8ToBytes } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import { formatCheckpoint, parseCheckpoint } from "./checkpoint.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { formatSignatureLine, parseNote } from "./note.ts";
import type { Note, NoteSignature } from "./note.ts";
import { kindFacts, noteKey, readUint64, sameKey, uint64Bytes } from "./note-key.ts";
import type { NoteKey, NoteKeyKind } from "./note-key.ts";
import { assertSize } from "./size.ts";

/** A private key with the name and kind under which it signs checkpoints. */
export type CheckpointSigner = { readonly key: NoteKey; readonly signer: Signer };

/** Binds a {@link Signer} to a name and a kind. Throws `note_key_invalid` when its algorithm is not the kind's. */
export function checkpointSigner(
  name: string,
  kind: NoteKeyKind,
  signer: Signer,
  suite: CryptoSuite,
): CheckpointSigner {
  if (signer.algorithm !== kindFacts(kind).algorithm) {
    throw new AssayError("note_key_invalid", `A ${signer.algorithm} key cannot make ${kind} signatures.`);
  }
  return { key: noteKey(name, kind, signer.publicKey, suite), signer };
}

/** The keys under which a log signs its own checkpoints: Ed25519 over the note, and ML-DSA-44 when there is one. */
export function logSigners(
  origin: string,
  signers: { readonly ed25519: Signer; readonly mlDsa44?: Signer },
  suite: CryptoSuite,
): CheckpointSigner[] {
  const list = [checkpointSigner(origin, "note", signers.ed25519, suite)];
  if (signers.mlDsa44) list.push(checkpointSigner(origin, "cosignature-ml-dsa-44", signers.mlDsa44, suite));
  return list;
}

/**
 * The bytes that a key of `kind` signs for a checkpoint. For ML-DSA-44 it is `cosigned_message` of
 * tlog-cosignature with `start` 0: it names the cosigner and leaves extension lines out.
 */
export function signedMessage(key: NoteKey, checkpoint: Checkpoint, text: string, timestamp: number): Uint8Array {
  if (key.kind === "note") return utf8ToBytes(text);
  if (key.kind === "cosignature-ed25519") return utf8ToBytes(`cosignature/v1\ntime ${timestamp}\n${text}`);
  const name = utf8ToBytes(key.name);
  const origin = utf8ToBytes(checkpoint.origin);
  return concatBytes(
    utf8ToBytes("subtree/v1\n\0"),
    new Uint8Array([name.length]),
    name,
    uint64Bytes(timestamp),
    new Uint8Array([origin.length]),
    origin,
    uint64Bytes(0),
    uint64Bytes(checkpoint.size),
    checkpoint.root,
  );
}

/** One signature line's content over a checkpoint text, made at `timestamp` (POSIX seconds, ignored by plain notes). */
export async function signCheckpointText(
  text: string,
  { key, signer }: CheckpointSigner,
  timestamp: number,
): Promise<NoteSignature> {
  assertSize(timestamp, "timestamp");
  const signature = await signer.sign(signedMessage(key, parseCheckpoint(text), text, timestamp));
  const timed = kindFacts(key.kind).timestamped ? concatBytes(uint64Bytes(timestamp), signature) : signature;
  return { name: key.name, id: key.id, signature: timed };
}

/**
 * A checkpoint signed by each of `signers`, as a note. `timestamp` is POSIX seconds and enters cosignatures only.
 * Throws `checkpoint_malformed` for facts that no checkpoint can state and `checkpoint_unsigned` without a signer.
 */
export async function signCheckpoint(
  checkpoint: Omit<Checkpoint, "extensions"> & Partial<Checkpoint>,
  signers: readonly CheckpointSigner[],
  timestamp: number,
): Promise<string> {
  if (signers.length === 0) throw new AssayError("checkpoint_unsigned", "A checkpoint needs at least one signer.");
  const text = formatCheckpoint(checkpoint);
  let note = `${text}\n`;
  for (const signer of signers) note += formatSignatureLine(await signCheckpointText(text, signer, timestamp));
  return note;
}

/** Whose signatures on a checkpoint count. A log key speaks for the origin that equals its name, and for no other. */
export type CheckpointTrust = {
  readonly logs: readonly NoteKey[];
  /** Cosignature keys; keys of kind `note` are never a witness's. */
  readonly witnesses?: readonly NoteKey[];
};

/** A signature that verified under a known key. */
export type VerifiedSignature = {
  readonly key: NoteKey;
  readonly role: "log" | "witness";
  /** POSIX seconds of a cosignature; absent on plain note signatures. */
  readonly timestamp?: number;
};

/** The result of {@link openCheckpoint}: facts that a log key signed, or the reason why there are none. */
export type OpenedCheckpoint =
  | {
      readonly ok: true;
      readonly checkpoint: Checkpoint;
      /** The note text, whose bytes the Ed25519 signatures cover. */
      readonly text: string;
      readonly signatures: readonly VerifiedSignature[];
      /** Signature lines of keys that are not in the trust, which say nothing. */
      readonly unknown: number;
    }
  | {
      readonly ok: false;
      readonly code:
        | "note_malformed"
        | "checkpoint_malformed"
        | "signature_invalid"
        | "origin_untrusted"
        | "log_unsigned";
      readonly reason: string;
      /** The facts, when the note could be read at all. They are unverified. */
      readonly claimed?: Checkpoint;
    };

/**
 * Reads a signed checkpoint and verifies every signature line of a known key. Never throws on hostile input.
 * Refuses, as values: `note_malformed`, `checkpoint_malformed`, `origin_untrusted` (no log key of that origin is
 * known), `signature_invalid` (a line of a known key fails, even if others hold), `log_unsigned` (no log key of
 * that origin signed). Follows C2SP signed-note, "Signatures", in its strict reading.
 */
export async function openCheckpoint(
  note: string | Uint8Array,
  trust: CheckpointTrust,
  suite: CryptoSuite,
): Promise<OpenedCheckpoint> {
  let parsed: Note;
  let checkpoint: Checkpoint;
  try {
    parsed = parseNote(note);
    checkpoint = parseCheckpoint(parsed.text);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return {
      ok: false,
      code: error.code === "note_malformed" ? error.code : "checkpoint_malformed",
      reason: error.message,
    };
  }
  const logs = trust.logs.filter((key) => key.name === checkpoint.origin);
  if (logs.length === 0) {
    return refused("origin_untrusted", `No log key is known for the origin ${checkpoint.origin}.`, checkpoint);
  }
  const witnesses = (trust.witnesses ?? []).filter((key) => kindFacts(key.kind).timestamped);
  const signatures: VerifiedSignature[] = [];
  let unknown = 0;
  for (const line of parsed.signatures) {
    const logKey = logs.find((known) => sameKey(known, line));
    const key = logKey ?? witnesses.find((known) => sameKey(known, line));
    if (!key) {
      unknown++;
      continue;
    }
    const verified = await verifyLine(line, key, checkpoint, parsed.text, suite);
    if (!verified) {
      return refused("signature_invalid", `A signature of the known key ${key.name} does not verify.`, checkpoint);
    }
    if (signatures.some((other) => sameKey(other.key, key))) continue;
    signatures.push({ key, role: logKey ? "log" : "witness", ...verified });
  }
  if (!signatures.some((signature) => signature.role === "log")) {
    return refused("log_unsigned", `No known key of the log ${checkpoint.origin} signed the checkpoint.`, checkpoint);
  }
  return { ok: true, checkpoint, text: parsed.text, signatures, unknown };
}

/** The facts of one verified signature line over a checkpoint text, or `undefined` when it does not verify. */
async function verifyLine(
  line: NoteSignature,
  key: NoteKey,
  checkpoint: Checkpoint,
  text: string,
  suite: CryptoSuite,
): Promise<{ timestamp?: number } | undefined> {
  const { algorithm, signatureBytes, timestamped } = kindFacts(key.kind);
  if (line.signature.length !== signatureBytes) return undefined;
  // A timestamp above 2^53 - 1 seconds is far outside any clock; it is refused rather than rounded.
  const timestamp = timestamped ? readUint64(line.signature, 0) : 0;
  if (timestamp === undefined) return undefined;
  const raw = timestamped ? line.signature.subarray(8) : line.signature;
  const message = signedMessage(key, checkpoint, text, timestamp);
  if (!(await suite.verify(algorithm, key.publicKey, message, raw))) return undefined;
  return timestamped ? { timestamp } : {};
}

/**
 * `note` with those of `lines` (signature lines, as a witness answers) that verify under `witnesses` and are not in it
 * already. Lines of unknown keys are ignored, as tlog-witness asks of clients. Throws `note_malformed` for lines or a
 * note that do not parse, and `cosignature_invalid` when a known witness's line does not verify or
 * has a timestamp of zero.
 */
export async function mergeCosignatures(
  note: string,
  lines: string,
  witnesses: readonly NoteKey[],
  suite: CryptoSuite,
): Promise<{ note: string; added: readonly VerifiedSignature[] }> {
  const parsed = parseNote(note);
  const checkpoint = parseCheckpoint(parsed.text);
  const present = [...parsed.signatures];
  const added: VerifiedSignature[] = [];
  for (const line of parseNote(`${parsed.text}\n${lines}`).signatures) {
    const key = witnesses.find((known) => kindFacts(known.kind).timestamped && sameKey(known, line));
    if (!key || present.some((other) => sameKey(other, line))) continue;
    const verified = await verifyLine(line, key, checkpoint, parsed.text, suite);
    if (!verified?.timestamp) {
      throw new AssayError("cosignature_invalid", `The cosignature of ${key.name} does not verify or has no time.`);
    }
    present.push(line);
    added.push({ key, role: "witness", ...verified });
  }
  const merged = `${parsed.text}\n${present.map(formatSignatureLine).join("")}`;
  parseNote(merged);
  return { note: merged, added };
}

function refused(
  code: "signature_invalid" | "origin_untrusted" | "log_unsigned",
  reason: string,
  claimed: Checkpoint,
): OpenedCheckpoint {
  return { ok: false, code, reason, claimed };
}
