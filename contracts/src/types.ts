/** `0x` and 40 lower-case hex digits. */
export type Address = `0x${string}`;
/** `0x` and an even number of lower-case hex digits. */
export type Hex = `0x${string}`;

/** A compiled contract. */
export type Artifact = {
  readonly name: string;
  readonly abi: readonly unknown[];
  /** Init code, without constructor arguments. */
  readonly bytecode: Hex;
  /** Runtime code; its immutables, if it has any, are zero. */
  readonly deployedBytecode: Hex;
};

/** An ERC-20 token that payments are made in. */
export type TokenInfo = {
  /** What people call it: `USDC`, `ASY`. */
  readonly symbol: string;
  readonly address: Address;
  /** One token is 10 to the power of this many units. */
  readonly decimals: number;
  /** Name of its EIP-712 domain. */
  readonly name: string;
  /** Version of its EIP-712 domain. */
  readonly version: string;
  /** It has `transferWithAuthorization`, with the signature as v, r, s and as bytes. */
  readonly eip3009: boolean;
  /** It has `permit`. */
  readonly eip2612: boolean;
};

/** A scheme of x402 that this project settles. */
export type PaymentScheme = "exact" | "upto" | "batch-settlement";

/** What is where on one chain. */
export type Deployments = {
  readonly chainId: number;
  /** CAIP-2: `eip155:31337`. */
  readonly network: `eip155:${number}`;
  readonly permit2: Address;
  readonly exactPermit2Proxy: Address;
  readonly uptoPermit2Proxy: Address;
  readonly batchSettlement: Address;
  readonly erc3009DepositCollector: Address;
  readonly permit2DepositCollector: Address;
  readonly multicall3: Address;
  readonly paymentBatcher: Address;
  readonly receiptAnchor: Address;
  readonly splitFactory: Address;
  /** The network's dollar first. */
  readonly tokens: readonly TokenInfo[];
  /** The schemes whose contracts are there; all of them when absent. */
  readonly schemes?: readonly PaymentScheme[];
};
