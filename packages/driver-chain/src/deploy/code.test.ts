import {
  assayToken,
  batchSettlement,
  canonicalAddresses,
  exactPermit2Proxy,
  paymentBatcher,
  permit2,
  receiptAnchor,
  splitFactory,
  splitFactoryAddress,
  zeroSalt,
} from "@assay/contracts";
import { concatBytes } from "@assay/core";
import { describe, expect, it } from "vitest";
import { fromHex, word } from "../rpc/values.ts";
import { neededBy, schemesOf } from "./canonical.ts";
import type { CanonicalContract, CanonicalName } from "./canonical.ts";
import {
  codeHash,
  create2Address,
  eip712Immutables,
  immutableOffsets,
  isCodeOf,
  permit2Code,
  templateHash,
} from "./code.ts";

describe("the code of a contract", () => {
  const anchor = fromHex(receiptAnchor.deployedBytecode);
  const terms = [word(10n ** 16n), word(604_800)];

  it("is found where CREATE2 puts it", () => {
    expect(create2Address(fromHex(permit2.salt), fromHex(permit2.bytecode))).toBe(canonicalAddresses.permit2);
    expect(create2Address(fromHex(zeroSalt), fromHex(splitFactory.bytecode))).toBe(splitFactoryAddress);
    const other = concatBytes(fromHex(splitFactory.bytecode), Uint8Array.of(0));
    expect(create2Address(fromHex(zeroSalt), other)).not.toBe(splitFactoryAddress);
  });

  it("has immutables in some contracts, and none in those that are placed by their code alone", () => {
    expect(immutableOffsets(anchor)).toHaveLength(4);
    expect(immutableOffsets(fromHex(splitFactory.deployedBytecode))).toHaveLength(3);
    expect(immutableOffsets(fromHex(assayToken.deployedBytecode))).toHaveLength(7);
    for (const { deployedBytecode } of [paymentBatcher, exactPermit2Proxy, batchSettlement])
      expect(immutableOffsets(fromHex(deployedBytecode))).toEqual([]);
    // What is pushed is no instruction, whatever it looks like.
    const pushed = concatBytes(Uint8Array.of(0x60, 0x7f), new Uint8Array(40));
    expect(immutableOffsets(pushed)).toEqual([]);
  });

  it("counts with the immutables that it was given, and with no others", () => {
    const [first = 0, second = 0] = immutableOffsets(anchor);
    const deployed = anchor.slice();
    for (const at of immutableOffsets(anchor)) deployed.set(terms[0] ?? [], at);
    deployed.set(terms[1] ?? [], second);
    expect(isCodeOf(receiptAnchor, deployed, terms)).toBe(true);
    expect(isCodeOf(receiptAnchor, deployed, [])).toBe(false);
    expect(isCodeOf(receiptAnchor, deployed, terms.slice(0, 1))).toBe(false);
    expect(isCodeOf(receiptAnchor, anchor, terms)).toBe(false);
    expect(isCodeOf(receiptAnchor, deployed.subarray(1), terms)).toBe(false);
    expect(isCodeOf(receiptAnchor, concatBytes(deployed, Uint8Array.of(0)), terms)).toBe(false);
    for (const at of [0, first - 1, first + 31, deployed.length - 1]) {
      const changed = deployed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(isCodeOf(receiptAnchor, changed, terms)).toBe(false);
    }
  });

  it("with its immutables taken out is its artifact on every chain", () => {
    const artifact = fromHex(assayToken.deployedBytecode);
    const wanted = codeHash(artifact);
    for (const [chainId, at] of [
      [8453, canonicalAddresses.batchSettlement],
      [1, canonicalAddresses.permit2],
    ] as const) {
      const immutables = eip712Immutables("Assay", "1", chainId, at);
      const deployed = artifact.slice();
      immutableOffsets(artifact).forEach((offset, n) => deployed.set(immutables[n] ?? [], offset));
      expect(codeHash(deployed)).not.toBe(wanted);
      expect(templateHash(deployed, immutables)).toBe(wanted);
      expect(templateHash(deployed, eip712Immutables("Assay", "2", chainId, at))).not.toBe(wanted);
      expect(templateHash(deployed, eip712Immutables("Assay", "1", chainId + 1, at))).not.toBe(wanted);
      expect(templateHash(deployed.subarray(1), immutables)).not.toBe(wanted);
    }
    // Code that ends in the midst of a word is read to its end.
    expect(templateHash(Uint8Array.of(0x7f, 1), [])).toBe(codeHash(Uint8Array.of(0x7f, 1)));
  });

  // Read on the chains by others, who published the hash.
  it.each([
    [8453, "0xa67739abc3ede9dbdc0491636c67d6a14ac07fab9030c3f509b1eb7b11dff8ed"],
    [84532, "0xdcde65555316946c298e4c60c6213eb5c3aeab4354d1f3fac5427236bcbb9ebe"],
    [56, "0x48774d936722dd7002887f307f58bcddb3eeabad39149e7dcb5c08e4ebe3310f"],
  ])("of Permit2 on chain %i is computed", (chainId, published) => {
    expect(codeHash(permit2Code(chainId, canonicalAddresses.permit2))).toBe(published);
  });
});

describe("schemes", () => {
  const survey = (without: Partial<Record<CanonicalName, CanonicalContract["state"]>>): readonly CanonicalContract[] =>
    (Object.keys(canonicalAddresses) as CanonicalName[]).map((name) => ({
      name,
      address: canonicalAddresses[name],
      state: without[name] ?? "published",
      codeHash: undefined,
    }));
  const dollar = { eip3009: true };
  const plain = { eip3009: false };

  it("are all there where everything is", () => {
    expect(schemesOf(survey({}), [dollar, plain]).schemes).toEqual(["exact", "upto", "batch-settlement"]);
  });

  it.each([
    ["permit2", [dollar], ["exact", "batch-settlement"]],
    ["permit2", [plain], []],
    ["exactPermit2Proxy", [dollar], ["exact", "upto", "batch-settlement"]],
    ["exactPermit2Proxy", [dollar, plain], ["upto", "batch-settlement"]],
    ["uptoPermit2Proxy", [dollar], ["exact", "batch-settlement"]],
    ["batchSettlement", [dollar], ["exact", "upto"]],
    ["erc3009DepositCollector", [dollar], ["exact", "upto"]],
    ["erc3009DepositCollector", [plain], ["exact", "upto", "batch-settlement"]],
    ["permit2DepositCollector", [plain], ["exact", "upto"]],
    ["multicall3", [dollar], ["exact", "upto"]],
  ] as const)("without %s, for %j, are %j", (name, tokens, schemes) => {
    for (const state of ["missing", "unknown"] as const) {
      const found = schemesOf(survey({ [name]: state }), tokens);
      expect(found.schemes).toEqual(schemes);
      for (const { lacks } of found.withheld) expect(lacks).toEqual([name]);
      expect(found.withheld.map(({ scheme }) => scheme).concat(found.schemes)).toHaveLength(3);
    }
    expect(schemesOf(survey({ [name]: "accepted" }), tokens).schemes).toHaveLength(3);
  });

  it("of a token with authorizations need nothing to be settled exactly", () => {
    expect(neededBy("exact", dollar)).toEqual([]);
  });
});
