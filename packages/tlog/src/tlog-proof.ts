import { AssayError, base64ToBytes, bytesToBase64, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { decodeHash, parseCheckpoint } from "./checkpoint.ts";
import { parseNote } from "./note.ts";
import { expectedRoot, MAX_PROOF_HASHES, verifyInclusion } from "./proof.ts";
import { openCheckpoint } from "./signed-checkpoint.ts";
import type { CheckpointTrust, OpenedCheckpoint } from "./signed-checkpoint.ts";
import { assertSize, parseDecimal } from "./size.ts";
import { HASH_BYTES } from "./tree.ts";

/** A `.tlog-proof`: an entry's place, its audit path and the signed checkpoint it leads to (C2SP tlog-proof@v1). */
export type TlogProof = {
  readonly index: number;
  /** 32-byte hashes, the leaf's sibling first. */
  readonly path: readonly Uint8Array[];
  /** The whole signed note of the checkpoint. */
  readonly checkpoint: string;
  /** Opaque bytes that nothing authenticates. */
  readonly extra?: Uint8Array;
};

const HEADER = "c2sp.org/tlog-proof@v1";
/** Most bytes of `extra`: it may carry what an application hashes into its entry, never more than an entry. */
export const MAX_PROOF_EXTRA_BYTES = 65_535;
/** Longest proof text, characters: the longest note, 63 hash lines and the largest `extra` in base64. */
export const MAX_TLOG_PROOF_CHARS = 1024 * 1024;

/** The text of a proof. Throws `tlog_proof_malformed`, `note_malformed` or `tlog_range` for what would not parse. */
export function formatTlogProof(proof: TlogProof): string {
  assertSize(proof.index, "entry index");
  if (proof.path.length > MAX_PROOF_HASHES || proof.path.some((hash) => hash.length !== HASH_BYTES)) {
    throw malformed(`its path is not at most ${MAX_PROOF_HASHES} hashes of ${HASH_BYTES} bytes`);
  }
  if ((proof.extra?.length ?? 0) > MAX_PROOF_EXTRA_BYTES) throw malformed("its extra data is too long");
  parseCheckpoint(parseNote(proof.checkpoint).text);
  const extra = proof.extra && proof.extra.length > 0 ? [`extra ${bytesToBase64(proof.extra)}`] : [];
  const lines = [HEADER, ...extra, `index ${proof.index}`, ...proof.path.map(bytesToBase64)];
  return `${lines.join("\n")}\n\n${proof.checkpoint}`;
}

/** The parts of a proof text. Throws `tlog_proof_malformed` or `note_malformed`; verifies nothing. */
export function parseTlogProof(text: string): TlogProof {
  if (text.length > MAX_TLOG_PROOF_CHARS) throw malformed("it is too long");
  const blank = text.indexOf("\n\n");
  if (blank < 0) throw malformed("no blank line precedes a checkpoint");
  const lines = text.slice(0, blank).split("\n", MAX_PROOF_HASHES + 4);
  if (lines.shift() !== HEADER) throw malformed(`its first line is not ${HEADER}`);
  let extra: Uint8Array | undefined;
  if (lines[0]?.startsWith("extra ")) extra = decodeExtra((lines.shift() ?? "").slice("extra ".length));
  const indexLine = lines.shift() ?? "";
  const index = indexLine.startsWith("index ") ? parseDecimal(indexLine.slice("index ".length)) : undefined;
  if (index === undefined) throw malformed("its index line is not a decimal number below 2^53");
  if (lines.length > MAX_PROOF_HASHES) throw malformed(`its path has more than ${MAX_PROOF_HASHES} hashes`);
  const path = lines.map((line) => {
    const hash = decodeHash(line);
    if (!hash) throw malformed("a line of its path is not 32 bytes in base64");
    return hash;
  });
  const checkpoint = text.slice(blank + 2);
  parseNote(checkpoint);
  return { index, path, checkpoint, ...(extra ? { extra } : {}) };
}

/** What {@link verifyTlogProof} found: the opened checkpoint that vouches for the entry, or why there is none. */
export type TlogProofVerdict =
  | {
      readonly ok: true;
      readonly index: number;
      readonly opened: OpenedCheckpoint & { ok: true };
      readonly extra?: Uint8Array;
    }
  | {
      readonly ok: false;
      readonly code: "tlog_proof_malformed" | "inclusion_invalid" | (OpenedCheckpoint & { ok: false })["code"];
      readonly reason: string;
    };

/**
 * Whether `text` proves that the entry with `leafHash` (32 bytes, {@link leafHash}) is in a log of `trust`. Never
 * throws on hostile input. It checks no quorum: pass `opened` to {@link satisfiesQuorum} for that.
 */
export async function verifyTlogProof(
  text: string,
  leafHash: Uint8Array,
  trust: CheckpointTrust,
  suite: CryptoSuite,
): Promise<TlogProofVerdict> {
  let proof: TlogProof;
  try {
    proof = parseTlogProof(text);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return {
      ok: false,
      code: error.code === "note_malformed" ? error.code : "tlog_proof_malformed",
      reason: error.message,
    };
  }
  const opened = await openCheckpoint(proof.checkpoint, trust, suite);
  if (!opened.ok) return { ok: false, code: opened.code, reason: opened.reason };
  const { size, root } = opened.checkpoint;
  if (!verifyInclusion(proof.index, size, leafHash, proof.path, root, suite)) {
    const shape = expectedRoot(proof.index, size, leafHash, proof.path, suite)
      ? "to another root"
      : "to no root at all";
    const reason = `The path of entry ${proof.index} in the tree of ${size} entries leads ${shape}.`;
    return { ok: false, code: "inclusion_invalid", reason };
  }
  return { ok: true, index: proof.index, opened, ...(proof.extra ? { extra: proof.extra } : {}) };
}

function decodeExtra(text: string): Uint8Array {
  if (text.length > Math.ceil(MAX_PROOF_EXTRA_BYTES / 3) * 4) throw malformed("its extra data is too long");
  try {
    return base64ToBytes(text);
  } catch (cause) {
    throw malformed("its extra data is not base64", cause);
  }
}

function malformed(reason: string, cause?: unknown): AssayError<"tlog_proof_malformed"> {
  return new AssayError("tlog_proof_malformed", `The log proof is malformed: ${reason}.`, { cause });
}
