/** Failures in a row after which a node counts as down: a single lost connection is no news. */
export const FAILURES_TO_OPEN = 3;
/** How long nothing is sent after the first opening; doubled by each failed trial. */
export const FIRST_PAUSE_MS = 500;
/** Longest pause: a node that came back is noticed within this. */
export const LONGEST_PAUSE_MS = 15_000;

export type Breaker = {
  /** Milliseconds until a call may be tried; 0 when it may now. Answering 0 while open lets exactly one caller try. */
  readonly pauseMs: () => number;
  readonly succeeded: () => void;
  readonly failed: () => void;
  /** A trial that ended without telling anything about the node: it may be tried again. */
  readonly undecided: () => void;
  /** Milliseconds until somebody may try again, without trying; 0 when the circuit is closed. */
  readonly retryInMs: () => number;
  readonly isOpen: () => boolean;
};

/** A circuit breaker: while a node is down its callers learn so at once, and one of them at a time tries it. */
export function createBreaker(nowMs: () => number): Breaker {
  let failures = 0;
  let openings = 0;
  let openUntilMs: number | undefined;
  let trying = false;
  return {
    pauseMs() {
      if (openUntilMs === undefined) return 0;
      const left = openUntilMs - nowMs();
      if (left > 0) return left;
      if (trying) return FIRST_PAUSE_MS;
      trying = true;
      return 0;
    },
    succeeded() {
      failures = 0;
      openings = 0;
      openUntilMs = undefined;
      trying = false;
    },
    failed() {
      failures++;
      trying = false;
      if (failures < FAILURES_TO_OPEN) return;
      openUntilMs = nowMs() + Math.min(FIRST_PAUSE_MS * 2 ** Math.min(openings, 20), LONGEST_PAUSE_MS);
      openings++;
    },
    undecided() {
      trying = false;
    },
    retryInMs: () => (openUntilMs === undefined ? 0 : Math.max(openUntilMs - nowMs(), 1)),
    isOpen: () => openUntilMs !== undefined,
  };
}
