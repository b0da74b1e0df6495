import { secp256k1 as noble } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { AssayError, bytesToHex } from "@assay/core";
import type { Address, EvmSigner, EvmSuite } from "@assay/x402";
import { loadNative } from "./native.ts";
import type { NativeSecp256k1 } from "./native.ts";

/** An {@link EvmSuite} that says what computes its curve. */
export type NamedEvmSuite = EvmSuite & { readonly backend: "libsecp256k1" | "noble" };

const KEY_BYTES = 32;
const DIGEST_BYTES = 32;

let loaded: { readonly native: NativeSecp256k1 | undefined } | undefined;

/**
 * Keccak-256 and public-key recovery: by libsecp256k1 where its prebuilt binding loads (about 20 times as fast), else by
 * noble. Both decide alike; `backend` says which one it is.
 */
export function nativeEvmSuite(): NamedEvmSuite {
  loaded ??= { native: loadNative() };
  return evmSuiteOn(loaded.native);
}

/** The suite on a given binding, or on noble without one. */
export function evmSuiteOn(native: NativeSecp256k1 | undefined): NamedEvmSuite {
  const recoverKey = native === undefined ? recoverByNoble : recoverBy(native);
  return {
    backend: native === undefined ? "noble" : "libsecp256k1",
    keccak256: keccak_256,
    recover(digest, signature, recovery) {
      if (digest.length !== DIGEST_BYTES || signature.length !== 64) return undefined;
      const point = recoverKey(digest, signature, recovery);
      return point === undefined ? undefined : keccak_256(point.subarray(1)).subarray(12);
    },
  };
}

/**
 * A signer over a private key (32 bytes), which it keeps a copy of. Signatures are deterministic (RFC 6979) with low s
 * (EIP-2). Throws `evm_key_invalid` for anything but a scalar of the curve's group.
 */
export function evmSigner(privateKey: Uint8Array): EvmSigner {
  loaded ??= { native: loadNative() };
  return evmSignerOn(loaded.native, privateKey);
}

/** The signer on a given binding, or on noble without one. */
export function evmSignerOn(native: NativeSecp256k1 | undefined, privateKey: Uint8Array): EvmSigner {
  const key = checkedKey(privateKey);
  const sign = native === undefined ? signByNoble : signBy(native);
  return {
    address: addressOf(key),
    signDigest(digest) {
      if (digest.length !== DIGEST_BYTES)
        return Promise.reject(
          new AssayError("evm_digest_invalid", `A digest of ${digest.length} bytes cannot be signed.`, {
            hints: ["A digest has 32 bytes."],
          }),
        );
      return Promise.resolve(sign(digest, key));
    },
  };
}

/** The account of a private key (32 bytes): `0x` and 40 lower-case hex digits. Throws `evm_key_invalid`. */
export function addressOf(privateKey: Uint8Array): Address {
  const point = noble.getPublicKey(checkedKey(privateKey), false);
  return `0x${bytesToHex(keccak_256(point.subarray(1)).subarray(12))}`;
}

function checkedKey(privateKey: Uint8Array): Uint8Array {
  if (privateKey.length !== KEY_BYTES || !noble.utils.isValidSecretKey(privateKey))
    throw new AssayError("evm_key_invalid", "The bytes are not a private key of secp256k1.", {
      hints: ["A private key is 32 bytes: a number from 1 to the order of the group less one."],
    });
  return Uint8Array.from(privateKey);
}

type Recover = (digest: Uint8Array, signature: Uint8Array, recovery: 0 | 1) => Uint8Array | undefined;
type Sign = (digest: Uint8Array, key: Uint8Array) => Uint8Array;

function recoverBy(native: NativeSecp256k1): Recover {
  return (digest, signature, recovery) => {
    try {
      return native.ecdsaRecover(signature, recovery, digest, false);
    } catch {
      // No such point, or r or s out of range: the binding says so by throwing.
      return undefined;
    }
  };
}

function recoverByNoble(digest: Uint8Array, signature: Uint8Array, recovery: 0 | 1): Uint8Array | undefined {
  try {
    return noble.Signature.fromBytes(signature, "compact")
      .addRecoveryBit(recovery)
      .recoverPublicKey(digest)
      .toBytes(false);
  } catch {
    return undefined;
  }
}

function signBy(native: NativeSecp256k1): Sign {
  return (digest, key) => {
    const { signature, recid } = native.ecdsaSign(digest, key);
    return withV(signature, recid);
  };
}

function signByNoble(digest: Uint8Array, key: Uint8Array): Uint8Array {
  // noble's order is the recovery bit first, then r and s.
  const signed = noble.sign(digest, key, { prehash: false, format: "recovered" });
  return withV(signed.subarray(1), signed[0] ?? 0);
}

function withV(compact: Uint8Array, recovery: number): Uint8Array {
  const signature = new Uint8Array(65);
  signature.set(compact);
  signature[64] = 27 + recovery;
  return signature;
}
