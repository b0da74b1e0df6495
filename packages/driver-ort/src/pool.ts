import { performance } from "node:perf_hooks";
import { isAssayError } from "@assay/core";
import type { RuntimeProfile } from "@assay/protocol";
import { unstack } from "./batch.ts";
import { createBreaker } from "./breaker.ts";
import { ortError } from "./errors.ts";
import type { OrtErrorCode } from "./errors.ts";
import { checkJob, mayBatchJob } from "./job.ts";
import type { Job } from "./job.ts";
import { LaneDeath } from "./lane.ts";
import type { DeathCause } from "./lane.ts";
import { MAX_QUARANTINE_CHILDREN, MAX_REMEMBERED_MODELS } from "./limits.ts";
import type { Settings } from "./options.ts";
import { createSlot } from "./slot.ts";
import type { Slot, Warm } from "./slot.ts";

/** Queue and children of one profile. */
export type Pool = {
  /** Queues a job. Throws `runtime_overloaded`, or the code with which the model is refused. */
  submit(job: Job): void;
  /** Takes a job back if it has not started. */
  withdraw(job: Job): void;
  forgive(key: string): void;
  stats(): { children: number; sessions: number; sessionBytes: number; queued: number; restarts: number };
  pids(): number[];
  close(): Promise<void>;
};

const DEATHS: Readonly<Record<DeathCause, OrtErrorCode>> = {
  timeout: "model_timeout",
  memory: "model_out_of_memory",
  aborted: "model_aborted",
  external: "model_aborted",
  protocol: "model_aborted",
  ended: "runtime_closed",
};

const SENTENCES: Readonly<Partial<Record<OrtErrorCode, string>>> = {
  model_timeout: "The model took longer than a run may take, and its process was ended.",
  model_out_of_memory: "The model needed more memory than a process may have, and its process was ended.",
  model_aborted: "The model ended the process that it ran in.",
  runtime_closed: "The runtime was closed.",
};

/** Codes that count against a model: it cost a child. */
const STRIKING: ReadonlySet<string> = new Set(["model_timeout", "model_out_of_memory", "model_aborted"]);

/** A pool of `profile`. Jobs go in order of arrival to the first free child, warm ones preferred. */
export function createPool(settings: Settings, profile: RuntimeProfile): Pool {
  const breaker = createBreaker({
    maxStrikes: settings.maxStrikes,
    windowMs: settings.strikeWindowMs,
    maxModels: MAX_REMEMBERED_MODELS,
  });
  const shared = Array.from({ length: settings.children[profile] }, () => createSlot(settings, profile));
  const quarantine = new Map<string, { slot: Slot; timer: NodeJS.Timeout | undefined }>();
  let queue: Job[] = [];
  let queuedBytes = 0;
  let retiredRestarts = 0;
  let scheduled = false;
  let closed = false;
  let whenIdle: (() => void) | undefined;

  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    // After the event loop's turn: everything that arrived in it can then run as one batch.
    setImmediate(() => {
      scheduled = false;
      pump();
    });
  };

  const refusal = (job: Job): Error | undefined => {
    const code = breaker.refusal(job.model.key);
    if (code === undefined) return undefined;
    return ortError(code, "The model is refused because it cost its process too often.", [
      "It is tried again after an operator asks for it.",
    ]);
  };

  const pump = (): void => {
    const nowMs = performance.now();
    for (let at = 0; at < queue.length;) {
      const job = queue[at];
      if (job === undefined) break;
      const refused = refusal(job);
      const slot = refused === undefined ? slotFor(job, nowMs) : undefined;
      if (refused === undefined && slot === undefined) {
        at++;
        continue;
      }
      if (slot === undefined) {
        remove(new Set([job]));
        job.reject(refused ?? new Error("unreachable"));
        continue;
      }
      const batch = gather(job);
      remove(new Set(batch));
      slot.busy = true;
      void work(slot, batch);
    }
    if (queue.length === 0 && !busy()) whenIdle?.();
  };

  const busy = (): boolean =>
    shared.some((slot) => slot.busy) || [...quarantine.values()].some(({ slot }) => slot.busy);

  const slotFor = (job: Job, nowMs: number): Slot | undefined => {
    const { key } = job.model;
    if (breaker.suspect(key, nowMs)) return quarantined(key);
    return shared.find((slot) => !slot.busy && slot.has(key)) ?? shared.find((slot) => !slot.busy);
  };

  const quarantined = (key: string): Slot | undefined => {
    const cell = quarantine.get(key);
    if (cell !== undefined) {
      clearTimeout(cell.timer);
      return cell.slot.busy ? undefined : cell.slot;
    }
    if (quarantine.size >= MAX_QUARANTINE_CHILDREN) {
      const idle = [...quarantine].find(([, other]) => !other.slot.busy);
      if (idle === undefined) return undefined;
      retire(idle[0]);
    }
    const slot = createSlot(settings, profile);
    quarantine.set(key, { slot, timer: undefined });
    return slot;
  };

  const retire = (key: string): void => {
    const cell = quarantine.get(key);
    if (cell === undefined) return;
    clearTimeout(cell.timer);
    quarantine.delete(key);
    retiredRestarts += cell.slot.stats().restarts;
    void cell.slot.end();
  };

  /** Jobs that may run with `job`, in order of arrival, itself first. */
  const gather = (job: Job): Job[] => {
    if (!mayBatchJob(job)) return [job];
    const batch: Job[] = [];
    let rows = 0;
    for (const other of queue) {
      if (other.model.key !== job.model.key || !mayBatchJob(other) || other.batchKey !== job.batchKey) continue;
      if (batch.length > 0 && rows + other.rows > settings.maxBatchRows) continue;
      batch.push(other);
      rows += other.rows;
      if (rows >= settings.maxBatchRows) break;
    }
    return batch;
  };

  const remove = (jobs: ReadonlySet<Job>): void => {
    queue = queue.filter((job) => !jobs.has(job));
    for (const job of jobs) queuedBytes -= job.sizeBytes;
  };

  const putBack = (jobs: readonly Job[]): void => {
    const waiting = jobs.filter((job) => !job.settled);
    queue = [...waiting, ...queue];
    for (const job of waiting) queuedBytes += job.sizeBytes;
  };

  const work = async (slot: Slot, jobs: readonly Job[]): Promise<void> => {
    try {
      await execute(slot, jobs);
      await slot.tidy();
    } catch (error) {
      for (const job of jobs) job.reject(error instanceof Error ? error : new Error(String(error)));
    }
    slot.busy = false;
    for (const [key, cell] of quarantine) {
      if (cell.slot === slot) cell.timer = setTimeout(() => retire(key), settings.quarantineIdleMs).unref();
    }
    schedule();
  };

  const execute = async (slot: Slot, jobs: readonly Job[]): Promise<void> => {
    const first = jobs[0];
    if (first === undefined) return;
    const { known, model } = first;
    let warm: Warm;
    try {
      warm = await slot.session(model);
      known.signature = warm.signature;
    } catch (error) {
      return failed(jobs, error, "load");
    }
    if (known.invariant === undefined) {
      try {
        known.invariant = await slot.probe(warm);
      } catch {
        // Invented inputs cost the child. That says nothing of real ones, so the model runs, but never in a batch.
        known.invariant = false;
        return putBack(jobs);
      }
    }
    const runs: Job[] = [];
    for (const job of jobs) {
      if (job.asked === undefined) {
        const { signature, facts } = warm;
        job.resolve({ kind: "prepared", signature, facts, invariant: known.invariant });
      } else if (!job.settled && checkJob(job)) runs.push(job);
    }
    if (runs.length > 0) await run(slot, warm, runs);
  };

  const run = async (slot: Slot, warm: Warm, jobs: readonly Job[]): Promise<void> => {
    const requests = jobs.flatMap((job) => (job.checked === undefined ? [] : [job.checked]));
    const timers = jobs.flatMap((job) => {
      if (job.patienceMs === undefined || job.patienceMs >= settings.runTimeoutMs) return [];
      const late = ortError("model_timeout", `The run took longer than the ${job.patienceMs} ms that were asked for.`);
      return [setTimeout(() => job.reject(late), job.patienceMs)];
    });
    try {
      const { outputs, engineMs } = await slot.run(warm, requests);
      const ports = (requests[0]?.outputs ?? []).flatMap((index) => warm.signature.outputs[index] ?? []);
      const cut =
        jobs.length === 1
          ? [
              outputs.map((output, i) => ({
                ...output,
                name: ports[i]?.name ?? "",
                datatype: ports[i]?.datatype ?? "UINT8",
              })),
            ]
          : unstack(
              outputs,
              ports,
              jobs.map((job) => job.rows),
            );
      if (cut === undefined) {
        for (const job of jobs) job.known.invariant = false;
        return putBack(jobs);
      }
      for (const [i, job] of jobs.entries()) {
        const result = { outputs: cut[i] ?? [], facts: warm.facts, engineMs, batchedRequests: jobs.length };
        job.resolve({ kind: "run", result });
      }
    } catch (error) {
      failed(jobs, error, "run");
    } finally {
      for (const timer of timers) clearTimeout(timer);
    }
  };

  const failed = (jobs: readonly Job[], error: unknown, stage: "load" | "run"): void => {
    const outside = error instanceof LaneDeath && error.why === "external";
    if (outside && jobs.some((job) => !job.repeated)) {
      // Somebody else ended the child; runs are pure functions, so each may be repeated, once.
      for (const job of jobs) job.repeated = true;
      return putBack(jobs);
    }
    if (stage === "run" && jobs.length > 1) {
      for (const job of jobs) job.alone = true;
      return putBack(jobs);
    }
    const named = isAssayError(error) ? error : death(error);
    const key = jobs[0]?.model.key;
    if (key !== undefined && STRIKING.has(named.code)) {
      breaker.strike(key, named.code as OrtErrorCode, performance.now());
    }
    for (const job of jobs) job.reject(named);
  };

  const slots = (): Slot[] => [...shared, ...[...quarantine.values()].map((cell) => cell.slot)];

  return {
    submit: (job) => {
      const refused = refusal(job);
      if (refused !== undefined) throw refused;
      if (closed) throw ortError("runtime_closed", "The runtime was closed.");
      if (queue.length >= settings.maxQueuedRequests || queuedBytes + job.sizeBytes > settings.maxQueuedBytes) {
        throw ortError(
          "runtime_overloaded",
          `There are ${queue.length} requests of ${queuedBytes} bytes waiting already.`,
          ["Try again later, or ask another node."],
        );
      }
      if (job.known.signature !== undefined && job.asked !== undefined) checkJob(job);
      if (job.settled) return;
      queue.push(job);
      queuedBytes += job.sizeBytes;
      schedule();
    },
    withdraw: (job) => {
      if (queue.includes(job)) remove(new Set([job]));
    },
    forgive: (key) => breaker.forget(key),
    stats: () => {
      const total = { children: 0, sessions: 0, sessionBytes: 0, queued: queue.length, restarts: retiredRestarts };
      for (const slot of slots()) {
        const one = slot.stats();
        total.children += one.children;
        total.sessions += one.sessions;
        total.sessionBytes += one.sessionBytes;
        total.restarts += one.restarts;
      }
      return total;
    },
    pids: () => slots().flatMap((slot) => slot.pid() ?? []),
    close: async () => {
      closed = true;
      let timer: NodeJS.Timeout | undefined;
      if (queue.length > 0 || busy()) {
        await new Promise<void>((resolve) => {
          whenIdle = resolve;
          timer = setTimeout(resolve, settings.closeDrainMs);
        });
      }
      clearTimeout(timer);
      const late = queue;
      queue = [];
      queuedBytes = 0;
      for (const job of late) job.reject(ortError("runtime_closed", "The runtime was closed before the run began."));
      const cells = [...quarantine.values()];
      for (const { timer: idle } of cells) clearTimeout(idle);
      quarantine.clear();
      await Promise.all([...shared, ...cells.map(({ slot }) => slot)].map(async (slot) => await slot.end()));
    },
  };
}

function death(error: unknown): ReturnType<typeof ortError> {
  const why = error instanceof LaneDeath ? error.why : "aborted";
  const code = DEATHS[why];
  return ortError(code, SENTENCES[code] ?? "The model failed.", [], error);
}
