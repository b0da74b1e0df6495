import { canonicalAddresses } from "@assay/contracts";
import type { Address } from "@assay/x402";
import type { ReadAnswer, ReadStep } from "./program.ts";
import { calldata, selector } from "./selector.ts";
import { addressWord, word } from "./values.ts";

const PERMIT2 = canonicalAddresses.permit2;

/** What is to be known of a payer before work is done for a payment. */
export type FactsQuery = {
  readonly payer: Address;
  readonly asset: Address;
  /** Whose allowance is read; Permit2 when absent. */
  readonly spender?: Address;
  /** 32 bytes: whether this EIP-3009 authorization was used. */
  readonly authorizationNonce?: Uint8Array;
  /** Whether this Permit2 nonce was used. */
  readonly permit2Nonce?: bigint;
  /** Whether to read the token's EIP-2612 nonce, which not every token has. */
  readonly permitNonce?: boolean;
};

/** What the chain says of a payer, all at one block. */
export type PayerFacts = {
  readonly blockNumber: number;
  /** Time of the block, Unix seconds. */
  readonly timestampS: number;
  /** Atomic units; undefined when the asset is no token. */
  readonly balance: bigint | undefined;
  readonly allowance: bigint | undefined;
  /** Undefined when it was not asked for, and when the token does not know such authorizations. */
  readonly authorizationUsed?: boolean | undefined;
  readonly permit2NonceUsed?: boolean | undefined;
  readonly permitNonce?: bigint | undefined;
  /** Bytes of code at the payer's account: 0 for a key's own account, 23 for one that delegates (EIP-7702). */
  readonly payerCodeBytes: number;
  readonly assetCodeBytes: number;
};

const BALANCE_OF = selector("balanceOf(address)");
const ALLOWANCE = selector("allowance(address,address)");
const AUTHORIZATION_STATE = selector("authorizationState(address,bytes32)");
const NONCE_BITMAP = selector("nonceBitmap(address,uint256)");
const NONCES = selector("nonces(address)");

/** The questions of a query; {@link factsFrom} reads their answers in the same order. */
export function factsSteps(query: FactsQuery): readonly ReadStep[] {
  const payer = addressWord(query.payer);
  const ask = (to: Address, ...data: [Uint8Array, ...Uint8Array[]]): ReadStep => ({
    kind: "call",
    to,
    data: calldata(...data),
    words: 1,
  });
  return [
    { kind: "code", address: query.payer },
    { kind: "code", address: query.asset },
    ask(query.asset, BALANCE_OF, payer),
    ask(query.asset, ALLOWANCE, payer, addressWord(query.spender ?? PERMIT2)),
    ...(query.authorizationNonce === undefined
      ? []
      : [ask(query.asset, AUTHORIZATION_STATE, payer, query.authorizationNonce)]),
    ...(query.permit2Nonce === undefined ? [] : [ask(PERMIT2, NONCE_BITMAP, payer, word(query.permit2Nonce >> 8n))]),
    ...(query.permitNonce === true ? [ask(query.asset, NONCES, payer)] : []),
  ];
}

export function factsFrom(query: FactsQuery, answer: ReadAnswer): PayerFacts {
  const results = answer.results[Symbol.iterator]();
  const next = (): bigint | undefined => {
    const { value } = results.next();
    return value?.ok === true ? value.words[0] : undefined;
  };
  const payerCodeBytes = Number(next() ?? 0n);
  const assetCodeBytes = Number(next() ?? 0n);
  const balance = next();
  const allowance = next();
  const used = query.authorizationNonce === undefined ? undefined : next();
  const bitmap = query.permit2Nonce === undefined ? undefined : next();
  const permitNonce = query.permitNonce === true ? next() : undefined;
  return {
    blockNumber: answer.blockNumber,
    timestampS: answer.timestampS,
    balance,
    allowance,
    authorizationUsed: used === undefined ? undefined : used !== 0n,
    permit2NonceUsed:
      bitmap === undefined || query.permit2Nonce === undefined
        ? undefined
        : ((bitmap >> (query.permit2Nonce & 255n)) & 1n) === 1n,
    permitNonce,
    payerCodeBytes,
    assetCodeBytes,
  };
}
