import type { BesideUse, ListingSubject, MeteredUse } from "@assay/protocol";
import type { ServiceClaims } from "@assay/receipts";
import type { RecordedPayment } from "../recorder.ts";
import type { KeptForm } from "./answer.ts";
import { NOT_KEPT } from "./payable.ts";
import type { Paying, Payments } from "./payments.ts";
import { PAID_HEADERS, paymentExpired } from "./problem.ts";

/** A paid answer in one piece, charged: what its statement, its record and its head have of it. */
export type ChargedWhole = {
  readonly claims: Pick<ServiceClaims, "price" | "payment" | "promises">;
  readonly payment: RecordedPayment;
  /** For the record: the answer sealed, beside the opening. Absent when it is not kept. */
  readonly opening?: Uint8Array;
  /** All of the head but what follows from the record. */
  readonly headers: Readonly<Record<string, string>>;
};

/**
 * Charges an answer in one piece, and seals it for its payer when it may be kept and fits. Throws `payment_expired` for
 * one that took too long to be settled.
 */
export function chargeWhole(
  payments: Payments,
  paying: Paying,
  answer: {
    readonly receiptId: Uint8Array;
    readonly subject: ListingSubject;
    readonly used: MeteredUse;
    readonly besides?: readonly BesideUse[];
    /** What is kept of request and response anyway, sealed; empty for nothing. */
    readonly opening: Uint8Array;
    readonly form: Pick<KeptForm, "status" | "headers"> & { readonly body: () => Uint8Array };
    readonly keeps: boolean;
  },
): ChargedWhole {
  const { form } = answer;
  if (payments.nowMs() > paying.open.untilMs) throw paymentExpired();
  const charge = paying.charge(answer.subject, answer.used, answer.besides);
  const claims = { price: charge.price, payment: charge.payment };
  const payment = paying.recorded(charge);
  const headers = { ...form.headers, ...PAID_HEADERS, ...charge.headers };
  const kept = answer.keeps
    ? payments.keep(answer.receiptId, answer.opening, {
        status: form.status,
        headers,
        body: form.body(),
        individual: paying.open.settlement === "individual",
      })
    : undefined;
  if (!kept) return { claims, payment, headers: { ...headers, ...NOT_KEPT } };
  return {
    claims: { ...claims, promises: { answerKeptUntilMs: kept.untilMs } },
    payment,
    opening: kept.bytes,
    headers,
  };
}
