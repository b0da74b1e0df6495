/** COSE header labels that statements use (RFC 9052 section 3.1, RFC 9597, RFC 9995). */
export const HEADER = {
  algorithm: 1,
  keyId: 4,
  cwtClaims: 15,
  payloadHashAlgorithm: 258,
  preimageContentType: 259,
  /** Ours: [keyset digest, seq, prev], public so that a monitor of the log sees a node's gaps and forks. */
  chain: -65800,
} as const;

/** CWT claims inside the protected header (RFC 8392, as SCITT asks: RFC 9943). */
export const CWT = { issuer: 1, subject: 2, issuedAt: 6 } as const;

/** COSE algorithm ids: fully-specified ones of RFC 9864, ML-DSA of RFC 9881's registry, and one of ours. */
export const ALGORITHM = {
  ed25519: -19,
  p256: -9,
  "ml-dsa-44": -48,
  /** Ed25519 over the Merkle root of a batch of statements; the signature carries the audit path. */
  "ed25519-batch": -65801,
} as const;

export type StatementAlgorithm = keyof typeof ALGORITHM;

/** COSE id of SHA-256 (RFC 9054). */
export const SHA256_ID = -16;

/** What a statement states, by the media type of its claims. */
export const CONTENT_TYPE = {
  execution: "application/vnd.assay.execution.v1+cbor",
  service: "application/vnd.assay.service.v1+cbor",
  supplement: "application/vnd.assay.supplement.v1+cbor",
  release: "application/vnd.assay.release.v1+cbor",
  keyset: "application/vnd.assay.keyset.v1+cbor",
} as const;

export type StatementKind = keyof typeof CONTENT_TYPE;

/** First claim of each kind: the domain tag and version of what is hashed. */
export const PROFILE = {
  execution: "urn:assay:execution:1",
  service: "urn:assay:service:1",
  supplement: "urn:assay:supplement:1",
  release: "urn:assay:release:1",
  keyset: "urn:assay:keyset:1",
  bundle: "urn:assay:bundle:1",
  entry: "urn:assay:entry:1",
} as const;

/** Media type of a bundle; its file ending is `.receipt`. */
export const BUNDLE_MEDIA_TYPE = "application/vnd.assay.receipt.v1+cbor";

/** Limits of the format. Each is far above honest use and bounds what a verifier may be made to do. */
export const LIMIT = {
  /** A bundle may carry openings (tensors, prompts) and attestation collateral. */
  bundleBytes: 64 * 1024 * 1024,
  /** Two envelopes must fit in one log entry (65,535 bytes, C2SP tlog-tiles). */
  envelopeBytes: 16 * 1024,
  claimsBytes: 256 * 1024,
  entryBytes: 65_535,
  statements: 64,
  keysets: 64,
  logProofs: 64,
  evidence: 64,
  openedFields: 10_000,
  textBytes: 4096,
  openItems: 4096,
} as const;
