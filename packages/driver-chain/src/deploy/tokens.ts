import type { TokenInfo } from "@assay/contracts";
import { AssayError, concatBytes, equalBytes, isAssayError } from "@assay/core";
import type { Address } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { isRevert, rpcFault } from "../rpc/fault.ts";
import { calldata, selector, tailBytes } from "../rpc/selector.ts";
import { addressWord, word, wordAt } from "../rpc/values.ts";
import { domainSeparator, readCode } from "./code.ts";

/** Longest name, symbol or version that is taken: they go into signatures and onto terminals. */
export const MAX_TOKEN_TEXT = 64;
const MAX_DECIMALS = 36n;
/** An account that nothing was ever signed for. */
const NOBODY: Address = "0x00000000000000000000000000000000000000fe";

type Asking = Pick<Chain, "chainId" | "code" | "call">;

/**
 * What a token says of itself: symbol, decimals, EIP-712 domain, and whether it takes authorizations (EIP-3009, with the
 * signature as bytes) and permits (EIP-2612). Throws `chain_token_unsuitable` for what is no such token, and what the chain's
 * methods throw.
 */
export async function readToken(chain: Asking, address: Address): Promise<TokenInfo> {
  if ((await readCode(chain, address)).length === 0) throw unsuitable(address, "there is no contract");
  const [symbol, name, version, decimals, separator] = await Promise.all([
    textOf(chain, address, "symbol()"),
    textOf(chain, address, "name()"),
    textOf(chain, address, "version()"),
    ask(chain, address, selector("decimals()")),
    ask(chain, address, selector("DOMAIN_SEPARATOR()")),
  ]);
  if (symbol === undefined || !/^[A-Z][A-Za-z0-9]{0,15}$/.test(symbol))
    throw unsuitable(address, "its symbol is not one that a price can be named in");
  if (name === undefined) throw unsuitable(address, "it does not say its name");
  const digits = decimals?.length === 32 ? wordAt(decimals, 0) : undefined;
  if (digits === undefined || digits > MAX_DECIMALS) throw unsuitable(address, "it does not say how it divides");
  // Tokens before EIP-5267 that sign with a version other than "1" say it; the rest have "1".
  const domain = { name, version: version ?? "1" };
  const signs =
    separator !== undefined &&
    equalBytes(separator, domainSeparator(domain.name, domain.version, chain.chainId, address));
  const [eip3009, eip2612] = signs
    ? await Promise.all([takesAuthorizations(chain, address), takesPermits(chain, address)])
    : [false, false];
  return { symbol, address, decimals: Number(digits), ...domain, eip3009, eip2612 };
}

/** One that expired before it began reverts for a reason; a token without the function reverts without. */
async function takesAuthorizations(chain: Asking, token: Address): Promise<boolean> {
  const state = await ask(
    chain,
    token,
    calldata(selector("authorizationState(address,bytes32)"), addressWord(NOBODY), word(0)),
  );
  if (state?.length !== 32) return false;
  const move = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)";
  const fixed = [addressWord(NOBODY), addressWord(NOBODY), word(0), word(0), word(0), word(0), word(7 * 32)];
  return refusesForAReason(
    chain,
    token,
    concatBytes(calldata(selector(move), ...fixed), tailBytes(new Uint8Array(65))),
  );
}

async function takesPermits(chain: Asking, token: Address): Promise<boolean> {
  const nonce = await ask(chain, token, calldata(selector("nonces(address)"), addressWord(NOBODY)));
  if (nonce?.length !== 32) return false;
  const permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)";
  const words = [addressWord(NOBODY), addressWord(NOBODY), word(0), word(0), word(27), word(0), word(0)];
  return refusesForAReason(chain, token, calldata(selector(permit), ...words));
}

async function refusesForAReason(chain: Asking, to: Address, data: Uint8Array): Promise<boolean> {
  try {
    await chain.call({ to, data });
    return false;
  } catch (error) {
    if (!isRevert(error)) throw error;
    const data_ = rpcFault(error)?.revertData;
    return data_ !== undefined && data_.length > 2;
  }
}

/** The answer, or undefined when the call reverted or had none. */
async function ask(chain: Asking, to: Address, data: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    const answer = await chain.call({ to, data });
    return answer.length === 0 ? undefined : answer;
  } catch (error) {
    if (isAssayError(error) && error.code === "chain_rpc_error" && isRevert(error)) return undefined;
    throw error;
  }
}

/** A text of 1 to {@link MAX_TOKEN_TEXT} printable characters. */
async function textOf(chain: Asking, to: Address, signature: string): Promise<string | undefined> {
  const answer = await ask(chain, to, selector(signature));
  if (answer === undefined || answer.length < 64 || wordAt(answer, 0) !== 32n) return undefined;
  const length = wordAt(answer, 32);
  if (length === 0n || length > BigInt(MAX_TOKEN_TEXT) || answer.length < 64 + Number(length)) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(answer.subarray(64, 64 + Number(length)));
    return /\p{C}/u.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

function unsuitable(address: Address, why: string): AssayError<"chain_token_unsuitable"> {
  return new AssayError("chain_token_unsuitable", `Nothing can be paid in ${address}: ${why}.`, {
    hints: ["Name an ERC-20 token of this chain that says symbol, name and decimals."],
  });
}
