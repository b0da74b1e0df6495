import type { Hex } from "./types.ts";

/**
 * keccak256 of the code that public chains have at the canonical addresses, as it was published by several who read it there.
 * Permit2's is not among them: it holds the chain's number, and is computed from the init code that its address proves. The
 * channel contract and its collectors are not either: nobody had published theirs.
 */
export const publicCodeHashes = {
  create2Deployer: "0x2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989",
  multicall3: "0xd5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891",
  exactPermit2Proxy: "0xce6429c0bb49284660683287c0a8fe548a88379072327d026626909d202048b9",
  uptoPermit2Proxy: "0x4662dc27323421a3698be49ac95f7b0dba141c238d31ef543248d1a11f8d8eec",
} as const satisfies Record<string, Hex>;
