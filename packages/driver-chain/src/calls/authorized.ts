import { testUsdc } from "@assay/contracts";
import { toHex } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { encodeEventTopics } from "viem";

/** A log as far as it is read here; `data` as bytes or as `0x…`. */
type Log = { readonly address: Address; readonly topics: readonly Hex[]; readonly data: Uint8Array | Hex };

/** A transfer that an EIP-3009 authorization was signed for. */
export type AuthorizedTransfer = {
  readonly token: Address;
  readonly from: Address;
  readonly to: Address;
  /** Atomic units. */
  readonly value: bigint;
  /** 32 bytes as `0x…`. */
  readonly nonce: Hex;
};

const USED = first(encodeEventTopics({ abi: testUsdc.abi, eventName: "AuthorizationUsed" }));
const TRANSFER = first(encodeEventTopics({ abi: testUsdc.abi, eventName: "Transfer" }));

/**
 * Whether a transaction's logs, all of them in their order, show that an authorization moved what it was signed for. The
 * token says that a nonce was used and, next, what moved. That both are somewhere in the transaction says nothing: the
 * same nonce can be used up for a transfer to oneself, beside a transfer that pays for something else.
 */
export function movedAsAuthorized(logs: readonly Log[], transfer: AuthorizedTransfer): boolean {
  const { token, from, to, value, nonce } = transfer;
  const ofToken = logs.filter(({ address }) => address === token);
  return ofToken.some(({ topics }, at) => {
    if (topics[0] !== USED || topics[1] !== word(from) || topics[2] !== nonce) return false;
    const next = ofToken[at + 1];
    return (
      next !== undefined &&
      next.topics[0] === TRANSFER &&
      next.topics[1] === word(from) &&
      next.topics[2] === word(to) &&
      BigInt(typeof next.data === "string" ? next.data : toHex(next.data)) === value
    );
  });
}

function word(address: Address): Hex {
  return `0x${address.slice(2).padStart(64, "0")}`;
}

function first(topics: readonly unknown[]): Hex {
  return String(topics[0]) as Hex;
}
