import { encodeEventTopics } from "viem";
import { batchSettlement, testUsdc } from "@assay/contracts";
import { movedAsAuthorized } from "@assay/driver-chain";
import type { Chain, TxLog, TxReceipt } from "@assay/driver-chain";
import { BATCH_SETTLEMENT, toHex } from "@assay/x402";
import type { Address, Hex, Payment } from "@assay/x402";

const topicOf = (topics: readonly unknown[]): Hex => String(topics[0]) as Hex;
const SETTLED = topicOf(encodeEventTopics({ abi: batchSettlement.abi, eventName: "Settled" }));
const REFUNDED = topicOf(encodeEventTopics({ abi: batchSettlement.abi, eventName: "Refunded" }));
const TRANSFER = topicOf(encodeEventTopics({ abi: testUsdc.abi, eventName: "Transfer" }));
const AUTHORIZATION_USED = topicOf(encodeEventTopics({ abi: testUsdc.abi, eventName: "AuthorizationUsed" }));

/** Blocks that are searched for a transaction that was faster than ours. */
const SEARCHED_BLOCKS = 1000;

/** Whether logs show a transfer of exactly `value`. */
export function hasTransfer(
  logs: readonly TxLog[],
  { token, from, to, value }: Readonly<Record<"token" | "from" | "to", Address>> & { readonly value: bigint },
): boolean {
  return logs.some(
    ({ address, topics, data }) =>
      address === token &&
      topics[0] === TRANSFER &&
      topics[1] === word(from) &&
      topics[2] === word(to) &&
      BigInt(toHex(data)) === value,
  );
}

/** What a sweep sent to its receiver, atomic units. */
export function settledIn({ logs }: TxReceipt, receiver: Address, token: Address): bigint {
  return sum(
    logs.filter(
      ({ address, topics }) =>
        address === BATCH_SETTLEMENT &&
        topics[0] === SETTLED &&
        topics[1] === word(receiver) &&
        topics[2] === word(token),
    ),
  );
}

/** What a refund gave back to the payer, atomic units: at most what was asked for. */
export function refundedIn({ logs }: TxReceipt, channelId: Uint8Array): bigint {
  return sum(
    logs.filter(
      ({ address, topics }) => address === BATCH_SETTLEMENT && topics[0] === REFUNDED && topics[1] === toHex(channelId),
    ),
  );
}

/**
 * The transaction in which somebody else brought an EIP-3009 authorization to its token, when it paid what was signed:
 * anybody may, and the recipient has the money all the same. Undefined when there is none among the last blocks.
 */
export async function movedElsewhere(
  chain: Chain,
  token: Address,
  { authorization }: Extract<Payment, { kind: "eip3009" }>,
): Promise<Hex | undefined> {
  const { from, to, value } = authorization;
  const nonce = toHex(authorization.nonce);
  const newest = await chain.blockNumber();
  const used = await chain.logs({
    address: token,
    topics: [AUTHORIZATION_USED, word(from), nonce],
    fromBlock: Math.max(0, newest - SEARCHED_BLOCKS),
    toBlock: "latest",
  });
  for (const { transactionHash } of used) {
    const receipt = await chain.receipt(transactionHash);
    if (receipt?.ok === true && movedAsAuthorized(receipt.logs, { token, from, to, value, nonce }))
      return transactionHash;
  }
  return undefined;
}

function word(address: Address): Hex {
  return `0x${address.slice(2).padStart(64, "0")}`;
}

function sum(logs: readonly TxLog[]): bigint {
  return logs.reduce((total, { data }) => total + (data.length === 32 ? BigInt(toHex(data)) : 0n), 0n);
}
