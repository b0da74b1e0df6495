import type { Hex } from "./types.ts";

/**
 * keccak256 of the code that public chains have at the canonical addresses. Those of the deployer, Multicall3 and the two
 * proxies were published by several who read them there. Those of the collectors follow from the published init code, which
 * their addresses prove. Permit2's is not among them: it holds the chain's number, and is computed from its init code.
 */
export const publicCodeHashes = {
  create2Deployer: "0x2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989",
  multicall3: "0xd5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891",
  exactPermit2Proxy: "0xce6429c0bb49284660683287c0a8fe548a88379072327d026626909d202048b9",
  uptoPermit2Proxy: "0x4662dc27323421a3698be49ac95f7b0dba141c238d31ef543248d1a11f8d8eec",
  erc3009DepositCollector: "0x0c2cfe8840e964588598801e8d109593fdc57e16d85f214653139c79186d1f3b",
  permit2DepositCollector: "0x113778631c3a21174455c5935b8514b616b0a17e35f268d92a5aed9bc1234a5a",
} as const satisfies Record<string, Hex>;

/**
 * keccak256 of the public channel contract's code with its immutables left zero: each chain's own hold the chain's number.
 * Published with the hash of the init code that its address proves, by who compiled it.
 */
export const publicBatchSettlementTemplate: Hex = "0x5ff2eda5f092227f1b7d92dd6ad9fcc6ca644b7d2e254771dfc3e09abb3d7cb0";
