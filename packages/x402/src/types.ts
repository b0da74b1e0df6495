// Shapes of x402 payments on EVM chains. Wire documents carry numbers as decimal texts; what is parsed carries bigints and
// bytes. Addresses are `0x` and 40 lower-case hex digits inside, whatever case they came in.

/** `0x` and 40 lower-case hex digits. */
export type Address = `0x${string}`;
/** `0x` and an even number of lower-case hex digits. */
export type Hex = `0x${string}`;
/** CAIP-2 id of an EVM chain: `eip155:8453`. */
export type Network = `eip155:${number}`;
export type Scheme = "exact" | "upto" | "batch-settlement";

/** Hashes and signatures that the checks need: native where there is any, noble otherwise. */
export type EvmSuite = {
  /** Keccak-256, 32 bytes. */
  readonly keccak256: (bytes: Uint8Array) => Uint8Array;
  /**
   * The 20-byte address whose key signed `digest` (32 bytes): `signature` is r and s, 64 bytes. Undefined when there is no
   * such point; high-s signatures are the caller's to refuse.
   */
  readonly recover: (digest: Uint8Array, signature: Uint8Array, recovery: 0 | 1) => Uint8Array | undefined;
};

/** A key of an EVM account. `signDigest` gives r, s and v, 65 bytes with low s and v 27 or 28. */
export type EvmSigner = {
  readonly address: Address;
  readonly signDigest: (digest: Uint8Array) => Promise<Uint8Array>;
};

/** How a fixed-price transfer is signed. */
export type TransferMethod = "eip3009" | "permit2";

/** One way to pay, as a 402 offers it and a payment repeats it (x402 v2, PaymentRequirements). */
export type PaymentRequirements = {
  readonly scheme: Scheme;
  readonly network: Network;
  /** Atomic units, decimal: the price of `exact`, the most of the metered schemes. */
  readonly amount: string;
  readonly asset: Address;
  readonly payTo: Address;
  readonly maxTimeoutSeconds: number;
  readonly extra: RequirementExtra;
};

export type RequirementExtra = {
  /** EIP-712 domain of the token. */
  readonly name: string;
  readonly version: string;
  /** `eip3009` when absent. */
  readonly assetTransferMethod?: TransferMethod;
  /** `upto`: the contract or account that may settle. */
  readonly facilitatorAddress?: Address;
  /** `batch-settlement`: who signs claims and refunds for the receiver. */
  readonly receiverAuthorizer?: Address;
  /** `batch-settlement`: seconds, 900 to 2,592,000. */
  readonly withdrawDelay?: number;
  /** `batch-settlement`: smallest first deposit, atomic units. */
  readonly minDeposit?: string;
  /** `batch-settlement`: what the server knows of the payer's channel, in a corrective 402. */
  readonly channelState?: ChannelStateWire;
  readonly voucherState?: { readonly signedMaxClaimable: string; readonly signature: Hex };
};

export type ChannelStateWire = {
  readonly channelId: Hex;
  readonly balance: string;
  readonly totalClaimed: string;
  readonly withdrawRequestedAt: number;
  readonly refundNonce: string;
  readonly chargedCumulativeAmount: string;
};

export type ResourceInfo = { readonly url: string; readonly description?: string; readonly mimeType?: string };

/** The 402's document: header `PAYMENT-REQUIRED`, base64 of its JSON. */
export type PaymentRequired = {
  readonly x402Version: 2;
  readonly error?: string;
  readonly resource: ResourceInfo;
  readonly accepts: readonly PaymentRequirements[];
  readonly extensions?: Readonly<Record<string, unknown>>;
};

/** The result's document: header `PAYMENT-RESPONSE`, base64 of its JSON. */
export type SettlementResponse = {
  readonly success: boolean;
  /** Hash of the transaction; empty while settlement is deferred, and for vouchers. */
  readonly transaction: string;
  readonly network: Network;
  readonly payer?: Address;
  readonly amount?: string;
  readonly errorReason?: string;
  readonly errorMessage?: string;
  readonly extra?: Readonly<Record<string, unknown>>;
};

export type VerifyResponse = {
  readonly isValid: boolean;
  readonly invalidReason?: string;
  readonly invalidMessage?: string;
  readonly payer?: Address;
};

/** EIP-3009 `TransferWithAuthorization`, or `ReceiveWithAuthorization` in a deposit. Times are Unix seconds. */
export type Eip3009Authorization = {
  readonly from: Address;
  readonly to: Address;
  readonly value: bigint;
  readonly validAfter: bigint;
  readonly validBefore: bigint;
  /** 32 bytes. */
  readonly nonce: Uint8Array;
};

/** Permit2 `PermitWitnessTransferFrom`. Times are Unix seconds. */
export type Permit2Authorization = {
  readonly from: Address;
  readonly token: Address;
  readonly amount: bigint;
  readonly spender: Address;
  readonly nonce: bigint;
  readonly deadline: bigint;
};

/** EIP-712 struct of a payment channel; its digest is the channel's id. */
export type ChannelConfig = {
  readonly payer: Address;
  /** Who signs vouchers; the payer when zero. */
  readonly payerAuthorizer: Address;
  readonly receiver: Address;
  readonly receiverAuthorizer: Address;
  readonly token: Address;
  /** Seconds. */
  readonly withdrawDelay: number;
  /** 32 bytes. */
  readonly salt: Uint8Array;
};

/** A cumulative promise: up to `maxClaimable` in all may be claimed from the channel. */
export type Voucher = { readonly channelId: Uint8Array; readonly maxClaimable: bigint; readonly signature: Uint8Array };

/** EIP-2612 permit for Permit2 that a facilitator submits with the first payment (`eip2612GasSponsoring`). */
export type Eip2612Permit = {
  readonly owner: Address;
  readonly spender: Address;
  readonly asset: Address;
  readonly amount: bigint;
  readonly nonce: bigint;
  readonly deadline: bigint;
  readonly signature: Uint8Array;
};

/** What a payer signed, by kind. Signatures are 65 bytes, or longer for contract accounts (EIP-1271, ERC-6492). */
export type Payment =
  | { readonly kind: "eip3009"; readonly authorization: Eip3009Authorization; readonly signature: Uint8Array }
  | {
      readonly kind: "permit2";
      readonly permit: Permit2Authorization;
      readonly witness: { readonly to: Address; readonly validAfter: bigint };
      readonly signature: Uint8Array;
      readonly sponsored?: Eip2612Permit;
    }
  | {
      readonly kind: "upto";
      readonly permit: Permit2Authorization;
      readonly witness: { readonly to: Address; readonly facilitator: Address; readonly validAfter: bigint };
      readonly signature: Uint8Array;
      readonly sponsored?: Eip2612Permit;
    }
  | {
      readonly kind: "deposit";
      readonly channel: ChannelConfig;
      readonly voucher: Voucher;
      readonly amount: bigint;
      readonly by:
        | {
            readonly kind: "eip3009";
            readonly validAfter: bigint;
            readonly validBefore: bigint;
            readonly salt: Uint8Array;
            readonly signature: Uint8Array;
          }
        | {
            readonly kind: "permit2";
            readonly permit: Permit2Authorization;
            readonly signature: Uint8Array;
            readonly sponsored?: Eip2612Permit;
          };
    }
  | { readonly kind: "voucher"; readonly channel: ChannelConfig; readonly voucher: Voucher }
  | { readonly kind: "refund"; readonly channel: ChannelConfig; readonly voucher: Voucher; readonly amount?: bigint };

/** A payment as it came in a request, its own document aside. */
export type PaymentPayload = {
  /** The version of the headers it came in, and its answer goes out in. */
  readonly version: 1 | 2;
  readonly scheme: Scheme;
  readonly network: Network;
  readonly payment: Payment;
  /** The requirement it repeats; absent in v1. */
  readonly accepted?: PaymentRequirements;
  /** Of the extension `payment-identifier`: 16 to 128 characters. */
  readonly identifier?: string;
};

/** Who pays with a payment, and with what. */
export type PaymentParty = { readonly payer: Address; readonly asset: Address };
