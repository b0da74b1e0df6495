import { AssayError } from "@assay/core";
import type { Address, Eip2612Permit, Hex } from "@assay/x402";
import { decodeAbiParameters, encodeAbiParameters, toHex } from "viem";
import type { PaymentRow } from "./rows.ts";

/** The batcher's kinds, in the order of its enumeration. */
const KIND = { eip3009: 0, permit2: 1, upto: 2 } as const;

/** A payment as `PaymentBatcher.settle` takes it. */
export type BatchItem = {
  readonly kind: number;
  /** Digest of the service statement: it names the payment, and the batcher's event names it. */
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

/** What an ERC-6492 signature ends with. */
const ERC6492_MAGIC = "6492".repeat(16);

/** Out of a row, what the batcher submits. Throws `instruction_invalid` for payments that are settled in another way. */
export function batchItem(row: PaymentRow): BatchItem {
  const { payment } = row.instruction.payload;
  const common = { receiptDigest: `0x${row.serviceDigest}` as const, token: row.asset, payer: row.payer };
  switch (payment.kind) {
    case "eip3009": {
      const { to, value, validAfter, validBefore, nonce } = payment.authorization;
      return {
        ...common,
        kind: KIND.eip3009,
        payTo: to,
        amount: value,
        permitted: 0n,
        validAfter,
        deadline: validBefore,
        nonce: toHex(nonce),
        signature: unwrapped(payment.signature).signature,
        permit2612: "0x",
      };
    }
    case "permit2":
    case "upto":
      return {
        ...common,
        kind: KIND[payment.kind],
        payTo: payment.witness.to,
        // An exact payment moves what was signed; a metered one moves what was charged.
        amount: payment.kind === "upto" ? row.amountAtomic : payment.permit.amount,
        permitted: payment.permit.amount,
        validAfter: payment.witness.validAfter,
        deadline: payment.permit.deadline,
        nonce: toHex(payment.permit.nonce, { size: 32 }),
        signature: unwrapped(payment.signature).signature,
        permit2612: payment.sponsored ? permitData(payment.sponsored) : "0x",
      };
    case "deposit":
    case "voucher":
    case "refund":
      throw new AssayError("instruction_invalid", `A payment by ${payment.kind} is not settled by the batcher.`);
  }
}

/** abi.encode(value, deadline, v, r, s) of an EIP-2612 permit. */
export function permitData(permit: Eip2612Permit): Hex {
  const r = toHex(permit.signature.subarray(0, 32));
  const s = toHex(permit.signature.subarray(32, 64));
  const last = permit.signature[64] ?? 0;
  return encodeAbiParameters(
    [{ type: "uint256" }, { type: "uint256" }, { type: "uint8" }, { type: "bytes32" }, { type: "bytes32" }],
    [permit.amount, permit.deadline, last < 27 ? last + 27 : last, r, s],
  );
}

/** How a payer's account comes into being, when its signature says so (ERC-6492), and the signature inside. */
function unwrapped(signature: Uint8Array): {
  readonly signature: Hex;
  readonly account?: { readonly factory: Address; readonly data: Hex };
} {
  const hex = toHex(signature);
  if (!hex.endsWith(ERC6492_MAGIC)) return { signature: hex };
  const [factory, data, inner] = decodeAbiParameters(
    [{ type: "address" }, { type: "bytes" }, { type: "bytes" }],
    hex.slice(0, -ERC6492_MAGIC.length) as Hex,
  );
  return { signature: inner, account: { factory: factory.toLowerCase() as Address, data } };
}

/** The account that has to be made before this row can be settled. */
export function accountOf(row: PaymentRow): { readonly factory: Address; readonly data: Hex } | undefined {
  const { payment } = row.instruction.payload;
  return "signature" in payment ? unwrapped(payment.signature).account : undefined;
}
