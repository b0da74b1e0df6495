import { isAway, unavailable } from "./errors.ts";

/** First wait before a probe: a restart of one backend is over sooner than this. */
export const FIRST_PROBE_MS = 25;
/** Longest wait between probes: soon enough for a person who watches, rare enough for a server that struggles. */
export const LONGEST_PROBE_MS = 5_000;

export type Circuit = {
  /** Runs `work`, or throws `database_unavailable` at once while the circuit is open. */
  guard<T>(work: () => Promise<T>): Promise<T>;
  /** Opens the circuit after a failure seen outside of `guard`. */
  trip(cause: unknown): void;
  isOpen(): boolean;
  /** Stops probing. */
  close(): void;
};

export type CircuitOptions = {
  /** One cheap round trip to the database; a rejection keeps the circuit open. */
  readonly probe: () => Promise<unknown>;
  readonly random?: () => number;
};

/** Milliseconds before probe number `attempt` (from 0): doubling up to a ceiling, half of it random. */
export function probeDelayMs(attempt: number, random: () => number): number {
  const ceiling = Math.min(FIRST_PROBE_MS * 2 ** Math.min(attempt, 30), LONGEST_PROBE_MS);
  return ceiling / 2 + (ceiling / 2) * random();
}

/**
 * Fails calls fast while the database is away. The first failed connection opens it; from then on no caller waits
 * for a connection, and one background probe with back-off and jitter decides when calls are let through again.
 * Half of each wait is random, so that many gateways do not return to a restarted server in step.
 */
export function createCircuit(options: CircuitOptions): Circuit {
  const random = options.random ?? Math.random;
  let cause: unknown;
  let open = false;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;

  function schedule(attempt: number): void {
    if (closed) return;
    timer = setTimeout(() => void probe(attempt), probeDelayMs(attempt, random));
    // A process that has nothing else to do must be able to end while its database is away.
    timer.unref();
  }

  async function probe(attempt: number): Promise<void> {
    try {
      await options.probe();
      open = false;
      cause = undefined;
    } catch (error) {
      cause = error;
      schedule(attempt + 1);
    }
  }

  function trip(error: unknown): void {
    cause = error;
    if (open) return;
    open = true;
    schedule(0);
  }

  return {
    async guard(work) {
      if (open || closed) throw unavailable(cause);
      try {
        return await work();
      } catch (error) {
        if (isAway(error)) trip(error);
        throw error;
      }
    },
    trip,
    isOpen: () => open || closed,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
