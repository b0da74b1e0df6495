import { isAssayError } from "@assay/core";
import type { PaymentHeaders } from "@assay/protocol";
import { parsePaymentHeader } from "@assay/x402";
import type { EvmSuite, PaymentPayload, PaymentRequired } from "@assay/x402";
import type { SettlementMode } from "../instruction.ts";
import { MAX_KEY_LENGTH } from "./limits.ts";
import { refused, unpaid } from "./problem.ts";
import type { Refused } from "./problem.ts";

/** What a request's headers say about its payment. */
export type PaymentRequest = {
  readonly kind: "request";
  readonly payload: PaymentPayload;
  readonly key: string | undefined;
  readonly settlement: SettlementMode;
};

const SETTLEMENTS = ["private", "batch", "individual"] as const;
const KEY = new RegExp(`^[\\x21-\\x7e]{1,${MAX_KEY_LENGTH}}$`);
/** What another way of paying may mend is asked for again; what cannot be read is the sender's fault. */
const PAYABLE = new Set(["payment_scheme_unsupported", "payment_network_unsupported"]);

/** Reads a request's payment, or says why there is none. */
export function readRequest(
  suite: EvmSuite,
  headers: PaymentHeaders,
  required: (error: string) => PaymentRequired,
): PaymentRequest | Refused {
  const text = headers["payment-signature"] ?? headers["x-payment"];
  const name = headers["payment-signature"] === undefined ? "x-payment" : "payment-signature";
  if (text === undefined)
    return unpaid(suite, "payment_required", "This has a price: pay it by x402.", required("payment_required"));
  let payload: PaymentPayload;
  try {
    payload = parsePaymentHeader(name, text);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return PAYABLE.has(error.code)
      ? unpaid(suite, error.code, error.message, required(error.code))
      : refused(400, error.code, error.message);
  }
  const key = keyOf(headers["idempotency-key"], payload.identifier);
  if (key === null)
    return refused(
      400,
      "header_invalid",
      `An idempotency key has 1 to ${MAX_KEY_LENGTH} visible ASCII characters, and a payment's identifier is the same.`,
    );
  const mode = (headers["x-settlement-type"] ?? "batch").toLowerCase();
  const settlement = SETTLEMENTS.find((known) => known === mode);
  if (settlement === undefined)
    return refused(400, "header_invalid", "The header x-settlement-type is private, batch or individual.");
  return { kind: "request", payload, key, settlement };
}

/** Null for a key that is none, or for two that differ. */
function keyOf(header: string | undefined, identifier: string | undefined): string | undefined | null {
  if (header === undefined) return identifier;
  if (!KEY.test(header) || (identifier !== undefined && identifier !== header)) return null;
  return header;
}
