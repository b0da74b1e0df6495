import { deploymentOf, movedAsAuthorized } from "@assay/driver-chain";
import type { TxReceipt } from "@assay/driver-chain";
import { toHex } from "@assay/x402";
import { hasTransfer } from "./events.ts";
import type { Plan, ServedChain } from "./plan.ts";
import type { ParsedRequest } from "./request.ts";

/** What is to be known of a settlement for sending it with others. */
type ToGroup = { readonly served: ServedChain; readonly request: ParsedRequest; readonly plan: Plan };
/** With the gas that it may use by itself. */
type Grouped = { readonly asked: ToGroup; readonly gas: bigint };

/**
 * Whether a payment may be sent with others: a fixed one whose account is there. `upto` may not: its proxy takes it from the
 * account alone that the payer named, and what sends a group is a contract that anybody can use.
 */
export function isGroupable({ request, plan }: ToGroup): boolean {
  if (request.kind !== "payment" || !plan.call) return false;
  const { payment } = request.document;
  if (payment.kind !== "eip3009" && payment.kind !== "permit2") return false;
  return deploymentOf(payment) === undefined;
}

/** Whether the payer's account has code. */
export async function hasCode({ served, plan }: ToGroup): Promise<boolean> {
  if (plan.payer === undefined) return true;
  const { results } = await served.chain.read([{ kind: "code", address: plan.payer }]);
  return results[0]?.words[0] !== 0n;
}

/**
 * Whether a payment fits into a group. Two alike could not be told apart by what moved, so they go one after the other; and
 * `maxGas` is for all of them.
 */
export function fits(group: readonly Grouped[], member: Grouped, maxGas: bigint): boolean {
  const alike = ({ asked }: Grouped): string => {
    const { token, from, to, value } = transferOf(asked) ?? {};
    return [token, from, to, value].join(" ");
  };
  const gas = group.reduce((sum, one) => sum + one.gas, member.gas);
  return gas <= maxGas && group.every((one) => alike(one) !== alike(member));
}

/** What a fixed payment moves. */
function transferOf({ request }: ToGroup) {
  if (request.kind !== "payment") return undefined;
  const { payment } = request.document;
  const token = request.requirement.asset;
  if (payment.kind === "eip3009") {
    const { from, to, value } = payment.authorization;
    return { token, from, to, value };
  }
  if (payment.kind !== "permit2") return undefined;
  return { token, from: payment.permit.from, to: payment.witness.to, value: payment.permit.amount };
}

/** Whether a group's transaction moved a payment of it. */
export function didMove(asked: ToGroup, { ok, logs }: TxReceipt): boolean {
  const transfer = transferOf(asked);
  const { request } = asked;
  if (!ok || !transfer || request.kind !== "payment") return false;
  const { payment } = request.document;
  return payment.kind === "eip3009"
    ? movedAsAuthorized(logs, { ...transfer, nonce: toHex(payment.authorization.nonce) })
    : hasTransfer(logs, transfer);
}
