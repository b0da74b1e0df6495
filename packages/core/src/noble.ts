import { p256 } from "@noble/curves/nist.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ml_dsa44 } from "@noble/post-quantum/ml-dsa.js";
import { concatBytes } from "./bytes.ts";
import type { CryptoSuite } from "./suite.ts";

/** The suite in pure JavaScript (noble): the fallback where the platform has no cryptography of its own. */
export const nobleSuite: CryptoSuite = {
  name: "noble",
  sha256: (...parts) => sha256(parts.length === 1 && parts[0] ? parts[0] : concatBytes(...parts)),
  verify(algorithm, publicKey, message, signature) {
    try {
      switch (algorithm) {
        case "ed25519":
          return Promise.resolve(ed25519.verify(signature, message, publicKey, { zip215: false }));
        case "p256":
          return Promise.resolve(p256.verify(signature, message, publicKey, { lowS: true, prehash: true }));
        case "ml-dsa-44":
          return Promise.resolve(ml_dsa44.verify(signature, message, publicKey));
        default:
          return Promise.resolve(false);
      }
    } catch {
      return Promise.resolve(false);
    }
  },
};
