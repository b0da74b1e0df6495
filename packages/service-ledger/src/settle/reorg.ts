import type { Database } from "@assay/driver-postgres";
import type { Hex, Network } from "@assay/x402";
import type { EngineEvent } from "./engine.ts";
import { MAX_REORG_ROWS } from "./limits.ts";
import type { ChainReads } from "./ports.ts";
import { markUnsettled, settledBy, settledTransactions } from "./rows.ts";
import type { SettledIn } from "./rows.ts";

/** Blocks that a chain can take back and is followed: beyond that it is another chain, and nothing is changed. */
const MAX_REORG_BLOCKS = 256;

export type ReorgWatch = {
  /** Looks whether the chain took blocks back since the last time; answers how many payments are due again. */
  (): Promise<number>;
  readonly head: () => number | null;
  /** Tells of a transaction that counts as final: its block may come and go between two looks. */
  readonly note: (settled: SettledIn) => void;
};

/**
 * Watches whether blocks that were seen are still there. When some are not, every payment settled in the last
 * {@link MAX_REORG_BLOCKS} is looked up again, and one whose transaction is not where it was is due again: a job finds it
 * on the chain if it moved, and settles it if it is gone. The first look after a start does the same, because the chain may have gone back meanwhile: a node that is
 * killed loses its last second.
 */
export function createReorgWatch(modules: {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly network: Network;
  readonly now: () => number;
  readonly onEvent: (event: EngineEvent) => void;
  readonly onReorg: () => void;
}): ReorgWatch {
  const { database, chain, network, now, onEvent, onReorg } = modules;
  let seen: { readonly number: number; readonly hash: Hex } | undefined;
  let latest: SettledIn | undefined;

  async function recheck(head: number): Promise<number> {
    const settled = await settledTransactions(database, network, Math.max(0, head - MAX_REORG_BLOCKS), MAX_REORG_ROWS);
    const highest = settled[0]?.blockNumber ?? 0;
    if (highest > head + MAX_REORG_BLOCKS) {
      onEvent({ type: "chain_replaced", head });
      return 0;
    }
    let unsettled = 0;
    for (const { transaction, blockNumber } of settled) {
      const receipt = await chain.receipt(transaction);
      if (receipt?.ok === true && receipt.blockNumber === blockNumber) continue;
      unsettled += await markUnsettled(database, await settledBy(database, transaction), now());
    }
    if (unsettled > 0) onEvent({ type: "reorganised", payments: unsettled });
    return unsettled;
  }

  const look = async (): Promise<number> => {
    const number = await chain.blockNumber();
    const hash = await chain.blockHash(number);
    // The block went between the two questions: the next look sees it.
    if (hash === undefined) return 0;
    const before = seen;
    const stands =
      before !== undefined &&
      before.number <= number &&
      (await chain.blockHash(before.number)) === before.hash &&
      (latest === undefined || (await chain.receipt(latest.transaction))?.blockNumber === latest.blockNumber);
    let unsettled = 0;
    if (!stands) {
      onReorg();
      latest = undefined;
      unsettled = await recheck(number);
    }
    seen = { number, hash };
    return unsettled;
  };
  return Object.assign(look, {
    head: () => seen?.number ?? null,
    note: (settled: SettledIn) => {
      latest = settled;
    },
  });
}
