import { AssayError } from "@assay/core";
import type { Network } from "./types.ts";

/** Names of chains in x402 v1. What has no name cannot be quoted to a v1 client. */
const V1_NAMES: Readonly<Record<string, number>> = {
  ethereum: 1,
  sepolia: 11_155_111,
  base: 8453,
  "base-sepolia": 84_532,
  abstract: 2741,
  "abstract-testnet": 11_124,
  avalanche: 43_114,
  "avalanche-fuji": 43_113,
  iotex: 4689,
  sei: 1329,
  "sei-testnet": 1328,
  polygon: 137,
  "polygon-amoy": 80_002,
  peaq: 3338,
  story: 1514,
  educhain: 41_923,
  "skale-base-sepolia": 324_705_682,
  megaeth: 4326,
  monad: 143,
  stable: 988,
  "stable-testnet": 2201,
  celo: 42_220,
  flare: 14,
};
const chainsByName = new Map(Object.entries(V1_NAMES));
const namesByChain = new Map(Object.entries(V1_NAMES).map(([name, chainId]) => [chainId, name]));

const CAIP2 = /^eip155:([1-9][0-9]{0,15})$/;

/** The CAIP-2 id of an EVM chain. */
export function networkOfChain(chainId: number): Network {
  return `eip155:${chainId}`;
}

/** The chain id in a CAIP-2 id. Throws `payment_network_unsupported` for anything but an EVM chain's. */
export function chainIdOf(network: string): number {
  const digits = CAIP2.exec(network)?.[1];
  const chainId = digits === undefined ? Number.NaN : Number(digits);
  if (Number.isSafeInteger(chainId)) return chainId;
  throw new AssayError("payment_network_unsupported", `"${network.slice(0, 64)}" is not an EVM chain.`, {
    hints: ["Networks of x402 v2 are CAIP-2 ids such as eip155:8453."],
  });
}

/** The network that x402 v1 calls `name`. Throws `payment_network_unsupported` for a name it does not have. */
export function networkOfV1Name(name: string): Network {
  const chainId = chainsByName.get(name);
  if (chainId !== undefined) return networkOfChain(chainId);
  throw new AssayError("payment_network_unsupported", `x402 v1 has no EVM network "${name.slice(0, 64)}".`, {
    hints: ["x402 v1 names networks: base, base-sepolia. Version 2 takes any EVM chain."],
  });
}

/** What x402 v1 calls a network; undefined when it has no name for it. */
export function v1NameOf(network: Network): string | undefined {
  return namesByChain.get(chainIdOf(network));
}
