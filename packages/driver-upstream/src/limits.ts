/** Largest event of a stream, bytes: images come as base64 inside one. */
export const MAX_EVENT_BYTES = 8 * 1024 * 1024;
/** Largest answer, bytes after decompression, streamed or not: what a gateway lets one request bring in. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** Largest error document that is read; only a sentence of it is passed on. */
export const MAX_ERROR_BYTES = 64 * 1024;
/** Largest list of models, bytes: the longest known ones are under one megabyte. */
export const MAX_MODELS_BYTES = 8 * 1024 * 1024;
/** Models of one upstream that are listed. */
export const MAX_MODELS = 4096;
/** Bytes of an answer that wait for a slow reader before the upstream's socket is paused. */
export const HIGH_WATER_BYTES = 64 * 1024;
/** Deepest nesting of a document from an upstream: schemas that a model echoes are far below. */
export const MAX_DEPTH = 64;
/** Longest passage of an upstream's error that is passed on, characters. */
export const MAX_MESSAGE = 500;
/** Longest fact that goes into a receipt, characters. */
export const MAX_FACT = 256;
/** Tokens that one answer may claim; the largest contexts are a few millions. */
export const MAX_TOKENS_REPORTED = 100_000_000;
/** Tokens beyond the asked-for limit that a report may name: markers of ends and turns are counted by some servers. */
export const USAGE_SLACK_TOKENS = 64;
/** What a text is taken to hold when its tokens were not counted, characters of one token. */
export const CHARACTERS_PER_TOKEN = 4;
/** Pieces of one answer, such as tool calls and images: far above honest use. */
export const MAX_PIECES = 256;

/** What an upstream may cost in time and room. All times in milliseconds. */
export type UpstreamLimits = {
  /** Requests at once; the next is refused with `engine_overloaded`. */
  readonly maxRunning: number;
  /** For a connection, TLS included. */
  readonly connectTimeoutMs: number;
  /** For the first byte of a streamed answer, connecting included. */
  readonly firstByteTimeoutMs: number;
  /** Between two pieces of an answer. */
  readonly idleTimeoutMs: number;
  /** For the whole answer. */
  readonly totalTimeoutMs: number;
  /** For the list of models. */
  readonly modelsTimeoutMs: number;
  /** How long a list of models is believed. */
  readonly modelsTtlMs: number;
};

/** Models that think first are silent for a minute or two; ten minutes is what providers' own clients allow. */
export const DEFAULT_UPSTREAM_LIMITS: UpstreamLimits = {
  maxRunning: 1024,
  connectTimeoutMs: 10_000,
  firstByteTimeoutMs: 120_000,
  idleTimeoutMs: 120_000,
  totalTimeoutMs: 600_000,
  modelsTimeoutMs: 10_000,
  modelsTtlMs: 300_000,
};
