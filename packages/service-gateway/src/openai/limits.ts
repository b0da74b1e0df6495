/** Limits of the text API. Each is an option of {@link TextOptions}, so that a test can cross it. */
export const TEXT_DEFAULTS = {
  /** Requests under way at most. A stream costs some tens of kilobytes here; engines have limits of their own. */
  maxConcurrent: 4096,
  /** Bytes of bodies in memory together: 4,096 bodies of the largest size would be 128 GiB. */
  maxBodiesBytes: 1024 * 1024 * 1024,
  /** How long a client may leave a full connection unread, milliseconds; a phone changing cells comes back sooner. */
  stallMs: 30_000,
  /** Candidates tried for one request before its caller hears of the failure. */
  maxTries: 3,
} as const;

export type TextOptions = {
  readonly maxConcurrent?: number;
  readonly maxBodiesBytes?: number;
  readonly stallMs?: number;
  readonly maxTries?: number;
};
