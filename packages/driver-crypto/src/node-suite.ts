import { createHash, createPublicKey, verify as nodeVerify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import type { CryptoSuite } from "@assay/core";
import * as nodeCrypto from "node:crypto";

// A server meets few distinct keys; past this many the cache is dropped whole rather than grown.
const MAX_CACHED_KEYS = 1024;
const HASH_BYTES = 32;
const ED25519_SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const P256_ORDER_HALF = BigInt("0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");

type OneShotHash = (algorithm: string, data: Uint8Array, encoding: "latin1") => string;
// crypto.hash arrived in Node 20.12 and is twice as fast as createHash for the short inputs of a Merkle tree. Asked for
// a text it is faster still: a Buffer would be memory outside the heap, one allocation and one finaliser for each hash.
const oneShot = (nodeCrypto as unknown as { hash?: OneShotHash }).hash;

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (parts.length === 1 && first && oneShot) {
    const text = oneShot("sha256", first, "latin1");
    const digest = new Uint8Array(HASH_BYTES);
    for (let i = 0; i < HASH_BYTES; i++) digest[i] = text.charCodeAt(i);
    return digest;
  }
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

const keys = new Map<string, KeyObject>();

function ed25519Key(publicKey: Uint8Array): KeyObject {
  const id = Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.byteLength).toString("latin1");
  let key = keys.get(id);
  if (!key) {
    if (keys.size >= MAX_CACHED_KEYS) keys.clear();
    key = createPublicKey({ key: Buffer.concat([ED25519_SPKI_PREFIX, publicKey]), format: "der", type: "spki" });
    keys.set(id, key);
  }
  return key;
}

function p256Key(publicKey: Uint8Array): KeyObject {
  const raw = nodeCrypto.ECDH.convertKey(publicKey, "prime256v1", undefined, undefined, "uncompressed") as Buffer;
  return createPublicKey({
    key: {
      kty: "EC",
      crv: "P-256",
      x: raw.subarray(1, 33).toString("base64url"),
      y: raw.subarray(33).toString("base64url"),
    },
    format: "jwk",
  });
}

function verifyNow(algorithm: string, publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  switch (algorithm) {
    case "ed25519":
      if (publicKey.length !== 32 || signature.length !== 64) return false;
      return nodeVerify(null, message, ed25519Key(publicKey), signature);
    case "p256": {
      if (signature.length !== 64) return false;
      const s = BigInt(`0x${Buffer.from(signature.subarray(32)).toString("hex")}`);
      if (s > P256_ORDER_HALF) return false;
      return nodeVerify("sha256", message, { key: p256Key(publicKey), dsaEncoding: "ieee-p1363" }, signature);
    }
    case "ml-dsa-44":
      return ml_dsa44.verify(signature, message, publicKey);
    default:
      return false;
  }
}

/** The suite on `node:crypto`; ML-DSA-44 comes from noble, since OpenSSL 3.0 has none. */
export const nodeSuite: CryptoSuite = {
  name: "node",
  sha256,
  verify(algorithm, publicKey, message, signature) {
    try {
      return Promise.resolve(verifyNow(algorithm, publicKey, message, signature));
    } catch {
      return Promise.resolve(false);
    }
  },
};
