import { paymentBatcher } from "@assay/contracts";
import { toHex } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { decodeEventLog, encodeFunctionData, toHex as numberToHex } from "viem";
import type { TxReceipt } from "../rpc/types.ts";
import type { Call } from "./call.ts";
import { permit2612Data, unwrapSignature } from "./payments.ts";
import type { DirectPayment } from "./payments.ts";

/** The batcher's kinds, in the order of its enumeration. */
const KIND = { eip3009: 0, permit2: 1, upto: 2 } as const;

/** A payment as `PaymentBatcher.settle` takes it. */
export type BatchItem = {
  readonly kind: number;
  /** Names what is paid for in the batcher's event: the digest of a service statement, or zeros. */
  readonly receiptDigest: Hex;
  readonly token: Address;
  readonly payer: Address;
  readonly payTo: Address;
  readonly amount: bigint;
  readonly permitted: bigint;
  readonly validAfter: bigint;
  readonly deadline: bigint;
  readonly nonce: Hex;
  readonly signature: Hex;
  readonly permit2612: Hex;
};

/** A payment as the batcher takes it. `amountAtomic` is what `upto` takes; the others move what was signed. */
export function batchItem(
  payment: DirectPayment,
  of: { readonly receiptDigest: Hex; readonly token: Address; readonly amountAtomic: bigint },
): BatchItem {
  const { receiptDigest, token } = of;
  const signature = toHex(unwrapSignature(payment.signature).signature);
  if (payment.kind === "eip3009") {
    const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
    return {
      kind: KIND.eip3009,
      receiptDigest,
      token,
      payer: from,
      payTo: to,
      amount: value,
      permitted: 0n,
      validAfter,
      deadline: validBefore,
      nonce: toHex(nonce),
      signature,
      permit2612: "0x",
    };
  }
  const { permit, witness, sponsored } = payment;
  return {
    kind: KIND[payment.kind],
    receiptDigest,
    token,
    payer: permit.from,
    payTo: witness.to,
    amount: payment.kind === "upto" ? of.amountAtomic : permit.amount,
    permitted: permit.amount,
    validAfter: witness.validAfter,
    deadline: permit.deadline,
    nonce: numberToHex(permit.nonce, { size: 32 }),
    signature,
    permit2612: sponsored ? permit2612Data(sponsored) : "0x",
  };
}

/** `settle` of a batcher: every payment on its own, in one transaction. Its answer is how many moved. */
export function batchCall(batcher: Address, items: readonly BatchItem[]): Call {
  return { to: batcher, data: encodeFunctionData({ abi: paymentBatcher.abi, functionName: "settle", args: [items] }) };
}

/** What a transaction of the batcher did with one payment; `reason` is what that one reverted with. */
export type BatchResult = { readonly ok: boolean; readonly reason: Hex };

/** What the batcher says of payments in a receipt's logs, by payment id. Other contracts' logs are not read. */
export function batchResults(
  logs: readonly (Pick<TxReceipt["logs"][number], "address" | "topics"> & { readonly data: Uint8Array | Hex })[],
  batcher: Address,
): ReadonlyMap<Hex, BatchResult> {
  const results = new Map<Hex, BatchResult>();
  for (const { address, topics, data } of logs) {
    const [signature, ...indexed] = topics;
    if (address !== batcher || signature === undefined) continue;
    try {
      const { eventName, args } = decodeEventLog({
        abi: paymentBatcher.abi,
        data: typeof data === "string" ? data : toHex(data),
        topics: [signature, ...indexed],
      });
      if (eventName === "PaymentSettled") results.set(args.paymentId, { ok: args.ok, reason: args.reason });
    } catch {
      // A log of the batcher that is no event of ours says nothing about payments.
    }
  }
  return results;
}
