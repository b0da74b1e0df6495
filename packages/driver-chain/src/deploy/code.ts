import { create2Deployer, permit2 } from "@assay/contracts";
import type { Artifact } from "@assay/contracts";
import { AssayError, concatBytes, equalBytes, utf8ToBytes } from "@assay/core";
import type { Address, Hex } from "@assay/x402";
import { keccak_256 } from "@noble/hashes/sha3.js";
import type { Chain } from "../rpc/chain.ts";
import { addressWord, fromHex, toHex, word } from "../rpc/values.ts";

const PUSH1 = 0x60;
const PUSH32 = 0x7f;
/** Where Permit2's code begins in its init code; before it stands what fills in the immutables. */
const PERMIT2_RUNTIME_AT = 0xc1;
const EIP712_DOMAIN = keccak_256(
  utf8ToBytes("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
);
const PERMIT2_DOMAIN = keccak_256(utf8ToBytes("EIP712Domain(string name,uint256 chainId,address verifyingContract)"));

/** Address of what the CREATE2 deployer makes of `initCode` (EIP-1014). */
export function create2Address(salt: Uint8Array, initCode: Uint8Array): Address {
  const hashed = keccak_256(concatBytes(Uint8Array.of(0xff), fromHex(create2Deployer), salt, keccak_256(initCode)));
  return toHex(hashed.subarray(12));
}

/** keccak256 of code, as EXTCODEHASH has it. */
export function codeHash(code: Uint8Array): Hex {
  return toHex(keccak_256(code));
}

/**
 * Where the immutables of compiled code are, in bytes from its start: solc pushes each as 32 bytes that the artifact has as
 * zero, and pushes no other zero that way.
 */
export function immutableOffsets(code: Uint8Array): readonly number[] {
  return pushedWords(code).filter((at) => code.subarray(at, at + 32).every((byte) => byte === 0));
}

/** Where the words that PUSH32 pushes begin. What another instruction pushes is no instruction. */
function pushedWords(code: Uint8Array): readonly number[] {
  const found: number[] = [];
  for (let at = 0; at < code.length; at++) {
    const op = code[at] ?? 0;
    if (op < PUSH1 || op > PUSH32) continue;
    if (op === PUSH32 && at + 32 < code.length) found.push(at + 1);
    at += op - PUSH1 + 1;
  }
  return found;
}

/**
 * Whether `code` is what the artifact is when it is deployed: equal byte for byte but for the immutables, each of which is one
 * of `immutables` (32 bytes). Which one is where the compiler's order decides; whoever cares asks the contract.
 */
export function isCodeOf(
  { deployedBytecode }: Pick<Artifact, "deployedBytecode">,
  code: Uint8Array,
  immutables: readonly Uint8Array[] = [],
): boolean {
  const wanted = fromHex(deployedBytecode);
  if (code.length !== wanted.length) return false;
  for (const at of immutableOffsets(wanted)) {
    const value = code.subarray(at, at + 32);
    if (!immutables.some((one) => equalBytes(one, value))) return false;
    wanted.set(value, at);
  }
  return equalBytes(wanted, code);
}

/**
 * keccak256 of code whose immutables are known, with each of them zero as a compiler's artifact has it: one hash for what is
 * deployed with other immutables on every chain.
 */
export function templateHash(code: Uint8Array, immutables: readonly Uint8Array[]): Hex {
  const template = code.slice();
  for (const at of pushedWords(code))
    if (immutables.some((one) => equalBytes(one, code.subarray(at, at + 32)))) template.fill(0, at, at + 32);
  return codeHash(template);
}

/** What OpenZeppelin's EIP712 keeps in immutables: the domain separator and what it is made of. */
export function eip712Immutables(name: string, version: string, chainId: number, at: Address): readonly Uint8Array[] {
  const texts = [utf8ToBytes(name), utf8ToBytes(version)];
  return [
    domainSeparator(name, version, chainId, at),
    word(chainId),
    addressWord(at),
    ...texts.map((text) => keccak_256(text)),
    ...texts.map(shortString),
  ];
}

/** The separator of an EIP-712 domain with name, version, chain and contract. */
export function domainSeparator(name: string, version: string, chainId: number, at: Address): Uint8Array {
  const hashes = [name, version].map((text) => keccak_256(utf8ToBytes(text)));
  return keccak_256(concatBytes(EIP712_DOMAIN, ...hashes, word(chainId), addressWord(at)));
}

/** Text of at most 31 bytes in a word: left-aligned, its length in the last byte (OpenZeppelin's ShortStrings). */
function shortString(text: Uint8Array): Uint8Array {
  const out = new Uint8Array(32);
  out.set(text);
  out[31] = text.length;
  return out;
}

/** Permit2's code on a chain: its immutables are the chain's number and its domain separator there. */
export function permit2Code(chainId: number, at: Address): Uint8Array {
  const code = fromHex(permit2.bytecode).slice(PERMIT2_RUNTIME_AT);
  const separator = keccak_256(
    concatBytes(PERMIT2_DOMAIN, keccak_256(utf8ToBytes("Permit2")), word(chainId), addressWord(at)),
  );
  const [first, second] = immutableOffsets(code);
  if (first === undefined || second === undefined) throw new TypeError("Permit2 has two immutables.");
  code.set(word(chainId), first);
  code.set(separator, second);
  return code;
}

/**
 * The code at an address, asked for in two ways that a node answers from different parts of itself: as code, and as its hash
 * inside of a call. Throws `chain_node_contradictory` when they differ, and what the chain's methods throw.
 */
export async function readCode(chain: Pick<Chain, "code" | "call">, address: Address): Promise<Uint8Array> {
  // PUSH20 address EXTCODEHASH PUSH1 32 MSTORE PUSH1 64 PUSH1 0 RETURN. The word before the hash is zero: what init code
  // returns may not begin with 0xef (EIP-3541), which one hash in 256 does.
  const program = concatBytes(Uint8Array.of(0x73), fromHex(address), fromHex("0x3f60205260406000f3"));
  const [code, answer] = await Promise.all([chain.code(address), chain.call({ data: program })]);
  const hash = answer.subarray(32);
  // An account that does not exist has no hash (EIP-1052); one that exists without code has that of nothing.
  const agrees = equalBytes(hash, keccak_256(code)) || (code.length === 0 && equalBytes(hash, new Uint8Array(32)));
  if (agrees) return code;
  throw new AssayError("chain_node_contradictory", `The node says two different things of the code at ${address}.`, {
    hints: [
      `Its code has the hash ${codeHash(code)}, and inside of a call the hash is ${toHex(hash)}.`,
      "Ask another node: nothing that this one says of contracts is worth anything.",
    ],
  });
}
