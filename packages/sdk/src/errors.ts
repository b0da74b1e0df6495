import { AssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { TextVerdict } from "./text/verdict.ts";

/** Codes that this client itself gives; every other code of a {@link GatewayError} is the gateway's own. */
export type ClientErrorCode =
  /** No answer: the address is wrong, nothing listens there, or the connection broke. */
  | "gateway_unreachable"
  /** No answer within `timeoutMs`. */
  | "gateway_timeout"
  /** An answer that the protocol does not have. */
  | "response_malformed"
  /** An answer larger than anything the protocol has. */
  | "response_too_large"
  /** The signer cannot sign a challenge, or none was given where a token is needed. */
  | "signer_missing"
  /** The receipt of an answer did not verify under the trust that was given. */
  | "receipt_failed"
  /** Nothing was found wrong with the receipt of an answer, and something that must be checked could not be. */
  | "receipt_inconclusive"
  /** An answer came without a receipt: the server is no gateway, or something between took the headers away. */
  | "receipt_missing"
  /** Whoever was to keep the receipt of an answer did not. */
  | "receipt_not_kept"
  /** A stream ended before its end was announced. */
  | "stream_truncated"
  /** A request that the gateway would refuse for its size. */
  | "request_too_large"
  /** A request in a form that cannot be committed to. */
  | "request_unsupported"
  /** The caller left a stream and then asked for its end. */
  | "request_cancelled"
  /** An option that is not what it must be. */
  | "parameter_invalid"
  /** A call may cost more than the client may spend on one. */
  | "spend_exceeded"
  /** No way of paying that a 402 offers can be signed. */
  | "payment_unpayable"
  /** An answer says of its payment what was not signed. */
  | "payment_response_invalid"
  /** What a payer remembers cannot be read. */
  | "pay_state_invalid"
  /** A payer remembers as much as it can. */
  | "spend_ledger_full"
  /** The chain gives no usable answer. */
  | "chain_unavailable"
  /** The chain answered with an error. */
  | "chain_rpc_error"
  /** The address of the gateway is not one. */
  | "gateway_url_invalid"
  /** A name is not `namespace/name` or `namespace/name@version`. */
  | "model_name_invalid"
  /** A receipt id is not 32 hexadecimal digits. */
  | "receipt_id_invalid";

/** An error answer of the gateway, with its stable code, its hints and the HTTP status it came with. */
export class GatewayError extends AssayError {
  readonly status: number;
  /** Path and method that were asked, without query: it may hold a name, never a credential. */
  readonly request: string;
  /** How long the gateway asks to be left alone, milliseconds; 0 when it does not say. */
  readonly retryAfterMs: number;

  constructor(
    code: string,
    message: string,
    facts: { status: number; request: string; hints?: readonly string[]; retryAfterMs?: number },
  ) {
    super(code, message, { hints: facts.hints ?? [] });
    this.name = "GatewayError";
    this.status = facts.status;
    this.request = facts.request;
    this.retryAfterMs = facts.retryAfterMs ?? 0;
  }
}

/** An error of the client itself. */
export function clientError(
  code: ClientErrorCode,
  message: string,
  options: { readonly hints?: readonly string[]; readonly cause?: unknown } = {},
): AssayError<ClientErrorCode> {
  return new AssayError(code, message, options);
}

/** Codes of a {@link ReceiptError}. */
export type ReceiptErrorCode = "receipt_failed" | "receipt_inconclusive" | "receipt_missing" | "stream_truncated";

/** An answer that must not be used: its receipt does not hold, is missing, or the answer is not whole. */
export class ReceiptError extends AssayError<ReceiptErrorCode> {
  /** 32 hexadecimal digits, when the answer named one. */
  readonly receiptId: string | undefined;
  /** What verification found, when it came so far. */
  readonly verdict: TextVerdict | undefined;

  constructor(
    code: ReceiptErrorCode,
    message: string,
    facts: {
      readonly receiptId?: string | undefined;
      readonly verdict?: TextVerdict | undefined;
      readonly hints?: readonly string[];
    } = {},
  ) {
    super(code, message, { hints: facts.hints ?? [] });
    this.name = "ReceiptError";
    this.receiptId = facts.receiptId;
    this.verdict = facts.verdict;
  }
}

/** What an error body says. */
export type Problem = { readonly code: string; readonly message: string; readonly hints: readonly string[] };

const CODE = /^[a-z][a-z0-9_]{0,63}$/;

/**
 * The error body of the gateway in either of its forms: `{"error": text, "code", "hints"}` of its own interfaces, or
 * OpenAI's `{"error": {"message", "type", "param", "code"}}`. Undefined for anything else.
 */
export function readProblem(body: JsonValue | undefined): Problem | undefined {
  const whole = objectOf(body);
  const { error, hints } = whole;
  const inner = objectOf(error);
  const message = typeof error === "string" ? error : inner["message"];
  const code = typeof error === "string" ? whole["code"] : (inner["code"] ?? whole["code"]);
  if (typeof message !== "string" || typeof code !== "string" || !CODE.test(code)) return undefined;
  const texts = Array.isArray(hints) ? hints.filter((hint): hint is string => typeof hint === "string") : [];
  return { code, message, hints: texts };
}

function objectOf(value: JsonValue | undefined): { readonly [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as { readonly [key: string]: JsonValue })
    : {};
}
