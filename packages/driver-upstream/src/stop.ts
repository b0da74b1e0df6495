/** What the parts of this driver need of an `AbortSignal`, which is one of these. */
export type StopSignal = {
  readonly aborted: boolean;
  readonly reason: unknown;
  readonly addEventListener: (type: "abort", listener: () => void, options?: { readonly once: boolean }) => void;
  readonly removeEventListener: (type: "abort", listener: () => void) => void;
};

/** Ends an exchange from within. */
export type Stop = StopSignal & {
  /** The first call counts. */
  readonly abort: (reason: unknown) => void;
};

/**
 * As an `AbortController` for one listener at a time that is called once. Each exchange has its own, and the platform's
 * with its listeners took about half a percent of a request through the gateway.
 */
export function createStop(): Stop {
  let aborted = false;
  let reason: unknown;
  const listeners = new Set<() => void>();
  return {
    get aborted() {
      return aborted;
    },
    get reason() {
      return reason;
    },
    addEventListener(_, listener) {
      listeners.add(listener);
    },
    removeEventListener(_, listener) {
      listeners.delete(listener);
    },
    abort(why) {
      if (aborted) return;
      aborted = true;
      reason = why;
      for (const listener of listeners) listener();
      listeners.clear();
    },
  };
}
