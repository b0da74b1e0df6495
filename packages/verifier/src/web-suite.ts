import type { CryptoSuite } from "@assay/core";

/** What is used of WebCrypto's SubtleCrypto, so that this room needs no DOM types. */
export type SubtleVerifier<Key = unknown> = {
  readonly importKey: (
    format: "raw",
    keyData: Uint8Array<ArrayBuffer>,
    algorithm: { readonly name: string; readonly namedCurve?: string },
    extractable: boolean,
    usages: "verify"[],
  ) => Promise<Key>;
  readonly verify: (
    algorithm: { readonly name: string; readonly hash?: string },
    key: Key,
    signature: Uint8Array<ArrayBuffer>,
    data: Uint8Array<ArrayBuffer>,
  ) => Promise<boolean>;
};

type Native = "ed25519" | "p256";

const PARAMETERS = {
  ed25519: { import: { name: "Ed25519" }, verify: { name: "Ed25519" } },
  p256: { import: { name: "ECDSA", namedCurve: "P-256" }, verify: { name: "ECDSA", hash: "SHA-256" } },
} as const;

/** Order of Ed25519's group, little-endian (RFC 8032 section 5.1); S must be below it. */
const ED25519_ORDER = fromHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
/** Half the order of P-256, rounded down, big-endian; our format takes S up to it. */
const P256_HALF_ORDER = fromHex("7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8");

// Known answers: RFC 8032 section 7.1, test 2, and RFC 6979 appendix A.2.5 ("sample", with S brought to the lower half).
const PROBES = {
  ed25519: {
    publicKey: fromHex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"),
    message: fromHex("72"),
    signature: fromHex(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
  },
  p256: {
    publicKey: fromHex(
      "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    ),
    message: fromHex("73616d706c65"),
    signature: fromHex(
      "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf37160834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9",
    ),
  },
} as const;

// Imported keys kept; a verifier meets few, and past this many all are dropped rather than the map grown.
const MAX_KEYS = 256;

/**
 * A suite on WebCrypto: Ed25519 and P-256 by `subtle`, where it has them; SHA-256, ML-DSA-44 and whatever `subtle` lacks
 * by `fallback` (the noble suite). Hashes are the fallback's because WebCrypto's are asynchronous and a Merkle path is
 * many small ones. Whether `subtle` has an algorithm is probed once, at its first use, with a known answer.
 *
 * Signatures with S out of range are refused before the platform is asked, since platforms differ in it.
 *
 * @example
 * const suite = createWebSuite(crypto.subtle, nobleSuite);
 */
export function createWebSuite<Key>(subtle: SubtleVerifier<Key>, fallback: CryptoSuite): CryptoSuite {
  const keys = new Map<string, Promise<Key>>();
  const probed = new Map<Native, Promise<boolean>>();

  const keyOf = (algorithm: Native, publicKey: Uint8Array): Promise<Key> => {
    const name = `${algorithm} ${publicKey.join(" ")}`;
    let key = keys.get(name);
    if (!key) {
      if (keys.size >= MAX_KEYS) keys.clear();
      key = subtle.importKey("raw", copy(publicKey), PARAMETERS[algorithm].import, true, ["verify"]);
      keys.set(name, key);
    }
    return key;
  };
  const native = async (
    algorithm: Native,
    publicKey: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean> => {
    const key = await keyOf(algorithm, publicKey);
    return subtle.verify(PARAMETERS[algorithm].verify, key, copy(signature), copy(message));
  };
  const probe = async (algorithm: Native): Promise<boolean> => {
    const { publicKey, message, signature } = PROBES[algorithm];
    try {
      const right = await native(algorithm, publicKey, message, signature);
      return right && !(await native(algorithm, publicKey, message.subarray(1), signature));
    } catch {
      return false;
    }
  };
  const supports = (algorithm: Native): Promise<boolean> => {
    let answer = probed.get(algorithm);
    if (!answer) {
      answer = probe(algorithm);
      probed.set(algorithm, answer);
    }
    return answer;
  };

  return {
    name: "web",
    sha256: fallback.sha256,
    async verify(algorithm, publicKey, message, signature) {
      try {
        // A compressed point is not for importKey everywhere; the fallback takes it.
        const foreign = algorithm === "ml-dsa-44" || (algorithm === "p256" && publicKey.length !== 65);
        if (foreign || !(await supports(algorithm)))
          return await fallback.verify(algorithm, publicKey, message, signature);
        return wellFormed(algorithm, publicKey, signature) && (await native(algorithm, publicKey, message, signature));
      } catch {
        return false;
      }
    },
  };
}

/**
 * A fallback that is loaded only when a signature needs it: pages whose platform has Ed25519 never fetch the curves.
 * `sha256` must be at hand, because hashing does not wait. A fallback that cannot be loaded verifies nothing.
 *
 * @example
 * const fallback = lazySuite(sha256, async () => (await import("@assay/core/noble")).nobleSuite);
 */
export function lazySuite(sha256: CryptoSuite["sha256"], load: () => Promise<CryptoSuite>): CryptoSuite {
  let loaded: Promise<CryptoSuite> | undefined;
  return {
    name: "lazy",
    sha256,
    async verify(...args) {
      try {
        return await (await (loaded ??= load())).verify(...args);
      } catch {
        // The next signature tries again: a chunk may be missed once.
        loaded = undefined;
        return false;
      }
    },
  };
}

function wellFormed(algorithm: Native, publicKey: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false;
  const s = signature.subarray(32);
  if (algorithm === "p256") return !above(s, P256_HALF_ORDER);
  return publicKey.length === 32 && above(ED25519_ORDER.toReversed(), s.toReversed());
}

/** Whether `a` is above `b`, both big-endian and of one length. */
function above(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

// WebCrypto takes no view on shared memory, and the types say so.
function copy(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
