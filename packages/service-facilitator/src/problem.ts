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
  chain_overloaded: 503,
  chain_timeout: 503,
  chain_rpc_error: 502,
  chain_answer_invalid: 502,
  chain_mismatch: 502,
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
  const sentence = known ? error.message : "Something unexpected went wrong here.";
  const status = known ? (STATUS[code] ?? 400) : 500;
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
      hints: known ? [...error.hints] : ["The facilitator's log has the details."],
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
