import type { JsonValue } from "@assay/core";
import type { Money, PaymentDocument } from "@assay/sdk";
import type { Style } from "./style.ts";
import { printable } from "./style.ts";

/** An amount for people: `0.002 USDC`. */
export function moneyText(money: Money | null): string {
  return money === null ? "not known yet" : `${money.amount} ${printable(money.symbol)}`;
}

/** What became of a payment, in two words. */
const STATES: Record<PaymentDocument["state"], string> = {
  taken: "under way",
  due: "to be settled",
  settling: "being settled",
  settled: "settled",
  failed: "tried again",
  dead: "given up",
};

/** The state of a payment with its mark: shape first. */
export function stateText(state: PaymentDocument["state"], style: Style): string {
  const mark = state === "settled" ? "pass" : state === "dead" ? "fail" : "inconclusive";
  return `${style.mark("other", mark)} ${STATES[state]}`;
}

/** What a reader of the SDK gave, as the JSON that it was read from. */
export function asJson(document: object): JsonValue {
  return document as unknown as JsonValue;
}
