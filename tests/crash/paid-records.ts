// What a log says was paid, read from its signed statements and from nothing that was derived from them.
import type { LogSink } from "@assay/protocol";
import type { CryptoSuite } from "@assay/core";
import { decodeClaims, decodeEntry, parseStatement } from "@assay/receipts";
import { decodeSidecar } from "@assay/service-gateway";

/** The payment that a service statement names. */
export type PaidRecord = {
  readonly logIndex: number;
  readonly receiptId: string;
  readonly paymentId: string;
  readonly payer: string;
  readonly scheme: "exact" | "upto" | "batch-settlement";
  readonly amountAtomic: string;
};

const AT_ONCE = 1000;

/** Payments that the service statements of a whole log name, in its order. */
export async function paidRecords(
  suite: Pick<CryptoSuite, "sha256">,
  log: Pick<LogSink, "size" | "readRange">,
): Promise<readonly PaidRecord[]> {
  const paid: PaidRecord[] = [];
  const size = log.size();
  for (let from = 0; from < size;) {
    const records = await log.readRange(from, AT_ONCE);
    if (records.length === 0) throw new Error(`The log gives nothing from ${from} on.`);
    for (const record of records) {
      const statements = decodeEntry(record.entry).map((envelope) => parseStatement(suite, envelope));
      for (const [i, { header }] of statements.entries()) {
        if (header.kind !== "service") continue;
        const claims = decodeSidecar(record.claims).claims[i];
        const payment = claims && decodeClaims("service", claims).payment;
        if (!payment) continue;
        const { paymentId, payer, scheme, amountAtomic } = payment as Record<string, string>;
        paid.push({
          logIndex: record.index,
          receiptId: header.subject.slice(-32),
          paymentId: paymentId ?? "",
          payer: payer ?? "",
          scheme: scheme as PaidRecord["scheme"],
          amountAtomic: amountAtomic ?? "",
        });
      }
    }
    from += records.length;
  }
  return paid;
}
