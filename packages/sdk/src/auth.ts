import { bytesToBase64, utf8ToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { challengeDocument, read, tokenDocument } from "./documents.ts";
import { clientError, GatewayError } from "./errors.ts";
import { SIGN_IN_RETRIES } from "./limits.ts";
import type { Transport } from "./transport.ts";

/** A scoped, expiring token and the owner it speaks for (`ed25519:<hex>`). */
export type Token = { readonly token: string; readonly owner: string; readonly expiresAtMs: number };

const TAG = "assay/auth/1\n";

/**
 * Proves possession of the signer's key to the gateway: it signs a challenge that the gateway chose. A challenge is good
 * for one try, so trying again begins with another; a gateway whose database still starts is waited for.
 */
export function authenticate(transport: Transport, signer: Signer, signal?: AbortSignal): Promise<Token> {
  return transport.retry(() => signIn(transport, signer, signal), SIGN_IN_RETRIES, signal, isStarting);
}

function isStarting(error: unknown): boolean {
  return error instanceof GatewayError && error.status === 503;
}

async function signIn(transport: Transport, signer: Signer, signal: AbortSignal | undefined): Promise<Token> {
  if (signer.algorithm !== "ed25519") throw clientError("signer_missing", "Owners are known by Ed25519 keys.");
  const publicKey = bytesToBase64(signer.publicKey);
  const ask = (path: string, body: object) =>
    transport.json({
      method: "POST",
      path,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
      // A challenge that nobody answers lapses, so asking for another changes nothing.
      safe: path.endsWith("challenge"),
    });
  const { challenge } = read(challengeDocument, await ask("/v1/auth/challenge", { publicKey }), "challenge");
  const signature = bytesToBase64(await signer.sign(utf8ToBytes(TAG + challenge)));
  const granted = read(tokenDocument, await ask("/v1/auth/token", { publicKey, challenge, signature }), "token");
  const expiresAtMs = typeof granted.expiresAt === "number" ? granted.expiresAt : Date.parse(granted.expiresAt);
  return { token: granted.token, owner: granted.owner, expiresAtMs: Number.isFinite(expiresAtMs) ? expiresAtMs : 0 };
}
