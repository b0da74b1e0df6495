import type { ChoiceDelta } from "@assay/protocol";
import { malformed } from "./errors.ts";

/** What has been seen of an answer's choices. */
export type Ledger = {
  /** Whether `delta` is to be passed on. Throws `upstream_malformed` for what cannot follow what came before. */
  readonly accept: (delta: ChoiceDelta) => boolean;
  /** Throws `upstream_malformed` unless every choice has ended. */
  readonly complete: () => void;
  /** Characters seen so far, of every kind that costs tokens. */
  readonly characters: () => number;
};

/**
 * Holds the answer to `n` choices of which each ends once. After its end a choice may send empty steps (some servers
 * do, with labels of their own), which are not passed on; anything else would be lost or doubled by a reader.
 */
export function createLedger(n: number): Ledger {
  const ended = new Set<number>();
  let characters = 0;
  return {
    accept(delta) {
      const { index, finish_reason: reason } = delta;
      if (!Number.isInteger(index) || index < 0 || index >= n)
        throw malformed(`it has a choice ${String(index)}, and ${n} were asked for`);
      const size = sizeOf(delta);
      if (ended.has(index)) {
        if (reason !== null) throw malformed(`choice ${index} ended twice`);
        if (size > 0) throw malformed(`choice ${index} went on after its end`);
        return false;
      }
      characters += size;
      if (reason !== null) ended.add(index);
      return reason !== null || size > 0 || delta.logprobs !== undefined || delta.delta.annotations !== undefined;
    },
    complete() {
      if (ended.size === n) return;
      const open = Array.from({ length: n }, (_, index) => index).find((index) => !ended.has(index));
      throw malformed(`it ended before choice ${open} did`);
    },
    characters: () => characters,
  };
}

function sizeOf({ delta }: ChoiceDelta): number {
  let size = (delta.content?.length ?? 0) + (delta.refusal?.length ?? 0) + (delta.reasoning_content?.length ?? 0);
  for (const call of delta.tool_calls ?? [])
    size += (call.id?.length ?? 0) + (call.function?.name?.length ?? 0) + (call.function?.arguments?.length ?? 0);
  return size + (delta.images?.length ?? 0);
}
