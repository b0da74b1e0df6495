import { merkleNode, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { transcriptLeaf, transcriptSalt } from "@assay/receipts";

// A leaf is the hash of a zero byte, the salt and the frame (receipts' transcriptLeaf). Nearly all frames fit here, and
// an array for each would cost more than its hash: they are written behind one another in one buffer for all streams,
// since hashing is synchronous and keeps nothing.
const scratch = new Uint8Array(16 * 1024);
const SALT_BYTES = 32;
const BEFORE_FRAME = 1 + SALT_BYTES;
/** UTF-8 takes at most three bytes for each unit of a text. */
const MOST_BYTES_PER_UNIT = 3;
const encoder = new TextEncoder();

/** A stream's transcript while it runs: one hash for each power of two in the number of frames, so at most 53. */
export type RunningTranscript = {
  /** Takes the payload of one event, in order. */
  readonly take: (data: string) => void;
  /** Root over the frames so far and their number; undefined when there are none. */
  readonly state: () => { readonly root: Uint8Array; readonly frames: number } | undefined;
};

/** Opens a transcript under a receipt's master salt; its root is `transcriptRoot` of the frames taken. */
export function createRunningTranscript(suite: Pick<CryptoSuite, "sha256">, masterSalt: Uint8Array): RunningTranscript {
  const salt = transcriptSalt(suite, masterSalt);
  // Roots of the perfect subtrees that the frames so far make, widest first: the set bits of their number.
  const peaks: Uint8Array[] = [];
  let frames = 0;
  return {
    take(data) {
      let node: Uint8Array;
      if (BEFORE_FRAME + data.length * MOST_BYTES_PER_UNIT > scratch.length)
        node = transcriptLeaf(suite, salt, utf8ToBytes(data));
      else {
        scratch.set(salt, 1);
        const { written } = encoder.encodeInto(data, scratch.subarray(BEFORE_FRAME));
        node = suite.sha256(scratch.subarray(0, BEFORE_FRAME + written));
      }
      // As many pairs close as the number has trailing ones; % because a long stream outgrows 32 bits.
      for (let rest = frames; rest % 2 === 1; rest = (rest - 1) / 2) {
        const left = peaks.pop();
        if (left) node = merkleNode(suite.sha256, left, node);
      }
      peaks.push(node);
      frames++;
    },
    state() {
      const root = peaks.reduceRight<Uint8Array | undefined>(
        (right, left) => (right ? merkleNode(suite.sha256, left, right) : left),
        undefined,
      );
      return root && { root, frames };
    },
  };
}
