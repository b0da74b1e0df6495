import { AssayError, equalBytes } from "@assay/core";
import type { TokenInfo } from "@assay/contracts";
import {
  afterDeployment,
  channelCalls,
  claimCall,
  depositCall,
  deploymentOf,
  paymentCall,
  refundCall,
  sweepCall,
  unwrapSignature,
} from "@assay/driver-chain";
import type { Call, Chain, DirectPayment, Sender } from "@assay/driver-chain";
import { channelIdOf, claimBatchDigest, depositIdOf, fromHex, paymentIdOf, refundDigest, toHex } from "@assay/x402";
import type { Address, EvmSigner, EvmSuite, Network, PaymentRequirements } from "@assay/x402";
import { REASON, refuse } from "./reasons.ts";
import type { Reason, Refusal } from "./reasons.ts";
import type { ParsedRequest, PaymentRequest } from "./request.ts";
import type { FacilitatorCaller } from "./types.ts";

/** What is needed of a sender. */
export type PaymentSender = Pick<Sender, "address" | "submit" | "outcome" | "wait">;

/** One chain that is served. */
export type ServedChain = {
  readonly network: Network;
  readonly chain: Chain;
  /** Accounts that send transactions. Payments by `upto` name one of them. */
  readonly senders: readonly PaymentSender[];
  /** Tokens that are accepted: what they do on a transfer is known. */
  readonly tokens: readonly TokenInfo[];
  /**
   * Signs claims and refunds for receivers that name it as their channels' authorizer. Only callers whose list of
   * recipients names the receiver have anything signed.
   */
  readonly authorizer?: EvmSigner;
  /** Factories that may deploy a payer's account on the way (ERC-6492). None when absent. */
  readonly factories?: readonly Address[];
  /** Schemes whose contracts are on this chain; all of them when absent. */
  readonly schemes?: readonly PaymentRequirements["scheme"][];
  /** Most gas of one transaction. */
  readonly maxGas?: bigint;
};

/** What is to be sent for a request, and what it is called when it fails. */
export type Plan = {
  /** What may happen once. */
  readonly key: string;
  readonly payer?: Address;
  /** Absent when nothing has to be sent: `upto` for nothing. */
  readonly call?: Call;
  readonly failed: { readonly simulation: Reason; readonly transaction: Reason };
  /** In the result, atomic units. */
  readonly amountAtomic?: bigint;
  /** The channel whose state the result shows. */
  readonly channelId?: Uint8Array;
};

type Planned = (Plan & { readonly ok: true }) | Refusal;

/** Who is paid by a request, for the lists of recipients. */
export function payeeOf(request: ParsedRequest): Address {
  switch (request.kind) {
    case "payment": {
      const { payment } = request.document;
      if (payment.kind === "eip3009") return payment.authorization.to;
      return payment.kind === "permit2" || payment.kind === "upto" ? payment.witness.to : payment.channel.receiver;
    }
    case "claim":
    case "refund":
      return request.requirement.payTo;
    case "sweep":
      return request.receiver;
    default:
      return request satisfies never;
  }
}

/** Whether a request moves money to its recipient, as against into a channel or out of one. */
export function isTransfer(request: ParsedRequest): boolean {
  if (request.kind !== "payment") return false;
  const { kind } = request.document.payment;
  return kind === "eip3009" || kind === "permit2" || kind === "upto";
}

/** The sender that has to settle a request: the one that the payer named, or any. */
export function sendersFor(served: ServedChain, request: ParsedRequest): readonly PaymentSender[] {
  if (request.kind !== "payment" || request.document.payment.kind !== "upto") return served.senders;
  const { facilitator } = request.document.payment.witness;
  return served.senders.filter(({ address }) => address === facilitator);
}

const keyOf = (served: ServedChain, ...parts: readonly string[]): string => [served.network, ...parts].join(" ");

/**
 * What settles a payment, without looking at the chain or the clock. The requirement's amount is what `upto` takes.
 * Refuses what has no transaction: a voucher is claimed later, by its server.
 */
export function planPayment(suite: EvmSuite, served: ServedChain, { document, requirement }: PaymentRequest): Planned {
  const { payment } = document;
  const key = (): string => keyOf(served, "payment", toHex(paymentIdOf(suite, document, requirement)));
  switch (payment.kind) {
    case "eip3009": {
      return {
        ok: true,
        key: key(),
        payer: payment.authorization.from,
        call: withAccount(payment, requirement.asset),
        failed: { simulation: REASON.transferSimulation, transaction: REASON.exactTransaction },
      };
    }
    case "permit2":
      return {
        ok: true,
        key: key(),
        payer: payment.permit.from,
        call: withAccount(payment, requirement.asset),
        failed: { simulation: REASON.permit2Simulation, transaction: REASON.exactTransaction },
      };
    case "upto": {
      const amountAtomic = BigInt(requirement.amount);
      if (amountAtomic > payment.permit.amount)
        return refuse(REASON.uptoAmount, "More is asked for than the payer permitted.", payment.permit.from);
      return {
        ok: true,
        key: key(),
        payer: payment.permit.from,
        ...(amountAtomic === 0n ? {} : { call: paymentCall(payment, requirement.asset, amountAtomic) }),
        failed: { simulation: REASON.permit2Simulation, transaction: REASON.uptoTransaction },
        amountAtomic,
      };
    }
    case "deposit": {
      const { by, channel, voucher } = payment;
      const { deployment } = unwrapSignature(by.signature);
      const deposit = depositCall(payment);
      return {
        ok: true,
        key: keyOf(served, "payment", toHex(depositIdOf(suite, document, payment))),
        payer: channel.payer,
        call: deployment ? afterDeployment(deployment, deposit) : deposit,
        failed: { simulation: REASON.depositSimulation, transaction: REASON.depositTransaction },
        amountAtomic: payment.amount,
        channelId: voucher.channelId,
      };
    }
    case "voucher":
    case "refund":
      return refuse(
        REASON.payloadType,
        "A voucher is not settled by itself: its server claims it.",
        payment.channel.payer,
      );
    default:
      return payment satisfies never;
  }
}

/** What a server asks for about its channels. Signs for the receiver where it left that to this facilitator. */
export async function planServer(
  suite: EvmSuite,
  served: ServedChain,
  request: Exclude<ParsedRequest, PaymentRequest>,
  caller: FacilitatorCaller | undefined,
): Promise<Planned> {
  const { asset, payTo } = request.requirement;
  const chainId = served.chain.chainId;
  if (request.kind === "sweep") {
    const { receiver, token } = request;
    if (receiver !== payTo) return refuse(REASON.receiver);
    if (token !== asset) return refuse(REASON.token);
    return {
      ok: true,
      key: keyOf(served, "sweep", receiver, token),
      call: sweepCall(receiver, token),
      failed: { simulation: REASON.sweepSimulation, transaction: REASON.sweepTransaction },
    };
  }
  const channels = [
    ...request.claims.map(({ channel }) => channel),
    ...("channel" in request ? [request.channel] : []),
  ];
  if (channels.some(({ receiver }) => receiver !== payTo)) return refuse(REASON.receiver);
  if (channels.some(({ token }) => token !== asset)) return refuse(REASON.token);
  const needed =
    (request.claims.length > 0 && request.claimSignature === undefined) ||
    (request.kind === "refund" && request.refundSignature === undefined);
  const { authorizer } = served;
  if (needed) {
    // Whoever holds a channel's vouchers could claim more than was charged, and a refund takes from the receiver.
    const theirs = caller !== undefined && caller.payTo !== "any" && caller.payTo.includes(payTo);
    if (!authorizer)
      return refuse(REASON.authorizer, "The receiver's authorizer has to sign; this facilitator is none.");
    if (!theirs)
      throw new AssayError("payee_refused", "Nothing is signed for this receiver on behalf of this caller.", {
        hints: ["The caller's list of recipients has to name the receiver."],
      });
    if (channels.some(({ receiverAuthorizer }) => receiverAuthorizer !== authorizer.address))
      return refuse(REASON.authorizerMismatch);
  }
  const sign = async (digest: Uint8Array): Promise<Uint8Array> => {
    if (!authorizer) throw new Error("There is nobody to sign.");
    return authorizer.signDigest(digest);
  };
  const entries = request.claims.map(({ channel, maxClaimable, totalClaimed }) => ({
    channelId: channelIdOf(suite, chainId, channel),
    maxClaimable,
    totalClaimed,
  }));
  const claims =
    request.claims.length === 0
      ? undefined
      : claimCall(request.claims, request.claimSignature ?? (await sign(claimBatchDigest(suite, chainId, entries))));
  if (request.kind === "claim") {
    if (!claims) return refuse(REASON.payloadType);
    return {
      ok: true,
      key: keyOf(served, "claim", toHex(suite.keccak256(fromHex(claims.data)))),
      call: claims,
      failed: { simulation: REASON.claimSimulation, transaction: REASON.claimTransaction },
    };
  }
  const { channel, channelId, amount, nonce } = request;
  if (!equalBytes(channelIdOf(suite, chainId, channel), channelId)) return refuse(REASON.channelMismatch);
  const signature = request.refundSignature ?? (await sign(refundDigest(suite, chainId, channelId, nonce, amount)));
  const back = refundCall(channel, amount, { nonce, signature });
  return {
    ok: true,
    key: keyOf(served, "refund", toHex(channelId), String(nonce)),
    payer: channel.payer,
    call: claims ? channelCalls([claims, back]) : back,
    failed: { simulation: REASON.refundSimulation, transaction: REASON.refundTransaction },
    amountAtomic: amount,
    channelId,
  };
}

/** The transfer of a fixed payment, after its payer's account when that is still to come into being (ERC-6492). */
function withAccount(payment: Exclude<DirectPayment, { kind: "upto" }>, token: Address): Call {
  const deployment = deploymentOf(payment);
  const call = paymentCall(payment, token, 0n);
  return deployment ? afterDeployment(deployment, call) : call;
}
