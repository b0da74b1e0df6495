import { AssayError } from "@assay/core";
import type { CryptoSuite, Signer } from "@assay/core";
import type { KeysetDocument, KeyUse } from "./claims.ts";
import { ALGORITHM, PROFILE } from "./labels.ts";
import { sealKeyset } from "./keyset.ts";
import { keyId, prepareStatement, sealStatement, signBatch, signStatement } from "./statement.ts";
import type { Statement } from "./statement.ts";

/** Where an issuer's chain stands: the next `seq`, and the digest of the statement before it (none at 0). */
export type ChainHead = { readonly seq: number; readonly prev?: Uint8Array };

/** What to state next: the claims' deterministic CBOR, the subject and the time that stands in them. */
export type IssueItem = { readonly claims: Uint8Array; readonly subject: string; readonly issuedAtMs: number };

/** Ed25519 keys of one keyset, by use. They sign synchronously because a receipt is made within one turn. */
export type IssuerKeys = Partial<Record<KeyUse, Signer>>;

/** Signs statements of one party in order. Not durable by itself: its owner rewinds it when an append fails. */
export type Issuer = {
  readonly document: KeysetDocument;
  /** K, 32 bytes. */
  readonly keysetDigest: Uint8Array;
  /** The keyset's own statement and its claims, to be logged before anything that relies on it. */
  readonly keysetStatement: Statement;
  readonly keysetBytes: Uint8Array;
  readonly head: () => ChainHead;
  /** Goes back to a head taken earlier: nothing issued since then ever left this process. */
  readonly rewind: (head: ChainHead) => void;
  /**
   * Signs `items` as statements of `kind`, in order, with one signature for all of them (a plain one for one).
   * Throws `issuer_key_missing` when the keyset has no key for the kind, `keyset_expired` past its end.
   */
  readonly issue: (kind: KeyUse, items: readonly IssueItem[]) => Statement[];
};

export type IssuerOptions = {
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly subject: string;
  readonly role: "node" | "gateway";
  /** The operator's long-lived key. */
  readonly identity: Signer;
  readonly keys: IssuerKeys;
  /** 16 random bytes, new at each boot. */
  readonly instanceId: Uint8Array;
  readonly bootSeq: number;
  /** Digest of the previous keyset and of its statement, when `bootSeq` is above 0. */
  readonly previous?: { readonly keyset: Uint8Array; readonly statement: Uint8Array };
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly head?: ChainHead;
  readonly details?: Partial<
    Pick<KeysetDocument, "models" | "tlsKeys" | "hpkeKeys" | "chainKeys" | "configDigest" | "extensions">
  >;
};

/** Makes a keyset, has the identity key vouch for it, and returns the issuer that signs with it. */
export async function createIssuer(options: IssuerOptions): Promise<Issuer> {
  const { suite, subject, identity, keys } = options;
  if (options.bootSeq > 0 !== (options.previous !== undefined)) {
    throw new AssayError("keyset_invalid", "A keyset names the one before it exactly when it is not the first.");
  }
  const uses = Object.entries(keys) as [KeyUse, Signer][];
  const kids = new Map(uses.map(([use, signer]) => [use, keyId(suite, signer.publicKey)]));
  const document: KeysetDocument = {
    profile: PROFILE.keyset,
    subject,
    role: options.role,
    instanceId: options.instanceId,
    bootSeq: options.bootSeq,
    keys: uses.map(([use, signer]) => ({
      kid: keyId(suite, signer.publicKey),
      algorithm: ALGORITHM[signer.algorithm],
      publicKey: signer.publicKey,
      use,
    })),
    ...(options.previous ? { previousKeyset: options.previous.keyset } : {}),
    notBeforeMs: options.notBeforeMs,
    notAfterMs: options.notAfterMs,
    identity: { algorithm: ALGORITHM[identity.algorithm], publicKey: identity.publicKey },
    ...options.details,
  };
  const { bytes, digest } = sealKeyset(suite, document);
  const keysetStatement = await signStatement(
    prepareStatement(
      suite,
      {
        kind: "keyset",
        algorithm: identity.algorithm,
        kid: keyId(suite, identity.publicKey),
        issuer: subject,
        subject,
        issuedAtS: Math.floor(options.notBeforeMs / 1000),
        keyset: digest,
        seq: options.bootSeq,
        ...(options.previous ? { prev: options.previous.statement } : {}),
      },
      bytes,
    ),
    identity,
  );
  let head: ChainHead = options.head ?? { seq: 0 };
  return {
    document,
    keysetDigest: digest,
    keysetStatement,
    keysetBytes: bytes,
    head: () => head,
    rewind: (to) => {
      head = to;
    },
    issue(kind, items) {
      const kid = kids.get(kind);
      const sign = keys[kind]?.signSync;
      if (!kid || !sign)
        throw new AssayError("issuer_key_missing", `The keyset of ${subject} has no ${kind} key that signs here.`);
      const late = items.find(({ issuedAtMs }) => issuedAtMs > document.notAfterMs);
      if (late)
        throw new AssayError("keyset_expired", `The keyset of ${subject} has ended; a new one must be made first.`);
      const algorithm = items.length === 1 ? ("ed25519" as const) : ("ed25519-batch" as const);
      let { seq, prev } = head;
      const unsigned = items.map(({ claims, subject: about, issuedAtMs }) => {
        const statement = prepareStatement(
          suite,
          {
            kind,
            algorithm,
            kid,
            issuer: subject,
            subject: about,
            issuedAtS: Math.floor(issuedAtMs / 1000),
            keyset: digest,
            seq,
            ...(prev ? { prev } : {}),
          },
          claims,
        );
        seq++;
        prev = statement.digest;
        return statement;
      });
      const [only] = unsigned;
      const signed =
        items.length === 1 && only ? [sealStatement(only, sign(only.toBeSigned))] : signBatch(suite, unsigned, sign);
      head = prev ? { seq, prev } : { seq };
      return signed;
    },
  };
}
