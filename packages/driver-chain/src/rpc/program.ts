import { AssayError, concatBytes } from "@assay/core";
import type { Address } from "@assay/x402";
import { fromHex, wordAt } from "./values.ts";

/** One question of a {@link readProgram}. */
export type ReadStep =
  /**
   * A static call of `to`; its answer is its first `words` words. With `acts` it is a call that may change state, which
   * the node forgets: a factory that deploys an account before the account is asked.
   */
  | {
      readonly kind: "call";
      readonly to: Address;
      readonly data: Uint8Array;
      readonly words: number;
      readonly gas?: number;
      readonly acts?: boolean;
    }
  /** Size of the account's code, bytes; 23 for one that delegates (EIP-7702). */
  | { readonly kind: "code"; readonly address: Address }
  /** Ether of the account, wei. */
  | { readonly kind: "balance"; readonly address: Address };

/** What a step found. Not `ok`: the call reverted, ran out of its gas or answered less than was asked for. */
export type ReadResult = { readonly ok: boolean; readonly words: readonly bigint[] };

export type ReadAnswer = {
  readonly chainId: number;
  readonly blockNumber: number;
  readonly timestampS: number;
  readonly results: readonly ReadResult[];
};

/** Gas of one step: a token of bad will must not use up the others'. */
const STEP_GAS = 500_000;
/** Init code is at most this long (EIP-3860), and what it returns at most that (EIP-170). */
export const MAX_PROGRAM_BYTES = 49_152;
const MAX_ANSWER_BYTES = 24_576;
const HEADER_WORDS = 3;

const OP = {
  and: 0x16,
  lt: 0x10,
  iszero: 0x15,
  balance: 0x31,
  codecopy: 0x39,
  extcodesize: 0x3b,
  returndatasize: 0x3d,
  timestamp: 0x42,
  number: 0x43,
  chainid: 0x46,
  mstore: 0x52,
  push4: 0x63,
  push20: 0x73,
  call: 0xf1,
  return: 0xf3,
  staticcall: 0xfa,
};

/**
 * A program for `eth_call` without a recipient that answers all steps at one block: straight-line init code whose
 * returned "contract" is the answer. So one call reads what Multicall3 cannot (whether there is code), on any chain,
 * whatever is deployed there, and what one step does cannot harm another. Memory holds the answer first, then the data
 * of the call at hand. Throws `chain_read_too_large`.
 */
export function readProgram(steps: readonly ReadStep[]): Uint8Array {
  let outputBytes = 32 * HEADER_WORDS;
  for (const step of steps) outputBytes += 32 * (1 + (step.kind === "call" ? step.words : 1));
  const scratch = outputBytes;
  const payloads = steps.map((step) => (step.kind === "call" ? step.data : new Uint8Array()));
  // The code's own length depends on nothing but the kinds of its steps: push instructions have a fixed width.
  let tail = emit(steps, scratch, outputBytes, payloads, 0).length;
  const code = emit(steps, scratch, outputBytes, payloads, tail);
  for (const payload of payloads) tail += payload.length;
  if (tail > MAX_PROGRAM_BYTES || outputBytes > MAX_ANSWER_BYTES)
    throw new AssayError("chain_read_too_large", `A read of ${steps.length} questions does not fit one call.`, {
      hints: [`A program has at most ${MAX_PROGRAM_BYTES} bytes and its answer ${MAX_ANSWER_BYTES}.`],
    });
  return concatBytes(code, ...payloads);
}

/** Takes the answer apart; undefined when its length is not what the program returns. */
export function readAnswer(steps: readonly ReadStep[], bytes: Uint8Array): ReadAnswer | undefined {
  let at = 32 * HEADER_WORDS;
  const results: ReadResult[] = [];
  for (const step of steps) {
    const ok = wordAt(bytes, at) === 1n;
    at += 32;
    const words: bigint[] = [];
    for (let i = 0; i < (step.kind === "call" ? step.words : 1); i++, at += 32) words.push(wordAt(bytes, at));
    results.push(ok ? { ok, words } : { ok, words: [] });
  }
  if (at !== bytes.length) return undefined;
  const [blockNumber, timestampS, chainId] = [0, 32, 64].map((offset) => Number(wordAt(bytes, offset)));
  if (![blockNumber, timestampS, chainId].every(Number.isSafeInteger)) return undefined;
  return { chainId: chainId ?? 0, blockNumber: blockNumber ?? 0, timestampS: timestampS ?? 0, results };
}

function emit(
  steps: readonly ReadStep[],
  scratch: number,
  outputBytes: number,
  payloads: readonly Uint8Array[],
  codeBytes: number,
): Uint8Array {
  const code: number[] = [];
  const push = (value: number): void => {
    code.push(OP.push4, (value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  };
  const pushAddress = (value: Address): void => {
    code.push(OP.push20, ...fromHex(value));
  };
  const store = (at: number): void => {
    push(at);
    code.push(OP.mstore);
  };
  // The block's number comes first: a "contract" may not begin with the byte 0xef (EIP-3541), and no number is that large.
  for (const [i, op] of [OP.number, OP.timestamp, OP.chainid].entries()) {
    code.push(op);
    store(32 * i);
  }
  let out = 32 * HEADER_WORDS;
  let payloadAt = codeBytes;
  for (const [i, step] of steps.entries()) {
    if (step.kind === "call") {
      const size = payloads[i]?.length ?? 0;
      push(size);
      push(payloadAt);
      push(scratch);
      code.push(OP.codecopy);
      payloadAt += size;
      const answerBytes = 32 * step.words;
      push(answerBytes);
      push(out + 32);
      push(size);
      push(scratch);
      if (step.acts === true) push(0);
      pushAddress(step.to);
      push(step.gas ?? STEP_GAS);
      code.push(step.acts === true ? OP.call : OP.staticcall);
      push(answerBytes);
      code.push(OP.returndatasize, OP.lt, OP.iszero, OP.and);
      store(out);
      out += 32 + answerBytes;
    } else {
      push(1);
      store(out);
      pushAddress(step.address);
      code.push(step.kind === "code" ? OP.extcodesize : OP.balance);
      store(out + 32);
      out += 64;
    }
  }
  push(outputBytes);
  push(0);
  code.push(OP.return);
  return Uint8Array.from(code);
}
