import type { Candidate, Latency, Load } from "./candidate.ts";

/** Heartbeats come every two seconds; three missed ones make a node doubtful, and after 15 seconds it gets nothing. */
export const HEARTBEAT = { everyMs: 2_000, suspectAfterMs: 6_000, deadAfterMs: 15_000 } as const;

/** What is assumed of the first candidate ever, until something was measured. */
export const DEFAULT_LATENCY: Latency = { firstByteMs: 1_000, perTokenMs: 20, serviceMs: 3_000, samples: 0 };
/** Answer length assumed where the request does not bound it lower. */
export const TYPICAL_OUTPUT_TOKENS = 256;
/** Below this many answers a candidate is cold and may be explored. */
export const COLD_SAMPLES = 3;
/** Weight of the newest measurement: about the last ten answers count. */
const LATENCY_ALPHA = 0.2;

/** Milliseconds, from now. */
export type Prediction = {
  readonly waitMs: number;
  /** Wait and time to the first byte. */
  readonly firstByteMs: number;
  /** Wait and the whole answer. */
  readonly totalMs: number;
  /** Requests believed to be there now. */
  readonly depth: number;
};

/**
 * Requests believed to be on a candidate: ours, counted exactly, and others' as the last report had them. What the
 * report counted of ours is taken off, because we know better.
 */
export function depthOf(load: Load, nowMs: number): number {
  const { report } = load;
  if (!report || nowMs - report.atMs > HEARTBEAT.deadAfterMs) return load.inFlight;
  return Math.max(0, report.depth - report.ownAtReport) + load.inFlight;
}

/** What a candidate is expected to do with one more request, `prior` standing in for what was never measured. */
export function predict(
  candidate: Candidate,
  { prior, outputTokens, nowMs }: { readonly prior: Latency; readonly outputTokens: number; readonly nowMs: number },
): Prediction {
  const { load } = candidate;
  const latency = candidate.latency ?? prior;
  const depth = depthOf(load, nowMs);
  const { slots } = load;
  const waitMs = slots === undefined || depth < slots ? 0 : ((depth - slots + 1) / slots) * latency.serviceMs;
  const firstByteMs = waitMs + latency.firstByteMs;
  return { waitMs, firstByteMs, totalMs: firstByteMs + latency.perTokenMs * outputTokens, depth };
}

/** The median of what the candidates that were used showed, or {@link DEFAULT_LATENCY}. */
export function priorOf(candidates: readonly Candidate[]): Latency {
  const seen: Latency[] = [];
  let cold = false;
  for (const { latency } of candidates) {
    if (latency) seen.push(latency);
    else cold = true;
  }
  // Where everything was measured nothing will ask for it.
  if (!cold || seen.length === 0) return DEFAULT_LATENCY;
  return {
    firstByteMs: median(seen.map((one) => one.firstByteMs)),
    perTokenMs: median(seen.map((one) => one.perTokenMs)),
    serviceMs: median(seen.map((one) => one.serviceMs)),
    samples: 0,
  };
}

/**
 * The averages after one more answer. Its `firstByteMs` is absent when it came in one piece: then the average stays, or
 * starts as if every token had taken as long as the next.
 */
export function afterAnswer(
  before: Latency | undefined,
  answer: { readonly firstByteMs?: number; readonly totalMs: number; readonly outputTokens: number },
): Latency {
  const { totalMs, outputTokens } = answer;
  const firstByteMs = answer.firstByteMs ?? before?.firstByteMs ?? totalMs / Math.max(1, outputTokens);
  const tokenMs = outputTokens > 1 ? Math.max(0, totalMs - firstByteMs) / (outputTokens - 1) : undefined;
  if (!before) return { firstByteMs, perTokenMs: tokenMs ?? 0, serviceMs: totalMs, samples: 1 };
  const move = (from: number, to: number): number => from + LATENCY_ALPHA * (to - from);
  return {
    firstByteMs: move(before.firstByteMs, firstByteMs),
    perTokenMs: tokenMs === undefined ? before.perTokenMs : move(before.perTokenMs, tokenMs),
    serviceMs: move(before.serviceMs, totalMs),
    samples: Math.min(before.samples + 1, 1_000_000),
  };
}

/** The middle value, or the mean of the two middle ones; 0 of nothing. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? 0) + high) / 2;
}
