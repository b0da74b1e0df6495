import { AssayError, bytesToBase64, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { decodeHash, parseCheckpoint } from "./checkpoint.ts";
import { formatSignatureLine, MAX_NOTE_CHARS, parseNote } from "./note.ts";
import type { NoteKey } from "./note-key.ts";
import { sameKey } from "./note-key.ts";
import { MAX_PROOF_HASHES, verifyConsistency } from "./proof.ts";
import { openCheckpoint, signCheckpointText } from "./signed-checkpoint.ts";
import type { CheckpointSigner } from "./signed-checkpoint.ts";
import { assertSize, parseDecimal } from "./size.ts";
import { emptyRoot, HASH_BYTES } from "./tree.ts";

/** The body of `add-checkpoint` (C2SP tlog-witness): the witness's last size, the way there, the new checkpoint. */
export type AddCheckpoint = {
  readonly oldSize: number;
  readonly proof: readonly Uint8Array[];
  /** The whole signed note. */
  readonly note: string;
};

/** Longest body, characters: the longest note and 63 proof lines. */
export const MAX_ADD_CHECKPOINT_CHARS = MAX_NOTE_CHARS + 4096;
/** Media type of the 409 body. */
export const TREE_SIZE_MEDIA_TYPE = "text/x.tlog.size";

/** The request body. Throws `tlog_range` or `add_checkpoint_malformed`. */
export function formatAddCheckpoint(request: AddCheckpoint): string {
  assertSize(request.oldSize, "old tree size");
  if (request.proof.length > MAX_PROOF_HASHES || request.proof.some((hash) => hash.length !== HASH_BYTES)) {
    throw malformed(`its proof is not at most ${MAX_PROOF_HASHES} hashes of ${HASH_BYTES} bytes`);
  }
  parseNote(request.note);
  const lines = [`old ${request.oldSize}`, ...request.proof.map(bytesToBase64)];
  return `${lines.join("\n")}\n\n${request.note}`;
}

/** The parts of a request body. Throws `add_checkpoint_malformed` or `note_malformed`; verifies nothing. */
export function parseAddCheckpoint(body: string): AddCheckpoint {
  if (body.length > MAX_ADD_CHECKPOINT_CHARS) throw malformed("it is too long");
  const blank = body.indexOf("\n\n");
  if (blank < 0) throw malformed("no blank line precedes a checkpoint");
  const [first = "", ...rest] = body.slice(0, blank).split("\n", MAX_PROOF_HASHES + 2);
  const oldSize = first.startsWith("old ") ? parseDecimal(first.slice("old ".length)) : undefined;
  if (oldSize === undefined) throw malformed("its first line is not `old` and a decimal number below 2^53");
  if (rest.length > MAX_PROOF_HASHES) throw malformed(`it has more than ${MAX_PROOF_HASHES} proof lines`);
  const proof = rest.map((line) => {
    const hash = decodeHash(line);
    if (!hash) throw malformed("a proof line is not 32 bytes in base64");
    return hash;
  });
  const note = body.slice(blank + 2);
  parseNote(note);
  return { oldSize, proof, note };
}

/** What a witness keeps of a log: the latest checkpoint it cosigned. */
export type WitnessState = { readonly size: number; readonly root: Uint8Array };

/** An answer, and the record the witness must have made durable before it gives that answer. */
export type WitnessDecision = {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly contentType: string;
  readonly body: string;
  /** Only with status 200: the new state, and the checkpoint with the log's and the witness's signatures. */
  readonly accepted?: { readonly state: WitnessState; readonly note: string };
};

/**
 * Decides on an `add-checkpoint` request. Pure but for the signers: the caller serialises requests per origin,
 * looks up `state` (`undefined` when it never cosigned that log) and stores `accepted` before it answers.
 *
 * 400 malformed or old size above the checkpoint's · 404 unknown origin · 403 no signature of a known log key, or
 * one that fails · 409 old size is not the recorded one (the body is that size) · 422 the trees do not fit · 200.
 */
export async function decideAddCheckpoint(
  body: string,
  witness: {
    readonly logs: readonly NoteKey[];
    readonly signers: readonly CheckpointSigner[];
    /** POSIX seconds, above zero. */
    readonly timestamp: number;
    readonly state: (origin: string) => WitnessState | undefined;
  },
  suite: CryptoSuite,
): Promise<WitnessDecision> {
  let request: AddCheckpoint;
  try {
    request = parseAddCheckpoint(body);
    parseCheckpoint(parseNote(request.note).text);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return refuse(400, error.message);
  }
  const opened = await openCheckpoint(request.note, { logs: witness.logs }, suite);
  if (!opened.ok) return refuse(opened.code === "origin_untrusted" ? 404 : 403, opened.reason);
  const { checkpoint, text } = opened;
  if (request.oldSize > checkpoint.size) return refuse(400, "The old size is above the checkpoint's size.");
  const known = witness.state(checkpoint.origin);
  const knownSize = known?.size ?? 0;
  if (request.oldSize !== knownSize) {
    return { status: 409, contentType: TREE_SIZE_MEDIA_TYPE, body: `${knownSize}\n` };
  }
  const older = known ?? { size: 0, root: emptyRoot(suite) };
  if (checkpoint.size === 0 && !equalBytes(checkpoint.root, emptyRoot(suite))) {
    return refuse(422, "A checkpoint of size zero has the root of the empty tree.");
  }
  if (!verifyConsistency(older, checkpoint, request.proof, suite)) {
    return refuse(422, "The checkpoint is not shown to extend the one this witness cosigned.");
  }
  let lines = "";
  for (const signer of witness.signers) {
    lines += formatSignatureLine(await signCheckpointText(text, signer, witness.timestamp));
  }
  const ofLog = parseNote(request.note).signatures.filter((line) =>
    opened.signatures.some((signature) => signature.role === "log" && sameKey(signature.key, line)),
  );
  const note = `${text}\n${ofLog.map(formatSignatureLine).join("")}${lines}`;
  const state = { size: checkpoint.size, root: checkpoint.root };
  return { status: 200, contentType: "text/plain; charset=utf-8", body: lines, accepted: { state, note } };
}

function refuse(status: 400 | 403 | 404 | 422, reason: string): WitnessDecision {
  return { status, contentType: "text/plain; charset=utf-8", body: `${reason}\n` };
}

function malformed(reason: string): AssayError<"add_checkpoint_malformed"> {
  return new AssayError("add_checkpoint_malformed", `The add-checkpoint request is malformed: ${reason}.`);
}
