import { AssayError, bytesToHex, equalBytes, hexToBytes } from "@assay/core";
import { ZERO_ADDRESS } from "./addresses.ts";
import { fromHex, toHex } from "./hex.ts";
import type { Address, EvmSuite } from "./types.ts";

/** Half of the order of secp256k1: a higher s has a lower twin, which contracts of tokens insist on. */
const HALF_ORDER = hexToBytes("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");
/** The 32 bytes that end a signature of an account that is not deployed yet (ERC-6492). */
const ERC6492_SUFFIX = hexToBytes("6492".repeat(16));

/** A signature that only the account's own contract can judge (EIP-1271): `isValidSignature(digest, signature)`. */
export type SignatureQuestion = {
  readonly account: Address;
  readonly digest: Uint8Array;
  readonly signature: Uint8Array;
};

/** How an account that does not exist yet comes to be (ERC-6492): a call to its factory. */
export type Deployment = { readonly factory: Address; readonly calldata: Uint8Array };

/** Whether an account has code: none, some (a contract, or a delegation by EIP-7702), or not known. */
export type AccountCode = "none" | "some" | "unknown";

/** Whether s of a signature of 65 bytes is in the lower half of the order. */
function hasLowS(signature: Uint8Array): boolean {
  for (let i = 0; i < 32; i++) {
    const difference = (signature[32 + i] ?? 0) - (HALF_ORDER[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return true;
}

/**
 * Whether `account` itself signed `digest`: 65 bytes with v 27 or 28 and s in the lower half. Both bounds are those of
 * tokens' contracts (OpenZeppelin's ECDSA, USDC); without them a signature would have a twin that nobody signed.
 */
export function isSignedBy(suite: EvmSuite, account: Address, digest: Uint8Array, signature: Uint8Array): boolean {
  const v = signature[64];
  if (signature.length !== 65 || (v !== 27 && v !== 28) || !hasLowS(signature)) return false;
  const signer = suite.recover(digest, signature.subarray(0, 64), v === 27 ? 0 : 1);
  return signer !== undefined && bytesToHex(signer) === account.slice(2);
}

/** Whether a signature is wrapped for an account that is not deployed yet (ERC-6492). */
export function isErc6492(signature: Uint8Array): boolean {
  return signature.length >= 32 && equalBytes(signature.subarray(signature.length - 32), ERC6492_SUFFIX);
}

/**
 * What a wrapped signature holds (ERC-6492): `abi.encode(address factory, bytes calldata, bytes signature)` before the
 * suffix. Throws `payment_malformed` when it is not wrapped or its encoding leaves its bounds.
 */
export function unwrapErc6492(signature: Uint8Array): Deployment & { readonly signature: Uint8Array } {
  if (!isErc6492(signature)) throw badWrapping();
  const body = signature.subarray(0, signature.length - 32);
  if (!isZero(body, 0, 12) || body.length < 96) throw badWrapping();
  const factory = toHex(body.subarray(12, 32));
  return { factory, calldata: bytesAt(body, 32), signature: bytesAt(body, 64) };
}

function bytesAt(body: Uint8Array, at: number): Uint8Array {
  const offset = readLength(body, at);
  const length = readLength(body, offset);
  if (offset + 32 + length > body.length) throw badWrapping();
  return body.slice(offset + 32, offset + 32 + length);
}

/** A word that says a place or a length, which is below 2^24 or not in this signature. */
function readLength(body: Uint8Array, at: number): number {
  if (at + 32 > body.length || !isZero(body, at, at + 29)) throw badWrapping();
  return ((body[at + 29] ?? 0) << 16) | ((body[at + 30] ?? 0) << 8) | (body[at + 31] ?? 0);
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}

function badWrapping(): AssayError<"payment_malformed"> {
  return new AssayError("payment_malformed", "The signature is not wrapped as ERC-6492 says.");
}

/** A signature wrapped for an account that its factory has still to deploy (ERC-6492). */
export function wrapErc6492(deployment: Deployment, signature: Uint8Array): Uint8Array {
  const padded = (length: number): number => (length + 31) & ~31;
  const second = 96 + 32 + padded(deployment.calldata.length);
  const out = new Uint8Array(second + 32 + padded(signature.length) + 32);
  out.set(fromHex(deployment.factory), 12);
  const view = new DataView(out.buffer);
  view.setUint32(60, 96);
  view.setUint32(92, second);
  view.setUint32(124, deployment.calldata.length);
  out.set(deployment.calldata, 128);
  view.setUint32(second + 28, signature.length);
  out.set(signature, second + 32);
  out.set(ERC6492_SUFFIX, out.length - 32);
  return out;
}

/** What is to be believed of an account's signature, and what is still to be asked. */
export type SignerVerdict =
  | { readonly signer: "ecdsa" }
  | { readonly signer: "contract"; readonly question: SignatureQuestion }
  | { readonly signer: "undeployed"; readonly question: SignatureQuestion; readonly deployment: Deployment }
  | { readonly signer: "refused"; readonly why: "signature" | "factory" };

/**
 * Judges the signature of `account` over `digest`. An account with code is its contract's to judge, and never falls back
 * to ECDSA; one without code signs by ECDSA or not at all, unless the signature brings the account's deployment through
 * one of `factories`, which `deployable` permits. Where the code is not known, a signature by the account's key counts as
 * its own, and any other is a question to the account's contract: whoever asks refuses when there is no code after all.
 */
export function judgeSigner(
  suite: EvmSuite,
  from: { readonly account: Address; readonly digest: Uint8Array; readonly signature: Uint8Array },
  account: { readonly code: AccountCode; readonly deployable: boolean; readonly factories: readonly Address[] },
): SignerVerdict {
  const { digest, signature } = from;
  const refused = { signer: "refused", why: "signature" } as const;
  const asContract = (inner: Uint8Array): SignerVerdict =>
    inner.length === 0 ? refused : { signer: "contract", question: { ...from, signature: inner } };
  if (!isErc6492(signature)) {
    if (account.code === "some") return asContract(signature);
    if (isSignedBy(suite, from.account, digest, signature)) return { signer: "ecdsa" };
    return account.code === "none" ? refused : asContract(signature);
  }
  let wrapped: ReturnType<typeof unwrapErc6492>;
  try {
    wrapped = unwrapErc6492(signature);
  } catch {
    return refused;
  }
  if (account.code === "some") return asContract(wrapped.signature);
  if (!account.deployable) return account.code === "none" ? refused : asContract(wrapped.signature);
  if (wrapped.factory === ZERO_ADDRESS || wrapped.signature.length === 0) return refused;
  if (!account.factories.includes(wrapped.factory)) return { signer: "refused", why: "factory" };
  return {
    signer: "undeployed",
    question: { ...from, signature: wrapped.signature },
    deployment: { factory: wrapped.factory, calldata: wrapped.calldata },
  };
}
