import { hexToBytes, utf8ToBytes } from "@assay/core";
import { BATCH_SETTLEMENT, PERMIT2 } from "./addresses.ts";
import type { Address, EvmSuite } from "./types.ts";
import { putAddress, putNumber, putUint, putWord } from "./words.ts";

/** The EIP-712 domain of a token. */
export type TokenDomain = {
  readonly name: string;
  readonly version: string;
  readonly chainId: number;
  readonly verifyingContract: Address;
};

/** One member of an EIP-712 struct, atomic or hashed. Text is an address, bytes are a 32-byte word. */
export type Word = Address | bigint | number | Uint8Array;

/** keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)") */
const DOMAIN = hexToBytes("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");
/** keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)") */
const DOMAIN_WITHOUT_VERSION = hexToBytes("8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866");
/** keccak256("Permit2") */
const PERMIT2_NAME = hexToBytes("9ac997416e8ff9d2ff6bebeb7149f65cdae5e32e2b90440b566bb3044041d36a");
/** keccak256("x402 Batch Settlement") */
const BATCH_NAME = hexToBytes("e03c502b9066cc6f23a8f0f48ed32cb7d506f9f0a2d0055449f256846a770e9a");
/** keccak256("1") */
const VERSION_1 = hexToBytes("c89efdaa54c0f20c7adf612882df0950f5a951637e0307cdcb4c672f298b8bc6");

// Scratch memory: a digest is computed in one turn, and a hash function that is handed a view keeps none of it.
const MAX_SCRATCH_WORDS = 16;
const scratch = new Uint8Array(32 * MAX_SCRATCH_WORDS);
const views = Array.from({ length: MAX_SCRATCH_WORDS + 1 }, (_, words) => scratch.subarray(0, 32 * words));
const framed = new Uint8Array(66);
framed[0] = 0x19;
framed[1] = 0x01;

/** Keccak-256 of `abi.encode(words)`: an EIP-712 struct hash when the first word is its type's hash. At most 16 words. */
export function hashWords(suite: EvmSuite, ...words: readonly Word[]): Uint8Array {
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (typeof word === "string") putAddress(scratch, 32 * i, word);
    else if (typeof word === "bigint") putUint(scratch, 32 * i, word);
    else if (typeof word === "number") putNumber(scratch, 32 * i, word);
    else if (word !== undefined) putWord(scratch, 32 * i, word);
  }
  const view = views[words.length];
  if (view === undefined) throw new RangeError(`There is room for ${MAX_SCRATCH_WORDS} words.`);
  return suite.keccak256(view);
}

/** What is signed: keccak256(0x1901, domain separator, struct hash) (EIP-712). */
export function typedDigest(suite: EvmSuite, domain: Uint8Array, struct: Uint8Array): Uint8Array {
  putWord(framed, 2, domain);
  putWord(framed, 34, struct);
  return suite.keccak256(framed);
}

/** Hashes of one sort that are kept: those of tokens, quotes and channels that recur. A flood of others empties the memory. */
const MAX_KEPT_HASHES = 4096;

/** The hash that is kept for `key`, or that `make` gives for it. */
export function keep<Key>(kept: Map<Key, Uint8Array>, key: Key, make: () => Uint8Array): Uint8Array {
  const known = kept.get(key);
  if (known !== undefined) return known;
  const made = make();
  if (kept.size >= MAX_KEPT_HASHES) kept.clear();
  kept.set(key, made);
  return made;
}

const tokenDomains = new Map<string, Uint8Array>();
const permit2Domains = new Map<number, Uint8Array>();
const batchDomains = new Map<number, Uint8Array>();

/** The domain separator of `{name, version, chainId, verifyingContract}`. */
export function tokenDomain(suite: EvmSuite, domain: TokenDomain): Uint8Array {
  const { name, version, chainId, verifyingContract } = domain;
  // The lengths of all parts but the last two are fixed or told apart, so that no two domains share a key.
  return keep(tokenDomains, `${verifyingContract}${chainId}:${name.length}:${name}${version}`, () =>
    hashWords(
      suite,
      DOMAIN,
      suite.keccak256(utf8ToBytes(name)),
      suite.keccak256(utf8ToBytes(version)),
      chainId,
      verifyingContract,
    ),
  );
}

/** Permit2's domain separator, which has no version. */
export function permit2Domain(suite: EvmSuite, chainId: number): Uint8Array {
  return keep(permit2Domains, chainId, () => hashWords(suite, DOMAIN_WITHOUT_VERSION, PERMIT2_NAME, chainId, PERMIT2));
}

/** The domain separator of the channel contract. */
export function batchDomain(suite: EvmSuite, chainId: number): Uint8Array {
  return keep(batchDomains, chainId, () => hashWords(suite, DOMAIN, BATCH_NAME, VERSION_1, chainId, BATCH_SETTLEMENT));
}
