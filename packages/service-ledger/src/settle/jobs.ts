import { AssayError } from "@assay/core";
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
  /** Says that jobs are about to be started: what they need is made ready beside whatever the caller does meanwhile. */
  readonly prepare: () => void;
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
  /** How long without jobs until DBOS is shut down, milliseconds; it is launched again for the next one. */
  readonly restAfterMs?: number;
};

/** Tables of DBOS, beside ours: they hold nothing that could not be made again from payments under way. */
const SCHEMA = "assay_jobs";
/** The same for every start: a process takes its predecessor's jobs up by it. One settler at a time holds the lock. */
const EXECUTOR = "settler";
/** Recovery goes by it: jobs of this form are understood by every program of this version of the steps. */
const APPLICATION_VERSION = "1";
/**
 * How long a job that was started may take to begin, milliseconds. One that never does is not ours to run: a process that was
 * killed had its row written after we looked for it, and DBOS leaves it to that process. It is resumed like any lost one.
 */
const BEGIN_MS = 5_000;
/** Jobs swept in one turn. */
const MAX_SWEEP = 1_000;

/** What a launched DBOS does each second for queues, schedules and time limits that we have none of is worth stopping. */
const REST_AFTER_MS = 30_000;
/** Connections of DBOS while it is launched: as many steps are written down at once. */
const CONNECTIONS = 4;
/** States of workflows that are not over. */
const OPEN = ["PENDING", "ENQUEUED", "DELAYED"] as const;

/**
 * Launches DBOS in this thread, which has one instance of it: a second launch before `close` is refused. Jobs that an
 * earlier process left are taken up before this resolves. Without jobs for {@link JobsOptions.restAfterMs} it is shut down,
 * and launched again for the next one.
 */
export async function launchJobs(options: JobsOptions): Promise<Jobs> {
  const { restAfterMs = REST_AFTER_MS } = options;
  const running = new Set<string>();
  /** When jobs were started that have not begun to run. */
  const starting = new Map<string, number>();
  /** Jobs found pending and not running once: recovery takes a moment to begin them, and is not to be raced. */
  const suspected = new Set<string>();
  /** Callers that need DBOS now. */
  let users = 0;
  let launched: Promise<void> | undefined;
  let resting: Promise<unknown> = Promise.resolve();
  let restTimer: NodeJS.Timeout | undefined;
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

  async function runJob(jobId: string): Promise<void> {
    running.add(jobId);
    starting.delete(jobId);
    suspected.delete(jobId);
    try {
      await options.run(jobId, step);
    } catch (error) {
      options.onError(jobId, error);
      throw error;
    } finally {
      running.delete(jobId);
    }
  }
  let workflow = DBOS.registerWorkflow(runJob, { name: "settle" });
  let isFirst = true;

  async function launch(): Promise<void> {
    await resting;
    // A shutdown forgets what was registered.
    if (!isFirst) workflow = DBOS.registerWorkflow(runJob, { name: "settle" });
    DBOS.setConfig({
      name: "assay-settler",
      systemDatabaseUrl: settlerUrl(options.databaseUrl),
      systemDatabaseSchemaName: SCHEMA,
      systemDatabasePoolSize: CONNECTIONS,
      // Nobody sends these workflows messages: nobody need listen on a connection of its own, and look a hundred times a second.
      useListenNotify: false,
      runMigrations: isFirst,
      executorID: EXECUTOR,
      applicationVersion: APPLICATION_VERSION,
      logger: { info: ignore, debug: ignore, warn: ignore, error: ignore },
    });
    try {
      await DBOS.launch();
    } catch (error) {
      // What it registered and connected goes too, so that another launch begins from nothing.
      await DBOS.shutdown({ deregister: true }).catch(ignore);
      if (isFirst) throw error;
      throw new AssayError("database_unavailable", "The database did not answer when jobs were to be started.", {
        cause: error,
      });
    }
    isFirst = false;
  }

  /** Does `work` while DBOS is launched. */
  async function using<T>(work: () => Promise<T>): Promise<T> {
    users++;
    try {
      launched ??= launch().catch((error: unknown) => {
        launched = undefined;
        throw error;
      });
      await launched;
      return await work();
    } finally {
      users--;
      restLater();
    }
  }

  function restLater(): void {
    clearTimeout(restTimer);
    restTimer = setTimeout(() => void rest(), restAfterMs);
    restTimer.unref();
  }

  const isBusy = (): boolean => users > 0 || running.size > 0 || mayBegin() > 0;

  /** Shuts DBOS down, unless something is to do: also what recovery has not begun yet. */
  async function rest(): Promise<void> {
    if (launched === undefined || closing) return;
    // A timer that a job set would run inside of its workflow, so that the end of a job is looked for and not told.
    if (isBusy()) return restLater();
    try {
      const open = await DBOS.listWorkflows({ status: [...OPEN], limit: 1, loadInput: false, loadOutput: false });
      if (open.length > 0) return restLater();
    } catch {
      // The database is away: there is time.
      return restLater();
    }
    if (closing) return;
    if (isBusy()) return restLater();
    launched = undefined;
    resting = DBOS.shutdown({ deregister: true }).catch(ignore);
  }

  await using(() => Promise.resolve());

  function isRunning(jobId: string): boolean {
    if (running.has(jobId)) return true;
    const startedMs = starting.get(jobId);
    if (startedMs !== undefined && Date.now() - startedMs < BEGIN_MS) return true;
    starting.delete(jobId);
    return false;
  }

  /** How many were started and may begin yet. */
  function mayBegin(): number {
    return [...starting.keys()].filter(isRunning).length;
  }

  async function begin(jobId: string): Promise<boolean> {
    for (let run = 1; run <= MAX_JOB_RUNS; run++) {
      const workflowID = run === 1 ? jobId : `${jobId}#${run}`;
      const status = (await DBOS.getWorkflowStatus(workflowID))?.status;
      if (status === undefined) {
        starting.set(jobId, Date.now());
        try {
          await DBOS.startWorkflow(workflow, { workflowID })(jobId);
        } catch (error) {
          starting.delete(jobId);
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
    ensure: async (jobId) => isRunning(jobId) || using(() => begin(jobId)),
    isRunning,
    running: () => running.size + mayBegin(),
    // A failure is heard of by the first job.
    prepare: () => void using(() => Promise.resolve()).catch(ignore),
    sweep: (beforeMs) =>
      using(async () => {
        const ended = await DBOS.listWorkflows({
          workflowName: "settle",
          status: ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"],
          endTime: new Date(beforeMs).toISOString(),
          limit: MAX_SWEEP,
          loadInput: false,
          loadOutput: false,
        });
        if (ended.length > 0) await DBOS.deleteWorkflows(ended.map(({ workflowID }) => workflowID));
      }),
    leave() {
      closing = true;
    },
    async close() {
      closing = true;
      clearTimeout(restTimer);
      await resting;
      await launched?.catch(ignore);
      if (launched !== undefined) await DBOS.shutdown({ deregister: true });
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
