import type { CryptoSuite } from "@assay/core";
import { viewReceipt } from "@assay/receipts";
import type { ServiceClaims, Verdict } from "@assay/receipts";
import type { CallPayment } from "./payer.ts";

/** What a receipt says of its payment that is not so. */
export type PaymentFault = { readonly message: string; readonly facts: Readonly<Record<string, string>> };

/**
 * What is wrong with a receipt's account of a payment, in the eyes of who signed it: it must name this payer, this payment,
 * this asset and payee, and the amount that the answer named; at most what was signed. Undefined when all of it is so.
 */
export function paymentFault(
  claims: Pick<ServiceClaims, "payment" | "price"> | undefined,
  payment: CallPayment,
): PaymentFault | undefined {
  const stated = claims?.payment;
  const fault = (what: string, signed: string, found: string): PaymentFault => ({
    message: `The receipt's payment is not the one that was signed: ${what}.`,
    facts: { signed, found },
  });
  if (!stated) return fault("it names none", payment.paymentId, "none");
  const { asset, charged } = payment;
  if (!isAccount(stated.payer, payment.payer)) return fault("it has another payer", payment.payer, stated.payer);
  if (stated.paymentId.toLowerCase() !== payment.paymentId)
    return fault("it has another id", payment.paymentId, stated.paymentId);
  if (stated.scheme !== payment.scheme) return fault("it is by another scheme", payment.scheme, stated.scheme);
  if (stated.network !== payment.network) return fault("it is on another network", payment.network, stated.network);
  if (stated.asset !== asset.symbol && !isAccount(stated.asset, asset.address))
    return fault("it is in another asset", asset.address, stated.asset);
  if (stated.payTo !== undefined && !isAccount(stated.payTo, payment.payTo))
    return fault("it pays somebody else", payment.payTo, stated.payTo);
  const amount = /^\d{1,78}$/.test(stated.amountAtomic) ? BigInt(stated.amountAtomic) : undefined;
  if (amount === undefined || amount > payment.capAtomic)
    return fault("it is of more than was signed", String(payment.capAtomic), stated.amountAtomic);
  if (charged && amount !== charged.amountAtomic)
    return fault("it is of another amount than the answer said", String(charged.amountAtomic), stated.amountAtomic);
  if (!claims.price) return fault("it names no price", "a price", "none");
  return undefined;
}

/** Whether a text is an address, alone or behind the names of its chain (CAIP-10, CAIP-19). */
function isAccount(text: string, address: string): boolean {
  const lower = text.toLowerCase();
  return lower === address || lower.endsWith(`:${address}`);
}

/** The verdict on a receipt in the light of the payment that its caller signed: `payment_mismatch` when it names another. */
export function judgePayment<Judged extends Verdict>(
  suite: Pick<CryptoSuite, "sha256">,
  verdict: Judged,
  bundle: Uint8Array,
  payment: CallPayment | undefined,
): Judged {
  if (!payment || verdict.status === "failed") return verdict;
  const taken = viewReceipt(suite, bundle);
  const fault = "fault" in taken ? undefined : paymentFault(taken.view.service?.claims, payment);
  if (!fault) return verdict;
  const code = "payment_mismatch";
  return {
    ...verdict,
    status: "failed",
    code,
    checks: verdict.checks.map((row) =>
      row.check === "payment" ? { check: row.check, status: "fail", code, ...fault } : row,
    ),
    answers: {
      ...verdict.answers,
      couldBeAltered: `It may be a genuine receipt, and not one of this payment: ${fault.message}`,
    },
  };
}
