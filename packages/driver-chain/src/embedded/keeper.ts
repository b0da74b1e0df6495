import { setTimeout as delay } from "node:timers/promises";
import type { Transport } from "../rpc/transport.ts";
import { count } from "../rpc/values.ts";

/** A second passes on the chain as well while something happens on it: people wait for confirmations. */
const BEAT_MS = 1_000;
/** How long after the last transaction the chain counts as busy. */
const BUSY_MS = 30_000;
/**
 * A block now and then on a quiet chain, because calls see the time of the newest block, and signatures have times. A block
 * each second would make a file of 140 MB a day that is written every second.
 */
const IDLE_BEAT_MS = 60_000;
/** Saving takes at most one part in so many of the time, however large the state has become. */
const SAVE_DUTY = 20;

export type Keeper = {
  /** Saves what there is now. */
  readonly save: () => Promise<void>;
  /** To be told when something changed that no block shows, like a balance that was set. */
  readonly touch: () => void;
  readonly stop: () => Promise<void>;
  readonly facts: () => { readonly savedBlock: number | undefined; readonly stateBytes: number | undefined };
};

/**
 * Keeps a chain's time and state: mines a heartbeat and saves the state after a change. Failures are the supervisor's to
 * notice (the node's end) or pass by; they are told to `onFailure`.
 */
export function startKeeper(
  rpc: () => Transport,
  write: (dumped: Awaited<ReturnType<Transport["request"]>>) => Promise<number>,
  onFailure: (cause: unknown) => void,
  times: { readonly beatMs?: number; readonly busyMs?: number; readonly idleBeatMs?: number } = {},
): Keeper {
  const { beatMs = BEAT_MS, busyMs = BUSY_MS, idleBeatMs = IDLE_BEAT_MS } = times;
  const aborter = new AbortController();
  let busyUntilMs = Date.now() + busyMs;
  let lastBeatMs = 0;
  let expected: number | undefined;
  let savedBlock: number | undefined;
  let stateBytes: number | undefined;
  let touched = true;
  let notBeforeMs = 0;
  let saving: Promise<void> = Promise.resolve();

  async function saveNow(): Promise<void> {
    const startedMs = Date.now();
    touched = false;
    try {
      const block = count(await rpc().request("eth_blockNumber", []), "the block's number");
      stateBytes = await write(await rpc().request("anvil_dumpState", []));
      savedBlock = block;
    } catch (error) {
      touched = true;
      throw error;
    } finally {
      notBeforeMs = Date.now() + (Date.now() - startedMs) * SAVE_DUTY;
    }
  }

  // One at a time: two writers of one file would each move the other's away.
  function save(): Promise<void> {
    const mine = saving.then(saveNow);
    saving = mine.catch(() => undefined);
    return mine;
  }

  async function tick(): Promise<void> {
    const number = count(await rpc().request("eth_blockNumber", []), "the block's number");
    const now = Date.now();
    if (number !== expected) busyUntilMs = now + busyMs;
    expected = number;
    if (now < busyUntilMs || now - lastBeatMs >= idleBeatMs) {
      await rpc().request("evm_mine", []);
      lastBeatMs = now;
      expected = number + 1;
    }
    if ((touched || expected !== savedBlock) && now >= notBeforeMs) await save();
  }

  const done = (async () => {
    while (!aborter.signal.aborted) {
      await tick().catch((error: unknown) => {
        if (!aborter.signal.aborted) onFailure(error);
      });
      await delay(beatMs, undefined, { signal: aborter.signal }).catch(() => undefined);
    }
  })();

  return {
    save,
    touch() {
      touched = true;
      busyUntilMs = Date.now() + busyMs;
    },
    async stop() {
      aborter.abort();
      await done;
      await saving;
    },
    facts: () => ({ savedBlock, stateBytes }),
  };
}
