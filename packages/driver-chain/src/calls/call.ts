import { toHex } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";

/** What a transaction, or a question that changes nothing, calls. */
export type Call = { readonly to: Address; readonly data: Hex };

/** v, r and s of a signature of 65 bytes; v as the chain wants it, 27 or 28. */
export function splitSignature(signature: Uint8Array): [number, Hex, Hex] {
  const v = signature[64] ?? 0;
  return [v < 27 ? v + 27 : v, toHex(signature.subarray(0, 32)), toHex(signature.subarray(32, 64))];
}
