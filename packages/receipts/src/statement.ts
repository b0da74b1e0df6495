import {
  AssayError,
  CborTag,
  CborWriter,
  concatBytes,
  decodeCbor,
  encodeCbor,
  merkleLeaf,
  merkleLevels,
  merklePath,
  merkleRootFromPath,
  utf8ToBytes,
} from "@assay/core";
import type { CborMap, CborValue, CryptoSuite, SignatureAlgorithm, Signer } from "@assay/core";
import { ALGORITHM, CONTENT_TYPE, CWT, HEADER, LIMIT, SHA256_ID } from "./labels.ts";
import type { StatementAlgorithm, StatementKind } from "./labels.ts";
import { utf8Length } from "./table.ts";

/** What a signer puts into a statement's protected header; all of it is public in the log. */
export type StatementHeader = {
  readonly kind: StatementKind;
  readonly algorithm: StatementAlgorithm;
  /** Key id, 8 bytes: see {@link keyId}. */
  readonly kid: Uint8Array;
  /** Who signs, for example `urn:assay:node:…`. */
  readonly issuer: string;
  /** What the statement is about, `urn:assay:receipt:<32 hex digits>`. */
  readonly subject: string;
  /** Seconds since 1970. */
  readonly issuedAtS: number;
  /** Keyset digest K of the signer, 32 bytes. */
  readonly keyset: Uint8Array;
  /** Position in the issuer's chain, from 0, without gaps over all its boots. */
  readonly seq: number;
  /** Digest of the issuer's previous statement; absent only at `seq` 0. */
  readonly prev?: Uint8Array;
};

/** A statement ready to be signed. `digest` is its name everywhere. */
export type UnsignedStatement = {
  readonly header: StatementHeader;
  readonly protectedBytes: Uint8Array;
  /** SHA-256 of the claims, 32 bytes. */
  readonly payload: Uint8Array;
  /** The bytes a plain signature covers (RFC 9052 section 4.4). */
  readonly toBeSigned: Uint8Array;
  /** SHA-256 of {@link toBeSigned}: it names header and claims whatever the signature. */
  readonly digest: Uint8Array;
};

/** A signed statement as it was read, its signature not yet checked. */
export type Statement = UnsignedStatement & {
  readonly envelope: Uint8Array;
  readonly signature: Uint8Array;
};

const KIND_BY_CONTENT_TYPE = new Map<string, StatementKind>(
  (Object.keys(CONTENT_TYPE) as StatementKind[]).map((kind) => [CONTENT_TYPE[kind], kind]),
);
const ALGORITHM_BY_ID = new Map<number, StatementAlgorithm>(
  (Object.keys(ALGORITHM) as StatementAlgorithm[]).map((name) => [ALGORITHM[name], name]),
);
const SIGNATURE1 = "Signature1";
const EMPTY = new Uint8Array();
const BATCH_TAG = utf8ToBytes("assay/batch/1\0");

/** The key that a statement algorithm verifies under. */
export function keyAlgorithm(algorithm: StatementAlgorithm): SignatureAlgorithm {
  return algorithm === "ed25519-batch" ? "ed25519" : algorithm;
}

/** The statement algorithm of a COSE id, or `undefined`. */
export function algorithmById(id: number): StatementAlgorithm | undefined {
  return ALGORITHM_BY_ID.get(id);
}

/** Key id: the first 8 bytes of SHA-256 over the raw public key. It selects a key; it never vouches for one. */
export function keyId(suite: Pick<CryptoSuite, "sha256">, publicKey: Uint8Array): Uint8Array {
  return suite.sha256(publicKey).slice(0, 8);
}

/** Lays out a statement over `claims` (their deterministic CBOR) without signing it. */
export function prepareStatement(
  suite: Pick<CryptoSuite, "sha256">,
  header: StatementHeader,
  claims: Uint8Array,
): UnsignedStatement {
  const protectedBytes = encodeHeader(header);
  const payload = suite.sha256(claims);
  const toBeSigned = signatureInput(protectedBytes, payload);
  return { header, protectedBytes, payload, toBeSigned, digest: suite.sha256(toBeSigned) };
}

const headerWriter = new CborWriter();

// Keys in deterministic order: 1, 4, 15, 258, 259, then the negative one.
function encodeHeader(header: StatementHeader): Uint8Array {
  const writer = headerWriter;
  writer.reset();
  writer.map(6);
  writer.int(HEADER.algorithm);
  writer.int(ALGORITHM[header.algorithm]);
  writer.int(HEADER.keyId);
  writer.bytes(header.kid);
  writer.int(HEADER.cwtClaims);
  writer.map(3);
  writer.int(CWT.issuer);
  writer.text(header.issuer);
  writer.int(CWT.subject);
  writer.text(header.subject);
  writer.int(CWT.issuedAt);
  writer.int(header.issuedAtS);
  writer.int(HEADER.payloadHashAlgorithm);
  writer.int(SHA256_ID);
  writer.int(HEADER.preimageContentType);
  writer.text(CONTENT_TYPE[header.kind]);
  writer.int(HEADER.chain);
  writer.array(3);
  writer.bytes(header.keyset);
  writer.int(header.seq);
  writer.bytes(header.prev ?? EMPTY);
  return writer.finish();
}

function signatureInput(protectedBytes: Uint8Array, payload: Uint8Array): Uint8Array {
  const writer = headerWriter;
  writer.reset();
  writer.array(4);
  writer.text(SIGNATURE1);
  writer.bytes(protectedBytes);
  writer.bytes(EMPTY);
  writer.bytes(payload);
  return writer.finish();
}

/** The signed envelope: COSE_Sign1, tag 18, empty unprotected header. */
export function sealStatement(statement: UnsignedStatement, signature: Uint8Array): Statement {
  const writer = headerWriter;
  writer.reset();
  writer.tag(18);
  writer.array(4);
  writer.bytes(statement.protectedBytes);
  writer.map(0);
  writer.bytes(statement.payload);
  writer.bytes(signature);
  return { ...statement, signature, envelope: writer.finish() };
}

/** Signs one statement on its own. The header's algorithm must be the signer's. */
export async function signStatement(statement: UnsignedStatement, signer: Signer): Promise<Statement> {
  if (statement.header.algorithm !== signer.algorithm)
    throw wrongAlgorithm(statement.header.algorithm, signer.algorithm);
  return sealStatement(statement, await signer.sign(statement.toBeSigned));
}

/**
 * Signs a batch with one signature over the Merkle root of the statements' digests; each envelope carries its
 * own audit path, so each still verifies alone. This is what makes a receipt for every call affordable.
 * Headers must say `ed25519-batch`; at most 65,536 statements.
 */
export function signBatch(
  suite: Pick<CryptoSuite, "sha256">,
  statements: readonly UnsignedStatement[],
  sign: (message: Uint8Array) => Uint8Array,
): Statement[] {
  for (const { header } of statements) {
    if (header.algorithm !== "ed25519-batch") throw wrongAlgorithm(header.algorithm, "ed25519-batch");
  }
  const levels = merkleLevels(
    suite.sha256,
    statements.map((statement) => merkleLeaf(suite.sha256, statement.digest)),
  );
  const root = levels.at(-1)?.[0];
  if (!root) return [];
  const signature = sign(batchMessage(statements.length, root));
  return statements.map((statement, index) => {
    const path = merklePath(levels, index);
    return sealStatement(statement, encodeCbor([statements.length, index, path, signature]));
  });
}

/** What a batch signature covers: the tag, the number of statements (4 bytes, big-endian) and the root. */
function batchMessage(size: number, root: Uint8Array): Uint8Array {
  const length = new Uint8Array([size >>> 24, (size >>> 16) & 255, (size >>> 8) & 255, size & 255]);
  return concatBytes(BATCH_TAG, length, root);
}

/**
 * A statement out of bytes from outside. Throws `statement_invalid` (or `cbor_invalid`) for anything but a tagged
 * COSE_Sign1 with exactly our protected header, an empty unprotected one and a 32-byte payload.
 */
export function parseStatement(suite: Pick<CryptoSuite, "sha256">, envelope: Uint8Array): Statement {
  const outer = decodeCbor(envelope, { maxBytes: LIMIT.envelopeBytes, maxDepth: 4, maxItems: 64 });
  if (!(outer instanceof CborTag) || outer.tag !== 18 || !Array.isArray(outer.value))
    throw invalid("is not a tagged COSE_Sign1");
  const [protectedBytes, unprotected, payload, signature] = outer.value as readonly CborValue[];
  if (outer.value.length !== 4 || !(protectedBytes instanceof Uint8Array) || !(signature instanceof Uint8Array)) {
    throw invalid("is not a COSE_Sign1 of four parts");
  }
  if (!(unprotected instanceof Map) || unprotected.size !== 0) throw invalid("has an unprotected header");
  if (!(payload instanceof Uint8Array) || payload.length !== 32)
    throw invalid("has a payload that is not a SHA-256 digest");
  const header = parseHeader(protectedBytes);
  const toBeSigned = signatureInput(protectedBytes, payload);
  return { header, protectedBytes, payload, toBeSigned, digest: suite.sha256(toBeSigned), envelope, signature };
}

function parseHeader(bytes: Uint8Array): StatementHeader {
  const map = decodeCbor(bytes, { maxBytes: LIMIT.envelopeBytes, maxDepth: 3, maxItems: 32 });
  if (!(map instanceof Map) || map.size !== 6)
    throw invalid("has other protected parameters than the six it must have");
  const labels: CborMap = map;
  const algorithm = ALGORITHM_BY_ID.get(integer(labels.get(HEADER.algorithm), "alg"));
  if (!algorithm) throw invalid("is signed with an algorithm that is not registered");
  if (labels.get(HEADER.payloadHashAlgorithm) !== SHA256_ID)
    throw invalid("hashes its claims with something other than SHA-256");
  const kind = KIND_BY_CONTENT_TYPE.get(text(labels.get(HEADER.preimageContentType), "content type"));
  if (!kind) throw invalid("has a content type that is not registered");
  const cwt = labels.get(HEADER.cwtClaims);
  if (!(cwt instanceof Map) || cwt.size !== 3) throw invalid("has other CWT claims than issuer, subject and time");
  const chain = labels.get(HEADER.chain);
  if (!Array.isArray(chain) || chain.length !== 3) throw invalid("has no chain parameter");
  const [keyset, seq, prev] = chain as readonly CborValue[];
  const seqNumber = integer(seq, "seq");
  const previous = byteString(prev, "prev", undefined);
  if (seqNumber < 0) throw invalid("has a negative seq");
  if (seqNumber === 0 ? previous.length !== 0 : previous.length !== 32) {
    throw invalid("must name the digest of the previous statement exactly when seq is above 0");
  }
  const issuedAtS = integer((cwt as CborMap).get(CWT.issuedAt), "iat");
  if (issuedAtS < 0) throw invalid("has a negative iat");
  return {
    kind,
    algorithm,
    kid: byteString(labels.get(HEADER.keyId), "kid", 8),
    issuer: text((cwt as CborMap).get(CWT.issuer), "iss"),
    subject: text((cwt as CborMap).get(CWT.subject), "sub"),
    issuedAtS,
    keyset: byteString(keyset, "keyset", 32),
    seq: seqNumber,
    ...(previous.length === 32 ? { prev: previous } : {}),
  };
}

/** Remembers batch roots whose signature verified, so that a run over a log checks each root once. */
export type SignatureCache = { readonly has: (key: string) => boolean; readonly add: (key: string) => void };

/** Whether `statement` is signed by `publicKey` (raw). `false` for anything malformed; never rejects. */
export async function verifyStatement(
  suite: CryptoSuite,
  statement: Statement,
  publicKey: Uint8Array,
  cache?: SignatureCache,
): Promise<boolean> {
  if (statement.header.algorithm !== "ed25519-batch") {
    return suite.verify(statement.header.algorithm, publicKey, statement.toBeSigned, statement.signature);
  }
  const batch = parseBatchSignature(statement.signature);
  if (!batch) return false;
  const leaf = merkleLeaf(suite.sha256, statement.digest);
  const root = merkleRootFromPath(suite.sha256, leaf, batch.index, batch.size, batch.path);
  if (!root) return false;
  const message = batchMessage(batch.size, root);
  if (!cache) return suite.verify("ed25519", publicKey, message, batch.signature);
  const key = latin1(concatBytes(publicKey, message, batch.signature));
  if (cache.has(key)) return true;
  const valid = await suite.verify("ed25519", publicKey, message, batch.signature);
  if (valid) cache.add(key);
  return valid;
}

function latin1(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += String.fromCharCode(byte);
  return out;
}

const MAX_NAME_BYTES = 512;
const MAX_BATCH = 65_536;
const MAX_BATCH_PATH = 16;

function parseBatchSignature(
  bytes: Uint8Array,
): { size: number; index: number; path: Uint8Array[]; signature: Uint8Array } | undefined {
  let value: CborValue;
  try {
    value = decodeCbor(bytes, { maxBytes: 4096, maxDepth: 2, maxItems: 32 });
  } catch {
    return undefined;
  }
  if (!Array.isArray(value) || value.length !== 4) return undefined;
  const [size, index, path, signature] = value as readonly CborValue[];
  if (typeof size !== "number" || typeof index !== "number" || size < 1 || size > MAX_BATCH) return undefined;
  if (!Array.isArray(path) || path.length > MAX_BATCH_PATH) return undefined;
  if (!(signature instanceof Uint8Array) || signature.length !== 64) return undefined;
  const hashes: Uint8Array[] = [];
  for (const hash of path as readonly CborValue[]) {
    if (!(hash instanceof Uint8Array) || hash.length !== 32) return undefined;
    hashes.push(hash);
  }
  return { size, index, path: hashes, signature };
}

function integer(value: CborValue | undefined, what: string): number {
  if (typeof value !== "number") throw invalid(`has no integer ${what}`);
  return value;
}

function text(value: CborValue | undefined, what: string): string {
  if (typeof value !== "string" || value.length === 0 || utf8Length(value) > MAX_NAME_BYTES)
    throw invalid(`has no ${what} of 1 to ${MAX_NAME_BYTES} bytes`);
  return value;
}

function byteString(value: CborValue | undefined, what: string, length: number | undefined): Uint8Array {
  if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) {
    throw invalid(`has no ${what}${length === undefined ? "" : ` of ${length} bytes`}`);
  }
  return value;
}

function invalid(why: string): AssayError<"statement_invalid"> {
  return new AssayError("statement_invalid", `The statement ${why}.`, {
    hints: ["Section 3 of docs/spec/receipt.md gives the envelope byte by byte."],
  });
}

function wrongAlgorithm(header: string, signer: string): AssayError<"signer_algorithm_mismatch"> {
  return new AssayError("signer_algorithm_mismatch", `The header says ${header} and the signer is ${signer}.`);
}
