import type { PaymentProblem } from "@assay/protocol";
import { encodePaymentRequired } from "@assay/x402";
import type { EvmSuite, PaymentRequired } from "@assay/x402";

/** The answer of a desk that does not take a payment. */
export type Refused = { readonly kind: "problem"; readonly problem: PaymentProblem };

/** A refusal that another payment, or the same one later, may not meet. */
export function refused(
  status: PaymentProblem["status"],
  code: string,
  message: string,
  retryAfterS?: number,
): Refused {
  const headers = retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) };
  return { kind: "problem", problem: { status, code, message, headers } };
}

/** A 402: what to pay, and why what came was not enough. `required.error` is the code, which clients act on. */
export function unpaid(suite: EvmSuite, code: string, message: string, required: PaymentRequired): Refused {
  return {
    kind: "problem",
    problem: {
      status: 402,
      code,
      message,
      headers: { "payment-required": encodePaymentRequired(suite, required) },
      required,
    },
  };
}
