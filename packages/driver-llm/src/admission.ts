import { performance } from "node:perf_hooks";
import { withRetryAfter } from "@assay/protocol";
import { llmError } from "./errors.ts";
import { RETRY_AFTER_MS } from "./limits.ts";

/** Admits requests in order of arrival, as many at once as there are places. */
export type Admission = {
  /**
   * Waits for a place and gives the function that frees it. Throws `engine_overloaded` at once when too many wait, and
   * `request_cancelled` when `signal` fires first.
   */
  readonly enter: (signal: AbortSignal) => Promise<() => void>;
  readonly stats: () => { readonly running: number; readonly queued: number };
  /** Refuses everybody who waits and whoever comes. */
  readonly close: (error: () => Error) => void;
};

type Waiting = { readonly admit: () => void; readonly refuse: (error: Error) => void };

/** How much a request's duration moves the estimate for the next one. */
const SMOOTHING = 0.2;

export function createAdmission(places: number, maxQueued: number): Admission {
  const queue = new Set<Waiting>();
  let running = 0;
  let averageMs = 0;
  let closed: (() => Error) | undefined;

  const retryAfterMs = (): number =>
    averageMs === 0 ? RETRY_AFTER_MS : Math.max(100, Math.round((averageMs * (queue.size + 1)) / places));
  const place = (): (() => void) => {
    running++;
    const startedMs = performance.now();
    let freed = false;
    return () => {
      if (freed) return;
      freed = true;
      running--;
      const tookMs = performance.now() - startedMs;
      averageMs = averageMs === 0 ? tookMs : averageMs + SMOOTHING * (tookMs - averageMs);
      for (const waiting of queue) {
        if (running >= places) break;
        queue.delete(waiting);
        waiting.admit();
      }
    };
  };

  return {
    enter: async (signal) => {
      if (closed !== undefined) throw closed();
      if (signal.aborted) throw cancelled(signal);
      if (running < places) return place();
      if (queue.size >= maxQueued) {
        throw withRetryAfter(
          llmError("engine_overloaded", `The engine has ${running} requests running and ${queue.size} waiting.`, [
            "Ask again after a moment.",
          ]),
          retryAfterMs(),
        );
      }
      return await new Promise<() => void>((resolve, reject) => {
        const abort = (): void => {
          queue.delete(waiting);
          reject(cancelled(signal));
        };
        const waiting: Waiting = {
          admit: () => {
            signal.removeEventListener("abort", abort);
            resolve(place());
          },
          refuse: (error) => {
            signal.removeEventListener("abort", abort);
            reject(error);
          },
        };
        queue.add(waiting);
        signal.addEventListener("abort", abort, { once: true });
      });
    },
    stats: () => ({ running, queued: queue.size }),
    close: (error) => {
      closed = error;
      for (const waiting of queue) waiting.refuse(error());
      queue.clear();
    },
  };
}

export function cancelled(signal: AbortSignal): Error {
  return llmError("request_cancelled", "The request was cancelled by its caller.", [], signal.reason);
}
