/** Signature algorithms by COSE id (RFC 9053, RFC 9864): Ed25519 -8, P-256 -7, ML-DSA-44 -48. */
export type SignatureAlgorithm = "ed25519" | "p256" | "ml-dsa-44";

/**
 * The cryptography that verification runs on, handed in by the caller: `node:crypto` in a server,
 * WebCrypto in a browser, noble where neither is there. Hashing is synchronous because Merkle trees
 * hash thousands of tiny inputs; signatures are asynchronous because WebCrypto's are.
 */
export type CryptoSuite = {
  /** `node`, `web` or `noble`; printed in benchmarks. */
  readonly name: string;
  /** SHA-256 of the concatenation of `parts`, 32 bytes. */
  readonly sha256: (...parts: readonly Uint8Array[]) => Uint8Array;
  /**
   * Whether `signature` over `message` verifies under `publicKey`. Keys are raw: Ed25519 32 bytes, P-256
   * the 33-byte compressed or 65-byte uncompressed point, ML-DSA-44 1,312 bytes. Signatures are raw too:
   * Ed25519 64 bytes (strict, RFC 8032: non-canonical S is refused), P-256 64 bytes r||s with low s,
   * ML-DSA-44 2,420 bytes. Resolves `false` for malformed keys or signatures and never rejects.
   */
  readonly verify: (
    algorithm: SignatureAlgorithm,
    publicKey: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
  ) => Promise<boolean>;
};

/** A private key that signs; where it lives (file, enclave, KMS, HSM) is the driver's business. */
export type Signer = {
  readonly algorithm: SignatureAlgorithm;
  /** Raw public key, encoded as {@link CryptoSuite.verify} takes it. */
  readonly publicKey: Uint8Array;
  readonly sign: (message: Uint8Array) => Promise<Uint8Array>;
  /** The same synchronously, where the key is local: the receipt path signs without leaving its turn. */
  readonly signSync?: (message: Uint8Array) => Uint8Array;
};
