import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { AssayError } from "@assay/core";
import { addressOfKey } from "./hex.ts";
import type { EvmSigner, EvmSuite } from "./types.ts";

/** Hashes and signatures in pure JavaScript (noble): the fallback where the platform has none of its own. */
export const nobleEvmSuite: EvmSuite = {
  keccak256: (bytes) => keccak_256(bytes),
  recover(digest, signature, recovery) {
    try {
      const point = secp256k1.Signature.fromBytes(signature).addRecoveryBit(recovery).recoverPublicKey(digest);
      return keccak_256(point.toBytes(false).subarray(1)).slice(12);
    } catch {
      return undefined;
    }
  },
};

/**
 * A signer of a private key of 32 bytes in memory. Nonces are deterministic (RFC 6979): the same digest has the same
 * signature. Throws `evm_key_invalid` when the bytes are no key.
 */
export function nobleEvmSigner(privateKey: Uint8Array): EvmSigner {
  if (!secp256k1.utils.isValidSecretKey(privateKey)) {
    throw new AssayError("evm_key_invalid", "The bytes are not a private key of secp256k1.");
  }
  const key = privateKey.slice();
  const address = addressOfKey(nobleEvmSuite, secp256k1.getPublicKey(key, false).subarray(1));
  return {
    address,
    signDigest(digest) {
      const signed = secp256k1.sign(digest, key, { prehash: false, format: "recovered" });
      const out = new Uint8Array(65);
      out.set(signed.subarray(1));
      out[64] = 27 + (signed[0] ?? 0);
      return Promise.resolve(out);
    },
  };
}
