import { setTimeout as delay } from "node:timers/promises";
import { AssayError } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import type { Transport } from "../rpc/transport.ts";
import { receiptFrom } from "../rpc/types.ts";
import { hash, toHex, toQuantity } from "../rpc/values.ts";

/** A development node mines at once; one that took this long has stopped mining. */
const MINED_WITHIN_MS = 20_000;

/**
 * Sends a transaction from an account without its key, which a development node allows, and waits until it is mined. The
 * node numbers it, so it cannot collide with another of the same account. Throws `chain_deployment_failed` when it reverts.
 */
export async function sendAs(
  rpc: Transport,
  transaction: { readonly from: Address; readonly to: Address; readonly data: Uint8Array; readonly value?: bigint },
): Promise<void> {
  await rpc.request("anvil_impersonateAccount", [transaction.from]);
  let sent: Hex;
  try {
    sent = hash(
      await rpc.request("eth_sendTransaction", [
        {
          from: transaction.from,
          to: transaction.to,
          data: toHex(transaction.data),
          value: toQuantity(transaction.value ?? 0n),
        },
      ]),
      "the transaction's hash",
    );
  } finally {
    await rpc.request("anvil_stopImpersonatingAccount", [transaction.from]);
  }
  const deadline = Date.now() + MINED_WITHIN_MS;
  for (;;) {
    const answer = await rpc.request("eth_getTransactionReceipt", [sent]);
    if (answer !== null) {
      if (receiptFrom(answer).ok) return;
      throw new AssayError("chain_deployment_failed", "A transaction to set up the embedded chain reverted.", {
        hints: [`It is ${sent}.`],
      });
    }
    if (Date.now() > deadline)
      throw new AssayError("chain_deployment_failed", "A transaction to set up the embedded chain was not mined.", {
        hints: [`It is ${sent}.`],
      });
    await delay(5);
  }
}
