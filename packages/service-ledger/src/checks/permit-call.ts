import { exactPermit2Proxy, uptoPermit2Proxy } from "@assay/contracts";
import { bytesToHex } from "@assay/core";
import { permit2PaymentId } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { decodeFunctionData } from "viem";
import type { CheckTools } from "./tools.ts";

/**
 * The payment that a transaction of a canonical Permit2 proxy settles, from what it was called with; undefined when it is
 * none. The proxies' events name no payment, and Permit2's number does: the payer signed it once.
 */
export async function paymentOfCall(
  { chain, deployments, suite }: CheckTools,
  { transaction, to }: { readonly transaction: Hex; readonly to: Address | undefined },
): Promise<string | undefined> {
  const isUpto = to === deployments.uptoPermit2Proxy;
  if (!isUpto && to !== deployments.exactPermit2Proxy) return undefined;
  const sent = await chain.request("eth_getTransactionByHash", [transaction]);
  const input = typeof sent === "object" && sent !== null && "input" in sent ? sent["input"] : undefined;
  if (typeof input !== "string" || !/^0x(?:[0-9a-f]{2})*$/i.test(input)) return undefined;
  const permit = isUpto ? uptoPermit(input as Hex) : exactPermit(input as Hex);
  if (!permit) return undefined;
  const { owner, nonce } = permit;
  return `0x${bytesToHex(permit2PaymentId(suite, deployments.chainId, owner.toLowerCase() as Address, nonce))}`;
}

type Permit = { readonly owner: Hex; readonly nonce: bigint };

function uptoPermit(data: Hex): Permit | undefined {
  try {
    const { functionName, args } = decodeFunctionData({ abi: uptoPermit2Proxy.abi, data });
    if (functionName === "settle") return { owner: args[2], nonce: args[0].nonce };
    if (functionName === "settleWithPermit") return { owner: args[3], nonce: args[1].nonce };
  } catch {
    // Not a call of this contract.
  }
  return undefined;
}

function exactPermit(data: Hex): Permit | undefined {
  try {
    const { functionName, args } = decodeFunctionData({ abi: exactPermit2Proxy.abi, data });
    if (functionName === "settle") return { owner: args[1], nonce: args[0].nonce };
    if (functionName === "settleWithPermit") return { owner: args[2], nonce: args[1].nonce };
  } catch {
    // Not a call of this contract.
  }
  return undefined;
}
