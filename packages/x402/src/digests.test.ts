import fc from "fast-check";
import { hashTypedData, keccak256, encodeAbiParameters } from "viem";
import { authorizationTypes, permit2WitnessTypes, uptoPermit2WitnessTypes } from "@x402/evm";
import { describe, expect, test } from "vitest";
import { BATCH_SETTLEMENT, PERMIT2 } from "./addresses.ts";
import {
  cancelDigest,
  channelIdOf,
  claimBatchDigest,
  depositNonce,
  permit2612Digest,
  permit2PaymentId,
  permitDepositDigest,
  permitExactDigest,
  permitUptoDigest,
  receiveDigest,
  refundDigest,
  transferDigest,
  voucherDigest,
  voucherPaymentId,
} from "./digests.ts";
import { toHex } from "./hex.ts";
import { MAX_UINT128, MAX_UINT256 } from "./limits.ts";
import { nobleEvmSuite as suite } from "./noble.ts";
import type { Address } from "./types.ts";

const address = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => toHex(bytes) as Address);
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
// Small values, those around 2^53 and 2^32 where the writer changes its way, and the whole range.
const uint256 = fc.oneof(
  fc.bigInt(0n, 1n << 34n),
  fc.bigInt((1n << 53n) - 3n, (1n << 53n) + 3n),
  fc.bigInt(0n, MAX_UINT256),
);
const uint128 = fc.oneof(fc.bigInt(0n, 1n << 34n), fc.bigInt(0n, MAX_UINT128));
const chainId = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const domain = fc.record({
  name: fc.string({ unit: "grapheme" }),
  // viem leaves an empty version out of the domain, as it does a missing one.
  version: fc.string({ minLength: 1 }),
  chainId,
  verifyingContract: address,
});
const authorization = fc.record({
  from: address,
  to: address,
  value: uint256,
  validAfter: uint256,
  validBefore: uint256,
  nonce: bytes32,
});
const permit = fc.record({
  from: address,
  token: address,
  amount: uint256,
  spender: address,
  nonce: uint256,
  deadline: uint256,
});
const channel = fc.record({
  payer: address,
  payerAuthorizer: address,
  receiver: address,
  receiverAuthorizer: address,
  token: address,
  withdrawDelay: fc.integer({ min: 0, max: 2 ** 40 - 1 }),
  salt: bytes32,
});

/** viem's, whose types cannot follow type tables that are computed. */
const hashAny = hashTypedData as (typed: object) => string;
const permit2Domain = (chain: number) => ({ name: "Permit2", chainId: chain, verifyingContract: PERMIT2 });
const batchDomain = (chain: number) => ({
  name: "x402 Batch Settlement",
  version: "1",
  chainId: chain,
  verifyingContract: BATCH_SETTLEMENT,
});
const runs = { numRuns: 60 };

describe("digests are those of viem's hashTypedData", () => {
  test("EIP-3009 transfer, receive and cancel", () => {
    fc.assert(
      fc.property(domain, authorization, (d, a) => {
        const message = { ...a, nonce: toHex(a.nonce) };
        const types = authorizationTypes;
        expect(toHex(transferDigest(suite, d, a))).toBe(
          hashTypedData({ domain: d, types, primaryType: "TransferWithAuthorization", message }),
        );
        expect(toHex(receiveDigest(suite, d, a))).toBe(
          hashTypedData({
            domain: d,
            types: { ReceiveWithAuthorization: types.TransferWithAuthorization },
            primaryType: "ReceiveWithAuthorization",
            message,
          }),
        );
        expect(toHex(cancelDigest(suite, d, a.from, a.nonce))).toBe(
          hashTypedData({
            domain: d,
            types: {
              CancelAuthorization: [
                { name: "authorizer", type: "address" },
                { name: "nonce", type: "bytes32" },
              ],
            },
            primaryType: "CancelAuthorization",
            message: { authorizer: a.from, nonce: toHex(a.nonce) },
          }),
        );
      }),
      runs,
    );
  });

  test("EIP-2612 permit", () => {
    const types = {
      Permit: [
        { name: "owner", type: "address" },
        { name: "spender", type: "address" },
        { name: "value", type: "uint256" },
        { name: "nonce", type: "uint256" },
        { name: "deadline", type: "uint256" },
      ],
    };
    const message = fc.record({ owner: address, spender: address, value: uint256, nonce: uint256, deadline: uint256 });
    fc.assert(
      fc.property(domain, message, (d, m) => {
        expect(toHex(permit2612Digest(suite, d, { ...m, amount: m.value }))).toBe(
          hashTypedData({ domain: d, types, primaryType: "Permit", message: m }),
        );
      }),
      runs,
    );
  });

  test("Permit2 with the witnesses of exact, upto and a deposit", () => {
    fc.assert(
      fc.property(chainId, permit, address, address, uint256, bytes32, (chain, p, to, facilitator, validAfter, id) => {
        const message = {
          permitted: { token: p.token, amount: p.amount },
          spender: p.spender,
          nonce: p.nonce,
          deadline: p.deadline,
        };
        const primaryType = "PermitWitnessTransferFrom";
        const at = { domain: permit2Domain(chain), primaryType } as const;
        expect(toHex(permitExactDigest(suite, chain, p, { to, validAfter }))).toBe(
          hashTypedData({ ...at, types: permit2WitnessTypes, message: { ...message, witness: { to, validAfter } } }),
        );
        const witness = { to, facilitator, validAfter };
        expect(toHex(permitUptoDigest(suite, chain, p, witness))).toBe(
          hashTypedData({ ...at, types: uptoPermit2WitnessTypes, message: { ...message, witness } }),
        );
        const types = {
          ...permit2WitnessTypes,
          PermitWitnessTransferFrom: permit2WitnessTypes.PermitWitnessTransferFrom.map((member) =>
            member.name === "witness" ? { name: "witness", type: "DepositWitness" } : member,
          ),
          DepositWitness: [{ name: "channelId", type: "bytes32" }],
        };
        expect(toHex(permitDepositDigest(suite, chain, p, id))).toBe(
          hashAny({ ...at, types, message: { ...message, witness: { channelId: toHex(id) } } }),
        );
      }),
      runs,
    );
  });

  test("channels: id, voucher, refund and batch of claims", () => {
    const claims = fc.array(fc.record({ channelId: bytes32, maxClaimable: uint128, totalClaimed: uint128 }), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(chainId, channel, bytes32, uint128, uint256, claims, (chain, config, id, amount, nonce, list) => {
        const at = { domain: batchDomain(chain) };
        const channelType = [
          ...["payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token"].map((name) => ({
            name,
            type: "address",
          })),
          { name: "withdrawDelay", type: "uint40" },
          { name: "salt", type: "bytes32" },
        ];
        expect(toHex(channelIdOf(suite, chain, config))).toBe(
          hashAny({
            ...at,
            types: { ChannelConfig: channelType },
            primaryType: "ChannelConfig",
            message: { ...config, salt: toHex(config.salt) },
          }),
        );
        const channelId = toHex(id);
        const voucher = [
          { name: "channelId", type: "bytes32" },
          { name: "maxClaimableAmount", type: "uint128" },
        ];
        expect(toHex(voucherDigest(suite, chain, id, amount))).toBe(
          hashAny({
            ...at,
            types: { Voucher: voucher },
            primaryType: "Voucher",
            message: { channelId, maxClaimableAmount: amount },
          }),
        );
        const refund = [
          { name: "channelId", type: "bytes32" },
          { name: "nonce", type: "uint256" },
          { name: "amount", type: "uint128" },
        ];
        expect(toHex(refundDigest(suite, chain, id, nonce, amount))).toBe(
          hashAny({
            ...at,
            types: { Refund: refund },
            primaryType: "Refund",
            message: { channelId, nonce, amount },
          }),
        );
        const types = {
          ClaimBatch: [{ name: "claims", type: "ClaimEntry[]" }],
          ClaimEntry: [...voucher, { name: "totalClaimed", type: "uint128" }],
        };
        const entries = list.map((claim) => ({
          channelId: toHex(claim.channelId),
          maxClaimableAmount: claim.maxClaimable,
          totalClaimed: claim.totalClaimed,
        }));
        expect(toHex(claimBatchDigest(suite, chain, list))).toBe(
          hashAny({ ...at, types, primaryType: "ClaimBatch", message: { claims: entries } }),
        );
      }),
      runs,
    );
  });
});

test("ids and a deposit's nonce are hashes of ABI words", () => {
  fc.assert(
    fc.property(chainId, address, bytes32, uint256, bytes32, (chain, payer, id, number, salt) => {
      const words = (...types: readonly string[]) => types.map((type) => ({ type }));
      expect(toHex(depositNonce(suite, id, salt))).toBe(
        keccak256(encodeAbiParameters(words("bytes32", "bytes32"), [toHex(id), toHex(salt)])),
      );
      expect(toHex(permit2PaymentId(suite, chain, payer, number))).toBe(
        keccak256(
          encodeAbiParameters(words("uint256", "address", "address", "uint256"), [
            BigInt(chain),
            PERMIT2,
            payer,
            number,
          ]),
        ),
      );
      const voucher = { channelId: id, maxClaimable: number, signature: salt };
      expect(toHex(voucherPaymentId(suite, chain, voucher))).toBe(
        keccak256(
          encodeAbiParameters(words("uint256", "address", "bytes32", "uint256", "bytes32"), [
            BigInt(chain),
            BATCH_SETTLEMENT,
            toHex(id),
            number,
            keccak256(salt),
          ]),
        ),
      );
    }),
    runs,
  );
});

test("numbers out of range and words of another length are refused", () => {
  const permit2 = { from: PERMIT2, token: PERMIT2, spender: PERMIT2, nonce: 0n, deadline: 0n };
  const witness = { to: PERMIT2, validAfter: 0n };
  for (const amount of [-1n, MAX_UINT256 + 1n]) {
    expect(() => permitExactDigest(suite, 1, { ...permit2, amount }, witness)).toThrow(/out of the range/);
  }
  for (const length of [0, 31, 33]) {
    expect(() => voucherDigest(suite, 1, new Uint8Array(length), 1n)).toThrow(/not 32/);
  }
});
