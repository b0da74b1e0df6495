import { AssayError, concatBytes, equalBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { encodeClaims } from "./claims.ts";
import type { KeysetDocument, KeysetKey, KeyUse } from "./claims.ts";
import { algorithmById, keyAlgorithm, keyId } from "./statement.ts";
import type { StatementAlgorithm } from "./labels.ts";

const KEYSET_TAG = utf8ToBytes("assay/keyset/1\0");

/** K, the keyset digest: SHA-256 of "assay/keyset/1" NUL and the document's deterministic CBOR. */
export function keysetDigest(suite: Pick<CryptoSuite, "sha256">, document: Uint8Array): Uint8Array {
  return suite.sha256(concatBytes(KEYSET_TAG, document));
}

/** Encodes and names a keyset document. Throws `keyset_invalid` when a key serves two uses or its id is not its own. */
export function sealKeyset(
  suite: Pick<CryptoSuite, "sha256">,
  document: KeysetDocument,
): { readonly bytes: Uint8Array; readonly digest: Uint8Array } {
  const fault = keysetFault(suite, document);
  if (fault) throw new AssayError("keyset_invalid", fault);
  const bytes = encodeClaims("keyset", document);
  return { bytes, digest: keysetDigest(suite, bytes) };
}

/** Why a decoded keyset document is unacceptable, or `undefined`. No key may serve in two roles. */
export function keysetFault(suite: Pick<CryptoSuite, "sha256">, document: KeysetDocument): string | undefined {
  if (document.keys.length === 0) return "The keyset holds no key.";
  if (document.notAfterMs <= document.notBeforeMs) return "The keyset ends before it begins.";
  const identityAlgorithm = algorithmById(document.identity.algorithm);
  if (!identityAlgorithm || identityAlgorithm === "ed25519-batch")
    return "The identity key has an algorithm that is not registered.";
  const seen: Uint8Array[] = [document.identity.publicKey];
  for (const key of document.keys) {
    const algorithm = algorithmById(key.algorithm);
    if (!algorithm || algorithm === "ed25519-batch")
      return "A key of the keyset has an algorithm that is not registered.";
    if (!equalBytes(key.kid, keyId(suite, key.publicKey))) return "A key of the keyset has an id that is not its own.";
    if (seen.some((other) => equalBytes(other, key.publicKey))) return "A key of the keyset serves twice.";
    seen.push(key.publicKey);
  }
  return undefined;
}

/** The key that `kid` names for `use` under a statement's algorithm, or `undefined`. */
export function findKey(
  document: KeysetDocument,
  kid: Uint8Array,
  use: KeyUse,
  algorithm: StatementAlgorithm,
): KeysetKey | undefined {
  return document.keys.find(
    (key) => key.use === use && equalBytes(key.kid, kid) && algorithmById(key.algorithm) === keyAlgorithm(algorithm),
  );
}
