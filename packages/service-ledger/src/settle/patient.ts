import { setTimeout as pause } from "node:timers/promises";
import { isAssayError } from "@assay/core";
import { isRevert } from "@assay/driver-chain";

/** What passes without anybody's doing: a node or a database that does not answer now. */
const PASSING = new Set([
  "chain_unavailable",
  // Another chain's node in ours' place: nothing is read from it or sent to it until ours is back.
  "chain_mismatch",
  "chain_rewound",
  // Ours to mend, and nothing is lost until it is: no ether for gas, gas dearer than allowed, too much under way.
  "transaction_unfunded",
  "transaction_fee_above_limit",
  "transaction_queue_full",
  "database_unavailable",
  "database_timeout",
  "database_overloaded",
  "storage_full",
  "database_read_only",
]);
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** Whether an error is one that waiting mends. */
export function isPassing(error: unknown): boolean {
  // A node that refuses a question without having executed it is as good as away.
  return isAssayError(error) && (PASSING.has(error.code) || (error.code === "chain_rpc_error" && !isRevert(error)));
}

/**
 * Does `work` again for as long as what it needs is away: nothing that was durable is lost by waiting, and nothing else
 * would bring it further. Any other error is the caller's. Ends with the signal's reason.
 */
export async function patiently<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  onWait?: (error: unknown) => void,
): Promise<T> {
  for (let tries = 0; ; tries++) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!isPassing(error)) throw error;
      onWait?.(error);
      await pause(Math.min(FIRST_PAUSE_MS * 2 ** Math.min(tries, 10), LONGEST_PAUSE_MS), undefined, { signal });
    }
  }
}
