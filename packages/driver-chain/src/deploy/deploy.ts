import { isAssayError } from "@assay/core";
import type { EvmSigner, Hex } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { createSender } from "../sender/sender.ts";
import type { Sender, SenderEvent, TxJournal } from "../sender/types.ts";
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
};

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
    const plan = await planDeployment(chain, wish);
    requireFunds(plan, wish.deployer);
    for (const step of plan.steps) {
      signal.throwIfAborted();
      onEvent({ type: "sending", step });
      await send(senders[step.from], step, modules);
    }
    const after = plan.steps.length === 0 ? plan : await planDeployment(chain, wish);
    const [left] = after.steps;
    if (left) throw failed(`after everything was mined it is still to be done to ${left.says}`);
    return after;
  } finally {
    await Promise.all([senders.deployer.close(), senders.submitter.close()]);
  }
}

async function send(sender: Sender, step: DeployStep, { onEvent, signal }: DeployModules): Promise<void> {
  const jobId = await freshJob(sender, step.id);
  await sender.submit({ jobId, to: step.to, data: step.data, value: step.valueWei });
  const outcome = await sender.wait(jobId, { signal });
  if (outcome.state !== "final")
    throw failed(`a transaction to ${step.says} ${outcome.state === "reverted" ? "reverted" : "was not mined"}`);
  onEvent({ type: "done", step, transaction: outcome.hash, gasUsed: outcome.receipt.gasUsed });
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
