import * as limits from "./limits.ts";

/** Settings of `createLocalEngine`. Every limit has a default in `limits.ts` with its reason. */
export type LocalEngineOptions = {
  /** Absolute path of the child's program: a bundle of `child/main.ts`, or that file with a loader in `nodeArgs`. */
  readonly childEntry: string;
  /** Arguments for Node before the entry; none for a bundle. */
  readonly nodeArgs?: readonly string[];
  /** Child processes that share the work. Default 1. */
  readonly children?: number;
  /** Threads of one run of the network; more than 1 can change the last bits of its numbers. Default 1. */
  readonly threads?: number;
  readonly maxActive?: number;
  readonly maxQueued?: number;
  readonly maxModels?: number;
  readonly maxModelBytes?: number;
  readonly maxRssBytes?: number;
  readonly cacheBytes?: number;
  readonly prefillChunk?: number;
  readonly windowEvents?: number;
  readonly stalledReaderMs?: number;
  readonly startTimeoutMs?: number;
  readonly loadTimeoutMs?: number;
  readonly stepTimeoutMs?: number;
  readonly prepareTimeoutMs?: number;
  readonly silenceMs?: number;
  readonly maxStartFailures?: number;
  readonly closeDrainMs?: number;
};

export type Settings = Required<LocalEngineOptions>;

/** `options` with every default filled in. */
export function withDefaults(options: LocalEngineOptions): Settings {
  const loadTimeoutMs = options.loadTimeoutMs ?? limits.LOAD_TIMEOUT_MS;
  return {
    childEntry: options.childEntry,
    nodeArgs: options.nodeArgs ?? [],
    children: options.children ?? 1,
    threads: options.threads ?? 1,
    maxActive: options.maxActive ?? limits.MAX_ACTIVE,
    maxQueued: options.maxQueued ?? limits.MAX_QUEUED,
    maxModels: options.maxModels ?? limits.MAX_MODELS,
    maxModelBytes: options.maxModelBytes ?? limits.MAX_MODEL_BYTES,
    maxRssBytes: options.maxRssBytes ?? limits.MAX_RSS_BYTES,
    cacheBytes: options.cacheBytes ?? limits.CACHE_BYTES,
    prefillChunk: options.prefillChunk ?? limits.PREFILL_CHUNK,
    windowEvents: options.windowEvents ?? limits.WINDOW_EVENTS,
    stalledReaderMs: options.stalledReaderMs ?? limits.STALLED_READER_MS,
    startTimeoutMs: options.startTimeoutMs ?? limits.START_TIMEOUT_MS,
    loadTimeoutMs,
    stepTimeoutMs: options.stepTimeoutMs ?? limits.STEP_TIMEOUT_MS,
    prepareTimeoutMs: options.prepareTimeoutMs ?? limits.PREPARE_TIMEOUT_MS,
    // A child that loads a model cannot answer meanwhile.
    silenceMs: options.silenceMs ?? Math.max(limits.SILENCE_MS, 2 * loadTimeoutMs),
    maxStartFailures: options.maxStartFailures ?? limits.MAX_START_FAILURES,
    closeDrainMs: options.closeDrainMs ?? limits.CLOSE_DRAIN_MS,
  };
}
