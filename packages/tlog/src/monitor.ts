import { equalBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { verifyConsistency } from "./proof.ts";
import type { TreeHead } from "./proof.ts";
import { openCheckpoint } from "./signed-checkpoint.ts";
import type { CheckpointTrust, OpenedCheckpoint } from "./signed-checkpoint.ts";

/**
 * How a new checkpoint stands to the last one seen.
 *
 * - `first`: nothing was seen before.
 * - `unchanged`: same size, same root.
 * - `consistent`: larger, and the proof shows that it extends the last one.
 * - `fork`: same size, another root. Two signatures of the log over contradictory facts convict it.
 * - `rewind`: smaller than the last one. The log, or a cache before it, serves an older view.
 * - `proof-invalid`: larger, and the proof does not show that it extends the last one.
 * - `origin-changed`: a checkpoint of another log.
 * - `bad-checkpoint`: malformed, or not properly signed; `opened` says how.
 */
export type CheckpointJudgement = {
  readonly verdict:
    | "first"
    | "unchanged"
    | "consistent"
    | "fork"
    | "rewind"
    | "proof-invalid"
    | "origin-changed"
    | "bad-checkpoint";
  readonly opened: OpenedCheckpoint;
};

/** What a monitor remembers of the last checkpoint it accepted. */
export type SeenCheckpoint = TreeHead & { readonly origin: string };

/**
 * Judges a new checkpoint against the last one seen. `proof` is asked for only when the new tree is larger. Never
 * throws on hostile input; a rejection of `proof` passes through.
 */
export async function judgeCheckpoint(
  seen: SeenCheckpoint | undefined,
  note: string | Uint8Array,
  proof: (oldSize: number, newSize: number) => Promise<readonly Uint8Array[]>,
  trust: CheckpointTrust,
  suite: CryptoSuite,
): Promise<CheckpointJudgement> {
  const opened = await openCheckpoint(note, trust, suite);
  if (!opened.ok) return { verdict: "bad-checkpoint", opened };
  const { checkpoint } = opened;
  if (!seen) return { verdict: "first", opened };
  if (checkpoint.origin !== seen.origin) return { verdict: "origin-changed", opened };
  if (checkpoint.size < seen.size) return { verdict: "rewind", opened };
  if (checkpoint.size === seen.size) {
    return { verdict: equalBytes(checkpoint.root, seen.root) ? "unchanged" : "fork", opened };
  }
  const holds = verifyConsistency(seen, checkpoint, await proof(seen.size, checkpoint.size), suite);
  return { verdict: holds ? "consistent" : "proof-invalid", opened };
}
