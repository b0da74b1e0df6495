import { withRetryAfter } from "@assay/protocol";
import { upstreamError } from "./errors.ts";

/** Room for a number of requests at once. */
export type Slots = {
  /** Takes a place and gives what frees it, which may be called more than once. Throws `engine_overloaded`. */
  readonly take: () => () => void;
  readonly running: () => number;
};

/** Shortest pause that is advised when there is no room, milliseconds; up to twice that, so that callers spread out. */
const RETRY_MS = 500;

export function createSlots(most: number, random: () => number): Slots {
  let running = 0;
  return {
    take() {
      if (running >= most) {
        throw withRetryAfter(
          upstreamError(
            "engine_overloaded",
            `${most} requests are with this upstream already, as many as it may have.`,
          ),
          RETRY_MS * (1 + random()),
        );
      }
      running++;
      let held = true;
      return () => {
        if (held) running--;
        held = false;
      };
    },
    running: () => running,
  };
}
