import type { Address } from "@assay/x402";
import type { ReadStep } from "./program.ts";
import { calldata, selector, tailBytes } from "./selector.ts";
import { word } from "./values.ts";

/** Longest contract signature that is sent to a node: a passkey's or a multisig's are a few kilobytes at most. */
export const MAX_SIGNATURE_BYTES = 8_192;
/** Longest call data of a factory. */
export const MAX_FACTORY_CALL_BYTES = 16_384;
/** Gas of a contract's judgement: a curve computed in the EVM takes about a million. */
const SIGNATURE_GAS = 3_000_000;
const DEPLOY_GAS = 5_000_000;

const IS_VALID_SIGNATURE = selector("isValidSignature(bytes32,bytes)");
/** What `isValidSignature` returns for a valid one (EIP-1271), left-aligned in its word. */
const MAGIC = 0x1626ba7en << 224n;

/** Asks an account with code whether it signed `digest` (EIP-1271). */
export function signatureStep(account: Address, digest: Uint8Array, signature: Uint8Array): ReadStep {
  return {
    kind: "call",
    to: account,
    data: calldata(IS_VALID_SIGNATURE, digest, word(64), tailBytes(signature)),
    words: 1,
    gas: SIGNATURE_GAS,
  };
}

/** Lets a factory deploy an account, for the length of one call (EIP-6492). */
export function deployStep(factory: Address, data: Uint8Array): ReadStep {
  return { kind: "call", to: factory, data, words: 0, gas: DEPLOY_GAS, acts: true };
}

/** EIP-1271 compares the first four bytes alone, and the ABI pads them with zeroes. */
export function isMagic(answer: bigint | undefined): boolean {
  return answer === MAGIC;
}
