import { performance } from "node:perf_hooks";
import { llmError } from "./errors.ts";
import type { LaneDeath } from "./lane.ts";

/** Deaths within the window after which a model is refused for a while: each costs every request in its child. */
export const MAX_STRIKES = 5;
export const STRIKE_WINDOW_MS = 60_000;
/** Models remembered. */
const MAX_REMEMBERED = 1024;

/** Remembers which models cost their child. */
export type Strikes = {
  readonly note: (key: string, death: LaneDeath) => void;
  /** Throws `model_aborted` for a model that cost its child too often lately. */
  readonly refuse: (key: string) => void;
};

/**
 * A window of strikes. One death counts once for a model, however many requests it cost; deaths from outside, and
 * those that one request's template or text caused, are not the model's.
 */
export function createStrikes(nowMs: () => number = () => performance.now()): Strikes {
  const strikes = new Map<string, { times: number[]; last: LaneDeath | undefined }>();
  const recent = (times: readonly number[]): number[] => times.filter((at) => nowMs() - at < STRIKE_WINDOW_MS);
  return {
    note: (key, death) => {
      const models =
        death.why === "aborted" ||
        death.why === "memory" ||
        (death.why === "deadline" && death.late?.stage !== "prepare");
      const known = strikes.get(key) ?? { times: [], last: undefined };
      if (!models || known.last === death) return;
      strikes.delete(key);
      strikes.set(key, { times: [...recent(known.times), nowMs()], last: death });
      const oldest = strikes.keys().next();
      if (strikes.size > MAX_REMEMBERED && oldest.done !== true) strikes.delete(oldest.value);
    },
    refuse: (key) => {
      if (recent(strikes.get(key)?.times ?? []).length < MAX_STRIKES) return;
      throw llmError("model_aborted", "The model is refused for a while because it cost its process too often.", [
        `It is tried again within ${STRIKE_WINDOW_MS / 1000} seconds.`,
      ]);
    },
  };
}
