import type { ServerResponse } from "node:http";
import { AssayError, isAssayError } from "@assay/core";
import { retryAfterOf } from "@assay/protocol";
import { HTTPException } from "hono/http-exception";
import { paymentAnswerOf } from "./payments/problem.ts";

/** Status by code; a code that is not listed is the caller's fault (400) if it names their input, else 500. */
const STATUS: Readonly<Record<string, number>> = {
  model_not_found: 404,
  version_not_found: 404,
  receipt_not_found: 404,
  keyset_not_found: 404,
  blob_missing: 404,
  file_not_found: 404,
  route_not_found: 404,
  not_logged_yet: 409,
  air_requires_tee: 409,
  model_deprecated: 409,
  release_elsewhere: 409,
  prices_elsewhere: 409,
  proof_elsewhere: 409,
  token_invalid: 401,
  node_session_unknown: 401,
  log_peer_required: 403,
  log_record_refused: 403,
  node_pending: 403,
  node_ejected: 403,
  invite_invalid: 403,
  node_not_found: 404,
  node_keyset_stale: 409,
  node_statement_logged: 409,
  node_statement_pending: 409,
  node_failed: 502,
  node_answer_invalid: 502,
  node_statement_invalid: 502,
  node_lost: 503,
  node_overloaded: 503,
  node_draining: 503,
  nodes_full: 503,
  outbox_full: 503,
  signer_overloaded: 503,
  log_unreachable: 503,
  token_required: 401,
  receipt_not_yours: 403,
  model_not_owned: 403,
  namespace_not_yours: 403,
  challenge_invalid: 401,
  request_too_large: 413,
  blob_too_large: 413,
  model_too_large: 413,
  tensor_too_large: 413,
  opening_too_large: 413,
  request_aborted: 499,
  request_cancelled: 499,
  receipts_overloaded: 503,
  runtime_overloaded: 503,
  runtime_unavailable: 503,
  gateway_overloaded: 503,
  caller_overloaded: 429,
  clock_changed: 503,
  gateway_draining: 503,
  runtime_closed: 503,
  database_unavailable: 503,
  database_overloaded: 503,
  database_timeout: 503,
  database_read_only: 503,
  log_checkpoint_late: 503,
  model_digest_mismatch: 500,
  log_tile_missing: 500,
  blob_store_unsafe: 500,
  log_full: 507,
  storage_full: 507,
  log_read_only: 503,
  storage_read_only: 503,
  log_fenced: 503,
  log_failed: 503,
  log_overloaded: 503,
  log_closed: 503,
  index_fenced: 503,
  model_timeout: 504,
  model_aborted: 502,
  model_out_of_memory: 502,
  model_failed: 502,
  content_type_unsupported: 415,
  method_not_allowed: 405,
  engine_overloaded: 429,
  engine_unavailable: 503,
  engine_interrupted: 502,
  upstream_rate_limited: 429,
  // The upstream's key is the operator's, not the caller's.
  upstream_unauthorized: 502,
  upstream_failed: 502,
  upstream_unreachable: 502,
  upstream_malformed: 502,
  upstream_timeout: 504,
  engine_misbehaved: 502,
  no_route: 422,
  assurance_unavailable: 422,
  nodes_unavailable: 503,
  operator_required: 403,
  contract_not_found: 404,
  upstream_not_found: 404,
  upstream_exists: 409,
  upstream_key_unreadable: 500,
  route_document_invalid: 500,
  candidates_too_many: 500,
  database_error: 500,
  keyset_invalid: 500,
  claims_invalid: 500,
  statement_invalid: 500,
  entry_invalid: 500,
  log_entry_too_large: 500,
  log_range: 500,
  record_invalid: 500,
  log_corrupt: 500,
  blob_corrupt: 500,
  issuer_key_missing: 500,
  keyset_expired: 500,
  opening_unreadable: 500,
  payment_required: 402,
  invalid_payment_signature: 402,
  eip2612_nonce_mismatch: 402,
  payer_denied: 402,
  payment_bound: 409,
  payment_in_flight: 409,
  idempotency_conflict: 409,
  payment_unavailable: 503,
  payments_overloaded: 503,
  payments_starting: 503,
  payer_unsettled_limit: 503,
  sponsored_payment_pending: 503,
  instruction_invalid: 500,
  listings_document_invalid: 500,
  listings_full: 409,
  chain_mismatch: 503,
  anchor_diverged: 503,
  anchor_unavailable: 503,
  channel_overloaded: 503,
  channel_unknown: 404,
  refund_failed: 503,
  settler_running: 503,
  development_key_refused: 403,
  chain_unavailable: 503,
  listing_not_found: 404,
  payment_not_found: 404,
  batch_not_found: 404,
  payment_not_retryable: 409,
  chain_not_development: 409,
  settler_gone: 503,
  chain_rpc_error: 502,
  answer_not_kept: 409,
};
/** Seconds after which a refused caller may try again, when the error names no time itself. */
const RETRY_AFTER: Readonly<Record<number, string>> = { 429: "1", 503: "1", 507: "30" };

export type HttpProblem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Members of the body beside the error's own. */
  readonly more?: Readonly<Record<string, unknown>>;
  readonly body: {
    readonly error: string;
    readonly code: string;
    readonly hints: readonly string[];
    readonly docs: string;
  };
};

/** The answer to an error. A cause never leaves the process; what is not ours becomes `internal_error`. */
export function problemOf(error: unknown): HttpProblem {
  if (error instanceof HTTPException && error.status < 500) {
    // The framework refuses what it cannot parse; its own body is plain text.
    return problemOf(
      new AssayError(
        "request_malformed",
        `The request cannot be read: ${error.message || "its body is not what its type says"}.`,
        {
          hints: ["See /openapi.json for its schema."],
        },
      ),
    );
  }
  if (!isAssayError(error)) {
    return {
      status: 500,
      headers: {},
      body: {
        error: "Something unexpected went wrong here.",
        code: "internal_error",
        hints: ["The gateway's log has the details under this request's id."],
        docs: "/errors/internal_error.md",
      },
    };
  }
  const body = { error: error.message, code: error.code, hints: error.hints, docs: error.docsPath };
  const payment = paymentAnswerOf(error);
  if (payment) return { status: payment.status, headers: payment.headers, body, more: payment.body };
  const status = STATUS[error.code] ?? 400;
  const afterMs = RETRY_AFTER[status] === undefined ? undefined : retryAfterOf(error);
  const retry = afterMs === undefined ? RETRY_AFTER[status] : String(Math.max(1, Math.ceil(afterMs / 1000)));
  return {
    status,
    headers: retry === undefined ? {} : { "retry-after": retry },
    body,
  };
}

/** Writes a problem on a raw response that has not begun. */
export function sendProblem(response: ServerResponse, error: unknown, requestId: string): HttpProblem {
  const problem = problemOf(error);
  if (!response.headersSent) {
    response.writeHead(problem.status, {
      ...problem.headers,
      "content-type": "application/json",
      "x-request-id": requestId,
    });
    response.end(JSON.stringify({ ...problem.more, ...problem.body }));
  } else response.destroy();
  return problem;
}

/** Refusals that say when to come again, and nothing of a fault here: a restart under load would fill the log with them. */
const COME_AGAIN: ReadonlySet<string> = new Set(["payments_starting", "payer_unsettled_limit"]);

/** Whether a problem is a failure of this gateway, to be logged as an error. */
export function isFailure({
  status,
  body,
}: {
  readonly status: number;
  readonly body: { readonly code: string };
}): boolean {
  return status >= 500 && !COME_AGAIN.has(body.code);
}
