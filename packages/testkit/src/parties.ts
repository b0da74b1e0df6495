import { utf8ToBytes } from "@assay/core";
import type { Signer } from "@assay/core";
import { ed25519Signer, mlDsa44Signer, nodeSuite } from "@assay/driver-crypto";
import { ALGORITHM, PROFILE, encodeClaims, keyId, prepareStatement, sealKeyset, signStatement } from "@assay/receipts";
import type { ClaimsByKind, KeysetDocument, KeyUse, Statement, StatementHeader } from "@assay/receipts";

/** A seed that anybody can compute: fine for vectors, worthless as a secret. */
export function fixedSeed(name: string): Uint8Array {
  return nodeSuite.sha256(utf8ToBytes(`assay test seed: ${name}`));
}

/** A signer whose key derives from `name`. */
export function fixedSigner(name: string, algorithm: "ed25519" | "ml-dsa-44" = "ed25519"): Signer {
  return algorithm === "ed25519" ? ed25519Signer(fixedSeed(name)) : mlDsa44Signer(fixedSeed(name));
}

/** A node or gateway with fixed keys, one keyset and its own statement chain. */
export type Party = {
  readonly subject: string;
  readonly identity: Signer;
  readonly keyset: { readonly bytes: Uint8Array; readonly digest: Uint8Array; readonly document: KeysetDocument };
  readonly keysetStatement: Statement;
  /** Signs the next statement of the party's chain. */
  readonly state: <Kind extends "execution" | "service" | "supplement" | "release">(
    kind: Kind,
    claims: ClaimsByKind[Kind],
    options: { readonly subject: string; readonly issuedAtMs: number },
  ) => Promise<{ readonly statement: Statement; readonly claims: Uint8Array }>;
  /** Key and chain position for building other headers. */
  readonly header: (
    kind: StatementHeader["kind"],
    options: { readonly subject: string; readonly issuedAtMs: number },
  ) => StatementHeader;
};

const USES: Record<"node" | "gateway", readonly KeyUse[]> = {
  node: ["execution", "supplement"],
  gateway: ["service", "supplement", "release"],
};
const USE_OF: Record<string, KeyUse> = {
  execution: "execution",
  service: "service",
  supplement: "supplement",
  release: "release",
};

export type PartyOptions = {
  readonly name: string;
  readonly role: "node" | "gateway";
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** First sequence number and the digest before it, to continue a chain. */
  readonly from?: { readonly seq: number; readonly prev: Uint8Array };
  readonly changes?: Partial<KeysetDocument>;
};

/** Makes a party; everything about it follows from its name and times. */
export async function makeParty(options: PartyOptions): Promise<Party> {
  const { name, role, notBeforeMs, notAfterMs } = options;
  const suite = nodeSuite;
  const identity = fixedSigner(`${name}/identity`);
  const signers = new Map(USES[role].map((use) => [use, fixedSigner(`${name}/${use}`)]));
  const subject = `urn:assay:${role}:${name}`;
  const document: KeysetDocument = {
    profile: PROFILE.keyset,
    subject,
    role,
    instanceId: suite.sha256(utf8ToBytes(`instance ${name}`)).slice(0, 16),
    bootSeq: 0,
    keys: [...signers].map(([use, signer]) => ({
      kid: keyId(suite, signer.publicKey),
      algorithm: ALGORITHM.ed25519,
      publicKey: signer.publicKey,
      use,
    })),
    notBeforeMs,
    notAfterMs,
    identity: { algorithm: ALGORITHM.ed25519, publicKey: identity.publicKey },
    ...options.changes,
  };
  const sealed = sealKeyset(suite, document);
  const keysetStatement = await signStatement(
    prepareStatement(
      suite,
      {
        kind: "keyset",
        algorithm: "ed25519",
        kid: keyId(suite, identity.publicKey),
        issuer: subject,
        subject,
        issuedAtS: Math.floor(notBeforeMs / 1000),
        keyset: sealed.digest,
        seq: document.bootSeq,
        ...(document.bootSeq > 0 ? { prev: new Uint8Array(32).fill(7) } : {}),
      },
      sealed.bytes,
    ),
    identity,
  );
  let seq = options.from?.seq ?? 0;
  let prev = options.from?.prev;
  const header: Party["header"] = (kind, { subject: about, issuedAtMs }) => {
    const signer = signers.get(USE_OF[kind] ?? "execution") ?? identity;
    return {
      kind,
      algorithm: "ed25519",
      kid: keyId(suite, signer.publicKey),
      issuer: subject,
      subject: about,
      issuedAtS: Math.floor(issuedAtMs / 1000),
      keyset: sealed.digest,
      seq,
      ...(prev ? { prev } : {}),
    };
  };
  return {
    subject,
    identity,
    keyset: { ...sealed, document },
    keysetStatement,
    header,
    async state(kind, claims, about) {
      const encoded = encodeClaims(kind, claims);
      const unsigned = prepareStatement(suite, header(kind, about), encoded);
      const signer = signers.get(USE_OF[kind] ?? "execution") ?? identity;
      const statement = await signStatement(unsigned, signer);
      seq++;
      prev = statement.digest;
      return { statement, claims: encoded };
    },
  };
}
