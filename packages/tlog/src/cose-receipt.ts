import { AssayError, CborTag, decodeCbor, encodeCbor, equalBytes, isAssayError } from "@assay/core";
import type { CborValue, CryptoSuite, SignatureAlgorithm, Signer } from "@assay/core";
import { expectedRoot, MAX_PROOF_HASHES } from "./proof.ts";
import { isSize } from "./size.ts";
import { HASH_BYTES } from "./tree.ts";

/** Where an entry stands: position, tree size, audit path (leaf's sibling first), root of that tree. */
export type ReceiptProof = {
  readonly size: number;
  readonly index: number;
  readonly path: readonly Uint8Array[];
  readonly root: Uint8Array;
};

// Labels of RFC 9052 section 3.1 and RFC 9942 sections 4.1 and 5.2.
const ALG = 1;
const VDS = 395;
const VDP = 396;
const VDS_RFC9162_SHA256 = 1;
const INCLUSION = -1;
const COSE_SIGN1_TAG = 18;
const COSE_ALGORITHMS: Readonly<Record<SignatureAlgorithm, number>> = { ed25519: -8, p256: -7, "ml-dsa-44": -48 };

/** Longest receipt: a path of 63 hashes, an ML-DSA-44 signature and their heads fit in half of it. */
export const MAX_COSE_RECEIPT_BYTES = 16 * 1024;
const LIMITS = { maxBytes: MAX_COSE_RECEIPT_BYTES, maxDepth: 6, maxItems: 256 } as const;

/**
 * An RFC 9942 receipt of inclusion: tagged COSE_Sign1 over the Merkle root as a detached payload, with the
 * inclusion proof in the unprotected header. Throws `cose_receipt_malformed` when the facts could not verify.
 */
export async function encodeCoseReceipt(proof: ReceiptProof, signer: Signer): Promise<Uint8Array> {
  const shaped = isSize(proof.size) && isSize(proof.index) && proof.index < proof.size;
  const hashes = [...proof.path, proof.root].every((hash) => hash.length === HASH_BYTES);
  if (!shaped || !hashes || proof.path.length > MAX_PROOF_HASHES)
    throw malformed("its position or hashes are impossible");
  const protectedHeader = encodeProtected(signer.algorithm);
  const signature = await signer.sign(signedStructure(protectedHeader, proof.root));
  const inclusion = encodeCbor([proof.size, proof.index, proof.path]);
  const unprotected = new Map([[VDP, new Map([[INCLUSION, [inclusion]]])]]);
  return encodeCbor(new CborTag(COSE_SIGN1_TAG, [protectedHeader, unprotected, null, signature]));
}

/**
 * What {@link verifyCoseReceipt} found. The signature of an RFC 9942 receipt covers the root alone, and one path can
 * fit several positions (entry 2 of 3 has the same shape as entry 1 of 2), so `claimed` is what the receipt says and
 * not what it proves. Where the position matters, take a `.tlog-proof`: its checkpoint signs the size.
 */
export type CoseReceiptVerdict =
  | {
      readonly ok: true;
      /** 32 bytes, signed. */
      readonly root: Uint8Array;
      readonly claimed: { readonly size: number; readonly index: number };
    }
  | {
      readonly ok: false;
      readonly code: "cose_receipt_malformed" | "inclusion_invalid" | "signature_invalid";
      readonly reason: string;
    };

/**
 * Whether `receipt` proves that the entry with `leafHash` is in a tree whose root `publicKey` signed. Never throws
 * on hostile input. Only what {@link encodeCoseReceipt} makes is taken: deterministic CBOR, exactly one inclusion
 * proof, no other header.
 */
export async function verifyCoseReceipt(
  receipt: Uint8Array,
  leafHash: Uint8Array,
  signedBy: { readonly algorithm: SignatureAlgorithm; readonly publicKey: Uint8Array },
  suite: CryptoSuite,
): Promise<CoseReceiptVerdict> {
  let parts: ReturnType<typeof decodeReceipt>;
  try {
    parts = decodeReceipt(receipt);
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return { ok: false, code: "cose_receipt_malformed", reason: error.message };
  }
  const expected = encodeProtected(signedBy.algorithm);
  if (!equalBytes(expected, parts.protectedHeader)) {
    const reason = `The receipt's protected header is not that of ${signedBy.algorithm} over an RFC 9162 SHA-256 tree.`;
    return { ok: false, code: "cose_receipt_malformed", reason };
  }
  const { size, index, path, signature } = parts;
  const root = expectedRoot(index, size, leafHash, path, suite);
  if (!root) {
    const reason = `No tree of ${size} entries has a path of ${path.length} hashes to entry ${index}.`;
    return { ok: false, code: "inclusion_invalid", reason };
  }
  const message = signedStructure(parts.protectedHeader, root);
  if (!(await suite.verify(signedBy.algorithm, signedBy.publicKey, message, signature))) {
    const reason = "The signature does not cover the root that entry and path lead to.";
    return { ok: false, code: "signature_invalid", reason };
  }
  return { ok: true, root, claimed: { size, index } };
}

function encodeProtected(algorithm: SignatureAlgorithm): Uint8Array {
  return encodeCbor(
    new Map([
      [ALG, COSE_ALGORITHMS[algorithm]],
      [VDS, VDS_RFC9162_SHA256],
    ]),
  );
}

function signedStructure(protectedHeader: Uint8Array, root: Uint8Array): Uint8Array {
  return encodeCbor(["Signature1", protectedHeader, new Uint8Array(), root]);
}

function decodeReceipt(bytes: Uint8Array): {
  protectedHeader: Uint8Array;
  size: number;
  index: number;
  path: Uint8Array[];
  signature: Uint8Array;
} {
  const message = decodeCbor(bytes, LIMITS);
  if (!(message instanceof CborTag) || message.tag !== COSE_SIGN1_TAG) throw malformed("it is not a tagged COSE_Sign1");
  const [protectedHeader, unprotected, payload, signature] = list(message.value, 4, "the COSE_Sign1");
  if (!(protectedHeader instanceof Uint8Array) || !(signature instanceof Uint8Array)) {
    throw malformed("its protected header or signature is not a byte string");
  }
  if (payload !== null) throw malformed("its payload is not detached");
  const proofs = onlyMember(onlyMember(unprotected, VDP), INCLUSION);
  const [inclusion] = list(proofs, 1, "the list of inclusion proofs");
  if (!(inclusion instanceof Uint8Array)) throw malformed("its inclusion proof is not a byte string");
  const [size, index, hashes] = list(decodeCbor(inclusion, LIMITS), 3, "the inclusion proof");
  if (typeof size !== "number" || typeof index !== "number" || !isSize(size) || !isSize(index)) {
    throw malformed("its tree size or leaf index is not a number below 2^53");
  }
  if (!Array.isArray(hashes) || hashes.length > MAX_PROOF_HASHES)
    throw malformed("its path is not a list of at most 63");
  const path = (hashes as readonly CborValue[]).map((hash) => {
    if (!(hash instanceof Uint8Array) || hash.length !== HASH_BYTES)
      throw malformed("a hash of its path is not 32 bytes");
    return hash;
  });
  return { protectedHeader, size, index, path, signature };
}

function list(value: CborValue | undefined, length: number, what: string): readonly CborValue[] {
  if (!Array.isArray(value) || value.length !== length) throw malformed(`${what} is not a list of ${length}`);
  return value as readonly CborValue[];
}

function onlyMember(value: CborValue | undefined, label: number): CborValue | undefined {
  if (!(value instanceof Map) || value.size !== 1) throw malformed(`a header is not a map of ${label} alone`);
  return (value as ReadonlyMap<number | string, CborValue>).get(label);
}

function malformed(reason: string): AssayError<"cose_receipt_malformed"> {
  return new AssayError("cose_receipt_malformed", `The COSE receipt is malformed: ${reason}.`);
}
