import { createHash, randomBytes } from "node:crypto";
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import { authorizeExact, noncePaymentId } from "@assay/x402";
import type { Address, EvmSigner, Hex, PaymentRequirements } from "@assay/x402";
import { encodeInstruction } from "../../instruction.ts";

const suite = nativeEvmSuite();
let nextIndex = 0;

export function account(): EvmSigner {
  return evmSigner(new Uint8Array(randomBytes(32)));
}

/** A payment that is due, on a chain that nobody asks. */
export async function chargeUnsettled(
  database: Database,
  signer: EvmSigner,
  { asset, amount, nowMs }: { readonly asset: Address; readonly amount: bigint; readonly nowMs: number },
): Promise<Hex> {
  const requirement: PaymentRequirements = {
    scheme: "exact",
    network: "eip155:31337",
    amount: amount.toString(),
    asset,
    payTo: `0x${"99".repeat(20)}`,
    maxTimeoutSeconds: 900,
    extra: { name: "USDC", version: "2" },
  };
  const nonce = new Uint8Array(randomBytes(32));
  const nowS = Math.floor(nowMs / 1000);
  const payload = await authorizeExact({ suite, signer, requirement, nonce, nowS });
  const id = noncePaymentId(suite, 31337, asset, signer.address, nonce);
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const digest = (tag: string): string => createHash("sha256").update(tag).update(id).digest("hex");
  const fingerprint = new Uint8Array(createHash("sha256").update(id).digest());
  const deadlineS = nowS + 900;
  const instruction = encodeInstruction({
    paymentId: `0x${hex(id)}`,
    payer: signer.address,
    scheme: "exact",
    network: "eip155:31337",
    asset,
    amountAtomic: amount,
    capAtomic: amount,
    payTo: requirement.payTo,
    payees: [],
    settlement: "batch",
    deadlineS,
    listing: "00".repeat(32),
    fingerprint,
    takenBy: "test",
    takenAtMs: nowMs,
    requirement,
    payload,
  });
  await database.query(
    `INSERT INTO assay.payments (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint, taken_by,
       taken_at_ms, deadline_s, amount_atomic, settlement, receipt_id, log_index, execution_digest, service_digest, instruction,
       updated_at_ms)
     VALUES (decode($1, 'hex'), 'eip155:31337', 'exact', $2, $3, $4, $5::numeric, 'due', decode($6, 'hex'), 'test', $7, $8,
       $5::numeric, 'batch', decode($9, 'hex'), $10, decode($11, 'hex'), decode($12, 'hex'), decode($13, 'hex'), $7)`,
    [
      hex(id),
      signer.address,
      asset,
      requirement.payTo,
      amount.toString(),
      hex(fingerprint),
      nowMs,
      deadlineS,
      digest("receipt").slice(0, 32),
      nextIndex++,
      digest("execution"),
      digest("service"),
      hex(instruction),
    ],
  );
  return `0x${hex(id)}`;
}
