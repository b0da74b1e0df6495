import type { JsonValue } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import { address, count, data, fields, hash, list, malformed, quantity, toHex, toQuantity } from "./values.ts";

export type BlockTag = "latest" | "pending" | "safe" | "finalized" | "earliest" | number;

export type Block = {
  readonly number: number;
  readonly hash: Hex;
  readonly parentHash: Hex;
  readonly timestampS: number;
  /** Wei; undefined on a chain without EIP-1559. */
  readonly baseFeePerGas: bigint | undefined;
  readonly gasLimit: bigint;
};

export type TxLog = {
  readonly address: Address;
  readonly topics: readonly Hex[];
  readonly data: Uint8Array;
  readonly blockNumber: number;
  readonly blockHash: Hex;
  readonly transactionHash: Hex;
  readonly logIndex: number;
};

export type TxReceipt = {
  readonly transactionHash: Hex;
  readonly blockNumber: number;
  readonly blockHash: Hex;
  readonly from: Address;
  readonly to: Address | undefined;
  readonly contractAddress: Address | undefined;
  /** Whether it did what it was to do; a reverted one took its gas and changed nothing else. */
  readonly ok: boolean;
  readonly gasUsed: bigint;
  /** Wei for each unit of gas. */
  readonly effectiveGasPrice: bigint;
  readonly logs: readonly TxLog[];
};

export type CallRequest = {
  readonly from?: Address;
  readonly to?: Address;
  readonly data?: Uint8Array;
  readonly value?: bigint;
  readonly gas?: bigint;
  readonly maxFeePerGas?: bigint;
  readonly maxPriorityFeePerGas?: bigint;
};

export type LogFilter = {
  readonly address?: Address | readonly Address[];
  /** By position; null for any. */
  readonly topics?: readonly (Hex | readonly Hex[] | null)[];
  readonly fromBlock: BlockTag;
  readonly toBlock: BlockTag;
};

/** Logs of one answer: a range with more of them is to be asked for in parts. */
export const MAX_LOGS = 10_000;
/** A transaction pays for each of its logs; a block of 30 million gas fits no more than this. */
const MAX_TOPICS = 4;

export function tagOf(tag: BlockTag): string {
  return typeof tag === "number" ? toQuantity(tag) : tag;
}

export function callParameters(call: CallRequest): Readonly<Record<string, string>> {
  return {
    ...(call.from === undefined ? {} : { from: call.from }),
    ...(call.to === undefined ? {} : { to: call.to }),
    ...(call.data === undefined ? {} : { data: toHex(call.data) }),
    ...(call.value === undefined ? {} : { value: toQuantity(call.value) }),
    ...(call.gas === undefined ? {} : { gas: toQuantity(call.gas) }),
    ...(call.maxFeePerGas === undefined ? {} : { maxFeePerGas: toQuantity(call.maxFeePerGas) }),
    ...(call.maxPriorityFeePerGas === undefined ? {} : { maxPriorityFeePerGas: toQuantity(call.maxPriorityFeePerGas) }),
  };
}

export function filterParameters(filter: LogFilter): Readonly<Record<string, unknown>> {
  return {
    ...(filter.address === undefined ? {} : { address: filter.address }),
    ...(filter.topics === undefined ? {} : { topics: filter.topics }),
    fromBlock: tagOf(filter.fromBlock),
    toBlock: tagOf(filter.toBlock),
  };
}

export function blockFrom(value: JsonValue): Block {
  const block = fields(value, "the block");
  const baseFee = block["baseFeePerGas"];
  return {
    number: count(block["number"], "the block's number"),
    hash: hash(block["hash"], "the block's hash"),
    parentHash: hash(block["parentHash"], "the parent's hash"),
    timestampS: count(block["timestamp"], "the block's time"),
    baseFeePerGas: baseFee === undefined || baseFee === null ? undefined : quantity(baseFee, "the base fee"),
    gasLimit: quantity(block["gasLimit"], "the block's gas limit"),
  };
}

export function logFrom(value: JsonValue): TxLog {
  const log = fields(value, "a log");
  const topics = list(log["topics"], "a log's topics");
  if (topics.length > MAX_TOPICS) throw malformed("a log's list of topics", `of at most ${MAX_TOPICS}`);
  return {
    address: address(log["address"], "a log's address"),
    topics: topics.map((topic) => hash(topic, "a log's topic")),
    data: data(log["data"], "a log's data"),
    blockNumber: count(log["blockNumber"], "a log's block"),
    blockHash: hash(log["blockHash"], "a log's block hash"),
    transactionHash: hash(log["transactionHash"], "a log's transaction"),
    logIndex: count(log["logIndex"], "a log's index"),
  };
}

export function receiptFrom(value: JsonValue): TxReceipt {
  const receipt = fields(value, "the receipt");
  const status = quantity(receipt["status"], "the receipt's status");
  if (status > 1n) throw malformed("the receipt's status", "0 or 1");
  const optional = (name: string): Address | undefined => {
    const found = receipt[name];
    return found === undefined || found === null ? undefined : address(found, `the receipt's ${name}`);
  };
  const price = receipt["effectiveGasPrice"];
  return {
    transactionHash: hash(receipt["transactionHash"], "the receipt's transaction"),
    blockNumber: count(receipt["blockNumber"], "the receipt's block"),
    blockHash: hash(receipt["blockHash"], "the receipt's block hash"),
    from: address(receipt["from"], "the receipt's sender"),
    to: optional("to"),
    contractAddress: optional("contractAddress"),
    ok: status === 1n,
    gasUsed: quantity(receipt["gasUsed"], "the receipt's gas"),
    effectiveGasPrice: price === undefined || price === null ? 0n : quantity(price, "the receipt's gas price"),
    logs: list(receipt["logs"], "the receipt's logs").map(logFrom),
  };
}
