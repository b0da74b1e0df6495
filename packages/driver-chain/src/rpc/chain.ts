import { AssayError, isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Address, Hex, Network } from "@assay/x402";
import { factsFrom, factsSteps } from "./facts.ts";
import type { FactsQuery, PayerFacts } from "./facts.ts";
import { readAnswer, readProgram } from "./program.ts";
import type { ReadAnswer, ReadStep } from "./program.ts";
import { MAX_FACTORY_CALL_BYTES, MAX_SIGNATURE_BYTES, deployStep, isMagic, signatureStep } from "./signatures.ts";
import { createTransport } from "./transport.ts";
import type { CallOptions, TransportOptions } from "./transport.ts";
import type { Block, BlockTag, CallRequest, LogFilter, TxLog, TxReceipt } from "./types.ts";
import { MAX_LOGS, blockFrom, callParameters, filterParameters, logFrom, receiptFrom, tagOf } from "./types.ts";
import { count, data, hash, list, malformed, quantity, toHex } from "./values.ts";

/** Questions of different callers that one call carries; each may have its own dozen of steps. */
const MAX_READS_TOGETHER = 24;

export type ChainEvent =
  /** The chain's height went back: a reorganisation, a node that lost its last blocks, or another node behind one address. */
  | { readonly type: "regressed"; readonly from: number; readonly to: number }
  | { readonly type: "down"; readonly cause: unknown }
  | { readonly type: "up" };

export type ChainOptions = TransportOptions & {
  /** The chain that the node must be of. Every answer is refused with `chain_mismatch` while it is another's. */
  readonly chainId: number;
  /** Factories whose accounts may sign before they are deployed (EIP-6492). None when absent. */
  readonly factories?: readonly Address[];
  readonly onEvent?: (event: ChainEvent) => void;
};

/** Reads of one EVM chain over JSON-RPC. Every answer is checked for its form: a node is a stranger. */
export type Chain = {
  readonly chainId: number;
  readonly network: Network;
  /** One JSON-RPC call to a node of the right chain. */
  readonly request: (method: string, params: readonly unknown[], options?: CallOptions) => Promise<JsonValue>;
  /** All steps at one block, in one `eth_call`; steps asked for at the same moment share it. */
  readonly read: (steps: readonly ReadStep[], options?: CallOptions) => Promise<ReadAnswer>;
  /** Balance, allowance, nonces and code of a payer, in one `eth_call`. */
  readonly payerFacts: (query: FactsQuery, options?: CallOptions) => Promise<PayerFacts>;
  /** Whether the contract at `account` says that it signed `digest` (EIP-1271). */
  readonly isValidSignature: (account: Address, digest: Uint8Array, signature: Uint8Array) => Promise<boolean>;
  /**
   * The same for an account that is not deployed yet (EIP-6492): its factory is called first, in the same `eth_call`.
   * False without asking when the factory is not one of the configured.
   */
  readonly isValidUndeployed: (
    account: Address,
    digest: Uint8Array,
    undeployed: { readonly factory: Address; readonly factoryData: Uint8Array; readonly signature: Uint8Array },
  ) => Promise<boolean>;
  readonly blockNumber: () => Promise<number>;
  readonly block: (tag: BlockTag) => Promise<Block | undefined>;
  readonly receipt: (transaction: Hex) => Promise<TxReceipt | undefined>;
  readonly logs: (filter: LogFilter) => Promise<readonly TxLog[]>;
  readonly call: (request: CallRequest, tag?: BlockTag) => Promise<Uint8Array>;
  readonly estimateGas: (request: CallRequest) => Promise<bigint>;
  readonly transactionCount: (account: Address, tag?: BlockTag) => Promise<number>;
  readonly balance: (account: Address) => Promise<bigint>;
  readonly code: (account: Address) => Promise<Uint8Array>;
  readonly sendRaw: (raw: Uint8Array) => Promise<Hex>;
  /** Whether the node is known to be down, and for how long it will not be asked. */
  readonly health: () => {
    readonly down: boolean;
    readonly retryAfterMs: number;
    readonly lastBlock: number | undefined;
  };
};

/**
 * A chain at `url`. Nothing is asked before it is used. Throws `chain_url_invalid`; every method throws `chain_unavailable`,
 * `chain_rpc_error` and `chain_mismatch`.
 */
export function createChain(options: ChainOptions): Chain {
  const transport = createTransport(options);
  const factories = new Set((options.factories ?? []).map((factory) => factory.toLowerCase()));
  let identified: Promise<void> | undefined;
  let lastBlock: number | undefined;
  let wasDown = false;

  function noteHealth(cause?: unknown): void {
    const down = transport.isDown();
    if (down === wasDown) return;
    wasDown = down;
    options.onEvent?.(down ? { type: "down", cause } : { type: "up" });
  }

  function noteBlock(number: number): void {
    if (lastBlock !== undefined && number < lastBlock)
      options.onEvent?.({ type: "regressed", from: lastBlock, to: number });
    lastBlock = number;
  }

  function refuse(found: number): never {
    identified = undefined;
    throw new AssayError("chain_mismatch", `The node is of chain ${found}, not of ${options.chainId}.`, {
      hints: ["Check the RPC address: nothing is read from or sent to another chain."],
    });
  }

  // Asked at first use, and again after the node was away: another one may have taken its place.
  function identify(): Promise<void> {
    identified ??= (async () => {
      const found = count(await send("eth_chainId", []), "the chain's id");
      if (found !== options.chainId) refuse(found);
    })().catch((error: unknown) => {
      identified = undefined;
      throw error;
    });
    return identified;
  }

  async function send(method: string, params: readonly unknown[], call?: CallOptions): Promise<JsonValue> {
    try {
      const answer = await transport.request(method, params, call);
      noteHealth();
      return answer;
    } catch (error) {
      if (isAssayError(error) && error.code === "chain_unavailable") identified = undefined;
      noteHealth(error);
      throw error;
    }
  }

  async function request(method: string, params: readonly unknown[], call?: CallOptions): Promise<JsonValue> {
    await identify();
    return send(method, params, call);
  }

  async function readNow(steps: readonly ReadStep[], call?: CallOptions): Promise<ReadAnswer> {
    // The program reports the chain's id itself, so it needs no other proof of identity.
    const answer = await send("eth_call", [{ data: toHex(readProgram(steps)) }, "latest"], call);
    const found = readAnswer(steps, data(answer, "the answer of a read"));
    if (found === undefined) throw malformed("the answer of a read", "of the length that was asked for");
    if (found.chainId !== options.chainId) refuse(found.chainId);
    noteBlock(found.blockNumber);
    return found;
  }

  const read = joinReads(readNow);

  async function isSignedBy(steps: readonly ReadStep[]): Promise<boolean> {
    // Alone: a hostile contract may use a lot of gas, which nobody else's read should depend on.
    const result = (await readNow(steps)).results.at(-1);
    return result?.ok === true && isMagic(result.words[0]);
  }

  return {
    chainId: options.chainId,
    network: `eip155:${options.chainId}`,
    request,
    read,
    async payerFacts(query, call) {
      return factsFrom(query, await read(factsSteps(query), call));
    },
    async isValidSignature(account, digest, signature) {
      if (signature.length > MAX_SIGNATURE_BYTES) return false;
      return isSignedBy([signatureStep(account, digest, signature)]);
    },
    async isValidUndeployed(account, digest, { factory, factoryData, signature }) {
      if (!factories.has(factory.toLowerCase())) return false;
      if (signature.length > MAX_SIGNATURE_BYTES || factoryData.length > MAX_FACTORY_CALL_BYTES) return false;
      return isSignedBy([deployStep(factory, factoryData), signatureStep(account, digest, signature)]);
    },
    async blockNumber() {
      const number = count(await request("eth_blockNumber", []), "the block's number");
      noteBlock(number);
      return number;
    },
    async block(tag) {
      const answer = await request("eth_getBlockByNumber", [tagOf(tag), false]);
      return answer === null ? undefined : blockFrom(answer);
    },
    async receipt(transaction) {
      const answer = await request("eth_getTransactionReceipt", [transaction]);
      if (answer === null) return undefined;
      const receipt = receiptFrom(answer);
      if (receipt.transactionHash !== transaction.toLowerCase())
        throw malformed("the receipt", "the one of the transaction that was asked for");
      return receipt;
    },
    async logs(filter) {
      const answer = list(await request("eth_getLogs", [filterParameters(filter)]), "the logs");
      if (answer.length > MAX_LOGS) throw malformed("the list of logs", `of at most ${MAX_LOGS}`);
      return answer.map(logFrom);
    },
    async call(call, tag = "latest") {
      return data(await request("eth_call", [callParameters(call), tagOf(tag)]), "the answer of a call");
    },
    async estimateGas(call) {
      return quantity(await request("eth_estimateGas", [callParameters(call)]), "the estimate of gas");
    },
    async transactionCount(account, tag = "latest") {
      return count(await request("eth_getTransactionCount", [account, tagOf(tag)]), "the account's nonce");
    },
    async balance(account) {
      return quantity(await request("eth_getBalance", [account, "latest"]), "the balance");
    },
    async code(account) {
      return data(await request("eth_getCode", [account, "latest"]), "the code");
    },
    async sendRaw(raw) {
      return hash(await request("eth_sendRawTransaction", [toHex(raw)]), "the transaction's hash");
    },
    health: () => ({ down: transport.isDown(), retryAfterMs: transport.retryAfterMs(), lastBlock }),
  };
}

type Pending = {
  readonly steps: readonly ReadStep[];
  readonly resolve: (answer: ReadAnswer) => void;
  readonly reject: (error: unknown) => void;
};

/** Joins reads that are asked for in one turn of the event loop into one call each {@link MAX_READS_TOGETHER}. */
function joinReads(readNow: (steps: readonly ReadStep[], call?: CallOptions) => Promise<ReadAnswer>): Chain["read"] {
  let pending: Pending[] = [];

  async function flush(group: readonly Pending[]): Promise<void> {
    try {
      const answer = await readNow(group.flatMap((one) => one.steps));
      let at = 0;
      for (const one of group) {
        one.resolve({ ...answer, results: answer.results.slice(at, at + one.steps.length) });
        at += one.steps.length;
      }
    } catch (error) {
      // One read may be to blame for all: each is asked alone, unless the node is simply away.
      const alone = group.length > 1 && isAssayError(error) && error.code !== "chain_unavailable";
      for (const one of group) {
        if (alone) readNow(one.steps).then(one.resolve, one.reject);
        else one.reject(error);
      }
    }
  }

  return (steps, call) => {
    // A read with bounds of its own cannot share another's.
    if (call !== undefined) return readNow(steps, call);
    return new Promise((resolve, reject) => {
      pending.push({ steps, resolve, reject });
      if (pending.length > 1) return;
      setImmediate(() => {
        const all = pending;
        pending = [];
        for (let i = 0; i < all.length; i += MAX_READS_TOGETHER) void flush(all.slice(i, i + MAX_READS_TOGETHER));
      });
    });
  };
}
