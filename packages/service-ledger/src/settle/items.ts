import { batchItem } from "@assay/driver-chain";
import type { BatchItem, DirectPayment } from "@assay/driver-chain";
import { AssayError } from "@assay/core";
import type { PaymentRow } from "./rows.ts";

/** What a row is settled by. Throws `instruction_invalid` for payments that are settled in another way. */
export function directPayment(row: PaymentRow): DirectPayment {
  const { payment } = row.instruction.payload;
  if (payment.kind === "eip3009" || payment.kind === "permit2" || payment.kind === "upto") return payment;
  throw new AssayError("instruction_invalid", `A payment by ${payment.kind} is not settled by the batcher.`);
}

/** Out of a row, what the batcher submits. Throws `instruction_invalid` for payments that are settled in another way. */
export function itemOf(row: PaymentRow): BatchItem {
  return batchItem(directPayment(row), {
    // Names the payment, and the batcher's event names it.
    receiptDigest: `0x${row.serviceDigest}`,
    token: row.asset,
    amountAtomic: row.amountAtomic,
  });
}
