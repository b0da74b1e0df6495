import { encodeAbiParameters, encodeFunctionData, parseAbiParameters } from "viem";
import type { Abi } from "viem";
import {
  batchSettlement,
  canonicalAddresses,
  exactPermit2Proxy,
  multicall3,
  testUsdc,
  uptoPermit2Proxy,
} from "@assay/contracts";
import {
  BATCH_SETTLEMENT,
  ERC3009_DEPOSIT_COLLECTOR,
  EXACT_PERMIT2_PROXY,
  fromHex,
  PERMIT2_DEPOSIT_COLLECTOR,
  toHex,
  UPTO_PERMIT2_PROXY,
} from "@assay/x402";
import type { Address, ChannelConfig, Eip2612Permit, Hex, Payment, Permit2Authorization } from "@assay/x402";

/** What a transaction does. */
export type Call = { readonly to: Address; readonly data: Uint8Array };

/** A claim on a voucher: `totalClaimed` in all, of at most the voucher's `maxClaimable`. */
export type Claim = {
  readonly channel: ChannelConfig;
  readonly maxClaimable: bigint;
  readonly signature: Uint8Array;
  readonly totalClaimed: bigint;
};

type BatchFunction =
  | "deposit"
  | "claimWithSignature"
  | "settle"
  | "refundWithSignature"
  | "multicall"
  | "channels"
  | "pendingWithdrawals"
  | "refundNonce"
  | "receivers";
type Of<Kind extends Payment["kind"]> = Extract<Payment, { kind: Kind }>;

/** Multicall3, at the same address on every chain. */
const MULTICALL3: Address = canonicalAddresses.multicall3;

/**
 * `transferWithAuthorization` of an EIP-3009 token. `signature` is the account's own, without the wrapping of ERC-6492.
 * 65 bytes go into the overload with v, r and s, which every such token has.
 */
export function transferCall(token: Address, { authorization }: Of<"eip3009">, signature: Uint8Array): Call {
  const { from, to, value, validAfter, validBefore, nonce } = authorization;
  const message = [from, to, value, validAfter, validBefore, toHex(nonce)] as const;
  const data =
    signature.length === 65
      ? encodeFunctionData({
          abi: testUsdc.abi,
          functionName: "transferWithAuthorization",
          args: [...message, ...split(signature)],
        })
      : encodeFunctionData({
          abi: testUsdc.abi,
          functionName: "transferWithAuthorization",
          args: [...message, toHex(signature)],
        });
  return { to: token, data: fromHex(data) };
}

/** `settle` or `settleWithPermit` of the exact proxy. */
export function exactCall({ permit, witness, signature, sponsored }: Of<"permit2">): Call {
  const args = [permitOf(permit), permit.from, witness, toHex(signature)] as const;
  const { abi } = exactPermit2Proxy;
  const data = sponsored
    ? encodeFunctionData({ abi, functionName: "settleWithPermit", args: [permit2612Of(sponsored), ...args] })
    : encodeFunctionData({ abi, functionName: "settle", args });
  return { to: EXACT_PERMIT2_PROXY, data: fromHex(data) };
}

/** `settle` or `settleWithPermit` of the upto proxy for `amount`, which only the witness's facilitator may send. */
export function uptoCall({ permit, witness, signature, sponsored }: Of<"upto">, amount: bigint): Call {
  const args = [permitOf(permit), amount, permit.from, witness, toHex(signature)] as const;
  const { abi } = uptoPermit2Proxy;
  const data = sponsored
    ? encodeFunctionData({ abi, functionName: "settleWithPermit", args: [permit2612Of(sponsored), ...args] })
    : encodeFunctionData({ abi, functionName: "settle", args });
  return { to: UPTO_PERMIT2_PROXY, data: fromHex(data) };
}

/** `deposit` of a channel through the collector of its method. `signature` as in {@link transferCall}. */
export function depositCall({ channel, amount, by }: Of<"deposit">, signature: Uint8Array): Call {
  const collectorData =
    by.kind === "eip3009"
      ? encodeAbiParameters(parseAbiParameters("uint256, uint256, uint256, bytes"), [
          by.validAfter,
          by.validBefore,
          BigInt(toHex(by.salt)),
          toHex(signature),
        ])
      : encodeAbiParameters(parseAbiParameters("uint256, uint256, bytes, bytes"), [
          by.permit.nonce,
          by.permit.deadline,
          toHex(signature),
          by.sponsored ? permitData(by.sponsored) : "0x",
        ]);
  const collector = by.kind === "eip3009" ? ERC3009_DEPOSIT_COLLECTOR : PERMIT2_DEPOSIT_COLLECTOR;
  return batchCall("deposit", [channelOf(channel), amount, collector, collectorData]);
}

/** `claimWithSignature`: claims on vouchers, by whoever brings the receiver authorizer's signature. */
export function claimCall(claims: readonly Claim[], authorizerSignature: Uint8Array): Call {
  const entries = claims.map(({ channel, maxClaimable, signature, totalClaimed }) => ({
    voucher: { channel: channelOf(channel), maxClaimableAmount: maxClaimable },
    signature: toHex(signature),
    totalClaimed,
  }));
  return batchCall("claimWithSignature", [entries, toHex(authorizerSignature)]);
}

/** `settle`: sends a receiver all that was claimed for it in a token. */
export function sweepCall(receiver: Address, token: Address): Call {
  return batchCall("settle", [receiver, token]);
}

/** `refundWithSignature`, after `claims` in the same transaction when there are any. */
export function refundCall(
  refund: {
    readonly channel: ChannelConfig;
    readonly amount: bigint;
    readonly nonce: bigint;
    readonly signature: Uint8Array;
  },
  claims: Call | undefined,
): Call {
  const { channel, amount, nonce, signature } = refund;
  const back = batchCall("refundWithSignature", [channelOf(channel), amount, nonce, toHex(signature)]);
  return claims ? batchCall("multicall", [[toHex(claims.data), toHex(back.data)]]) : back;
}

/** Deploys an account by its factory and does `call`, in one transaction; a factory that fails does not matter. */
export function afterDeployment(factory: Address, factoryData: Uint8Array, call: Call): Call {
  const data = encodeFunctionData({
    abi: multicall3.abi,
    functionName: "aggregate3",
    args: [
      [
        { target: factory, allowFailure: true, callData: toHex(factoryData) },
        { target: call.to, allowFailure: false, callData: toHex(call.data) },
      ],
    ],
  });
  return { to: MULTICALL3, data: fromHex(data) };
}

/** Reads of the batch contract, each with the number of 32-byte words that it answers. */
export const channelReads = {
  channel: (id: Uint8Array) => ({ ...batchCall("channels", [toHex(id)]), words: 2 }),
  withdrawal: (id: Uint8Array) => ({ ...batchCall("pendingWithdrawals", [toHex(id)]), words: 2 }),
  refundNonce: (id: Uint8Array) => ({ ...batchCall("refundNonce", [toHex(id)]), words: 1 }),
  receiver: (receiver: Address, token: Address) => ({ ...batchCall("receivers", [receiver, token]), words: 2 }),
} as const;

const BATCH_ABI: Abi = batchSettlement.abi;

/** Its arguments are `unknown` to the compiler: viem's types do not follow a function that is named by an argument. */
function batchCall(functionName: BatchFunction, args: readonly unknown[]): Call {
  const data = encodeFunctionData({ abi: BATCH_ABI, functionName, args });
  return { to: BATCH_SETTLEMENT, data: fromHex(data) };
}

function channelOf(channel: ChannelConfig) {
  return { ...channel, salt: toHex(channel.salt) };
}

function permitOf({ token, amount, nonce, deadline }: Permit2Authorization) {
  return { permitted: { token, amount }, nonce, deadline };
}

function permit2612Of({ amount, deadline, signature }: Eip2612Permit) {
  const [v, r, s] = split(signature);
  return { value: amount, deadline, r, s, v };
}

function permitData({ amount, deadline, signature }: Eip2612Permit): Hex {
  return encodeAbiParameters(parseAbiParameters("uint256, uint256, uint8, bytes32, bytes32"), [
    amount,
    deadline,
    ...split(signature),
  ]);
}

/** v, r and s of a signature of 65 bytes; v as the chain wants it, 27 or 28. */
function split(signature: Uint8Array): [number, Hex, Hex] {
  const v = signature[64] ?? 0;
  return [v < 27 ? v + 27 : v, toHex(signature.subarray(0, 32)), toHex(signature.subarray(32, 64))];
}
