import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import { clientError } from "../errors.ts";
import { isObject } from "../text/json.ts";
import { readBody } from "../transport.ts";
import type { Fetch } from "../transport.ts";
import { MAX_RPC_BYTES, RPC_TIMEOUT_MS } from "./limits.ts";

/** What a payer asks of a chain. Amounts in atomic units. */
export type ChainReader = {
  readonly chainId: () => Promise<number>;
  /** Balance of a token; of the chain's own money without one. */
  readonly balance: (owner: Address, token?: Address) => Promise<bigint>;
  readonly allowance: (owner: Address, token: Address, spender: Address) => Promise<bigint>;
  /** Next nonce of an EIP-2612 permit. */
  readonly permitNonce: (owner: Address, token: Address) => Promise<bigint>;
  /** One call of the node's own interface, for wallets that send transactions. */
  readonly request: (method: string, parameters: readonly JsonValue[]) => Promise<JsonValue>;
};

/**
 * Reads a chain by JSON-RPC. Its methods reject with `chain_unavailable` when no usable answer comes, and `chain_rpc_error`
 * when the node answers with an error.
 */
export function createChainReader(options: { readonly url: string; readonly fetch?: Fetch }): ChainReader {
  const ask: Fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init));
  const unavailable = (message: string, cause?: unknown) =>
    clientError("chain_unavailable", message, { cause, hints: ["Is the address of the chain's RPC right?"] });

  const request: ChainReader["request"] = async (method, parameters) => {
    let answer: JsonValue;
    try {
      const response = await ask(options.url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: parameters }),
        redirect: "error",
        signal: AbortSignal.timeout(RPC_TIMEOUT_MS),
      });
      answer = parseJson(await readBody(response, MAX_RPC_BYTES), { maxBytes: MAX_RPC_BYTES, maxDepth: 8 });
    } catch (cause) {
      throw unavailable("The chain gives no usable answer.", cause);
    }
    if (!isObject(answer)) throw unavailable("The chain's answer is no object.");
    const { error, result } = answer;
    if (isObject(error)) {
      const said = typeof error["message"] === "string" ? error["message"].slice(0, 300) : "no reason given";
      throw clientError("chain_rpc_error", `The chain refused ${method}: ${said}`);
    }
    if (result === undefined) throw unavailable(`The chain's answer to ${method} has no result.`);
    return result;
  };
  const quantity = async (method: string, parameters: readonly JsonValue[]): Promise<bigint> => {
    const result = await request(method, parameters);
    if (typeof result === "string" && /^0x[0-9a-f]{1,64}$/i.test(result)) return BigInt(result);
    throw unavailable(`The chain's answer to ${method} is no number.`);
  };
  const call = (to: Address, data: Hex): Promise<bigint> => quantity("eth_call", [{ to, data }, "latest"]);

  return {
    request,
    async chainId() {
      return Number(await quantity("eth_chainId", []));
    },
    balance: (owner, token) =>
      token === undefined ? quantity("eth_getBalance", [owner, "latest"]) : call(token, `0x70a08231${word(owner)}`),
    allowance: (owner, token, spender) => call(token, `0xdd62ed3e${word(owner)}${word(spender)}`),
    permitNonce: (owner, token) => call(token, `0x7ecebe00${word(owner)}`),
  };
}

/** A number or an address as 32 bytes of calldata. */
export function word(value: Address | bigint): string {
  const hex = typeof value === "bigint" ? value.toString(16) : value.slice(2).toLowerCase();
  return hex.padStart(64, "0");
}

/** Whether a chain could not be asked, or did not answer as it has to. */
export function isChainFailure(error: unknown): boolean {
  return isAssayError(error) && (error.code === "chain_unavailable" || error.code === "chain_rpc_error");
}
