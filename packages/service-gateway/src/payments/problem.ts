import { AssayError, isAssayError } from "@assay/core";
import type { PaymentProblem } from "@assay/protocol";

/** What a refusal before payment adds to an error's usual answer. */
export type PaymentAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Members of the body beside the error's own: the document that clients of x402 v1 read. */
  readonly body: Readonly<Record<string, unknown>>;
};

const answers = new WeakMap<AssayError, PaymentAnswer>();

/** Headers of answers that scripts of other origins have to read to pay and to see what they paid. */
export const EXPOSED_HEADERS = [
  "payment-required",
  "payment-response",
  "x-payment-response",
  "x-settlement-tx-hash",
  "x-settlement-walrus-blob-id",
  "retry-after",
  "assay-receipt-id",
  "assay-execution-digest",
  "assay-opening",
  "assay-grant",
  "assay-node",
  "assay-log-index",
  "assay-replayed",
  "assay-answer-kept",
  "assay-retention",
  "x-request-id",
].join(", ");

/** Headers of every answer that was paid for: it is its payer's alone, and scripts of other origins may read its facts. */
export const PAID_HEADERS = {
  "cache-control": "private, no-store",
  "access-control-expose-headers": EXPOSED_HEADERS,
} as const;

/**
 * A desk's refusal as an error; whoever answers it finds status, headers and body with {@link paymentAnswerOf}. `body` are
 * the members that clients of x402 v1 read, and `receiptId` the receipt that the payment was for.
 */
export function paymentRefused(
  { status, code, message, headers }: Omit<PaymentProblem, "required">,
  more: { readonly body?: PaymentAnswer["body"]; readonly receiptId?: string } = {},
): AssayError {
  const { body = {}, receiptId } = more;
  const error = new AssayError(code, message, {
    hints: receiptId === undefined ? [] : [`Its receipt is ${receiptId}.`],
  });
  answers.set(error, {
    status,
    headers: { ...headers, "cache-control": "no-store", "access-control-expose-headers": EXPOSED_HEADERS },
    body,
  });
  return error;
}

/** Work that took longer than what was signed for it is good for: it is given up, because nobody could settle it. */
export function paymentExpired(): AssayError {
  return new AssayError("payment_expired", "The work was not done before the payment's signature ends.", {
    hints: ["Sign a payment that is good for longer, ask for less, or read a stream faster."],
  });
}

/** What {@link paymentRefused} put on an error; undefined for every other. */
export function paymentAnswerOf(error: unknown): PaymentAnswer | undefined {
  return isAssayError(error) ? answers.get(error) : undefined;
}
