import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { AssayError } from "@assay/core";
import { createChain, createSender, evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import { connectDatabase, migrateDatabase } from "@assay/driver-postgres";
import type { Address, Hex } from "@assay/x402";
import { hexToBytes } from "viem";
import { createAnchor } from "../anchor/anchor.ts";
import type { AnchorEvent, LogCheckpoint, PreparedAnchor } from "../anchor/anchor.ts";
import type { ReceiptLeaf } from "../anchor/tree.ts";
import { chainReads } from "./chain-reads.ts";
import { createClaimHandler, createDepositHandler, isDepositUsed } from "./channel-jobs.ts";
import { REST_MS, createEngine } from "./engine.ts";
import type { Chore, EngineEvent } from "./engine.ts";
import { takeFence } from "./fence.ts";
import { launchJobs } from "./jobs.ts";
import { createTxJournal } from "./journal.ts";
import { resolveOptions } from "./options.ts";
import type { SettlerSettings } from "./options.ts";
import { patiently } from "./patient.ts";
import { createOutsideHandler, isOutside, outsideContract } from "./outside.ts";
import { createPayHandler } from "./pay.ts";
import { createPayoutHandler, payable } from "./payouts.ts";
import type { SettleOutside, TransactionSender } from "./ports.ts";
import { createRefundHandler, refundJob, refundedIn } from "./refunds.ts";
import type { Refunded } from "./refunds.ts";
import type { PaymentRow } from "./rows.ts";
import { transactionSender } from "./sender.ts";
import { createSupplementer } from "./supplements.ts";
import type { WriteSupplements } from "./supplements.ts";

export type SettlerEvent =
  | EngineEvent
  | AnchorEvent
  | { readonly type: "transaction"; readonly event: string; readonly jobId?: string; readonly nonce?: number }
  /** The database's lock was lost: this settler has stopped, and must be started again. */
  | { readonly type: "fenced" };

/** What the settler asks of whoever has the log and the blobs. */
export type SettlerCallbacks = {
  /** Logs that payments were settled. Absent where nobody here can: whoever has the log does it then. */
  readonly writeSupplements?: WriteSupplements;
  /** Has fixed and metered payments settled by somebody else; we settle them when absent. */
  readonly settleOutside?: SettleOutside;
  /** Stores a batch's blob durably. */
  readonly putBlob: (bytes: Uint8Array) => Promise<void>;
  /** A stored blob by its SHA-256. */
  readonly getBlob: (sha256: string) => Promise<Uint8Array | undefined>;
  /** A checkpoint of the log of at least so many entries. */
  readonly checkpoint: (atLeast: number) => Promise<LogCheckpoint>;
  readonly onEvent: (event: SettlerEvent) => void;
};

export type SettlerStatus = {
  /** Jobs under way. */
  readonly running: number;
  /** Why it waits, in a sentence; null while it does not. */
  readonly waitingFor: string | null;
  /** The last block that it saw. */
  readonly head: number | null;
  readonly operator: Address;
};

/** A settler in this thread. */
export type RunningSettler = {
  readonly kick: (paymentId?: Hex) => void;
  /** Looks what is due now, which waits for company as ever. */
  readonly wake: () => void;
  readonly status: () => SettlerStatus;
  /** Makes splitters that hold something pay out, up to ten at once. */
  readonly payout: () => Promise<void>;
  /** Anchors whatever waits for its batch. */
  readonly anchor: () => Promise<void>;
  readonly prepareIndividual: (leaf: ReceiptLeaf) => Promise<PreparedAnchor>;
  /** Gives back a channel's rest, or `amountAtomic` of it, and waits for it. Throws `refund_failed`. */
  readonly refund: (channelId: Hex, amountAtomic?: bigint) => Promise<Refunded>;
  readonly close: () => Promise<void>;
};

const SUPPLEMENTS_EVERY_MS = 500;
const ANCHOR_TURN_MS = 1_000;
const SWEEP_EVERY_MS = 3_600_000;
/** Ended jobs are kept this long, for whoever asks what happened. */
const KEEP_JOBS_MS = 7 * 24 * 3_600_000;
/** One holds the lock, and the others' queries are short. */
const CONNECTIONS = 5;
/** How long a refund is waited for: its caller is a client's request. The job goes on all the same. */
const REFUND_WAIT_MS = 120_000;

/**
 * Settles what is due, from this thread, until `close`. One at a time for a database: throws `settler_running` while
 * another one holds its lock. Jobs that an earlier process left are taken up first.
 */
export async function runSettler(settings: SettlerSettings, callbacks: SettlerCallbacks): Promise<RunningSettler> {
  const { deployments, keys } = settings;
  const { onEvent } = callbacks;
  const options = resolveOptions(settings.options);
  const now = (): number => Date.now();
  const suite = nativeEvmSuite();
  const operator = evmSigner(hexToBytes(keys.operator));
  const authorizer = keys.authorizer === undefined ? operator : evmSigner(hexToBytes(keys.authorizer));
  const submitter = keys.submitter === undefined ? undefined : evmSigner(hexToBytes(keys.submitter));

  const database = connectDatabase({ url: settings.databaseUrl, maxConnections: CONNECTIONS });
  const closers: (() => Promise<unknown>)[] = [() => database.close()];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close();
  };

  try {
    await migrateDatabase(database);
    const fence = await takeFence(database, options.lockWaitMs);
    closers.push(fence.release);
    const node = createChain({ url: settings.rpcUrl, chainId: deployments.chainId });
    const chain = chainReads(node);
    const journal = createTxJournal(database);
    const ending = new AbortController();
    closers.push(() => {
      ending.abort();
      return Promise.resolve();
    });
    const senderOf = (signer: typeof operator): TransactionSender => {
      const made = createSender({
        chain: node,
        signer,
        journal,
        options: {
          confirmations: options.confirmations,
          pollMs: options.pollMs,
          onEvent: (event) =>
            onEvent({
              type: "transaction",
              event: event.type,
              ...("jobId" in event ? { jobId: event.jobId } : {}),
              ...("nonce" in event ? { nonce: event.nonce } : {}),
            }),
        },
      });
      closers.push(() => made.close());
      // What an earlier process sent is followed from now on, or from when the node answers.
      patiently(made.start, ending.signal).catch((error: unknown) => {
        if (!ending.signal.aborted) onEvent({ type: "job_failed", jobId: "sender", error: String(error) });
      });
      return transactionSender(made);
    };
    const sender = senderOf(operator);
    const modules = { database, chain, sender, authorizer, contracts: deployments, suite, now, onEvent };

    const anchor = submitter
      ? createAnchor(
          {
            database,
            chain,
            sender: submitter.address === operator.address ? sender : senderOf(submitter),
            signer: submitter,
            suite,
            deployments,
            putBlob: callbacks.putBlob,
            getBlob: callbacks.getBlob,
            checkpoint: callbacks.checkpoint,
            now,
            onEvent,
          },
          { everyMs: options.anchorEveryMs, leaves: options.anchorLeaves },
        )
      : undefined;

    const { settleOutside } = callbacks;
    const outside = settleOutside && ((row: PaymentRow) => isOutside(row, deployments));

    const payout = async (): Promise<void> => {
      if ((await payable(modules)).length > 0) await jobs.ensure(`payout-${randomUUID()}`);
    };
    const chores: Chore[] = [{ name: "sweep", everyMs: SWEEP_EVERY_MS, run: () => jobs.sweep(now() - KEEP_JOBS_MS) }];
    if (options.payoutEveryMs > 0) chores.push({ name: "payout", everyMs: options.payoutEveryMs, run: payout });
    if (anchor && options.anchorEveryMs > 0)
      chores.push({ name: "anchor", everyMs: ANCHOR_TURN_MS, restMs: REST_MS, run: () => anchor.turn() });
    if (callbacks.writeSupplements)
      chores.push({
        name: "supplements",
        everyMs: SUPPLEMENTS_EVERY_MS,
        restMs: REST_MS,
        afterJobs: true,
        run: createSupplementer({
          database,
          write: callbacks.writeSupplements,
          now,
          contractOf(row) {
            if (row.channelId !== undefined) return deployments.batchSettlement;
            return outside?.(row) === true ? outsideContract(row, deployments) : deployments.paymentBatcher;
          },
        }),
      });

    const engine = createEngine(
      {
        ...modules,
        network: deployments.network,
        handlers: {
          pay: createPayHandler(modules),
          ...(settleOutside
            ? {
                outside: createOutsideHandler({
                  ...modules,
                  settleOutside,
                  confirmations: options.confirmations,
                  pollMs: options.pollMs,
                }),
              }
            : {}),
          deposit: createDepositHandler(modules),
          claim: createClaimHandler(modules),
          refund: createRefundHandler(modules),
          payout: createPayoutHandler(modules),
        },
        isDeposited: (row) => isDepositUsed(modules, row),
        chores,
      },
      { ...options, ...(outside ? { isOutside: outside } : {}) },
    );
    const jobs = await launchJobs({
      databaseUrl: settings.databaseUrl,
      run: engine.runJob,
      onError: (jobId, error) => {
        const message = error instanceof Error ? error.message : String(error);
        onEvent({ type: "job_failed", jobId, error: message });
      },
    });
    closers.push(async () => {
      jobs.leave();
      await engine.close();
      await jobs.close();
    });
    fence.lost.addEventListener("abort", () => {
      if (closers.length === 0) return;
      onEvent({ type: "fenced" });
      void closeAll();
    });
    engine.begin(jobs);

    return {
      kick: engine.kick,
      wake: engine.wake,
      status: () => ({ ...engine.status(), operator: operator.address }),
      payout,
      async anchor() {
        await anchor?.flush();
        engine.wake();
      },
      prepareIndividual(leaf) {
        if (!anchor) throw new AssayError("anchor_unavailable", "This settler has no key that anchors batches.");
        // The chore sees to what this leaves on its way.
        engine.wake();
        return anchor.prepareIndividual(leaf);
      },
      async refund(channelId, amountAtomic) {
        const jobId = refundJob(channelId, amountAtomic);
        await jobs.ensure(jobId);
        for (const deadline = now() + REFUND_WAIT_MS; now() < deadline; await pause(options.pollMs)) {
          const outcome = await sender.outcome(jobId);
          if (outcome.state === "final") {
            const receipt = await chain.receipt(outcome.transaction);
            const amount = receipt ? refundedIn(receipt, deployments.batchSettlement) : 0n;
            return { transaction: outcome.transaction, amountAtomic: amount };
          }
          if (outcome.state === "reverted" || outcome.state === "dropped") break;
          if (outcome.state === "none" && !jobs.isRunning(jobId)) break;
        }
        throw new AssayError("refund_failed", "The channel's rest could not be given back.", {
          hints: ["Ask again; if it fails again, withdraw through the contract, which needs nobody's consent."],
        });
      },
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}
