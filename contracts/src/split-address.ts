import { splitFactoryAddress, splitImplementationAddress } from "./generated/addresses.ts";
import type { Address } from "./types.ts";

/** The most payees of a split, as SplitFactory has it. */
export const maxSplitPayees = 16;

const wordBytes = 32;
const hexPattern = /^0x[0-9a-f]{40}$/;

/**
 * The address (20 bytes, lower-case hex) of the split of these payees, computed without a chain: tokens may be sent there
 * before anybody has `SplitFactory.createSplit` place it. The order is part of the address; the last payee has the
 * remainder. Throws a RangeError for what the factory refuses: no payee or more than 16, a zero or malformed address, a
 * share that is not a positive whole number of 1/10,000, shares that do not add up to 10,000.
 * @param keccak256 Gives 32 bytes.
 */
export function splitAddressOf(
  keccak256: (bytes: Uint8Array) => Uint8Array,
  payees: readonly { readonly address: Address; readonly basisPoints: number }[],
): Address {
  refuseWrong(payees);
  const args = encodeArguments(payees);
  // EIP-1167 with the arguments behind the code, as OpenZeppelin's Clones lays it out; 0x2d is the length of that code.
  const initCode = concat([
    [0x61, (args.length + 0x2d) >> 8, (args.length + 0x2d) & 0xff],
    fromHex("3d81600a3d39f3363d3d373d3d3d363d73"),
    fromHex(splitImplementationAddress.slice(2)),
    fromHex("5af43d82803e903d91602b57fd5bf3"),
    args,
  ]);
  // EIP-1014, with a salt of zero.
  const preimage = concat([
    [0xff],
    fromHex(splitFactoryAddress.slice(2)),
    new Uint8Array(wordBytes),
    keccak256(initCode),
  ]);
  return toAddress(keccak256(preimage).subarray(12));
}

function refuseWrong(payees: readonly { readonly address: Address; readonly basisPoints: number }[]): void {
  if (payees.length === 0 || payees.length > maxSplitPayees)
    throw new RangeError(`A split has 1 to ${maxSplitPayees} payees, not ${payees.length}.`);
  for (const { address, basisPoints } of payees) {
    if (!hexPattern.test(address.toLowerCase()) || /^0x0+$/.test(address))
      throw new RangeError(`${address} is no address that can be paid.`);
    if (!Number.isInteger(basisPoints) || basisPoints < 1)
      throw new RangeError(`A share is a positive whole number of 1/10,000, not ${basisPoints}.`);
  }
  const sum = payees.reduce((total, { basisPoints }) => total + basisPoints, 0);
  if (sum !== 10_000) throw new RangeError(`The shares add up to ${sum}, not 10,000.`);
}

/** abi.encode(address[], uint16[]). */
function encodeArguments(payees: readonly { readonly address: Address; readonly basisPoints: number }[]): Uint8Array {
  const second = (3 + payees.length) * wordBytes;
  return concat([
    word(2 * wordBytes),
    word(second),
    word(payees.length),
    ...payees.map(({ address }) => concat([new Uint8Array(12), fromHex(address.slice(2))])),
    word(payees.length),
    ...payees.map(({ basisPoints }) => word(basisPoints)),
  ]);
}

/** A whole number below 2^32 as 32 bytes, big endian. */
function word(value: number): Uint8Array {
  const bytes = new Uint8Array(wordBytes);
  new DataView(bytes.buffer).setUint32(wordBytes - 4, value);
  return bytes;
}

function concat(parts: readonly ArrayLike<number>[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

function fromHex(digits: string): Uint8Array {
  return Uint8Array.from({ length: digits.length / 2 }, (_, index) =>
    Number.parseInt(digits.slice(2 * index, 2 * index + 2), 16),
  );
}

function toAddress(bytes: Uint8Array): Address {
  return `0x${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
