import { setTimeout as delay } from "node:timers/promises";
import { isAssayError } from "@assay/core";
import type { EvmSigner, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { createSender } from "../sender/sender.ts";
import type { Sender, SenderEvent, TxJournal } from "../sender/types.ts";
import { isPlaced } from "./contracts.ts";
import { failed, planDeployment, requireFunds } from "./plan.ts";
import type { DeployPlan, DeployStep, DeployWish } from "./plan.ts";

export type DeployEvent =
  /** A transaction of an earlier run, which ended before it was mined, is seen through. */
  | { readonly type: "resumed"; readonly jobId: string }
  | { readonly type: "sending"; readonly step: DeployStep }
  | { readonly type: "done"; readonly step: DeployStep; readonly transaction: Hex; readonly gasUsed: bigint }
  | { readonly type: "trouble"; readonly message: string };

export type DeployModules = {
  readonly chain: Chain;
  readonly deployer: EvmSigner;
  readonly submitter: EvmSigner;
  /** On disk, and the same one at every run: what it has under way is seen through before anything is planned. */
  readonly journal: TxJournal;
  readonly onEvent: (event: DeployEvent) => void;
  readonly signal: AbortSignal;
  /** How often the chain is looked at, milliseconds. */
  readonly pollMs?: number;
  /** How long what was mined may not be seen, milliseconds. Default {@link LAG_MS}. */
  readonly lagMs?: number;
};

/** Behind a provider's address there are many nodes, which may be some blocks apart. */
const LAG_MS = 60_000;
const LOOK_MS = 1_000;
/** Transactions of an account that are looked through for the block of its last one. */
const LATEST_RECORDS = 10_000;

/** Job ids of one step that are tried: one that was dropped or reverted is never used again. */
export const MAX_TRIES = 100;

/**
 * Brings a chain to what `wish` asks for, one transaction at a time, and resolves to a plan with nothing left to do: read from
 * the chain once more, code and bond included. May be killed at any moment and run again. Throws what {@link planDeployment}
 * throws, `transaction_unfunded` before anything is sent, and `chain_deployment_failed` for a step that did not do its work.
 */
export async function deploy(wish: DeployWish, modules: DeployModules): Promise<DeployPlan> {
  const { chain, journal, onEvent, signal } = modules;
  const senderOf = (signer: EvmSigner): Sender =>
    createSender({
      chain,
      signer,
      journal,
      options: {
        ...(modules.pollMs === undefined ? {} : { pollMs: modules.pollMs }),
        ...(wish.maxFeePerGas === undefined ? {} : { maxFeePerGas: wish.maxFeePerGas }),
        onEvent: (event) => tell(event, onEvent),
      },
    });
  const senders = { deployer: senderOf(modules.deployer), submitter: senderOf(modules.submitter) };
  try {
    for (const sender of [senders.deployer, senders.submitter]) {
      await sender.start();
      for (const { jobId } of await journal.open(chain.network, sender.address)) {
        onEvent({ type: "resumed", jobId });
        await sender.wait(jobId, { signal });
      }
    }
    // A node that lags would have done what was done undone.
    const last = await lastBlock(modules, [senders.deployer, senders.submitter]);
    await untilSeen(modules, async () => ((await chain.blockNumber()) >= last ? true : undefined));
    const plan = await planDeployment(chain, wish);
    requireFunds(plan, wish.deployer);
    for (const step of plan.steps) {
      signal.throwIfAborted();
      onEvent({ type: "sending", step });
      await send(senders[step.from], step, modules);
    }
    if (plan.steps.length === 0) return plan;
    let left: DeployStep | undefined;
    const after = await untilSeen(modules, async () => {
      const now = await planDeployment(chain, wish);
      [left] = now.steps;
      return left ? undefined : now;
    });
    if (after === undefined) throw failed(`after everything was mined it is still to be done to ${left?.says}`);
    return after;
  } finally {
    await Promise.all([senders.deployer.close(), senders.submitter.close()]);
  }
}

async function send(sender: Sender, step: DeployStep, modules: DeployModules): Promise<void> {
  const { chain, onEvent, signal } = modules;
  const jobId = await freshJob(sender, step.id);
  await sender.submit({ jobId, to: step.to, data: step.data, value: step.valueWei });
  const outcome = await sender.wait(jobId, { signal });
  if (outcome.state !== "final")
    throw failed(`a transaction to ${step.says} ${outcome.state === "reverted" ? "reverted" : "was not mined"}`);
  const { creates } = step;
  // What comes next may need it, and is rehearsed on a node that may be another.
  if (creates && !(await untilSeen(modules, async () => (await isPlaced(chain, creates)) || undefined)))
    throw failed(`a transaction to ${step.says} was mined and left no code`);
  onEvent({ type: "done", step, transaction: outcome.hash, gasUsed: outcome.receipt.gasUsed });
}

/** The block of the last transaction that earlier runs saw mined; 0 when there is none. */
async function lastBlock({ chain, journal }: DeployModules, senders: readonly Sender[]): Promise<number> {
  const records = await Promise.all(
    senders.map(({ address }) => journal.from(chain.network, address, 0, LATEST_RECORDS)),
  );
  return records.flat().reduce((most, { blockNumber }) => Math.max(most, blockNumber ?? 0), 0);
}

/** What `look` finds, tried while nodes may still be apart; undefined when it finds nothing. */
async function untilSeen<T>(
  { signal, pollMs, lagMs }: Pick<DeployModules, "signal" | "pollMs" | "lagMs">,
  look: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const deadline = Date.now() + (lagMs ?? LAG_MS);
  for (;;) {
    const isLast = Date.now() >= deadline;
    try {
      const found = await look();
      if (found !== undefined || isLast) return found;
    } catch (error) {
      // Two answers from nodes that are apart contradict each other as well.
      if (isLast || !isAssayError(error) || error.code !== "chain_node_contradictory") throw error;
    }
    await delay(pollMs ?? LOOK_MS, undefined, { signal });
  }
}

/** A job id names one transaction for ever, and a step may have to be done again: after a revert, or when gas was used up. */
async function freshJob(sender: Sender, id: string): Promise<string> {
  for (let n = 1; n <= MAX_TRIES; n++) {
    const jobId = `${id}#${n}`;
    if ((await sender.outcome(jobId)) === undefined) return jobId;
  }
  throw failed(`it was tried ${MAX_TRIES} times`);
}

function tell(event: SenderEvent, onEvent: DeployModules["onEvent"]): void {
  if (event.type === "tx_problem") onEvent({ type: "trouble", message: event.message });
  else if (event.type === "tx_poll_failed")
    onEvent({
      type: "trouble",
      message: isAssayError(event.cause) ? event.cause.message : "The chain did not answer.",
    });
}
