import { exactPermit2Proxy, multicall3, canonicalAddresses, testUsdc, uptoPermit2Proxy } from "@assay/contracts";
import { EXACT_PERMIT2_PROXY, isErc6492, toHex, unwrapErc6492, UPTO_PERMIT2_PROXY } from "@assay/x402";
import type { Address, Deployment, Eip2612Permit, Hex, Payment, Permit2Authorization } from "@assay/x402";
import { encodeAbiParameters, encodeFunctionData, parseAbiParameters } from "viem";
import { splitSignature } from "./call.ts";
import type { Call } from "./call.ts";

/** A payment that one call moves from its payer to its receiver. */
export type DirectPayment = Extract<Payment, { kind: "eip3009" | "permit2" | "upto" }>;
type Of<Kind extends Payment["kind"]> = Extract<Payment, { kind: Kind }>;

/** A call of Multicall3, by whoever sends it. */
export type InnerCall = { readonly target: Address; readonly callData: Hex; readonly allowFailure: boolean };

/**
 * The call that moves a payment by itself: of `token` for EIP-3009, else of the proxy of its scheme. `amountAtomic` is what
 * `upto` takes; the others move what was signed. A signature in the wrapping of ERC-6492 goes without it: the account has
 * to be there (see {@link deploymentOf}).
 */
export function paymentCall(payment: DirectPayment, token: Address, amountAtomic: bigint): Call {
  const { signature } = unwrapSignature(payment.signature);
  switch (payment.kind) {
    case "eip3009":
      return transferCall(token, payment, signature);
    case "permit2":
      return exactCall(payment, signature);
    case "upto":
      return uptoCall(payment, signature, amountAtomic);
  }
}

/** 65 bytes go into the overload with v, r and s, which every token with EIP-3009 has. */
function transferCall(token: Address, { authorization }: Of<"eip3009">, signature: Uint8Array): Call {
  const { from, to, value, validAfter, validBefore, nonce } = authorization;
  const message = [from, to, value, validAfter, validBefore, toHex(nonce)] as const;
  const { abi } = testUsdc;
  const functionName = "transferWithAuthorization";
  const data =
    signature.length === 65
      ? encodeFunctionData({ abi, functionName, args: [...message, ...splitSignature(signature)] })
      : encodeFunctionData({ abi, functionName, args: [...message, toHex(signature)] });
  return { to: token, data };
}

function exactCall({ permit, witness, sponsored }: Of<"permit2">, signature: Uint8Array): Call {
  const args = [permitTuple(permit), permit.from, witness, toHex(signature)] as const;
  const { abi } = exactPermit2Proxy;
  const data = sponsored
    ? encodeFunctionData({ abi, functionName: "settleWithPermit", args: [permit2612Tuple(sponsored), ...args] })
    : encodeFunctionData({ abi, functionName: "settle", args });
  return { to: EXACT_PERMIT2_PROXY, data };
}

/** Only the facilitator that the witness names may send it. */
function uptoCall({ permit, witness, sponsored }: Of<"upto">, signature: Uint8Array, amount: bigint): Call {
  const args = [permitTuple(permit), amount, permit.from, witness, toHex(signature)] as const;
  const { abi } = uptoPermit2Proxy;
  const data = sponsored
    ? encodeFunctionData({ abi, functionName: "settleWithPermit", args: [permit2612Tuple(sponsored), ...args] })
    : encodeFunctionData({ abi, functionName: "settle", args });
  return { to: UPTO_PERMIT2_PROXY, data };
}

/** The account's own signature, and how the account comes into being when it is wrapped with that (ERC-6492). */
export function unwrapSignature(signature: Uint8Array): {
  readonly signature: Uint8Array;
  readonly deployment?: Deployment;
} {
  if (!isErc6492(signature)) return { signature };
  const { factory, calldata, signature: inner } = unwrapErc6492(signature);
  return { signature: inner, deployment: { factory, calldata } };
}

/** How a payer's account comes into being before its payment can move; undefined when its signature does not say so. */
export function deploymentOf(payment: DirectPayment): Deployment | undefined {
  return unwrapSignature(payment.signature).deployment;
}

/** Deploys an account by its factory and does `call`, in one transaction; a factory that fails does not matter. */
export function afterDeployment({ factory, calldata }: Deployment, call: Call): Call {
  return togetherCall([
    { target: factory, allowFailure: true, callData: toHex(calldata) },
    { target: call.to, allowFailure: false, callData: call.data },
  ]);
}

/** Several calls in one transaction of Multicall3, which is at the same address on every chain. */
export function togetherCall(calls: readonly InnerCall[]): Call {
  const data = encodeFunctionData({ abi: multicall3.abi, functionName: "aggregate3", args: [calls] });
  return { to: canonicalAddresses.multicall3, data };
}

/** abi.encode(value, deadline, v, r, s) of an EIP-2612 permit, as our batcher and the collector of deposits take it. */
export function permit2612Data({ amount, deadline, signature }: Eip2612Permit): Hex {
  return encodeAbiParameters(parseAbiParameters("uint256, uint256, uint8, bytes32, bytes32"), [
    amount,
    deadline,
    ...splitSignature(signature),
  ]);
}

function permitTuple({ token, amount, nonce, deadline }: Permit2Authorization) {
  return { permitted: { token, amount }, nonce, deadline };
}

function permit2612Tuple({ amount, deadline, signature }: Eip2612Permit) {
  const [v, r, s] = splitSignature(signature);
  return { value: amount, deadline, r, s, v };
}
