import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { AssayError, base64ToBytes, bytesToHex, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { SecretStore } from "@assay/protocol";

/** Who a request comes from, once a token said so. */
export type Caller = { readonly owner: string; readonly scopes: readonly string[] };

export type Auth = {
  /** A challenge for `publicKey` (raw Ed25519, base64), good for two minutes. Nothing is stored for it. */
  readonly challenge: (publicKey: string) => { readonly challenge: string; readonly expiresAt: string };
  /** Mints a token against a signed challenge. Throws `challenge_invalid`. */
  readonly token: (request: {
    readonly publicKey: string;
    readonly challenge: string;
    readonly signature: string;
  }) => Promise<{
    readonly token: string;
    readonly expiresAt: string;
    readonly owner: string;
  }>;
  /**
   * Spends a challenge on something else than a token: `signature` over `message`, which must contain the challenge, is
   * by the key that the challenge was given out for. Throws `challenge_invalid`.
   */
  readonly proven: (proof: {
    readonly publicKey: string;
    readonly challenge: string;
    readonly message: Uint8Array;
    readonly signature: Uint8Array;
  }) => Promise<void>;
  /** The caller behind an `Authorization` header; undefined without one. Throws `token_invalid`. */
  readonly caller: (authorization: string | undefined) => Promise<Caller | undefined>;
  /** Whether `owner` is the operator of this gateway. */
  readonly isOperator: (owner: string) => boolean;
};

export type AuthModules = {
  readonly secrets: SecretStore;
  readonly suite: CryptoSuite;
  /** 32 bytes; challenges are authenticated with it instead of being kept. */
  readonly challengeSecret: Uint8Array;
  /** Raw Ed25519 key of the operator. */
  readonly operatorKey: Uint8Array;
  readonly now: () => number;
};

const CHALLENGE_MS = 2 * 60 * 1000;
const TOKEN_MS = 30 * 24 * 60 * 60 * 1000;
const PREFIX = "assay_";
/** Callers remembered by token hash for a minute, so that the hot path asks the database once a minute per token. */
const CACHE_MS = 60_000;
const MAX_CACHED = 10_000;
const MAX_CHALLENGES_SPENT = 10_000;

/** Owner name of an Ed25519 key. */
export function ownerOf(publicKey: Uint8Array): string {
  return `ed25519:${bytesToHex(publicKey)}`;
}

/** Makes the authority that turns signed challenges into scoped, expiring tokens. */
export function createAuth({ secrets, suite, challengeSecret, operatorKey, now }: AuthModules): Auth {
  const cache = new Map<string, { readonly caller: Caller; readonly until: number }>();
  const spent = new Map<string, number>();
  const seal = (body: string): string => createHmac("sha256", challengeSecret).update(body).digest("base64url");

  const keyBytes = (text: string): Uint8Array => {
    let key: Uint8Array;
    try {
      key = base64ToBytes(text);
    } catch (cause) {
      throw new AssayError("challenge_invalid", "The public key is not base64.", { cause });
    }
    if (key.length !== 32)
      throw new AssayError("challenge_invalid", "The public key is not 32 bytes, as Ed25519 keys are.");
    return key;
  };

  /** Takes a challenge that was given out for `publicKey` and not used before, once its signature is found good. */
  const spend = async (
    publicKey: string,
    challenge: string,
    message: Uint8Array,
    signature: Uint8Array,
  ): Promise<{ readonly key: Uint8Array; readonly body: string }> => {
    const key = keyBytes(publicKey);
    const cut = challenge.lastIndexOf(".");
    const body = challenge.slice(0, cut);
    const [of, expires] = body.split(".");
    if (cut < 0 || !equalText(challenge.slice(cut + 1), seal(body)) || of !== publicKey)
      throw refused("was not given out for this key");
    if (Number(expires) < now()) throw refused("has expired");
    if (spent.has(body)) throw refused("was used before");
    if (!(await suite.verify("ed25519", key, message, signature))) throw refused("is not signed by this key");
    // Asked again: the same challenge may have been answered twice while the signatures were being verified.
    if (spent.has(body)) throw refused("was used before");
    for (const [old, until] of spent) if (until < now()) spent.delete(old);
    if (spent.size >= MAX_CHALLENGES_SPENT)
      throw new AssayError("receipts_overloaded", "Too many tokens are being asked for.");
    spent.set(body, Number(expires));
    return { key, body };
  };

  return {
    challenge(publicKey) {
      keyBytes(publicKey);
      const expires = now() + CHALLENGE_MS;
      const body = `${publicKey}.${expires}.${randomBytes(16).toString("base64url")}`;
      return { challenge: `${body}.${seal(body)}`, expiresAt: new Date(expires).toISOString() };
    },
    async proven({ publicKey, challenge, message, signature }) {
      await spend(publicKey, challenge, message, signature);
    },
    async token({ publicKey, challenge, signature }) {
      let bytes: Uint8Array;
      try {
        bytes = base64ToBytes(signature);
      } catch {
        throw refused("is not signed in base64");
      }
      const { key, body } = await spend(publicKey, challenge, utf8ToBytes(`assay/auth/1\n${challenge}`), bytes);
      const token = `${PREFIX}${randomBytes(32).toString("base64url")}`;
      const owner = ownerOf(key);
      const expiresAtMs = now() + TOKEN_MS;
      try {
        await secrets.putToken({ sha256: hashOf(token), owner, scopes: ["receipts", "models"], expiresAtMs });
      } catch (error) {
        // Nothing was given out, so the challenge is still good.
        spent.delete(body);
        throw error;
      }
      return { token, expiresAt: new Date(expiresAtMs).toISOString(), owner };
    },
    async caller(authorization) {
      if (authorization === undefined) return undefined;
      const token = /^Bearer (\S+)$/i.exec(authorization)?.[1];
      // Clients of other services send whatever key they have; only ours says anything about an owner.
      if (!token?.startsWith(PREFIX)) return undefined;
      const hash = hashOf(token);
      const known = cache.get(hash);
      if (known && known.until > now()) return known.caller;
      const found = await secrets.token(hash);
      if (!found || found.expiresAtMs <= now()) {
        throw new AssayError("token_invalid", "The token is unknown or has expired.", {
          hints: ["Sign a new challenge at /v1/auth/challenge."],
        });
      }
      const caller = { owner: found.owner, scopes: found.scopes };
      if (cache.size >= MAX_CACHED) cache.clear();
      cache.set(hash, { caller, until: Math.min(found.expiresAtMs, now() + CACHE_MS) });
      return caller;
    },
    isOperator: (owner) => owner === ownerOf(operatorKey),
  };
}

function refused(why: string): AssayError<"challenge_invalid"> {
  return new AssayError("challenge_invalid", `The challenge ${why}.`, {
    hints: ["Ask for a new challenge and sign it within two minutes."],
  });
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

function equalText(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}
