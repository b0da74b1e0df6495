import { bytesToHex, decodeCbor, encodeCbor } from "@assay/core";
import type { AssayError, CborValue } from "@assay/core";
import type { Address, Hex, Payment } from "@assay/x402";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeInstruction, encodeInstruction, MAX_INSTRUCTION_BYTES } from "./index.ts";
import type { Instruction } from "./index.ts";

const address: fc.Arbitrary<Address> = fc
  .uint8Array({ minLength: 20, maxLength: 20 })
  .map((bytes): Address => `0x${bytesToHex(bytes)}`);
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const hex32 = bytes32.map((bytes): Hex => `0x${bytesToHex(bytes)}`);
const uint = fc.bigInt({ min: 0n, max: (1n << 256n) - 1n });
const count = fc.nat();
const signature = fc.uint8Array({ minLength: 65, maxLength: 200 });
const permit = fc.record({
  from: address,
  token: address,
  amount: uint,
  spender: address,
  nonce: uint,
  deadline: uint,
});
const sponsored = fc.record({
  owner: address,
  spender: address,
  asset: address,
  amount: uint,
  nonce: uint,
  deadline: uint,
  signature,
});
const channel = fc.record({
  payer: address,
  payerAuthorizer: address,
  receiver: address,
  receiverAuthorizer: address,
  token: address,
  withdrawDelay: count,
  salt: bytes32,
});
const voucher = fc.record({ channelId: bytes32, maxClaimable: uint, signature });
const payment: fc.Arbitrary<Payment> = fc.oneof(
  fc.record({
    kind: fc.constant("eip3009" as const),
    authorization: fc.record({
      from: address,
      to: address,
      value: uint,
      validAfter: uint,
      validBefore: uint,
      nonce: bytes32,
    }),
    signature,
  }),
  fc.record(
    {
      kind: fc.constant("permit2" as const),
      permit,
      witness: fc.record({ to: address, validAfter: uint }),
      signature,
      sponsored,
    },
    { requiredKeys: ["kind", "permit", "witness", "signature"] },
  ),
  fc.record(
    {
      kind: fc.constant("upto" as const),
      permit,
      witness: fc.record({ to: address, facilitator: address, validAfter: uint }),
      signature,
      sponsored,
    },
    { requiredKeys: ["kind", "permit", "witness", "signature"] },
  ),
  fc.record({
    kind: fc.constant("deposit" as const),
    channel,
    voucher,
    amount: uint,
    by: fc.oneof(
      fc.record({
        kind: fc.constant("eip3009" as const),
        validAfter: uint,
        validBefore: uint,
        salt: bytes32,
        signature,
      }),
      fc.record(
        { kind: fc.constant("permit2" as const), permit, signature, sponsored },
        { requiredKeys: ["kind", "permit", "signature"] },
      ),
    ),
  }),
  fc.record({ kind: fc.constant("voucher" as const), channel, voucher }),
  fc.record(
    { kind: fc.constant("refund" as const), channel, voucher, amount: uint },
    { requiredKeys: ["kind", "channel", "voucher"] },
  ),
);

const instruction: fc.Arbitrary<Instruction> = fc
  .record({
    ids: fc.record({ paymentId: hex32, payer: address, asset: address, payTo: address }),
    scheme: fc.constantFrom("exact" as const, "upto" as const, "batch-settlement" as const),
    chainId: fc.integer({ min: 1 }),
    amounts: fc.tuple(uint, uint),
    payees: fc.array(fc.record({ address, basisPoints: fc.integer({ min: 1, max: 10_000 }) }), { maxLength: 8 }),
    settlement: fc.constantFrom("private" as const, "batch" as const, "individual" as const),
    times: fc.record({ deadlineS: count, takenAtMs: count }),
    listing: bytes32,
    fingerprint: bytes32,
    optional: fc.record(
      { idempotencyKey: fc.string({ minLength: 1, maxLength: 128 }), channelId: bytes32 },
      { requiredKeys: [] },
    ),
    takenBy: fc.uuid(),
    extra: fc.record(
      {
        name: fc.string({ maxLength: 32 }),
        version: fc.string({ maxLength: 4 }),
        assetTransferMethod: fc.constantFrom("eip3009" as const, "permit2" as const),
        facilitatorAddress: address,
        receiverAuthorizer: address,
        withdrawDelay: count,
        minDeposit: uint.map(String),
      },
      { requiredKeys: ["name", "version"] },
    ),
    maxTimeoutSeconds: count,
    version: fc.constantFrom(1 as const, 2 as const),
    identifier: fc.option(fc.string({ minLength: 16, maxLength: 128 }), { nil: undefined }),
    payment,
  })
  .map((all) => {
    const network = `eip155:${all.chainId}` as const;
    const [a, b] = all.amounts;
    const [amountAtomic, capAtomic] = a < b ? [a, b] : [b, a];
    return {
      ...all.ids,
      ...all.times,
      ...all.optional,
      scheme: all.scheme,
      network,
      amountAtomic,
      capAtomic,
      payees: all.payees,
      settlement: all.settlement,
      listing: bytesToHex(all.listing),
      fingerprint: all.fingerprint,
      takenBy: all.takenBy,
      requirement: {
        scheme: all.scheme,
        network,
        amount: capAtomic.toString(),
        asset: all.ids.asset,
        payTo: all.ids.payTo,
        maxTimeoutSeconds: all.maxTimeoutSeconds,
        extra: all.extra,
      },
      payload: {
        version: all.version,
        scheme: all.scheme,
        network,
        payment: all.payment,
        ...(all.identifier === undefined ? {} : { identifier: all.identifier }),
      },
    };
  });

const invalid = expect.objectContaining({ code: "instruction_invalid" }) as AssayError;

describe("instructions", () => {
  it("come back as they were written, whatever was signed", () => {
    fc.assert(
      fc.property(instruction, (value) => {
        expect(decodeInstruction(encodeInstruction(value))).toEqual(value);
      }),
    );
  });

  it("refuse every damage to a list's items", () => {
    fc.assert(
      fc.property(instruction, fc.nat(), fc.constantFrom("drop", "double", "swap"), (value, at, how) => {
        const items = [...(decodeCbor(encodeInstruction(value)) as readonly CborValue[])];
        const i = at % items.length;
        const damaged =
          how === "drop"
            ? items.toSpliced(i, 1)
            : how === "double"
              ? [...items, items[i] ?? null]
              : items.with(i, new Map());
        expect(() => decodeInstruction(encodeCbor(damaged))).toThrow(invalid);
      }),
    );
  });

  it("refuse bytes that are no instruction", () => {
    for (const bytes of [
      new Uint8Array(),
      encodeCbor("x"),
      encodeCbor([]),
      encodeCbor(["assay/payment-instruction/2"]),
    ])
      expect(() => decodeInstruction(bytes)).toThrow(invalid);
    expect(() => decodeInstruction(new Uint8Array(MAX_INSTRUCTION_BYTES + 1))).toThrow(invalid);
  });

  it("refuse more than 256 bits, a charge above its cap, and what is too large to keep", () => {
    const [value] = fc.sample(instruction, { numRuns: 1, seed: 1 });
    if (!value) throw new Error("no sample");
    expect(() => encodeInstruction({ ...value, capAtomic: 1n << 256n })).toThrow(invalid);
    expect(() => encodeInstruction({ ...value, amountAtomic: -1n })).toThrow(invalid);
    expect(() => decodeInstruction(encodeInstruction({ ...value, amountAtomic: 2n, capAtomic: 1n }))).toThrow(invalid);
    expect(() => encodeInstruction({ ...value, takenBy: "x".repeat(MAX_INSTRUCTION_BYTES) })).toThrow(invalid);
  });
});
