import { AssayError } from "@assay/core";

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
