/** What a gateway remembers of how a candidate's requests ended. Times are milliseconds since 1970. */
export type Health = {
  readonly consecutiveFailures: number;
  /** Moving average of failures, 0 to 1. */
  readonly errorRate: number;
  readonly samples: number;
  /** Ejections since the last success after one: each doubles the next one's length. */
  readonly ejections: number;
  /** Until when nothing is sent there; 0 when it was never ejected. */
  readonly ejectedUntilMs: number;
};

/** `trial`: its ejection ended and nothing has succeeded since, so it gets one request at a time. */
export type HealthState = "healthy" | "trial" | "ejected";

/** Failures in a row that eject: fewer happen by chance, more cost callers. */
export const EJECT_AFTER_FAILURES = 5;
/** How many times the median error rate ejects, once both floors below are passed. */
const EJECT_OVER_MEDIAN = 3;
/** Below this many outcomes a rate says nothing. */
export const EJECT_MIN_SAMPLES = 20;
/** Below this rate nobody is ejected by comparison: three times a median of nearly nothing is nearly nothing. */
const EJECT_MIN_RATE = 0.2;
/** The first ejection lasts this long, each further one twice as long as the one before. */
export const EJECT_FIRST_MS = 5_000;
export const EJECT_MAX_MS = 5 * 60_000;
/** Weight of the newest outcome in the error rate: about the last twenty count. */
const RATE_ALPHA = 0.1;

/** A candidate of which nothing is known. */
export const UNKNOWN_HEALTH: Health = {
  consecutiveFailures: 0,
  errorRate: 0,
  samples: 0,
  ejections: 0,
  ejectedUntilMs: 0,
};

/** Where a candidate stands at `nowMs`. */
export function healthState(health: Health, nowMs: number): HealthState {
  if (nowMs < health.ejectedUntilMs) return "ejected";
  return health.ejections > 0 ? "trial" : "healthy";
}

/**
 * Health after one more outcome. `medianErrorRate` is over the gateway's candidates. A failure while on trial ejects at
 * once and for twice as long; a success on trial ends the trial. An outcome of a request that was sent before an
 * ejection began moves the rate and nothing else.
 */
export function afterOutcome(
  health: Health,
  outcome: { readonly failed: boolean; readonly nowMs: number; readonly medianErrorRate: number },
): Health {
  const { failed, nowMs, medianErrorRate } = outcome;
  const errorRate = health.errorRate + RATE_ALPHA * ((failed ? 1 : 0) - health.errorRate);
  const samples = Math.min(health.samples + 1, 1_000_000);
  const state = healthState(health, nowMs);
  if (state === "ejected") return { ...health, errorRate, samples };
  if (!failed) {
    // What it did before its trial is settled with it; the rate starts afresh, or it would eject again at once.
    return state === "trial"
      ? { ...UNKNOWN_HEALTH, samples: 1 }
      : { ...health, consecutiveFailures: 0, errorRate, samples };
  }
  const consecutiveFailures = health.consecutiveFailures + 1;
  const outlier =
    samples >= EJECT_MIN_SAMPLES && errorRate > EJECT_MIN_RATE && errorRate > EJECT_OVER_MEDIAN * medianErrorRate;
  if (state !== "trial" && consecutiveFailures < EJECT_AFTER_FAILURES && !outlier)
    return { ...health, consecutiveFailures, errorRate, samples };
  const lastsMs = Math.min(EJECT_FIRST_MS * 2 ** Math.min(health.ejections, 16), EJECT_MAX_MS);
  return { consecutiveFailures, errorRate, samples, ejections: health.ejections + 1, ejectedUntilMs: nowMs + lastsMs };
}
