import { TEXT_LIMITS } from "@assay/protocol";

/** Limits of the proxy. It serves one machine, so they are far below a gateway's. */
export const PROXY_DEFAULTS = {
  /** The port beside the gateway's own. */
  port: 8403,
  /** Largest body, bytes: what the gateway takes. */
  maxBodyBytes: TEXT_LIMITS.maxBodyBytes,
  /** Requests to models under way at most: each may hold its body and its whole answer, 60 MiB at the worst. */
  maxConcurrent: 32,
  /** How long a request may take to arrive, milliseconds; 32 MiB over a loopback is a second. */
  requestTimeoutMs: 60_000,
  /** How long an answer may stand still, milliseconds: a long prompt on a slow machine. */
  answerTimeoutMs: 600_000,
  /** How long a client may leave a full connection unread, milliseconds. */
  stallMs: 30_000,
  /** How long requests under way may take when the proxy is closed, milliseconds. */
  drainMs: 10_000,
} as const;

/** Largest list of models that is passed on, bytes. */
export const MAX_LIST_BYTES = 16 * 1024 * 1024;
/** How long the gateway may take to say that it is ready, milliseconds. */
export const READY_TIMEOUT_MS = 2_000;
