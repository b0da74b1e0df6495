import type { ChoiceDelta } from "@assay/protocol";

/** A queue between a child that writes and a consumer that reads; its bound is the credit that the child was given. */
export type EventQueue = {
  /** Adds events that came in one frame. */
  readonly push: (events: readonly ChoiceDelta[]) => void;
  /** No more will come; the reader gets what is queued first. */
  readonly end: (error?: Error) => void;
  /** The next event; undefined after the last. Throws the error once everything before it was read. */
  readonly next: () => Promise<ChoiceDelta | undefined>;
  /** Whether any event was read. */
  readonly touched: () => boolean;
};

/** A queue; `onRead` is told whenever all events of a frame were read. */
export function createEventQueue(onRead: () => void): EventQueue {
  const frames: ChoiceDelta[][] = [];
  let over: { readonly error: Error | undefined } | undefined;
  let wake: (() => void) | undefined;
  let touched = false;
  return {
    push: (events) => {
      if (over !== undefined) return;
      frames.push([...events]);
      wake?.();
    },
    end: (error) => {
      over ??= { error };
      wake?.();
    },
    next: async () => {
      for (;;) {
        const frame = frames[0];
        if (frame !== undefined) {
          const event = frame.shift();
          if (frame.length === 0) {
            frames.shift();
            onRead();
          }
          if (event === undefined) continue;
          touched = true;
          return event;
        }
        if (over !== undefined) {
          if (over.error !== undefined) throw over.error;
          return undefined;
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      }
    },
    touched: () => touched,
  };
}
