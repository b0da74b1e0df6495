import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { Database } from "@assay/driver-postgres";
import type { Hex, Network } from "@assay/x402";
import { groupRows } from "./group.ts";
import type { GroupOptions } from "./group.ts";
import type { Jobs, Step } from "./jobs.ts";
import { MAX_JOBS } from "./limits.ts";
import { isPassing, patiently } from "./patient.ts";
import type { ChainReads, JobOutcome, TransactionSender } from "./ports.ts";
import { createReorgWatch } from "./reorg.ts";
import { channelsUnderWay, claimForJob, dueRows, jobRows, markFailed, markFree, openJobs } from "./rows.ts";
import type { PaymentRow } from "./rows.ts";

/** What jobs of one kind do. Both functions are safe to run again. */
export type JobHandler = {
  /** Puts the job's transaction on its way, unless it is; false when there is nothing to send any more. */
  readonly submit: (jobId: string) => Promise<boolean>;
  /** Puts down what became of the job. */
  readonly apply: (jobId: string, outcome: JobOutcome) => Promise<void>;
};

/** Something done now and then beside the jobs. */
export type Chore = {
  readonly name: string;
  readonly everyMs: number;
  /** How often once nothing has happened for a while, milliseconds; as often as ever when absent. */
  readonly restMs?: number;
  /** Whether the end of a job is what it waits for: then it runs with the next turn, whenever it ran before. */
  readonly afterJobs?: boolean;
  readonly run: () => Promise<unknown>;
};

export type EngineEvent =
  | { readonly type: "job_started"; readonly jobId: string; readonly payments: number }
  | {
      readonly type: "job_ended";
      readonly jobId: string;
      readonly state: JobOutcome["state"];
      readonly transaction?: Hex;
    }
  | { readonly type: "job_failed"; readonly jobId: string; readonly error: string }
  | { readonly type: "reorganised"; readonly payments: number }
  | { readonly type: "chain_replaced"; readonly head: number }
  | { readonly type: "waiting"; readonly for: string }
  | { readonly type: "payment_dead"; readonly paymentId: Hex; readonly code: string };

export type EngineModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly sender: Pick<TransactionSender, "outcome">;
  readonly network: Network;
  readonly handlers: Readonly<Record<string, JobHandler>>;
  /** Whether a deposit is on the chain. */
  readonly isDeposited: (row: PaymentRow) => Promise<boolean>;
  readonly chores: readonly Chore[];
  readonly now: () => number;
  readonly onEvent: (event: EngineEvent) => void;
};

export type EngineOptions = GroupOptions & {
  /** How often the database is asked for what is due while something is, milliseconds; four times that when nothing is. */
  readonly tickMs: number;
  /** How often a job's transaction is asked after, milliseconds. */
  readonly pollMs: number;
};

export type Engine = {
  /** What a job does: given to whoever makes jobs durable. */
  readonly runJob: (jobId: string, step: Step) => Promise<void>;
  /** Turns until `close`; `jobs` keeps what is started. */
  readonly begin: (jobs: Jobs) => void;
  /** Settles a payment, or all that are due, with the next turn. */
  readonly kick: (paymentId?: Hex) => void;
  /** Looks what is due now: something has become so, or whoever calls has begun what chores go on with. */
  readonly wake: () => void;
  readonly status: () => { readonly running: number; readonly waitingFor: string | null; readonly head: number | null };
  /** Ends the turns. Jobs stay where they are. */
  readonly close: () => Promise<void>;
};

/** How often jobs are looked for that have payments and do not run. */
const SUPERVISE_MS = 5_000;
/** After this long without payments, jobs or callers there is less to look for than to save: longer than any job takes to show. */
const QUICK_MS = 5_000;
/** Looks for what is due are so much rarer then. Whoever makes payments due wakes us; a second gateway does not. */
const SLOW_TICKS = 4;
/** Looks that somebody woke us for are so far apart, milliseconds: payments that become due one by one are looked at together. */
const WAKE_APART_MS = 250;
/** After this long chores rest too: a minute in which receipts wait for their batch, and time to see it posted. */
const LIVELY_MS = 75_000;
/** How often resting chores run whose work is always brought to somebody's notice before. */
export const REST_MS = 15_000;
/** And how often a quiet chain is looked at: what it takes back then was settled over a minute ago. */
const REST_REORG_MS = 5_000;

/**
 * Turns due payments into jobs: looks what is due, groups it, gives each group's payments to a job and starts it. The rows
 * are the truth; a job that is lost is found by its payments and started again.
 */
export function createEngine(modules: EngineModules, options: EngineOptions): Engine {
  const { database, sender, network, handlers, now, onEvent } = modules;
  const closing = new AbortController();
  const deposited = new Set<Hex>();
  let kicked: Set<Hex> | "all" = new Set();
  let woken = (): void => {};
  let soon: NodeJS.Timeout | undefined;
  let stirredMs = now();
  let turnedMs = 0;
  let waitingFor: string | null = null;
  let jobs: Jobs | undefined;
  let turning: Promise<void> | undefined;

  const reorgs = createReorgWatch({ ...modules, onReorg: () => deposited.clear() });
  const lastRun = new Map<string, number>();

  const stir = (): void => {
    stirredMs = now();
  };
  const hurry = (): void => {
    stir();
    woken();
  };

  const waits = (error: unknown): void => {
    const reason = error instanceof Error ? error.message : String(error);
    if (reason !== waitingFor) onEvent({ type: "waiting", for: reason });
    waitingFor = reason;
  };

  async function awaitOutcome(jobId: string): Promise<JobOutcome> {
    for (;;) {
      const outcome = await patiently(() => sender.outcome(jobId), closing.signal, waits);
      if (outcome.state !== "pending" && outcome.state !== "mined") return outcome;
      await pause(options.pollMs, undefined, { signal: closing.signal });
    }
  }

  async function runJob(jobId: string, step: Step): Promise<void> {
    const handler = handlers[jobId.slice(0, jobId.indexOf("-"))];
    if (!handler) throw new TypeError(`No job is called ${jobId}.`);
    const sent = await step("submit", () => patiently(() => handler.submit(jobId), closing.signal, waits));
    const outcome: JobOutcome = sent ? await step("outcome", () => awaitOutcome(jobId)) : { state: "none" };
    await step("apply", async () => {
      await patiently(() => handler.apply(jobId, outcome), closing.signal, waits);
      return true;
    });
    if (outcome.state === "final") reorgs.note(outcome);
    onEvent({
      type: "job_ended",
      jobId,
      state: outcome.state,
      ...("transaction" in outcome ? { transaction: outcome.transaction } : {}),
    });
    for (const { name, afterJobs } of modules.chores) if (afterJobs === true) lastRun.delete(name);
    hurry();
  }

  /** A payment that opens a channel is a charge like any other once its deposit is on the chain. */
  async function lookAtDeposits(rows: readonly PaymentRow[]): Promise<void> {
    const due = new Set(rows.map(({ paymentId }) => paymentId));
    for (const paymentId of deposited) if (!due.has(paymentId)) deposited.delete(paymentId);
    for (const row of rows) {
      if (row.instruction.payload.payment.kind !== "deposit" || deposited.has(row.paymentId)) continue;
      if (await modules.isDeposited(row)) deposited.add(row.paymentId);
    }
  }

  async function startDue(running: Jobs): Promise<void> {
    const rows = await dueRows(database, network, now());
    const free = rows.filter(({ amountAtomic }) => amountAtomic === 0n).map(({ paymentId }) => paymentId);
    await markFree(database, free, now());
    const waiting = rows.filter(({ amountAtomic }) => amountAtomic > 0n);
    if (waiting.length === 0) {
      kicked = new Set();
      return;
    }
    stir();
    running.prepare();
    await lookAtDeposits(waiting);
    const channels = waiting.flatMap(({ channelId }) => (channelId === undefined ? [] : [channelId]));
    const busyChannels = await channelsUnderWay(database, [...new Set(channels)]);
    const groups = groupRows(waiting, options, { nowMs: now(), kicked, busyChannels, deposited });
    for (const group of groups) {
      if (running.running() >= MAX_JOBS || closing.signal.aborted) return;
      const jobId = `${group.kind}-${randomUUID()}`;
      const got = await claimForJob(
        database,
        jobId,
        group.rows.map(({ paymentId }) => paymentId),
        now(),
      );
      if (got === 0) continue;
      onEvent({ type: "job_started", jobId, payments: got });
      await running.ensure(jobId);
    }
    kicked = new Set();
  }

  async function supervise(running: Jobs): Promise<void> {
    for (const jobId of await openJobs(database, network)) {
      if (running.isRunning(jobId)) continue;
      if (await running.ensure(jobId)) continue;
      for (const row of await jobRows(database, jobId, now())) {
        const code = "settlement_job_failed";
        await markFailed(database, row.paymentId, { code, message: `The job ${jobId} failed too often.` }, true, now());
        onEvent({ type: "payment_dead", paymentId: row.paymentId, code });
      }
    }
  }

  const choresOf = (running: Jobs): readonly Chore[] => [
    { name: "supervise", everyMs: SUPERVISE_MS, restMs: REST_MS, run: () => supervise(running) },
    { name: "reorgs", everyMs: Math.max(options.pollMs, 500), restMs: REST_REORG_MS, run: reorgs },
    ...modules.chores,
  ];

  async function turn(running: Jobs, chores: readonly Chore[]): Promise<void> {
    await startDue(running);
    if (running.running() > 0) stir();
    for (const chore of chores) {
      const everyMs = now() - stirredMs < LIVELY_MS ? chore.everyMs : (chore.restMs ?? chore.everyMs);
      if (now() - (lastRun.get(chore.name) ?? 0) < everyMs) continue;
      // Before it runs: a job that ends meanwhile may have come too late for it.
      lastRun.set(chore.name, now());
      try {
        await chore.run();
      } catch (error) {
        lastRun.delete(chore.name);
        throw error;
      }
    }
  }

  async function turns(running: Jobs): Promise<void> {
    const chores = choresOf(running);
    stir();
    while (!closing.signal.aborted) {
      const called = new Promise<void>((resolve) => {
        woken = resolve;
      });
      turnedMs = now();
      try {
        await turn(running, chores);
        waitingFor = null;
      } catch (error) {
        if (isPassing(error)) waits(error);
        else
          onEvent({ type: "job_failed", jobId: "turn", error: error instanceof Error ? error.message : String(error) });
      }
      const timer = new AbortController();
      const tickMs = now() - stirredMs < QUICK_MS ? options.tickMs : options.tickMs * SLOW_TICKS;
      await Promise.race([called, pause(tickMs, undefined, { signal: timer.signal }).catch(() => undefined)]);
      timer.abort();
    }
  }

  return {
    runJob,
    begin(running) {
      jobs = running;
      turning ??= turns(running);
    },
    kick(paymentId) {
      if (paymentId === undefined) kicked = "all";
      else if (kicked !== "all") kicked.add(paymentId);
      hurry();
    },
    wake() {
      soon ??= setTimeout(
        () => {
          soon = undefined;
          hurry();
        },
        Math.max(0, turnedMs + WAKE_APART_MS - now()),
      ).unref();
    },
    status: () => ({ running: jobs?.running() ?? 0, waitingFor, head: reorgs.head() }),
    async close() {
      closing.abort(new Error("The settler is closing."));
      clearTimeout(soon);
      woken();
      await turning;
    },
  };
}
