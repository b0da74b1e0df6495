import { AssayError } from "@assay/core";
import type { ChoiceDelta, TextFinishReason } from "../text/engine.ts";

/** Keeps which choices of an answer have ended, and refuses steps that an engine may not make. */
export type ChoiceBook = {
  readonly check: (step: ChoiceDelta) => void;
  /** Notes an end; true when it was the last one. */
  readonly ended: (step: ChoiceDelta) => boolean;
  readonly requireAll: () => void;
  readonly finish: () => TextFinishReason | undefined;
};

/** For an answer of `n` choices. Throws `engine_interrupted`. */
export function createChoiceBook(n: number): ChoiceBook {
  const reasons = new Map<number, TextFinishReason>();
  return {
    check({ index }) {
      if (!Number.isInteger(index) || index < 0 || index >= n)
        throw misbehaved(`gave a step of choice ${index}, and ${n} were asked for`);
      if (reasons.has(index)) throw misbehaved(`gave a step of choice ${index} after its end`);
    },
    ended({ index, finish_reason: reason }) {
      if (reason !== null) reasons.set(index, reason);
      return reasons.size === n;
    },
    requireAll() {
      if (reasons.size < n) throw misbehaved(`ended with ${n - reasons.size} of ${n} choices unfinished`);
    },
    finish: () => (reasons.size < n ? undefined : reasons.get(0)),
  };
}

function misbehaved(what: string): AssayError<"engine_interrupted"> {
  return new AssayError("engine_interrupted", `The engine ${what}.`, {
    hints: ["This is a fault of the engine or of its upstream, not of the request."],
  });
}
