import { AssayError, bytesToHex, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { PartyRole } from "@assay/protocol";
import { decodeClaims, keyId, keysetDigest, keysetFault, parseStatement, verifyStatement } from "@assay/receipts";
import type { KeysetDocument, Statement } from "@assay/receipts";

/** A keyset of another party, checked: what it says, its digest K, and its own statement. */
export type CheckedKeyset = {
  readonly document: KeysetDocument;
  readonly digest: Uint8Array;
  readonly statement: Statement;
  readonly envelope: Uint8Array;
  readonly bytes: Uint8Array;
};

/** Ed25519's COSE id, which identities of parties have. */
const ED25519 = -19;
/** A keyset that lives longer could not be let go after a theft in any useful time. */
const MAX_KEYSET_MS = 32 * 24 * 60 * 60 * 1000;
/** Two machines' clocks are never equal. */
const SKEW_MS = 5 * 60 * 1000;

/** The name of a party with this identity key. */
export function subjectOf(suite: Pick<CryptoSuite, "sha256">, role: PartyRole, identity: Uint8Array): string {
  return `urn:assay:${role}:${bytesToHex(keyId(suite, identity))}`;
}

/**
 * Checks a keyset from outside: its statement is over exactly this document, signed by the identity that the document
 * names, in that identity's name, and both fit together. With `nowMs` it must also be valid now. Throws
 * `node_keyset_invalid`.
 */
export async function checkKeyset(
  suite: CryptoSuite,
  { envelope, document: bytes }: { readonly envelope: Uint8Array; readonly document: Uint8Array },
  nowMs?: number,
): Promise<CheckedKeyset> {
  let statement: Statement;
  let document: KeysetDocument;
  try {
    statement = parseStatement(suite, envelope);
    document = decodeClaims("keyset", bytes);
  } catch (cause) {
    if (!isAssayError(cause)) throw cause;
    throw refused("cannot be read", cause);
  }
  const { header } = statement;
  const digest = keysetDigest(suite, bytes);
  const { identity } = document;
  const fault = keysetFault(suite, document);
  if (fault) throw refused(`is not acceptable: ${fault}`);
  if (header.kind !== "keyset" || !equalBytes(statement.payload, suite.sha256(bytes)))
    throw refused("is not what its statement is about");
  if (identity.algorithm !== ED25519 || header.algorithm !== "ed25519")
    throw refused("has an identity that is not an Ed25519 key");
  if (document.subject !== subjectOf(suite, document.role, identity.publicKey))
    throw refused("is in another name than its identity's");
  if (
    header.issuer !== document.subject ||
    header.subject !== document.subject ||
    header.seq !== document.bootSeq ||
    !equalBytes(header.keyset, digest) ||
    !equalBytes(header.kid, keyId(suite, identity.publicKey))
  )
    throw refused("does not agree with its statement");
  if (document.bootSeq > 0 !== (document.previousKeyset !== undefined))
    throw refused("does not name the one before it");
  if (document.keys.some(({ algorithm }) => algorithm !== ED25519)) throw refused("has a key that is not Ed25519");
  if (document.notAfterMs - document.notBeforeMs > MAX_KEYSET_MS)
    throw refused(`lives longer than ${MAX_KEYSET_MS / 86_400_000} days`);
  if (nowMs !== undefined && (document.notBeforeMs > nowMs + SKEW_MS || document.notAfterMs <= nowMs))
    throw refused("is not valid now; is the clock of one machine wrong?");
  if (!(await verifyStatement(suite, statement, identity.publicKey)))
    throw refused("is not signed by the identity that it names");
  return { document, digest, statement, envelope, bytes };
}

function refused(why: string, cause?: unknown): AssayError<"node_keyset_invalid"> {
  return new AssayError("node_keyset_invalid", `The keyset ${why}.`, cause === undefined ? {} : { cause });
}
