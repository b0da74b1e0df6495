import * as limits from "./limits.ts";

/** Settings of {@link createOrtRuntime}. Every limit has a default in `limits.ts` with its reason. */
export type OrtOptions = {
  /** Absolute path of the child's program: a bundle of `child/main.ts`, or that file with a loader in `nodeArgs`. */
  readonly childEntry: string;
  /** Arguments for Node before the entry; none for a bundle. */
  readonly nodeArgs?: readonly string[];
  /** Children that share warm sessions, per profile. */
  readonly children?: { readonly portable?: number; readonly native?: number };
  readonly maxModelBytes?: number;
  readonly maxTensorBytes?: number;
  readonly maxTensorElements?: number;
  readonly maxFrameBytes?: number;
  readonly maxQueuedRequests?: number;
  readonly maxQueuedBytes?: number;
  /** Rows that may run together; 1 turns batching off. */
  readonly maxBatchRows?: number;
  readonly runTimeoutMs?: number;
  readonly loadTimeoutMs?: number;
  readonly startTimeoutMs?: number;
  readonly probeTimeoutMs?: number;
  readonly sessionBytes?: number;
  readonly maxSessions?: number;
  readonly maxRssBytes?: number;
  readonly maxStrikes?: number;
  readonly strikeWindowMs?: number;
  readonly maxStartFailures?: number;
  readonly quarantineIdleMs?: number;
  readonly closeDrainMs?: number;
};

export type Settings = Required<OrtOptions> & {
  readonly children: { readonly portable: number; readonly native: number };
};

/** `options` with every default filled in. */
export function withDefaults(options: OrtOptions): Settings {
  return {
    childEntry: options.childEntry,
    nodeArgs: options.nodeArgs ?? [],
    children: { portable: options.children?.portable ?? 1, native: options.children?.native ?? 1 },
    maxModelBytes: options.maxModelBytes ?? limits.MAX_MODEL_BYTES,
    maxTensorBytes: options.maxTensorBytes ?? limits.MAX_TENSOR_BYTES,
    maxTensorElements: options.maxTensorElements ?? limits.MAX_TENSOR_ELEMENTS,
    maxFrameBytes: options.maxFrameBytes ?? limits.MAX_FRAME_BYTES,
    maxQueuedRequests: options.maxQueuedRequests ?? limits.MAX_QUEUED_REQUESTS,
    maxQueuedBytes: options.maxQueuedBytes ?? limits.MAX_QUEUED_BYTES,
    maxBatchRows: options.maxBatchRows ?? limits.MAX_BATCH_ROWS,
    runTimeoutMs: options.runTimeoutMs ?? limits.RUN_TIMEOUT_MS,
    loadTimeoutMs: options.loadTimeoutMs ?? limits.LOAD_TIMEOUT_MS,
    startTimeoutMs: options.startTimeoutMs ?? limits.START_TIMEOUT_MS,
    probeTimeoutMs: options.probeTimeoutMs ?? limits.PROBE_TIMEOUT_MS,
    sessionBytes: options.sessionBytes ?? limits.SESSION_BYTES,
    maxSessions: options.maxSessions ?? limits.MAX_SESSIONS,
    maxRssBytes: options.maxRssBytes ?? limits.MAX_RSS_BYTES,
    maxStrikes: options.maxStrikes ?? limits.MAX_STRIKES,
    strikeWindowMs: options.strikeWindowMs ?? limits.STRIKE_WINDOW_MS,
    maxStartFailures: options.maxStartFailures ?? limits.MAX_START_FAILURES,
    quarantineIdleMs: options.quarantineIdleMs ?? limits.QUARANTINE_IDLE_MS,
    closeDrainMs: options.closeDrainMs ?? limits.CLOSE_DRAIN_MS,
  };
}
