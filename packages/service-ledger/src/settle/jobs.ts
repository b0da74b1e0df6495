import { DBOS } from "@dbos-inc/dbos-sdk";
import { MAX_JOB_RUNS } from "./limits.ts";

/**
 * One step of a job. Its result is kept: a job that is taken up again after a crash goes on after the last step that
 * ended. A step that was under way runs again, so each is written to be run twice.
 */
export type Step = <T>(name: string, work: () => Promise<T>) => Promise<T>;

/** Durable jobs: what was started is finished, by this process or by the one after it. */
export type Jobs = {
  /** Starts a job, or goes on with it when it was started before. False when it failed for the last time. */
  readonly ensure: (jobId: string) => Promise<boolean>;
  readonly isRunning: (jobId: string) => boolean;
  readonly running: () => number;
  /** Forgets jobs that ended before `beforeMs` (Unix milliseconds). */
  readonly sweep: (beforeMs: number) => Promise<void>;
  /** From now on nothing that a job does is put down: what ends it is our closing, and no failure of its own. */
  readonly leave: () => void;
  /** Leaves jobs where they are; the next process finishes them. */
  readonly close: () => Promise<void>;
};

export type JobsOptions = {
  readonly databaseUrl: string;
  /** What a job does, by its id. It must be safe to run again from any step. */
  readonly run: (jobId: string, step: Step) => Promise<void>;
  readonly onError: (jobId: string, error: unknown) => void;
};

/** Tables of DBOS, beside ours: they hold nothing that could not be made again from payments under way. */
const SCHEMA = "assay_jobs";
/** The same for every start: a process takes its predecessor's jobs up by it. One settler at a time holds the lock. */
const EXECUTOR = "settler";
/** Recovery goes by it: jobs of this form are understood by every program of this version of the steps. */
const APPLICATION_VERSION = "1";
/** Jobs swept in one turn. */
const MAX_SWEEP = 1_000;

/**
 * Launches DBOS in this thread, which has one instance of it: a second launch before `close` is refused. Jobs that an
 * earlier process left are taken up before this resolves.
 */
export async function launchJobs(options: JobsOptions): Promise<Jobs> {
  const running = new Set<string>();
  /** Jobs found pending and not running once: recovery takes a moment to begin them, and is not to be raced. */
  const suspected = new Set<string>();
  let closing = false;
  const never = new Promise<never>(() => {});

  const step: Step = (name, work) =>
    DBOS.runStep(
      async () => {
        try {
          const result = await work();
          // A result after the end would be written into a database that is being left.
          return closing ? await never : result;
        } catch (error) {
          // Closing is no failure of the job: it stays pending, and the next process goes on with it.
          if (closing) return never;
          throw error;
        }
      },
      { name },
    );

  const workflow = DBOS.registerWorkflow(
    async (jobId: string) => {
      running.add(jobId);
      suspected.delete(jobId);
      try {
        await options.run(jobId, step);
      } catch (error) {
        options.onError(jobId, error);
        throw error;
      } finally {
        running.delete(jobId);
      }
    },
    { name: "settle" },
  );

  DBOS.setConfig({
    name: "assay-settler",
    systemDatabaseUrl: settlerUrl(options.databaseUrl),
    systemDatabaseSchemaName: SCHEMA,
    systemDatabasePoolSize: 6,
    executorID: EXECUTOR,
    applicationVersion: APPLICATION_VERSION,
    logger: { info: ignore, debug: ignore, warn: ignore, error: ignore },
  });
  await DBOS.launch();

  async function ensure(jobId: string): Promise<boolean> {
    if (running.has(jobId)) return true;
    for (let run = 1; run <= MAX_JOB_RUNS; run++) {
      const workflowID = run === 1 ? jobId : `${jobId}#${run}`;
      const status = (await DBOS.getWorkflowStatus(workflowID))?.status;
      if (status === undefined) {
        running.add(jobId);
        try {
          await DBOS.startWorkflow(workflow, { workflowID })(jobId);
        } catch (error) {
          running.delete(jobId);
          throw error;
        }
        return true;
      }
      if (status === "PENDING" || status === "ENQUEUED" || status === "DELAYED") {
        if (suspected.delete(jobId)) await DBOS.resumeWorkflow(workflowID);
        else suspected.add(jobId);
        return true;
      }
      // It ended, and its payments are still under way: another run looks what is left to do.
    }
    return false;
  }

  return {
    ensure,
    isRunning: (jobId) => running.has(jobId),
    running: () => running.size,
    async sweep(beforeMs) {
      const ended = await DBOS.listWorkflows({
        workflowName: "settle",
        status: ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
        endTime: new Date(beforeMs).toISOString(),
        limit: MAX_SWEEP,
        loadInput: false,
        loadOutput: false,
      });
      if (ended.length > 0) await DBOS.deleteWorkflows(ended.map(({ workflowID }) => workflowID));
    },
    leave() {
      closing = true;
    },
    async close() {
      closing = true;
      await DBOS.shutdown({ deregister: true });
    },
  };
}

/** DBOS reads addresses as WHATWG URLs, which need a host where PostgreSQL's own form has none (a socket's folder). */
function parseableUrl(url: string): string {
  return url.replace(/^(postgres(?:ql)?:\/\/(?:[^/@]*@)?)\//, "$1localhost/");
}

/** A transaction that is left open holds locks: the server ends it after so long, milliseconds. */
const IDLE_TRANSACTION_MS = 60_000;
const IDLE_TRANSACTION = "idle_in_transaction_session_timeout";

// DBOS would set the limit with a query of its own on each new connection, beside the first one of whoever waits for the
// connection; pg warns of that. A limit that the address names is left alone.
function settlerUrl(databaseUrl: string): string {
  const url = new URL(parseableUrl(databaseUrl));
  const given = url.searchParams.get("options");
  if (given?.includes(IDLE_TRANSACTION) !== true) {
    const limit = `-c ${IDLE_TRANSACTION}=${IDLE_TRANSACTION_MS}`;
    url.searchParams.set("options", given === null ? limit : `${given} ${limit}`);
  }
  return url.href;
}

function ignore(): void {}
