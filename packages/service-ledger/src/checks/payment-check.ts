import { bytesToHex } from "@assay/core";
import { batchSettlement, paymentBatcher, testUsdc } from "@assay/contracts";
import { movedAsAuthorized } from "@assay/driver-chain";
import type { ChannelTuple } from "@assay/driver-chain";
import { settledIn, settlementFault } from "@assay/receipts";
import type { CheckOutcome, ReceiptView, ServiceClaims } from "@assay/receipts";
import { channelIdOf, noncePaymentId, voucherPaymentId } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { decodeEventLog, decodeFunctionData, encodeEventTopics, hexToBytes } from "viem";
import type { ChainReceipt } from "../settle/ports.ts";
import { plainTopics, searchBack } from "../settle/search.ts";
import { paymentOfCall } from "./permit-call.ts";
import { outcome } from "./tools.ts";
import type { CheckTools } from "./tools.ts";

type Claim = NonNullable<ServiceClaims["payment"]>;

const AMOUNT = /^[1-9][0-9]{0,77}$/;

/**
 * Whether the payment that a receipt's service statement names was settled on the chain as it says, for this receipt
 * (docs/spec/receipt.md section 8.1). What the statements contradict of each other fails before the chain is asked.
 */
export async function checkPayment(tools: CheckTools, view: ReceiptView): Promise<CheckOutcome> {
  const fault = settlementFault(view);
  if (fault) return fault;
  const { service } = view;
  const stated = service?.claims.payment;
  if (!service || !stated) return outcome("inconclusive", "no_payment", "The receipt names no payment.");
  const { deployments } = tools;
  if (stated.network !== deployments.network)
    return outcome("inconclusive", "payment_other_network", "The payment is on another chain than the one asked.", {
      payment: stated.network,
      asked: deployments.network,
    });
  if (stated.amountAtomic === "0") return outcome("pass", "payment_of_nothing", "Nothing was charged.");
  const claim = { ...stated, paymentId: stated.paymentId.toLowerCase() };
  const transaction = settledIn(view) as Hex | undefined;
  const found = transaction && (await judge(tools, claim, service.statement.digest, transaction));
  if (found?.status === "pass") return found;
  // A chain that took a block back may have the payment elsewhere. The batcher's event names it; a claim's names a sum.
  const elsewhere = claim.scheme === "batch-settlement" ? undefined : await search(tools, claim);
  if (elsewhere !== undefined && elsewhere !== transaction)
    return judge(tools, claim, service.statement.digest, elsewhere);
  return (
    found ??
    outcome("inconclusive", "payment_unsettled", "No settlement of this payment was found on the chain.", {
      paymentId: claim.paymentId,
    })
  );
}

/** What one transaction says of a payment. */
async function judge(
  tools: CheckTools,
  claim: Claim,
  serviceDigest: Uint8Array,
  transaction: Hex,
): Promise<CheckOutcome> {
  const receipt = await tools.reads.receipt(transaction);
  if (!receipt)
    return outcome("fail", "payment_not_on_chain", "The transaction that settled the payment is not on the chain.", {
      transaction,
    });
  if (!receipt.ok) return outcome("fail", "payment_reverted", "The transaction reverted.", { transaction });
  const found = await (claim.scheme === "batch-settlement"
    ? checkClaimed(tools, claim, receipt)
    : checkMoved(tools, claim, receipt, serviceDigest));
  if (found.status !== "pass") return found;
  // A block that is new may be taken back: how many are above it is the reader's to judge.
  const above = Math.max(0, (await tools.reads.blockNumber()) - receipt.blockNumber);
  return { ...found, facts: { ...found.facts, blocksAbove: String(above) } };
}

/** The latest transaction of the batcher that settled the payment. */
async function search({ reads, deployments, searchBlocks }: CheckTools, claim: Claim): Promise<Hex | undefined> {
  if (!/^0x[0-9a-f]{64}$/.test(claim.paymentId)) return undefined;
  const topics = plainTopics(
    encodeEventTopics({
      abi: paymentBatcher.abi,
      eventName: "PaymentSettled",
      args: { paymentId: claim.paymentId as Hex },
    }),
  );
  const found = await searchBack(
    await reads.blockNumber(),
    async (fromBlock, toBlock) => {
      const logs = await reads.logs({ address: deployments.paymentBatcher, topics, fromBlock, toBlock });
      return logs.toReversed().find((log) => settledEvent(log)?.ok === true);
    },
    searchBlocks,
  );
  return found?.transaction;
}

type Log = ChainReceipt["logs"][number];

function settledEvent(log: Log) {
  const [signature, ...indexed] = log.topics;
  if (signature === undefined) return undefined;
  try {
    const event = decodeEventLog({ abi: paymentBatcher.abi, data: log.data, topics: [signature, ...indexed] });
    return event.eventName === "PaymentSettled" ? event.args : undefined;
  } catch {
    return undefined;
  }
}

async function checkMoved(
  tools: CheckTools,
  claim: Claim,
  receipt: ChainReceipt,
  serviceDigest: Uint8Array,
): Promise<CheckOutcome> {
  const { deployments, suite } = tools;
  const facts = { transaction: receipt.transaction, block: String(receipt.blockNumber) };
  const events = settlingsIn(receipt.logs, deployments.paymentBatcher).filter(
    ({ event: { paymentId } }) => paymentId === claim.paymentId,
  );
  const settled = events.find(({ event: { ok } }) => ok);
  if (settled) {
    const { event, before } = settled;
    const compared: readonly (readonly [code: string, what: string, stated: string, found: string])[] = [
      ["payment_payer_mismatch", "payer", claim.payer, event.payer],
      ["payment_asset_mismatch", "asset", claim.asset, event.token],
      ["payment_amount_mismatch", "amount", claim.amountAtomic, event.amount.toString()],
      ["payment_pay_to_mismatch", "payTo", claim.payTo ?? event.payTo, event.payTo],
      ["payment_receipt_mismatch", "receipt", `0x${bytesToHex(serviceDigest)}`, event.receiptDigest],
    ];
    const other = compared.find(([, , stated, found]) => stated.toLowerCase() !== found.toLowerCase());
    if (other) {
      const [code, what, stated, found] = other;
      return outcome("fail", code, `The chain has another ${what} of the payment.`, { ...facts, stated, found });
    }
    // Whoever runs a gateway may run its batcher too, and names it in the trust file: the token has to have moved.
    if (!before.some((log) => isTransfer(log, claim)))
      return outcome("fail", "payment_not_settled", "The batcher says so, and the token did not move.", facts);
    return outcome("pass", "payment_settled", "The chain has the payment, and the payment names this receipt.", {
      ...facts,
      payer: claim.payer,
      amountAtomic: claim.amountAtomic,
      asset: claim.asset,
    });
  }
  // Somebody else sent what the payer signed: its nonce gives the payment's id, and the money went the same way.
  const authorized = receipt.logs
    .flatMap((log) => usedNonce(log, claim) ?? [])
    .filter(
      (nonce) =>
        `0x${bytesToHex(noncePaymentId(suite, deployments.chainId, lower(claim.asset), lower(claim.payer), hexToBytes(nonce)))}` ===
        claim.paymentId,
    );
  const linked =
    authorized.some((nonce) => hasMoved(receipt, claim, nonce)) ||
    ((await paymentOfCall(tools, receipt)) === claim.paymentId && receipt.logs.some((log) => isTransfer(log, claim)));
  if (linked)
    return outcome("pass", "payment_settled", "The payment was brought to the chain by somebody else.", facts);
  if (authorized.length > 0)
    return outcome("fail", "payment_not_settled", "What the payer signed was used up for another transfer.", facts);
  if (events.length > 0)
    return outcome("fail", "payment_not_settled", "The payment failed in that transaction.", facts);
  if (receipt.logs.some((log) => isTransfer(log, claim)))
    return outcome("inconclusive", "payment_unlinked", "The amount moved, and nothing says by which payment.", facts);
  return outcome("fail", "payment_not_settled", "That transaction does not move the payment.", facts);
}

/** The batcher's events, each with the logs since the one before: what the settling of that payment alone has logged. */
function settlingsIn(logs: readonly Log[], batcher: Address) {
  const out: { readonly event: NonNullable<ReturnType<typeof settledEvent>>; readonly before: readonly Log[] }[] = [];
  let from = 0;
  for (const [i, log] of logs.entries()) {
    const event = log.address === batcher ? settledEvent(log) : undefined;
    if (!event) continue;
    out.push({ event, before: logs.slice(from, i) });
    from = i + 1;
  }
  return out;
}

function usedNonce(log: Log, claim: Claim): Hex | undefined {
  const event = tokenEvent(log, claim);
  return event?.eventName === "AuthorizationUsed" && event.args.authorizer.toLowerCase() === claim.payer.toLowerCase()
    ? event.args.nonce
    : undefined;
}

/** Whether an authorization moved what is claimed. Without a receiver in the claim, whoever received is taken. */
function hasMoved({ logs }: ChainReceipt, claim: Claim, nonce: Hex): boolean {
  return logs.some((log) => {
    const event = tokenEvent(log, claim);
    return (
      event?.eventName === "Transfer" &&
      isTransfer(log, claim) &&
      movedAsAuthorized(logs, {
        token: lower(claim.asset),
        from: lower(claim.payer),
        to: lower(event.args.to),
        value: BigInt(claim.amountAtomic),
        nonce,
      })
    );
  });
}

function isTransfer(log: Log, claim: Claim): boolean {
  const event = tokenEvent(log, claim);
  return (
    event?.eventName === "Transfer" &&
    event.args.from.toLowerCase() === claim.payer.toLowerCase() &&
    (claim.payTo === undefined || event.args.to.toLowerCase() === claim.payTo.toLowerCase()) &&
    event.args.value.toString() === claim.amountAtomic
  );
}

function tokenEvent(log: Log, claim: Claim) {
  const [signature, ...indexed] = log.topics;
  if (signature === undefined || log.address !== lower(claim.asset)) return undefined;
  try {
    return decodeEventLog({ abi: testUsdc.abi, data: log.data, topics: [signature, ...indexed] });
  } catch {
    return undefined;
  }
}

/** A voucher's charge: claimed from a channel of that payer to that receiver, together with others. */
async function checkClaimed(tools: CheckTools, claim: Claim, receipt: ChainReceipt): Promise<CheckOutcome> {
  const { chain, deployments, suite } = tools;
  const facts = { transaction: receipt.transaction, block: String(receipt.blockNumber) };
  if (receipt.to !== deployments.batchSettlement)
    return outcome(
      "inconclusive",
      "payment_contract_unknown",
      "The claim went through a contract not trusted here.",
      facts,
    );
  const sent = await chain.request("eth_getTransactionByHash", [receipt.transaction]);
  const input = typeof sent === "object" && sent !== null && "input" in sent ? sent["input"] : undefined;
  if (typeof input !== "string" || !/^0x(?:[0-9a-f]{2})*$/i.test(input))
    return outcome("inconclusive", "chain_unavailable", "The node did not give the transaction.", facts);
  const claimed = claimsIn(input as Hex).filter(
    ({ voucher: { channel } }) =>
      channel.payer.toLowerCase() === claim.payer.toLowerCase() &&
      channel.token.toLowerCase() === claim.asset.toLowerCase() &&
      (claim.payTo === undefined || channel.receiver.toLowerCase() === claim.payTo.toLowerCase()),
  );
  if (claimed.length === 0)
    return outcome("fail", "payment_not_settled", "That transaction claims from no channel of this payer.", facts);
  const charged = AMOUNT.test(claim.amountAtomic) ? BigInt(claim.amountAtomic) : undefined;
  const enough = claimed.find(({ totalClaimed }) => charged !== undefined && totalClaimed >= charged);
  if (!enough)
    return outcome("fail", "payment_amount_mismatch", "Less was claimed from the channel than was charged.", facts);
  const idOf = (channel: ChannelTuple): Uint8Array =>
    channelIdOf(suite, deployments.chainId, {
      payer: lower(channel.payer),
      payerAuthorizer: lower(channel.payerAuthorizer),
      receiver: lower(channel.receiver),
      receiverAuthorizer: lower(channel.receiverAuthorizer),
      token: lower(channel.token),
      withdrawDelay: channel.withdrawDelay,
      salt: hexToBytes(channel.salt),
    });
  const isOwn = claimed.some(({ voucher: { channel, maxClaimableAmount }, signature }) => {
    const voucher = {
      channelId: idOf(channel),
      maxClaimable: maxClaimableAmount,
      signature: hexToBytes(signature),
    };
    return `0x${bytesToHex(voucherPaymentId(suite, deployments.chainId, voucher))}` === claim.paymentId;
  });
  const message = isOwn
    ? "The payer's channel was claimed by this very voucher."
    : "At least as much was claimed from the payer's channel. That this charge is in the sum is the gateway's word.";
  return outcome("pass", "payment_claimed", message, {
    ...facts,
    channelId: `0x${bytesToHex(idOf(enough.voucher.channel))}`,
    totalClaimed: enough.totalClaimed.toString(),
    voucher: isOwn ? "this payment's" : "another",
  });
}

/** Claims in the calldata of the channel contract, those inside of a `multicall` too. */
function claimsIn(data: Hex, depth = 0) {
  try {
    const call = decodeFunctionData({ abi: batchSettlement.abi, data });
    if (call.functionName === "claim" || call.functionName === "claimWithSignature") return call.args[0];
    if (call.functionName === "multicall" && depth === 0)
      return call.args[0].flatMap((inner): Claims => claimsIn(inner, 1));
  } catch {
    // Not a call of this contract.
  }
  return [];
}

type Claims = readonly {
  readonly voucher: { readonly channel: ChannelTuple; readonly maxClaimableAmount: bigint };
  readonly signature: Hex;
  readonly totalClaimed: bigint;
}[];

function lower(address: string): Address {
  return address.toLowerCase() as Address;
}
