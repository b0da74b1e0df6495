import { compareBytes, equalBytes } from "@assay/core";
import { nativeEvmSuite } from "@assay/driver-chain";
import { encodeAbiParameters, keccak256, toHex } from "viem";
import fc from "fast-check";
import { expect, it } from "vitest";
import { MAX_LEAVES, buildTree, hashLeaf, provesLeaf } from "./tree.ts";

const hash = nativeEvmSuite().keccak256;
const word = fc.uint8Array({ minLength: 32, maxLength: 32 });

it("hashes a leaf as the contract does", () => {
  fc.assert(
    fc.property(
      word,
      word,
      word,
      fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }),
      fc.maxSafeNat(),
      (a, b, c, amountAtomic, logIndex) => {
        const encoded = encodeAbiParameters(
          [{ type: "bytes32" }, { type: "bytes32" }, { type: "bytes32" }, { type: "uint256" }, { type: "uint64" }],
          [toHex(a), toHex(b), toHex(c), amountAtomic, BigInt(logIndex)],
        );
        const leaf = hashLeaf(hash, { executionDigest: a, serviceDigest: b, paymentId: c, amountAtomic, logIndex });
        expect(toHex(leaf)).toBe(keccak256(keccak256(encoded)));
      },
    ),
    { numRuns: 50 },
  );
});

it("proves every leaf, in whatever order they came, and nothing else", () => {
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 40 }), word, (leaves, other) => {
      const tree = buildTree(hash, leaves);
      expect(buildTree(hash, leaves.toSorted(compareBytes)).root).toEqual(tree.root);
      for (const [i, leaf] of leaves.entries()) expect(provesLeaf(hash, leaf, tree.proof(i), tree.root)).toBe(true);
      if (!leaves.some((leaf) => equalBytes(leaf, other)))
        expect(provesLeaf(hash, other, tree.proof(0), tree.root)).toBe(false);
    }),
    { numRuns: 50 },
  );
});

it("has no root without leaves, and no more leaves than fit", () => {
  expect(buildTree(hash, []).root).toEqual(new Uint8Array(32));
  expect(() => buildTree(hash, [new Uint8Array(32)]).proof(1)).toThrow(RangeError);
  const many = Array.from({ length: MAX_LEAVES + 1 }, () => new Uint8Array(32));
  expect(() => buildTree(hash, many)).toThrow(expect.objectContaining({ code: "batch_too_large" }) as Error);
});

it("refuses what is no leaf", () => {
  const leaf = {
    executionDigest: new Uint8Array(32),
    serviceDigest: new Uint8Array(32),
    paymentId: new Uint8Array(32),
    amountAtomic: 1n,
    logIndex: 1,
  };
  expect(() => hashLeaf(hash, { ...leaf, paymentId: new Uint8Array(31) })).toThrow(TypeError);
  expect(() => hashLeaf(hash, { ...leaf, amountAtomic: 2n ** 256n })).toThrow(RangeError);
});
