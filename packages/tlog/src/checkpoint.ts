import { AssayError, base64ToBytes, bytesToBase64, utf8ToBytes } from "@assay/core";
import { assertSize, parseDecimal } from "./size.ts";
import { HASH_BYTES } from "./tree.ts";

/** What a log signs: its identity and the size and 32-byte root of its tree (C2SP tlog-checkpoint). */
export type Checkpoint = {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** Opaque lines after the third; an ML-DSA-44 cosignature does not cover them. */
  readonly extensions: readonly string[];
};

/** The subtree/v1 message gives the origin one length byte, so no checkpoint here has a longer one. */
export const MAX_ORIGIN_BYTES = 255;
/** Extension lines are discouraged by the specification; a few are read so that other logs' checkpoints parse. */
export const MAX_EXTENSION_LINES = 16;

/** Whether `origin` can name a log: one line, 1 to 255 bytes, no control characters. */
export function isOrigin(origin: string): boolean {
  return /^[^\p{Cc}\p{Cs}]+$/u.test(origin) && utf8ToBytes(origin).length <= MAX_ORIGIN_BYTES;
}

/** The note text of a checkpoint. Throws `checkpoint_malformed` when it would not parse again. */
export function formatCheckpoint(checkpoint: Omit<Checkpoint, "extensions"> & Partial<Checkpoint>): string {
  const { origin, size, root, extensions = [] } = checkpoint;
  assertSize(size, "tree size");
  const text = [origin, String(size), bytesToBase64(root), ...extensions].map((line) => `${line}\n`).join("");
  parseCheckpoint(text);
  return text;
}

/**
 * The facts in a note text. Throws `checkpoint_malformed` unless it has three to nineteen non-empty lines: an
 * origin, a size without leading zeroes, a root of 32 bytes, extension lines.
 */
export function parseCheckpoint(text: string): Checkpoint {
  const lines = text.split("\n", 3 + MAX_EXTENSION_LINES + 2);
  if (lines.pop() !== "" || lines.length < 3 || lines.length > 3 + MAX_EXTENSION_LINES) {
    throw malformed(`it does not have 3 to ${3 + MAX_EXTENSION_LINES} whole lines`);
  }
  const [origin = "", sizeLine = "", rootLine = "", ...extensions] = lines;
  if (!isOrigin(origin)) throw malformed("its origin is empty, too long or has control characters");
  const size = parseDecimal(sizeLine);
  if (size === undefined) throw malformed("its size is not a decimal number below 2^53");
  const root = decodeHash(rootLine);
  if (!root) throw malformed("its root is not 32 bytes in base64");
  if (extensions.includes("")) throw malformed("an extension line is empty");
  return { origin, size, root, extensions };
}

/** 32 bytes from base64, or `undefined`. */
export function decodeHash(text: string): Uint8Array | undefined {
  // 44 characters spell 31 to 33 bytes; anything longer is not worth decoding.
  if (text.length !== 44) return undefined;
  try {
    const bytes = base64ToBytes(text);
    return bytes.length === HASH_BYTES ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function malformed(reason: string): AssayError<"checkpoint_malformed"> {
  return new AssayError("checkpoint_malformed", `The checkpoint is malformed: ${reason}.`);
}
