import { keccak_256 } from "@noble/hashes/sha3.js";
import { AssayError } from "@assay/core";
import type { Address, EvmSigner, Hex } from "@assay/x402";
import { parseTransaction, serializeTransaction } from "viem";
import { fromHex, toHex } from "../rpc/values.ts";

/** A transaction before it is signed (EIP-1559). Fees in wei for each unit of gas. */
export type Draft = {
  readonly chainId: number;
  readonly nonce: number;
  readonly to: Address;
  readonly data: Uint8Array;
  readonly value: bigint;
  readonly gas: bigint;
  readonly maxFee: bigint;
  readonly tip: bigint;
};

export type Signed = { readonly raw: Uint8Array; readonly hash: Hex };

/** Gas of a transfer without data. */
export const TRANSFER_GAS = 21_000n;

export async function signTransaction(signer: EvmSigner, draft: Draft): Promise<Signed> {
  const fields = {
    type: "eip1559",
    chainId: draft.chainId,
    nonce: draft.nonce,
    to: draft.to,
    data: toHex(draft.data),
    value: draft.value,
    gas: draft.gas,
    maxFeePerGas: draft.maxFee,
    maxPriorityFeePerGas: draft.tip,
  } as const;
  const signature = await signer.signDigest(keccak_256(fromHex(serializeTransaction(fields))));
  const raw = fromHex(
    serializeTransaction(fields, {
      r: toHex(signature.subarray(0, 32)),
      s: toHex(signature.subarray(32, 64)),
      yParity: signature[64] === 28 ? 1 : 0,
    }),
  );
  return { raw, hash: toHex(keccak_256(raw)) };
}

/** What a signed transaction says. Throws `transaction_record_invalid` for bytes that are none. */
export function readTransaction(raw: Uint8Array): Draft {
  try {
    const { to, data, value, gas, maxFeePerGas, maxPriorityFeePerGas, chainId, nonce } = parseTransaction(toHex(raw));
    if (to === undefined || to === null || chainId === undefined) throw new Error("it has no recipient or chain");
    return {
      chainId,
      nonce: nonce ?? 0,
      to: to.toLowerCase() as Address,
      data: data === undefined ? new Uint8Array() : fromHex(data),
      value: value ?? 0n,
      gas: gas ?? 0n,
      maxFee: maxFeePerGas ?? 0n,
      tip: maxPriorityFeePerGas ?? 0n,
    };
  } catch (cause) {
    throw new AssayError("transaction_record_invalid", "The journal holds bytes that are no transaction of ours.", {
      hints: ["Restore the database from a backup; until then nothing is sent for this account."],
      cause,
    });
  }
}

/** A transaction whose whole effect is that it uses up its nonce. */
export function isCancel(draft: Draft, sender: Address): boolean {
  return draft.to === sender && draft.data.length === 0 && draft.value === 0n;
}
