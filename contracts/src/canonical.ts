import type { Address, TokenInfo } from "./types.ts";

/** Addresses that are the same on every EVM chain, in lower case. */
export const canonicalAddresses = {
  permit2: "0x000000000022d473030f116ddee9f6b43ac78ba3",
  exactPermit2Proxy: "0x402085c248eea27d92e8b30b2c58ed07f9e20001",
  uptoPermit2Proxy: "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002",
  batchSettlement: "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003",
  erc3009DepositCollector: "0x4020806089470a89826cb9fb1f4059150b550004",
  permit2DepositCollector: "0x4020425faf3b746c082c2f942b4e5159887b0005",
  multicall3: "0xca11bde05977b3631167028862be2a173976ca11",
} as const satisfies Record<string, Address>;

/** The CREATE2 deployer: calldata is the salt (32 bytes) and the init code. Anvil has it from the start. */
export const create2Deployer: Address = "0x4e59b44847b379578588920ca78fbf26c0b4956c";

/** The salt of everything that is deployed through it by this project. */
export const zeroSalt: `0x${string}` = "0x0000000000000000000000000000000000000000000000000000000000000000";

/** A chain that a development installation may imitate, and the test dollar that it has. */
export type DevelopmentProfile = {
  readonly chainId: 31337 | 84532 | 8453;
  /** The artifact to place at the token's address. */
  readonly artifact: "testUsdc" | "testUsdCoin";
  readonly usdc: TokenInfo;
};

const dollar = { symbol: "USDC", decimals: 6, version: "2", eip3009: true, eip2612: true } as const;

/**
 * The embedded chain's profiles. On the ids of public chains the test dollar is where USDC is there, with its EIP-712
 * domain, so that clients with built-in addresses pay without options. Signatures made for them are valid on the public
 * chain too: development keys only.
 */
export const developmentProfiles: Readonly<Record<31337 | 84532 | 8453, DevelopmentProfile>> = {
  31337: {
    chainId: 31337,
    artifact: "testUsdc",
    usdc: { ...dollar, name: "USDC", address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e" },
  },
  84532: {
    chainId: 84532,
    artifact: "testUsdc",
    usdc: { ...dollar, name: "USDC", address: "0x036cbd53842c5426634e7929541ec2318f3dcf7e" },
  },
  8453: {
    chainId: 8453,
    artifact: "testUsdCoin",
    usdc: { ...dollar, name: "USD Coin", address: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913" },
  },
};

/** Name and version of the channel contract's EIP-712 domain. */
export const batchSettlementDomain = { name: "x402 Batch Settlement", version: "1" } as const;

/** Name and version of the anchor contract's EIP-712 domain. */
export const anchorDomain = { name: "Assay Receipt Anchor", version: "1" } as const;

/** EIP-712 types of an anchored entry; the digest is the entry's hash. */
export const anchorEntryTypes = {
  Entry: [
    { name: "submitter", type: "address" },
    { name: "firstLeaf", type: "uint64" },
    { name: "leafCount", type: "uint64" },
    { name: "root", type: "bytes32" },
    { name: "logSize", type: "uint64" },
    { name: "logRoot", type: "bytes32" },
    { name: "blob", type: "bytes32" },
    { name: "prev", type: "bytes32" },
  ],
} as const;
