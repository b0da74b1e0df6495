import { readFileSync } from "node:fs";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@assay/core";
import { nativeEvmSuite } from "@assay/driver-chain";
import { nodeSuite } from "@assay/driver-crypto";
import { channelIdOf, isSignedBy, noncePaymentId, permit2PaymentId, voucherPaymentId } from "@assay/x402";
import type { Address, EvmSuite } from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";
import { describe, expect, it } from "vitest";
import { batchFault, decodeBatch, entryHash, entryOf, treeOf } from "./entry.ts";
import { hashLeaf } from "./tree.ts";

// The same file is read by the second verifier, in Python.

type Vectors = {
  readonly keccak256: readonly { readonly data: string; readonly digest: string }[];
  readonly chainId: number;
  readonly paymentIds: readonly {
    readonly by: "authorization" | "permit2" | "voucher";
    readonly token?: Address;
    readonly payer?: Address;
    readonly nonce?: string;
    readonly channelId?: string;
    readonly cumulative?: string;
    readonly signature?: string;
    readonly paymentId: string;
  }[];
  readonly channel: {
    readonly payer: Address;
    readonly payerAuthorizer: Address;
    readonly receiver: Address;
    readonly receiverAuthorizer: Address;
    readonly token: Address;
    readonly withdrawDelay: number;
    readonly salt: string;
    readonly channelId: string;
  };
  readonly signatures: readonly { readonly digest: string; readonly signature: string; readonly signer: Address }[];
  readonly anchor: {
    readonly contract: Address;
    readonly entry: Readonly<Record<string, string | number>>;
    readonly hash: string;
    readonly signature: string;
    readonly blob: string;
    readonly leaves: readonly { readonly leafHash: string; readonly proof: readonly string[] }[];
  };
};

const vectors = JSON.parse(readFileSync(new URL("../../../../vectors/chain.json", import.meta.url), "utf8")) as Vectors;
const bytes = (hex: string | undefined): Uint8Array => hexToBytes((hex ?? "").slice(2));
const hex = (value: Uint8Array): string => `0x${bytesToHex(value)}`;

describe.each([
  ["libsecp256k1", nativeEvmSuite()],
  ["noble", nobleEvmSuite],
] as const satisfies readonly (readonly [string, EvmSuite])[])(
  "the published vectors of section 8.1, by %s",
  (_, suite) => {
    const { chainId, channel, anchor } = vectors;

    it("hashes", () => {
      for (const { data, digest } of vectors.keccak256) expect(hex(suite.keccak256(bytes(data)))).toBe(digest);
    });

    it("ids of payments and channels", () => {
      const made = vectors.paymentIds.map(({ by, token, payer, nonce, channelId, cumulative, signature }) => {
        const [asset, from] = [token ?? "0x", payer ?? "0x"] as const;
        if (by === "authorization") return noncePaymentId(suite, chainId, asset, from, bytes(nonce));
        if (by === "permit2") return permit2PaymentId(suite, chainId, from, BigInt(nonce ?? ""));
        const voucher = {
          channelId: bytes(channelId),
          maxClaimable: BigInt(cumulative ?? ""),
          signature: bytes(signature),
        };
        return voucherPaymentId(suite, chainId, voucher);
      });
      expect(made.map(hex)).toEqual(vectors.paymentIds.map(({ paymentId }) => paymentId));
      expect(new Set(vectors.paymentIds.map(({ by }) => by)).size).toBe(3);
      expect(hex(channelIdOf(suite, chainId, { ...channel, salt: bytes(channel.salt) }))).toBe(channel.channelId);
    });

    it("signers", () => {
      for (const { digest, signature, signer } of vectors.signatures) {
        expect(isSignedBy(suite, signer, bytes(digest), bytes(signature))).toBe(true);
        const other = bytes(signature);
        other[64] = 55 - (other[64] ?? 0);
        expect(isSignedBy(suite, signer, bytes(digest), other)).toBe(false);
      }
    });

    it("a batch: blob, leaves, root, entry and signature", () => {
      const blob = utf8ToBytes(anchor.blob);
      const batch = decodeBatch(blob);
      expect(batchFault(suite, batch)).toBeUndefined();
      const entry = entryOf(batch, nodeSuite.sha256(blob));
      const shown = Object.entries(entry).map(([name, value]) => [
        name,
        value instanceof Uint8Array ? hex(value) : value,
      ]);
      expect(Object.fromEntries(shown)).toEqual(anchor.entry);
      const hash = entryHash(suite, { chainId, contract: anchor.contract }, entry);
      expect(hex(hash)).toBe(anchor.hash);
      expect(isSignedBy(suite, entry.submitter, hash, bytes(anchor.signature))).toBe(true);
      const tree = treeOf(suite, batch);
      const leaves = batch.leaves.map((leaf, i) => ({
        leafHash: hex(hashLeaf(suite.keccak256, leaf)),
        proof: tree.proof(i).map(hex),
      }));
      expect(leaves).toEqual(anchor.leaves);
    });
  },
);
