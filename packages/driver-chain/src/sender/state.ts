import { AssayError } from "@assay/core";
import type { Address, EvmSigner, Network } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import type { TxReceipt } from "../rpc/types.ts";
import { MAX_REMEMBERED } from "./limits.ts";
import type { Attempt, Slot } from "./slot.ts";
import type { SenderOptions, SenderParts, TxJournal, TxOutcome, TxProblem, TxState } from "./types.ts";

const DEFAULT_POLL_MS = 250;
const DEFAULT_STUCK_MS = 30_000;
const DEFAULT_RESEND_MS = 5_000;
const DEFAULT_DROP_MS = 20_000;
const DEFAULT_MAX_FEE = 500_000_000_000n;
/** Largest gas limit of a transaction (EIP-7825). */
const DEFAULT_MAX_GAS = 1n << 24n;

/** What one sender knows. Its journal is the truth; this is what of it is under way. */
export type State = {
  readonly chain: Chain;
  readonly signer: EvmSigner;
  readonly journal: TxJournal;
  readonly me: Address;
  readonly network: Network;
  readonly settings: Required<Omit<SenderOptions, "onEvent">>;
  readonly onEvent: NonNullable<SenderOptions["onEvent"]>;
  readonly slots: Map<number, Slot>;
  readonly byJob: Map<string, Slot>;
  readonly remembered: Map<string, TxOutcome>;
  readonly closing: AbortSignal;
  /** One at a time: what numbers, signs and writes down. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /** Everything that was begun in turn has ended. */
  readonly idle: () => Promise<unknown>;
  /** The number that the next transaction gets; undefined until the journal was read. */
  next: number | undefined;
  /** Transactions of the account that the chain had when it was looked at last. */
  lastCount: number;
  /** When the journal was read again for a job that nobody followed. */
  lookedAgainMs: number;
  /** Whether the journal is to be read before anything else is numbered: what it has is not certain. */
  stale: boolean;
  /** Ends the pause of whoever looks at the chain. */
  wake: () => void;
};

export function openState({ chain, signer, journal, options = {} }: SenderParts, closing: AbortSignal): State {
  let exclusive: Promise<unknown> = Promise.resolve();
  return {
    chain,
    signer,
    journal,
    me: signer.address,
    network: chain.network,
    settings: {
      confirmations: options.confirmations ?? 1,
      pollMs: options.pollMs ?? DEFAULT_POLL_MS,
      stuckMs: options.stuckMs ?? DEFAULT_STUCK_MS,
      resendMs: options.resendMs ?? DEFAULT_RESEND_MS,
      dropMs: options.dropMs ?? DEFAULT_DROP_MS,
      maxFeePerGas: options.maxFeePerGas ?? DEFAULT_MAX_FEE,
      maxGas: options.maxGas ?? DEFAULT_MAX_GAS,
      nowMs: options.nowMs ?? Date.now,
    },
    onEvent: (event) => options.onEvent?.(event),
    slots: new Map(),
    byJob: new Map(),
    remembered: new Map(),
    closing,
    inTurn(work) {
      const mine = exclusive.then(work);
      exclusive = mine.catch(() => undefined);
      return mine;
    },
    idle: () => exclusive,
    next: undefined,
    lastCount: 0,
    lookedAgainMs: 0,
    stale: true,
    wake: () => undefined,
  };
}

export function keep(state: State, slot: Slot): void {
  state.slots.set(slot.nonce, slot);
  state.byJob.set(slot.jobId, slot);
}

export function forget(state: State, slot: Slot): void {
  state.slots.delete(slot.nonce);
  state.byJob.delete(slot.jobId);
}

export function remember({ remembered }: State, jobId: string, outcome: TxOutcome): void {
  remembered.set(jobId, outcome);
  for (const oldest of remembered.keys()) {
    if (remembered.size <= MAX_REMEMBERED) break;
    remembered.delete(oldest);
  }
}

export function report({ onEvent }: State, slot: Slot, problem: TxProblem, message: string): void {
  if (slot.problem === problem) return;
  slot.problem = problem;
  onEvent({ type: "tx_problem", jobId: slot.jobId, problem, message });
}

/** Notes in the journal what became of an attempt. */
export async function note(
  { journal, settings }: State,
  attempt: Attempt,
  state: TxState,
  receipt?: TxReceipt,
): Promise<void> {
  const change = {
    state,
    blockNumber: receipt?.blockNumber,
    blockHash: receipt?.blockHash,
    gasUsed: receipt?.gasUsed,
    updatedAtMs: settings.nowMs(),
  };
  await journal.change(attempt.record, change);
  attempt.record = { ...attempt.record, ...change };
}

export function closed(): AssayError<"sender_closed"> {
  return new AssayError("sender_closed", "The sender was closed.", { hints: ["Its jobs go on with the next one."] });
}
