import { batchSettlement } from "@assay/contracts";
import { BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR, toHex } from "@assay/x402";
import type { Address, ChannelConfig, Hex, Payment } from "@assay/x402";
import { encodeAbiParameters, encodeFunctionData, parseAbiParameters } from "viem";
import { fromHex } from "../rpc/values.ts";
import type { ReadStep } from "../rpc/program.ts";
import type { Call } from "./call.ts";
import { permit2612Data, unwrapSignature } from "./payments.ts";

/** A claim on a voucher: `totalClaimed` in all, of at most the voucher's `maxClaimable`. */
export type Claim = {
  readonly channel: ChannelConfig;
  readonly maxClaimable: bigint;
  readonly signature: Uint8Array;
  readonly totalClaimed: bigint;
};

/** A channel as the contract's structs have it. */
export type ChannelTuple = Omit<ChannelConfig, "salt"> & { readonly salt: Hex };

/** What the contract of channels knows of one. Amounts in atomic units, times in Unix seconds. */
export type ChannelOnChain = {
  /** Everything that was ever deposited, less what was taken back. */
  readonly balance: bigint;
  readonly totalClaimed: bigint;
  /** What the payer wants to withdraw, and since when; 0 when nothing was asked for. */
  readonly withdrawAmount: bigint;
  readonly withdrawRequestedAt: number;
  readonly refundNonce: bigint;
};

const { abi } = batchSettlement;
const to = BATCH_SETTLEMENT;

/** `deposit` of a channel through the collector of its method. */
export function depositCall({ channel, amount, by }: Extract<Payment, { kind: "deposit" }>): Call {
  const signature = toHex(unwrapSignature(by.signature).signature);
  const [collector, collectorData] =
    by.kind === "eip3009"
      ? [
          ERC3009_DEPOSIT_COLLECTOR,
          encodeAbiParameters(parseAbiParameters("uint256, uint256, uint256, bytes"), [
            by.validAfter,
            by.validBefore,
            BigInt(toHex(by.salt)),
            signature,
          ]),
        ]
      : [
          PERMIT2_DEPOSIT_COLLECTOR,
          encodeAbiParameters(parseAbiParameters("uint256, uint256, bytes, bytes"), [
            by.permit.nonce,
            by.permit.deadline,
            signature,
            by.sponsored ? permit2612Data(by.sponsored) : "0x",
          ]),
        ];
  const args = [channelTuple(channel), amount, collector, collectorData] as const;
  return { to, data: encodeFunctionData({ abi, functionName: "deposit", args }) };
}

/**
 * Claims on vouchers: with the receiver authorizer's signature over all of them by whoever has it, without one by the
 * authorizer itself.
 */
export function claimCall(claims: readonly Claim[], authorizerSignature?: Uint8Array): Call {
  const entries = claims.map(({ channel, maxClaimable, signature, totalClaimed }) => ({
    voucher: { channel: channelTuple(channel), maxClaimableAmount: maxClaimable },
    signature: toHex(signature),
    totalClaimed,
  }));
  const data = authorizerSignature
    ? encodeFunctionData({ abi, functionName: "claimWithSignature", args: [entries, toHex(authorizerSignature)] })
    : encodeFunctionData({ abi, functionName: "claim", args: [entries] });
  return { to, data };
}

/** `settle`: sends a receiver all that was claimed for it in a token. */
export function sweepCall(receiver: Address, token: Address): Call {
  return { to, data: encodeFunctionData({ abi, functionName: "settle", args: [receiver, token] }) };
}

/** Gives up to `amount` of what is unclaimed back to the payer. Without `signed` only the authorizer may send it. */
export function refundCall(
  channel: ChannelConfig,
  amount: bigint,
  signed?: { readonly nonce: bigint; readonly signature: Uint8Array },
): Call {
  const config = channelTuple(channel);
  const data = signed
    ? encodeFunctionData({
        abi,
        functionName: "refundWithSignature",
        args: [config, amount, signed.nonce, toHex(signed.signature)],
      })
    : encodeFunctionData({ abi, functionName: "refund", args: [config, amount] });
  return { to, data };
}

/** Calls of the contract of channels in a row, all of them or none. */
export function channelCalls(calls: readonly Call[]): Call {
  const args = [calls.map(({ data }) => data)] as const;
  return { to, data: encodeFunctionData({ abi, functionName: "multicall", args }) };
}

/** The questions after a channel; {@link channelFrom} reads their answers. */
export function channelSteps(channelId: Hex): readonly ReadStep[] {
  const args = [channelId] as const;
  return [
    step(encodeFunctionData({ abi, functionName: "channels", args }), 2),
    step(encodeFunctionData({ abi, functionName: "pendingWithdrawals", args }), 2),
    step(encodeFunctionData({ abi, functionName: "refundNonce", args }), 1),
  ];
}

/** Answers of {@link channelSteps}; undefined where there is no such contract. */
export function channelFrom(
  results: readonly { readonly ok: boolean; readonly words: readonly bigint[] }[],
): ChannelOnChain | undefined {
  const [channel, withdrawal, nonce] = results;
  if (channel?.ok !== true || withdrawal?.ok !== true || nonce?.ok !== true) return undefined;
  return {
    balance: channel.words[0] ?? 0n,
    totalClaimed: channel.words[1] ?? 0n,
    withdrawAmount: withdrawal.words[0] ?? 0n,
    withdrawRequestedAt: Number(withdrawal.words[1] ?? 0n),
    refundNonce: nonce.words[0] ?? 0n,
  };
}

/** The question what was claimed for a receiver in a token, and how much of it was sent: two words. */
export function receiverStep(receiver: Address, token: Address): ReadStep {
  return step(encodeFunctionData({ abi, functionName: "receivers", args: [receiver, token] }), 2);
}

function step(data: Hex, words: number): ReadStep {
  return { kind: "call", to, data: fromHex(data), words };
}

function channelTuple(channel: ChannelConfig): ChannelTuple {
  return { ...channel, salt: toHex(channel.salt) };
}
