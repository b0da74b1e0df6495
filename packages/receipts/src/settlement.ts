import { equalBytes } from "@assay/core";
import type { OpenMap } from "./table.ts";
import type { CheckOutcome } from "./verdict.ts";
import type { ReceiptView } from "./view.ts";

/** What a settlement's body states again of the payment that the service statement names. */
const CLAIMED = ["paymentId", "payer", "network", "asset", "amountAtomic", "payTo", "scheme"] as const;

/** The supplements of kind `settlement` whose bodies are of the form of docs/spec/receipt.md section 8.1. */
function settlements(view: ReceiptView): readonly { readonly refersTo: Uint8Array; readonly body: OpenMap }[] {
  return view.supplements.flatMap(({ claims }) =>
    claims.kind === "settlement" && "paymentId" in claims.body ? [claims] : [],
  );
}

/** Whether a receipt says anything of a payment. */
export function statesPayment(view: ReceiptView): boolean {
  return view.service?.claims.payment !== undefined || settlements(view).length > 0;
}

/**
 * What the settlements of a receipt contradict (docs/spec/receipt.md section 8.1), with the code `settlement_mismatch`;
 * undefined when each is of the payment that the service statement names. No chain is needed to see it.
 */
export function settlementFault(view: ReceiptView): CheckOutcome | undefined {
  const { service } = view;
  const claim = service?.claims.payment;
  for (const { refersTo, body } of settlements(view)) {
    if (!service || !claim) return mismatch("The bundle states the settlement of a payment that nothing names.");
    if (!equalBytes(refersTo, service.statement.digest))
      return mismatch("A settlement refers to another statement than the one that names the payment.");
    for (const name of CLAIMED) {
      const stated = body[name];
      const claimed = claim[name];
      if (typeof stated !== "string") return mismatch(`A settlement does not state its ${name}.`);
      if (claimed !== undefined && stated.toLowerCase() !== claimed.toLowerCase())
        return mismatch(`A settlement states another ${name} than the service statement.`, { claimed, stated });
    }
    const { transaction, blockNumber, contract } = body;
    if (
      !isText(transaction, /^0x[0-9a-f]{64}$/) ||
      !isText(blockNumber, /^(?:0|[1-9][0-9]{0,15})$/) ||
      !isText(contract, /^0x[0-9a-f]{40}$/i)
    )
      return mismatch("A settlement names no transaction, block or contract.");
  }
  return undefined;
}

/** The transaction that a receipt's settlement names, `0x` and 64 hex digits; the last counts. Call after {@link settlementFault}. */
export function settledIn(view: ReceiptView): string | undefined {
  const transaction = settlements(view).at(-1)?.body["transaction"];
  return typeof transaction === "string" ? transaction : undefined;
}

function isText(value: unknown, form: RegExp): boolean {
  return typeof value === "string" && form.test(value);
}

function mismatch(message: string, facts: Readonly<Record<string, string>> = {}): CheckOutcome {
  return { status: "fail", code: "settlement_mismatch", message, facts };
}
