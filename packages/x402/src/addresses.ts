import type { Address } from "./types.ts";

// Contracts that stand at the same address on every EVM chain (x402 specification, Permit2 and CREATE2 deployments).
export const PERMIT2: Address = "0x000000000022d473030f116ddee9f6b43ac78ba3";
/** Spender of `exact` payments by Permit2. */
export const EXACT_PERMIT2_PROXY: Address = "0x402085c248eea27d92e8b30b2c58ed07f9e20001";
/** Spender of `upto` payments. */
export const UPTO_PERMIT2_PROXY: Address = "0x4020a4f3b7b90cca423b9fabcc0ce57c6c240002";
/** Holds the channels of `batch-settlement`. */
export const BATCH_SETTLEMENT: Address = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003";
/** Receives deposits that are signed as EIP-3009 `ReceiveWithAuthorization`. */
export const ERC3009_DEPOSIT_COLLECTOR: Address = "0x4020806089470a89826cb9fb1f4059150b550004";
/** Spender of deposits that are signed for Permit2. */
export const PERMIT2_DEPOSIT_COLLECTOR: Address = "0x4020425faf3b746c082c2f942b4e5159887b0005";
export const ZERO_ADDRESS: Address = "0x0000000000000000000000000000000000000000";
