import { AssayError, isAssayError } from "@assay/core";
import { retryAfterOf } from "@assay/protocol";
import type { JsonObject } from "./types.ts";

/** Status by code. What is not listed is the request's fault when it is ours (400), and a fault of this program otherwise. */
const STATUS: Readonly<Record<string, number>> = {
  token_required: 401,
  token_invalid: 401,
  payee_refused: 403,
  request_too_large: 413,
  content_type_unsupported: 415,
  facilitator_rate_limited: 429,
  facilitator_overloaded: 503,
  facilitator_closed: 503,
  facilitator_unreachable: 503,
  facilitator_outcome_unknown: 503,
  facilitator_answer_invalid: 502,
  facilitator_refused: 502,
  chain_unavailable: 503,
  chain_rewound: 503,
  chain_rpc_error: 502,
  chain_mismatch: 502,
  transaction_unfunded: 503,
  transaction_queue_full: 503,
  transaction_fee_above_limit: 503,
  sender_closed: 503,
};

export type Problem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: JsonObject;
};

/**
 * The answer to an error of `operation`: the usual document of a problem, and in it the fields in which a client of x402
 * looks for a reason. A cause never leaves the process: it may name an address with a key in it.
 */
export function problemOf(error: unknown, operation: "verify" | "settle" | "read", network = ""): Problem {
  const known = isAssayError(error);
  const code = known ? error.code : "internal_error";
  const status = known ? (STATUS[code] ?? 400) : 500;
  // A node's own words may name its provider, and are not for strangers.
  const inner = status >= 500 && /^(chain|transaction|sender)_/.test(code);
  const sentence = !known
    ? "Something unexpected went wrong here."
    : inner
      ? "The chain cannot be used for this at the moment."
      : error.message;
  const afterMs = retryAfterOf(error);
  const retry = status === 429 || status === 503 ? Math.max(1, Math.ceil((afterMs ?? 1000) / 1000)) : undefined;
  const reason = {
    verify: { isValid: false, invalidReason: code, invalidMessage: sentence },
    settle: { success: false, errorReason: code, errorMessage: sentence, transaction: "", network },
    read: {},
  }[operation];
  return {
    status,
    headers: {
      "cache-control": "no-store",
      ...(retry === undefined ? {} : { "retry-after": String(retry) }),
      ...(status === 401 ? { "www-authenticate": 'Bearer realm="facilitator"' } : {}),
    },
    body: {
      error: sentence,
      code,
      hints: known && !inner ? [...error.hints] : ["The facilitator's log has the details."],
      docs: `/errors/${code}.md`,
      ...reason,
    },
  };
}

export function tokenRequired(): AssayError<"token_required"> {
  return new AssayError("token_required", "This spends the facilitator's gas and needs a token.", {
    hints: ["Send the facilitator's token as `authorization: Bearer …`."],
  });
}
