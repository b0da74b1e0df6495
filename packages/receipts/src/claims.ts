import { AssayError } from "@assay/core";
import { PROFILE } from "./labels.ts";
import { decodeTable, encodeTable, table } from "./table.ts";
import type { Field, FieldKind, OpenMap, Table } from "./table.ts";

const digest: FieldKind = { type: "bytes", min: 32, max: 32 };
const id: FieldKind = { type: "bytes", min: 16, max: 16 };
const name: FieldKind = { type: "text", maxBytes: 512 };
const uint: FieldKind = { type: "uint" };
const open: FieldKind = { type: "open" };
const oneOf = (...values: readonly string[]): FieldKind => ({ type: "text", oneOf: values });
const required = true;

/** Kinds of work an execution can state. */
export const WORK_KINDS = ["onnx", "chat", "completion", "embedding", "step", "decision"] as const;
export type WorkKind = (typeof WORK_KINDS)[number];
export const MODES = ["vanilla", "tee", "zkml"] as const;
export type Mode = (typeof MODES)[number];
export const FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter", "incomplete", "error"] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];
export const DIGEST_CHECKS = ["hashed-at-load", "measured", "declared"] as const;
export const RETENTION_CLASSES = ["none", "client-encrypted", "server-encrypted"] as const;
export type RetentionClass = (typeof RETENTION_CLASSES)[number];
export const SUPPLEMENT_KINDS = [
  "proof",
  "settlement",
  "refund",
  "audit",
  "dispute",
  "revocation",
  "attestation",
  "anchor",
  "erasure",
] as const;
export type SupplementKind = (typeof SUPPLEMENT_KINDS)[number];
export const RELEASE_ACTIONS = ["release", "deprecate", "rollback"] as const;
export type ReleaseAction = (typeof RELEASE_ACTIONS)[number];

const principal: readonly Field[] = [
  { key: 1, name: "caller", kind: name, required },
  { key: 2, name: "authentication", kind: oneOf("signature", "token", "mutual-tls", "payment"), required },
  { key: 3, name: "delegator", kind: name },
  { key: 4, name: "delegationDigest", kind: digest },
];

const step: readonly Field[] = [
  { key: 1, name: "runId", kind: name, required },
  { key: 2, name: "step", kind: name, required },
  { key: 3, name: "attempt", kind: uint, required },
  { key: 4, name: "workflowDigest", kind: digest },
];

const transcript: readonly Field[] = [
  { key: 1, name: "root", kind: digest, required },
  { key: 2, name: "frames", kind: uint, required },
];

const upstream: readonly Field[] = [
  { key: 1, name: "provider", kind: name, required },
  { key: 2, name: "modelReported", kind: name },
  { key: 3, name: "tlsSpkiSha256", kind: digest },
  { key: 4, name: "facts", kind: open },
];

/** Claims of an execution, in the order of the specification. Keys shared with AIR v1 have its numbers. */
export const executionFields: readonly Field[] = [
  { key: 265, name: "profile", kind: oneOf(PROFILE.execution), required },
  { key: 7, name: "receiptId", kind: id, required },
  { key: 10, name: "clientNonce", kind: { type: "bytes", min: 8, max: 64 } },
  { key: -65537, name: "modelName", kind: name },
  { key: -65538, name: "modelVersion", kind: name },
  { key: -65539, name: "modelDigest", kind: digest },
  { key: -65549, name: "modelDigestScheme", kind: oneOf("sha256-manifest", "sha256-single") },
  { key: -65540, name: "requestRoot", kind: digest, required },
  { key: -65541, name: "responseRoot", kind: digest, required },
  { key: -65542, name: "evidenceDigest", kind: digest },
  { key: -65543, name: "measurements", kind: open },
  { key: -65544, name: "policyVersion", kind: name },
  { key: -65547, name: "memoryPeakMb", kind: uint },
  { key: -65548, name: "securityMode", kind: oneOf("production", "evaluation") },
  { key: -65810, name: "mode", kind: oneOf(...MODES), required },
  { key: -65811, name: "kind", kind: oneOf(...WORK_KINDS), required },
  { key: -65812, name: "issuedAtMs", kind: uint, required },
  { key: -65813, name: "principal", kind: { type: "map", fields: table(principal) } },
  { key: -65814, name: "modelDigestCheck", kind: oneOf(...DIGEST_CHECKS) },
  { key: -65815, name: "runtime", kind: open },
  { key: -65816, name: "parameters", kind: open },
  { key: -65817, name: "requestFields", kind: uint, required },
  { key: -65818, name: "responseFields", kind: uint, required },
  { key: -65819, name: "transcript", kind: { type: "map", fields: table(transcript) } },
  { key: -65820, name: "preprocessingDigest", kind: digest },
  { key: -65821, name: "usage", kind: open },
  { key: -65822, name: "finishReason", kind: oneOf(...FINISH_REASONS), required },
  { key: -65823, name: "engineUs", kind: uint },
  { key: -65824, name: "upstream", kind: { type: "map", fields: table(upstream) } },
  { key: -65825, name: "proofStatementDigest", kind: digest },
  { key: -65826, name: "parents", kind: { type: "list", of: digest, max: 64 } },
  { key: -65827, name: "step", kind: { type: "map", fields: table(step) } },
  { key: -65899, name: "extensions", kind: open },
];

export type Principal = {
  readonly caller: string;
  readonly authentication: "signature" | "token" | "mutual-tls" | "payment";
  readonly delegator?: string;
  readonly delegationDigest?: Uint8Array;
};

/** What a node states it executed. Digests are 32 bytes; `engineUs` is microseconds in the engine. */
export type ExecutionClaims = {
  readonly profile: typeof PROFILE.execution;
  readonly receiptId: Uint8Array;
  readonly clientNonce?: Uint8Array;
  readonly modelName?: string;
  readonly modelVersion?: string;
  readonly modelDigest?: Uint8Array;
  readonly modelDigestScheme?: "sha256-manifest" | "sha256-single";
  readonly requestRoot: Uint8Array;
  readonly responseRoot: Uint8Array;
  readonly evidenceDigest?: Uint8Array;
  readonly measurements?: OpenMap;
  readonly policyVersion?: string;
  readonly memoryPeakMb?: number;
  readonly securityMode?: "production" | "evaluation";
  readonly mode: Mode;
  readonly kind: WorkKind;
  readonly issuedAtMs: number;
  readonly principal?: Principal;
  readonly modelDigestCheck?: (typeof DIGEST_CHECKS)[number];
  readonly runtime?: OpenMap;
  readonly parameters?: OpenMap;
  readonly requestFields: number;
  readonly responseFields: number;
  readonly transcript?: { readonly root: Uint8Array; readonly frames: number };
  readonly preprocessingDigest?: Uint8Array;
  readonly usage?: OpenMap;
  readonly finishReason: FinishReason;
  readonly engineUs?: number;
  readonly upstream?: {
    readonly provider: string;
    readonly modelReported?: string;
    readonly tlsSpkiSha256?: Uint8Array;
    readonly facts?: OpenMap;
  };
  readonly proofStatementDigest?: Uint8Array;
  readonly parents?: readonly Uint8Array[];
  readonly step?: {
    readonly runId: string;
    readonly step: string;
    readonly attempt: number;
    readonly workflowDigest?: Uint8Array;
  };
  readonly extensions?: OpenMap;
};

const candidate: readonly Field[] = [
  { key: 1, name: "node", kind: name, required },
  { key: 2, name: "outcome", kind: name, required },
  { key: 3, name: "score", kind: { type: "int" } },
];
const route: readonly Field[] = [
  { key: 1, name: "chosen", kind: name, required },
  { key: 2, name: "objective", kind: name },
  { key: 3, name: "candidates", kind: { type: "list", of: { type: "map", fields: table(candidate) }, max: 64 } },
  { key: 4, name: "facts", kind: open },
];
const policy: readonly Field[] = [
  { key: 1, name: "policyDigest", kind: digest, required },
  { key: 2, name: "decisionDigest", kind: digest, required },
  { key: 3, name: "outcome", kind: oneOf("allow", "deny"), required },
];
const pricePart: readonly Field[] = [
  { key: 1, name: "amountAtomic", kind: name, required },
  { key: 2, name: "subject", kind: name, required },
  { key: 3, name: "rateSource", kind: name, required },
];
const price: readonly Field[] = [
  { key: 1, name: "amountAtomic", kind: name, required },
  { key: 2, name: "asset", kind: name, required },
  { key: 3, name: "rateSource", kind: name, required },
  { key: 4, name: "unit", kind: name },
  { key: 5, name: "parts", kind: { type: "list", of: { type: "map", fields: table(pricePart) }, max: 8 } },
];
const payment: readonly Field[] = [
  { key: 1, name: "payer", kind: name, required },
  { key: 2, name: "paymentId", kind: name, required },
  { key: 3, name: "scheme", kind: name, required },
  { key: 4, name: "network", kind: name, required },
  { key: 5, name: "amountAtomic", kind: name, required },
  { key: 6, name: "asset", kind: name, required },
  { key: 7, name: "settlement", kind: name, required },
  { key: 8, name: "payTo", kind: name },
];
const assurance: readonly Field[] = [
  { key: 1, name: "asked", kind: name, required },
  { key: 2, name: "given", kind: name, required },
  { key: 3, name: "reason", kind: name },
];

/** Claims of a service statement: what the gateway decided around an execution. */
export const serviceFields: readonly Field[] = [
  { key: 265, name: "profile", kind: oneOf(PROFILE.service), required },
  { key: 7, name: "receiptId", kind: id, required },
  { key: -65830, name: "executionDigest", kind: digest, required },
  { key: -65812, name: "issuedAtMs", kind: uint, required },
  { key: -65831, name: "route", kind: { type: "map", fields: table(route) } },
  { key: -65832, name: "policy", kind: { type: "map", fields: table(policy) } },
  { key: -65833, name: "price", kind: { type: "map", fields: table(price) } },
  { key: -65834, name: "payment", kind: { type: "map", fields: table(payment) } },
  { key: -65835, name: "assurance", kind: { type: "map", fields: table(assurance) } },
  { key: -65836, name: "retention", kind: oneOf(...RETENTION_CLASSES), required },
  { key: -65837, name: "promises", kind: open },
  { key: -65899, name: "extensions", kind: open },
];

export type ServiceClaims = {
  readonly profile: typeof PROFILE.service;
  readonly receiptId: Uint8Array;
  readonly executionDigest: Uint8Array;
  readonly issuedAtMs: number;
  readonly route?: {
    readonly chosen: string;
    readonly objective?: string;
    readonly candidates?: readonly { readonly node: string; readonly outcome: string; readonly score?: number }[];
    readonly facts?: OpenMap;
  };
  readonly policy?: {
    readonly policyDigest: Uint8Array;
    readonly decisionDigest: Uint8Array;
    readonly outcome: "allow" | "deny";
  };
  readonly price?: {
    readonly amountAtomic: string;
    readonly asset: string;
    readonly rateSource: string;
    readonly unit?: string;
    /** What the amount is made of, when that is more than one thing: together they are `amountAtomic`. */
    readonly parts?: readonly {
      readonly amountAtomic: string;
      readonly subject: string;
      readonly rateSource: string;
    }[];
  };
  readonly payment?: {
    readonly payer: string;
    readonly paymentId: string;
    readonly scheme: string;
    readonly network: string;
    readonly amountAtomic: string;
    readonly asset: string;
    readonly settlement: string;
    readonly payTo?: string;
  };
  readonly assurance?: { readonly asked: string; readonly given: string; readonly reason?: string };
  readonly retention: RetentionClass;
  readonly promises?: OpenMap;
  readonly extensions?: OpenMap;
};

/** Claims of a supplement: something learned later about a statement that never changes. */
export const supplementFields: readonly Field[] = [
  { key: 265, name: "profile", kind: oneOf(PROFILE.supplement), required },
  { key: 7, name: "supplementId", kind: id, required },
  { key: -65840, name: "refersTo", kind: digest, required },
  { key: -65841, name: "kind", kind: oneOf(...SUPPLEMENT_KINDS), required },
  { key: -65812, name: "issuedAtMs", kind: uint, required },
  { key: -65842, name: "body", kind: open, required },
  { key: -65843, name: "evidence", kind: { type: "list", of: digest, max: 64 } },
  { key: -65899, name: "extensions", kind: open },
];

export type SupplementClaims = {
  readonly profile: typeof PROFILE.supplement;
  readonly supplementId: Uint8Array;
  readonly refersTo: Uint8Array;
  readonly kind: SupplementKind;
  readonly issuedAtMs: number;
  readonly body: OpenMap;
  readonly evidence?: readonly Uint8Array[];
  readonly extensions?: OpenMap;
};

const author: readonly Field[] = [
  { key: 1, name: "algorithm", kind: { type: "int" }, required },
  { key: 2, name: "publicKey", kind: { type: "bytes", min: 32, max: 1312 }, required },
  { key: 3, name: "signature", kind: { type: "bytes", min: 64, max: 2420 }, required },
];

/** Claims of a release: one line of a model's append-only history. */
export const releaseFields: readonly Field[] = [
  { key: 265, name: "profile", kind: oneOf(PROFILE.release), required },
  { key: 7, name: "releaseId", kind: id, required },
  { key: -65537, name: "modelName", kind: name, required },
  { key: -65850, name: "version", kind: uint, required },
  { key: -65539, name: "modelDigest", kind: digest, required },
  { key: -65851, name: "action", kind: oneOf(...RELEASE_ACTIONS), required },
  { key: -65852, name: "owner", kind: name, required },
  { key: -65853, name: "visibility", kind: oneOf("public", "private"), required },
  { key: -65854, name: "sizeBytes", kind: uint, required },
  { key: -65855, name: "author", kind: { type: "map", fields: table(author) } },
  { key: -65812, name: "issuedAtMs", kind: uint, required },
  { key: -65899, name: "extensions", kind: open },
];

export type ReleaseClaims = {
  readonly profile: typeof PROFILE.release;
  readonly releaseId: Uint8Array;
  readonly modelName: string;
  readonly version: number;
  readonly modelDigest: Uint8Array;
  readonly action: ReleaseAction;
  readonly owner: string;
  readonly visibility: "public" | "private";
  readonly sizeBytes: number;
  readonly author?: { readonly algorithm: number; readonly publicKey: Uint8Array; readonly signature: Uint8Array };
  readonly issuedAtMs: number;
  readonly extensions?: OpenMap;
};

const key: readonly Field[] = [
  { key: 1, name: "kid", kind: { type: "bytes", min: 8, max: 8 }, required },
  { key: 2, name: "algorithm", kind: { type: "int" }, required },
  { key: 3, name: "publicKey", kind: { type: "bytes", min: 32, max: 1312 }, required },
  { key: 4, name: "use", kind: oneOf("execution", "service", "supplement", "release"), required },
];
const tlsKey: readonly Field[] = [
  { key: 1, name: "spkiSha256", kind: digest, required },
  { key: 2, name: "host", kind: name },
];
const hpkeKey: readonly Field[] = [
  { key: 1, name: "kid", kind: { type: "bytes", min: 8, max: 8 }, required },
  { key: 2, name: "suite", kind: name, required },
  { key: 3, name: "publicKey", kind: { type: "bytes", min: 32, max: 2048 }, required },
];
const chainKey: readonly Field[] = [
  { key: 1, name: "chain", kind: name, required },
  { key: 2, name: "address", kind: name, required },
];
const heldModel: readonly Field[] = [
  { key: 1, name: "name", kind: name, required },
  { key: 2, name: "modelDigest", kind: digest, required },
];

const identity: readonly Field[] = [
  { key: 1, name: "algorithm", kind: { type: "int" }, required },
  { key: 2, name: "publicKey", kind: { type: "bytes", min: 32, max: 1312 }, required },
];

/** A keyset document: the keys of one boot of one instance, and what its attestation evidence binds. */
export const keysetFields: readonly Field[] = [
  { key: 265, name: "profile", kind: oneOf(PROFILE.keyset), required },
  { key: 1, name: "subject", kind: name, required },
  { key: 2, name: "role", kind: oneOf("node", "gateway"), required },
  { key: 3, name: "instanceId", kind: id, required },
  { key: 4, name: "bootSeq", kind: uint, required },
  { key: 5, name: "keys", kind: { type: "list", of: { type: "map", fields: table(key) }, max: 16 }, required },
  { key: 6, name: "hpkeKeys", kind: { type: "list", of: { type: "map", fields: table(hpkeKey) }, max: 16 } },
  { key: 7, name: "tlsKeys", kind: { type: "list", of: { type: "map", fields: table(tlsKey) }, max: 16 } },
  { key: 8, name: "chainKeys", kind: { type: "list", of: { type: "map", fields: table(chainKey) }, max: 16 } },
  { key: 9, name: "releaseLeaf", kind: digest },
  { key: 10, name: "models", kind: { type: "list", of: { type: "map", fields: table(heldModel) }, max: 1024 } },
  { key: 11, name: "gpuEvidence", kind: { type: "list", of: digest, max: 16 } },
  { key: 12, name: "configDigest", kind: digest },
  { key: 13, name: "previousKeyset", kind: digest },
  { key: 14, name: "notBeforeMs", kind: uint, required },
  { key: 15, name: "notAfterMs", kind: uint, required },
  { key: 16, name: "identity", kind: { type: "map", fields: table(identity) }, required },
  { key: 17, name: "extensions", kind: open },
];

export type KeyUse = "execution" | "service" | "supplement" | "release";
export type KeysetKey = {
  readonly kid: Uint8Array;
  readonly algorithm: number;
  readonly publicKey: Uint8Array;
  readonly use: KeyUse;
};
export type KeysetDocument = {
  readonly profile: typeof PROFILE.keyset;
  readonly subject: string;
  readonly role: "node" | "gateway";
  readonly instanceId: Uint8Array;
  readonly bootSeq: number;
  readonly keys: readonly KeysetKey[];
  readonly hpkeKeys?: readonly { readonly kid: Uint8Array; readonly suite: string; readonly publicKey: Uint8Array }[];
  readonly tlsKeys?: readonly { readonly spkiSha256: Uint8Array; readonly host?: string }[];
  readonly chainKeys?: readonly { readonly chain: string; readonly address: string }[];
  readonly releaseLeaf?: Uint8Array;
  readonly models?: readonly { readonly name: string; readonly modelDigest: Uint8Array }[];
  readonly gpuEvidence?: readonly Uint8Array[];
  readonly configDigest?: Uint8Array;
  readonly previousKeyset?: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** The operator's long-lived key that signs this document's statement, and that verifiers pin. */
  readonly identity: { readonly algorithm: number; readonly publicKey: Uint8Array };
  readonly extensions?: OpenMap;
};

const tables = {
  execution: table(executionFields),
  service: table(serviceFields),
  supplement: table(supplementFields),
  release: table(releaseFields),
  keyset: table(keysetFields),
} satisfies Record<string, Table>;

/** Claims by kind of statement. */
export type ClaimsByKind = {
  execution: ExecutionClaims;
  service: ServiceClaims;
  supplement: SupplementClaims;
  release: ReleaseClaims;
  keyset: KeysetDocument;
};

/** Deterministic CBOR of claims: the preimage that an envelope's payload is the SHA-256 of. */
export function encodeClaims<Kind extends keyof ClaimsByKind>(kind: Kind, claims: ClaimsByKind[Kind]): Uint8Array {
  return encodeTable(tables[kind], claims);
}

/**
 * Claims of `kind` out of bytes from outside, with the rules that a table cannot express. Throws `claims_invalid`
 * or `cbor_invalid`, naming the claim.
 */
export function decodeClaims<Kind extends keyof ClaimsByKind>(kind: Kind, bytes: Uint8Array): ClaimsByKind[Kind] {
  const claims = decodeTable(tables[kind], bytes) as ClaimsByKind[Kind];
  if (kind === "execution") checkExecution(claims as ExecutionClaims);
  if (kind === "service") checkService(claims as ServiceClaims);
  return claims;
}

/** An amount in an asset's smallest unit: decimal digits without a sign, and no more than 2^256 has. */
const ATOMIC = /^(?:0|[1-9]\d{0,77})$/;

function checkService({ price: stated }: ServiceClaims): void {
  if (!stated?.parts) return;
  const amounts = [stated, ...stated.parts].map(({ amountAtomic }) => amountAtomic);
  const [whole, ...parts] = amounts.every((text) => ATOMIC.test(text)) ? amounts.map(BigInt) : [];
  if (parts.length < 2 || parts.reduce((sum, part) => sum + part, 0n) !== whole)
    throw new AssayError("claims_invalid", "The parts of the price are not the amount of the price together.");
}

function checkExecution(claims: ExecutionClaims): void {
  const demand = (condition: boolean, sentence: string): void => {
    if (!condition) throw new AssayError("claims_invalid", sentence);
  };
  demand(
    claims.mode !== "tee" || claims.evidenceDigest !== undefined,
    "An execution in tee mode must name its evidence.",
  );
  demand(
    claims.mode !== "zkml" || claims.proofStatementDigest !== undefined,
    "An execution in zkml mode must name the statement that its proof proves.",
  );
  demand(
    claims.kind !== "onnx" || (claims.modelName !== undefined && claims.modelDigest !== undefined),
    "An execution of an ONNX model must name the model and its digest.",
  );
  demand(
    (claims.modelDigest === undefined) === (claims.modelDigestCheck === undefined) &&
      (claims.modelDigest === undefined) === (claims.modelDigestScheme === undefined),
    "A model digest must come with its scheme and with how it was checked, and only then.",
  );
  demand(claims.kind !== "step" || claims.step !== undefined, "An execution of kind step must name its step.");
}
