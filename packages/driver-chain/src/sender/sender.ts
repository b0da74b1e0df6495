import { setTimeout as delay } from "node:timers/promises";
import { AssayError, isAssayError } from "@assay/core";
import { broadcast } from "./broadcast.ts";
import { poll } from "./follow.ts";
import { jobProblem } from "./job.ts";
import { existing, resume, write } from "./numbering.ts";
import { outcomeOf } from "./outcome.ts";
import { closed, openState } from "./state.ts";
import type { Sender, SenderParts, TxHandle, TxJob } from "./types.ts";

/**
 * The one writer of an account's transactions on one chain. Every transaction is in the journal, signed, before a node sees
 * it; all attempts of a job have its nonce, so that at most one can be mined. Two senders of one account must not run at a
 * time.
 */
export function createSender(parts: SenderParts): Sender {
  const aborter = new AbortController();
  const state = openState(parts, aborter.signal);
  const { chain, me, settings, slots } = state;
  const submitting = new Map<string, Promise<TxHandle>>();
  const underWay = new Set<Promise<void>>();
  const ticks = new Set<() => void>();
  let starting: Promise<void> | undefined;
  let looping: Promise<void> | undefined;

  function start(): Promise<void> {
    if (aborter.signal.aborted) return Promise.reject(closed());
    if (starting === undefined && !state.stale) return Promise.resolve();
    starting ??= state
      .inTurn(() => (state.stale ? resume(state) : Promise.resolve()))
      .then(() => {
        looping ??= loop();
      })
      .finally(() => {
        starting = undefined;
      });
    return starting;
  }

  async function submit(job: TxJob): Promise<TxHandle> {
    await start();
    const { handle, fresh } = await write(state, job);
    if (fresh !== undefined) {
      const sending = broadcast(state, fresh).finally(() => {
        underWay.delete(sending);
        state.wake();
      });
      underWay.add(sending);
    }
    return handle;
  }

  function tick(): void {
    for (const told of ticks) told();
    ticks.clear();
  }

  async function loop(): Promise<void> {
    while (!aborter.signal.aborted) {
      const woken = new Promise<void>((resolve) => (state.wake = resolve));
      let pause = settings.pollMs;
      if (slots.size > 0)
        try {
          await poll(state);
        } catch (cause) {
          // Nothing more is accepted until somebody has looked into it.
          if (isAssayError(cause) && cause.code === "chain_rewound") state.stale = true;
          state.onEvent({ type: "tx_poll_failed", cause });
          pause = Math.max(pause, chain.health().retryAfterMs);
        }
      tick();
      if (aborter.signal.aborted) return;
      if (slots.size === 0) await woken;
      else {
        const timer = new AbortController();
        await Promise.race([woken, delay(pause, undefined, { signal: timer.signal }).catch(() => undefined)]);
        timer.abort();
      }
    }
  }

  return {
    address: me,
    start,
    submit(job) {
      const problem = jobProblem(job, me);
      if (problem !== undefined)
        return Promise.reject(new AssayError("transaction_invalid", `The job cannot be sent: ${problem}.`));
      const under = submitting.get(job.jobId);
      if (under !== undefined) return under.then(async (handle) => (await existing(state, job)) ?? handle);
      const mine = submit(job).finally(() => submitting.delete(job.jobId));
      submitting.set(job.jobId, mine);
      return mine;
    },
    outcome: (jobId) => outcomeOf(state, jobId),
    async wait(jobId, { until = "final", signal } = {}) {
      await start();
      for (;;) {
        signal?.throwIfAborted();
        let told = (): void => undefined;
        const ticked = new Promise<void>((resolve) => (told = resolve));
        ticks.add(told);
        const timer = new AbortController();
        try {
          const found = await outcomeOf(state, jobId);
          if (found === undefined)
            throw new AssayError("transaction_unknown", `No job ${jobId} was written down.`, {
              hints: ["Submit it first."],
            });
          if (found.state !== "pending" && (found.state !== "mined" || until === "mined")) return found;
          if (aborter.signal.aborted) throw closed();
          // An outcome that only the journal knows is looked at with the poller's own pace.
          await Promise.race([
            ticked,
            delay(settings.pollMs * 4, undefined, {
              signal: AbortSignal.any([timer.signal, ...(signal === undefined ? [] : [signal])]),
            }).catch(() => undefined),
          ]);
        } finally {
          timer.abort();
          ticks.delete(told);
        }
      }
    },
    async cancel(jobId) {
      await start();
      const slot = state.byJob.get(jobId);
      if (slot === undefined) return;
      slot.cancelWanted = true;
      state.wake();
    },
    status: () => ({ open: slots.size, nextNonce: state.next }),
    kick: () => state.wake(),
    async close() {
      aborter.abort();
      state.wake();
      tick();
      await looping;
      await Promise.all(underWay);
      await state.idle();
    },
  };
}
