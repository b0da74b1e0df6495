import type { Address, Hex } from "@assay/x402";
import { encodeEventTopics } from "viem";
import { testUsdc } from "@assay/contracts";
import { describe, expect, it } from "vitest";
import { movedAsAuthorized } from "./authorized.ts";
import type { AuthorizedTransfer } from "./authorized.ts";

const address = (byte: string): Address => `0x${byte.repeat(20)}`;
const [token, from, to] = [address("aa"), address("bb"), address("cc")];
const nonce: Hex = `0x${"11".repeat(32)}`;
const transfer: AuthorizedTransfer = { token, from, to, value: 5n, nonce };

type Log = Parameters<typeof movedAsAuthorized>[0][number];
const { abi } = testUsdc;
const used = (of: Hex = nonce, by = from, at = token): Log => ({
  address: at,
  topics: encodeEventTopics({ abi, eventName: "AuthorizationUsed", args: { authorizer: by, nonce: of } }) as Hex[],
  data: "0x",
});
const moved = (value = 5n, receiver = to, at = token): Log => ({
  address: at,
  topics: encodeEventTopics({ abi, eventName: "Transfer", args: { from, to: receiver } }) as Hex[],
  data: `0x${value.toString(16).padStart(64, "0")}`,
});

describe("what an authorization moved", () => {
  it("is the transfer that its token tells of next", () => {
    expect(movedAsAuthorized([used(), moved()], transfer)).toBe(true);
    expect(movedAsAuthorized([used(), moved(9n, to, address("dd")), moved()], transfer)).toBe(true);
    const bytes = { ...moved(), data: Uint8Array.from({ length: 32 }, (_, i) => (i === 31 ? 5 : 0)) };
    expect(movedAsAuthorized([used(), bytes], transfer)).toBe(true);
  });

  it.each<[string, readonly Log[]]>([
    ["nothing", []],
    ["another nonce's", [used(`0x${"22".repeat(32)}`), moved()]],
    ["another payer's", [used(nonce, to), moved()]],
    ["another token's", [used(nonce, from, address("dd")), moved()]],
    ["another amount", [used(), moved(4n)]],
    ["another receiver's", [used(), moved(5n, from)]],
    ["one before it", [moved(), used()]],
    ["one behind its own", [used(), moved(0n, from), moved()]],
    ["none that its token tells of", [used(), moved(5n, to, address("dd"))]],
  ])("is not %s", (_, logs) => {
    expect(movedAsAuthorized(logs, transfer)).toBe(false);
  });
});
