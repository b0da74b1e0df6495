import {
  decodePaymentRequiredHeader,
  decodePaymentResponseHeader,
  encodePaymentSignatureHeader,
} from "@x402/core/http";
import { bytesToBase64, utf8ToBytes } from "@assay/core";
import fc from "fast-check";
import { getAddress } from "viem";
import { describe, expect, test } from "vitest";
import { toHex } from "./hex.ts";
import { encodeHeader } from "./header.ts";
import { MAX_ACCEPTS, MAX_HEADER_CHARS, MAX_JSON_DEPTH, MAX_QUOTE_BODY_BYTES, MAX_SIGNATURE_BYTES } from "./limits.ts";
import { networkOfV1Name, v1NameOf } from "./networks.ts";
import { nobleEvmSuite as suite } from "./noble.ts";
import { encodePayment, parsePaymentDocument, parsePaymentHeader, paymentDocument } from "./payload.ts";
import { encodePaymentRequired, parsePaymentRequired, paymentRequiredV1 } from "./required.ts";
import { channelOutcome, encodeSettlementResponse, parseSettlementResponse } from "./settlement.ts";
import type {
  Address,
  Payment,
  PaymentPayload,
  PaymentRequired,
  PaymentRequirements,
  SettlementResponse,
} from "./types.ts";

const USDC: Address = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const PAYEE: Address = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const requirement: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:84532",
  amount: "1000",
  asset: USDC,
  payTo: PAYEE,
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const upto: PaymentRequirements = {
  ...requirement,
  scheme: "upto",
  extra: { name: "USDC", version: "2", assetTransferMethod: "permit2", facilitatorAddress: PAYEE },
};
const batch: PaymentRequirements = {
  ...requirement,
  scheme: "batch-settlement",
  extra: { name: "USDC", version: "2", receiverAuthorizer: PAYEE, withdrawDelay: 900, minDeposit: "10000" },
};

const address = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => toHex(bytes) as Address);
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const uint256 = fc.bigInt(0n, (1n << 256n) - 1n);
const uint128 = fc.bigInt(0n, (1n << 128n) - 1n);
const signature = fc.uint8Array({ minLength: 0, maxLength: 200 });
const permit = fc.record({
  from: address,
  token: address,
  amount: uint256,
  spender: address,
  nonce: uint256,
  deadline: uint256,
});
const sponsored = fc.record({
  owner: address,
  spender: address,
  asset: address,
  amount: uint256,
  nonce: uint256,
  deadline: uint256,
  signature,
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
const voucher = fc.record({ channelId: bytes32, maxClaimable: uint128, signature });
const eip3009: fc.Arbitrary<Payment> = fc.record({
  kind: fc.constant("eip3009" as const),
  authorization: fc.record({
    from: address,
    to: address,
    value: uint256,
    validAfter: uint256,
    validBefore: uint256,
    nonce: bytes32,
  }),
  signature,
});
const kept = { requiredKeys: ["kind", "permit", "witness", "signature"] as ["kind", "permit", "witness", "signature"] };
const byScheme: readonly [PaymentRequirements, fc.Arbitrary<Payment>][] = [
  [requirement, eip3009],
  [
    requirement,
    fc.record(
      {
        kind: fc.constant("permit2" as const),
        permit,
        witness: fc.record({ to: address, validAfter: uint256 }),
        signature,
        sponsored,
      },
      kept,
    ),
  ],
  [
    upto,
    fc.record(
      {
        kind: fc.constant("upto" as const),
        permit,
        witness: fc.record({ to: address, facilitator: address, validAfter: uint256 }),
        signature,
        sponsored,
      },
      kept,
    ),
  ],
  [batch, fc.record({ kind: fc.constant("voucher" as const), channel, voucher })],
  [
    batch,
    fc.record(
      { kind: fc.constant("refund" as const), channel, voucher, amount: uint128 },
      { requiredKeys: ["kind", "channel", "voucher"] },
    ),
  ],
  [
    batch,
    fc.record({
      kind: fc.constant("deposit" as const),
      channel,
      voucher,
      amount: uint128,
      by: fc.oneof(
        fc.record({
          kind: fc.constant("eip3009" as const),
          validAfter: uint256,
          validBefore: uint256,
          salt: bytes32,
          signature,
        }),
        fc.record(
          { kind: fc.constant("permit2" as const), permit, signature, sponsored },
          { requiredKeys: ["kind", "permit", "signature"] },
        ),
      ),
    }),
  ],
];

function header(document: unknown): string {
  return bytesToBase64(utf8ToBytes(JSON.stringify(document)));
}

const authorization = {
  from: PAYEE,
  to: PAYEE,
  value: "1000",
  validAfter: "0",
  validBefore: "99",
  nonce: `0x${"11".repeat(32)}`,
};
const inner = { signature: `0x${"22".repeat(65)}`, authorization };
const v2 = { x402Version: 2, accepted: { ...requirement }, payload: inner };
const v1 = { x402Version: 1, scheme: "exact", network: "base-sepolia", payload: inner };

function refusal(document: unknown, name: "payment-signature" | "x-payment" = "payment-signature"): unknown {
  try {
    return parsePaymentHeader(name, header(document));
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("payments", () => {
  test("every kind comes back from its header as it went in", () => {
    for (const [accepted, arbitrary] of byScheme) {
      fc.assert(
        fc.property(
          arbitrary,
          fc.option(fc.stringMatching(/^[a-zA-Z0-9_-]{16,128}$/), { nil: undefined }),
          (payment, id) => {
            const payload: PaymentPayload = {
              version: 2,
              scheme: accepted.scheme,
              network: accepted.network,
              payment,
              accepted,
              ...(id === undefined ? {} : { identifier: id }),
            };
            const { name, value } = encodePayment(suite, payload);
            expect(name).toBe("PAYMENT-SIGNATURE");
            expect(parsePaymentHeader("payment-signature", value)).toEqual(payload);
          },
        ),
        { numRuns: 40 },
      );
    }
  });

  test("version 1 comes back as it went in, and names its network", () => {
    fc.assert(
      fc.property(eip3009, (payment) => {
        const payload: PaymentPayload = { version: 1, scheme: "exact", network: "eip155:8453", payment };
        const { name, value } = encodePayment(suite, payload);
        expect(name).toBe("X-PAYMENT");
        expect(parsePaymentHeader("x-payment", value)).toEqual(payload);
        expect(paymentDocument(suite, payload)).toMatchObject({ x402Version: 1, network: "base" });
      }),
      { numRuns: 20 },
    );
  });

  test("the header of the published library is understood", () => {
    const value = encodePaymentSignatureHeader({ ...v2, resource: { url: "http://x.example/" } } as never);
    expect(parsePaymentHeader("payment-signature", value).payment).toMatchObject({ kind: "eip3009" });
  });

  test("what the quote said is repeated word for word", () => {
    const accepted = { ...requirement, asset: getAddress(USDC), extra: { name: "USDC", version: "2", foreign: [1] } };
    const payload = parsePaymentDocument(v2 as never);
    const document = paymentDocument(
      suite,
      { ...payload, identifier: "pay_0123456789abcdef" },
      {
        accepted: accepted as never,
        resource: { url: "u" },
        extensions: { bazaar: { info: 1 }, "payment-identifier": { info: { required: true }, schema: { a: 1 } } },
      },
    );
    expect(document["accepted"]).toBe(accepted);
    expect(document["resource"]).toEqual({ url: "u" });
    expect(document["extensions"]).toEqual({
      bazaar: { info: 1 },
      "payment-identifier": { info: { required: true, id: "pay_0123456789abcdef" }, schema: { a: 1 } },
    });
  });

  test("addresses go out with their checksum and come in in any case", () => {
    const document = paymentDocument(suite, parsePaymentDocument(v2 as never)) as {
      payload: { authorization: object };
    };
    expect(document.payload.authorization).toMatchObject({ from: getAddress(PAYEE) });
    const shouted = {
      ...v2,
      payload: { ...inner, authorization: { ...authorization, from: `0x${PAYEE.slice(2).toUpperCase()}` } },
    };
    expect(refusal(shouted)).toEqual(refusal(v2));
  });

  test.each<[string, unknown, string]>([
    ["an array", [], "payment_malformed"],
    ["null", null, "payment_malformed"],
    ["no version", { ...v2, x402Version: undefined }, "payment_version_unsupported"],
    ["version 3", { ...v2, x402Version: 3 }, "payment_version_unsupported"],
    ["version as text", { ...v2, x402Version: "2" }, "payment_version_unsupported"],
    ["version 1 in the header of version 2", v1, "payment_version_unsupported"],
    ["no accepted", { ...v2, accepted: undefined }, "payment_malformed"],
    [
      "an unknown scheme",
      { ...v2, accepted: { ...requirement, scheme: "auth-capture" } },
      "payment_scheme_unsupported",
    ],
    [
      "an inherited name as scheme",
      { ...v2, accepted: { ...requirement, scheme: "toString" } },
      "payment_scheme_unsupported",
    ],
    [
      "a foreign chain family",
      { ...v2, accepted: { ...requirement, network: "solana:x" } },
      "payment_network_unsupported",
    ],
    ["a v1 network name", { ...v2, accepted: { ...requirement, network: "base" } }, "payment_network_unsupported"],
    ["a chain id of 0", { ...v2, accepted: { ...requirement, network: "eip155:0" } }, "payment_network_unsupported"],
    [
      "a chain id beyond 2^53",
      { ...v2, accepted: { ...requirement, network: "eip155:9999999999999999" } },
      "payment_network_unsupported",
    ],
    [
      "an unknown transfer method",
      { ...v2, accepted: { ...requirement, extra: { assetTransferMethod: "erc7710" } } },
      "payment_scheme_unsupported",
    ],
    ["no payload", { ...v2, payload: undefined }, "payment_malformed"],
    ["an upto payload without its permit", { ...v2, accepted: upto }, "payment_malformed"],
    ["a channel payload without its type", { ...v2, accepted: batch }, "payment_malformed"],
    [
      "a nonce of 31 bytes",
      { ...v2, payload: { ...inner, authorization: { ...authorization, nonce: `0x${"11".repeat(31)}` } } },
      "payment_malformed",
    ],
    [
      "a short address",
      { ...v2, payload: { ...inner, authorization: { ...authorization, to: "0x12" } } },
      "payment_malformed",
    ],
    [
      "a negative value",
      { ...v2, payload: { ...inner, authorization: { ...authorization, value: "-1" } } },
      "payment_malformed",
    ],
    [
      "a value in hexadecimal",
      { ...v2, payload: { ...inner, authorization: { ...authorization, value: "0x10" } } },
      "payment_malformed",
    ],
    [
      "an empty value",
      { ...v2, payload: { ...inner, authorization: { ...authorization, value: "" } } },
      "payment_malformed",
    ],
    [
      "a fractional value",
      { ...v2, payload: { ...inner, authorization: { ...authorization, value: 1.5 } } },
      "payment_malformed",
    ],
    [
      "a value of 2^256",
      { ...v2, payload: { ...inner, authorization: { ...authorization, value: (1n << 256n).toString() } } },
      "payment_malformed",
    ],
    ["a signature of half a byte", { ...v2, payload: { ...inner, signature: "0x123" } }, "payment_malformed"],
    [
      "a signature too long",
      { ...v2, payload: { ...inner, signature: `0x${"00".repeat(MAX_SIGNATURE_BYTES + 1)}` } },
      "payment_malformed",
    ],
    [
      "a short identifier",
      { ...v2, extensions: { "payment-identifier": { info: { id: "short" } } } },
      "payment_malformed",
    ],
    [
      "a long identifier",
      { ...v2, extensions: { "payment-identifier": { info: { id: "a".repeat(129) } } } },
      "payment_malformed",
    ],
    [
      "an identifier with a space",
      { ...v2, extensions: { "payment-identifier": { info: { id: "a b".repeat(10) } } } },
      "payment_malformed",
    ],
    [
      "a malformed permit",
      { ...v2, extensions: { eip2612GasSponsoring: { info: { signature: "0x" } } } },
      "payment_malformed",
    ],
  ])("%s is refused", (_, document, code) => {
    expect(refusal(document)).toBe(code);
  });

  test("an echoed offer without a permit and without an id is no permit and no id", () => {
    const offered = {
      eip2612GasSponsoring: { info: { version: "1" } },
      "payment-identifier": { info: { required: false } },
    };
    expect(refusal({ ...v2, extensions: offered })).toEqual(refusal(v2));
  });

  test.each<[string, unknown, string]>([
    ["an unknown network", { ...v1, network: "base-mainnet" }, "payment_network_unsupported"],
    ["a CAIP-2 network", { ...v1, network: "eip155:8453" }, "payment_network_unsupported"],
    ["upto", { ...v1, scheme: "upto" }, "payment_scheme_unsupported"],
    ["no payload", { ...v1, payload: null }, "payment_malformed"],
  ])("version 1: %s is refused", (_, document, code) => {
    expect(refusal(document, "x-payment")).toBe(code);
  });

  test("a witness of another channel than the voucher's is refused", () => {
    const [, arbitrary] = byScheme[5]!;
    const payment = fc
      .sample(arbitrary, { numRuns: 40, seed: 1 })
      .find((p) => p.kind === "deposit" && p.by.kind === "permit2")!;
    const document = structuredClone(
      paymentDocument(suite, {
        version: 2,
        scheme: "batch-settlement",
        network: batch.network,
        payment,
        accepted: batch,
      }),
    ) as { payload: { deposit: { authorization: { permit2Authorization: { witness: { channelId: string } } } } } };
    expect(refusal(document)).not.toBe("payment_malformed");
    document.payload.deposit.authorization.permit2Authorization.witness.channelId = `0x${"00".repeat(32)}`;
    expect(refusal(document)).toBe("payment_malformed");
  });

  test("headers beyond their limits are refused before they are decoded", () => {
    const code = (text: string): unknown => {
      try {
        return parsePaymentHeader("payment-signature", text);
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code("A".repeat(MAX_HEADER_CHARS + 4))).toBe("payment_malformed");
    expect(code("")).toBe("payment_malformed");
    expect(code(` ${header(v2)}`)).toBe("payment_malformed");
    expect(code("not base64")).toBe("payment_malformed");
    expect(code(bytesToBase64(utf8ToBytes("{}")).replaceAll("=", ""))).toBe("payment_malformed");
    expect(code(bytesToBase64(new Uint8Array([0xff, 0xfe, 0xfd])))).toBe("payment_malformed");
    expect(code(bytesToBase64(utf8ToBytes("{")))).toBe("payment_malformed");
    const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)]);
    expect(refusal({ ...v2, extensions: { bazaar: deep(MAX_JSON_DEPTH - 2) } })).toEqual(refusal(v2));
    expect(refusal({ ...v2, extensions: { bazaar: deep(MAX_JSON_DEPTH) } })).toBe("payment_malformed");
    expect(() => encodeHeader("PAYMENT-REQUIRED", "x".repeat(MAX_HEADER_CHARS))).toThrow(/longer/);
  });

  test("no text whatever makes the parser throw anything but its refusals", () => {
    const codes = [
      "payment_malformed",
      "payment_version_unsupported",
      "payment_scheme_unsupported",
      "payment_network_unsupported",
    ];
    const leaf = fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.boolean(), fc.constant({}), fc.constant([]));
    const paths = [
      ["accepted"],
      ["accepted", "extra"],
      ["payload"],
      ["payload", "authorization"],
      ["extensions"],
      [],
    ] as string[][];
    fc.assert(
      fc.property(fc.constantFrom(...paths), fc.string(), fc.nat(20), leaf, (path, name, at, value) => {
        const document = structuredClone({ ...v2, extensions: {} }) as Record<string, unknown>;
        let place = document;
        for (const part of path) place = place[part] as Record<string, unknown>;
        const names = Object.keys(place);
        place[names[at] ?? name] = value;
        const answer = refusal(document);
        if (typeof answer === "string") expect(codes).toContain(answer);
        else expect(answer).toHaveProperty("payment");
      }),
      { numRuns: 300 },
    );
  });
});

const required: PaymentRequired = {
  x402Version: 2,
  error: "Payment required",
  resource: { url: "https://a.example/v1/infer", description: "One call", mimeType: "application/json" },
  accepts: [upto, batch, requirement],
  extensions: { "payment-identifier": { info: { required: false }, schema: {} } },
};

describe("quotes", () => {
  test("come back from the header as they went in, and the published library reads them", () => {
    const value = encodePaymentRequired(suite, required);
    const quote = parsePaymentRequired({ header: value, body: "{}" });
    expect(quote).toMatchObject({ version: 2, leftOut: 0, required });
    expect(decodePaymentRequiredHeader(value).accepts[0]).toMatchObject({ scheme: "upto", asset: getAddress(USDC) });
    expect(quote.wire.accepts[0]).toMatchObject({ asset: getAddress(USDC) });
  });

  test("version 1 names networks and offers what it can pay", () => {
    const permit2: PaymentRequirements = {
      ...requirement,
      extra: { ...requirement.extra, assetTransferMethod: "permit2" },
    };
    const local: PaymentRequirements = { ...requirement, network: "eip155:31337" };
    const body = paymentRequiredV1(suite, { ...required, accepts: [...required.accepts, permit2, local] });
    expect(body).toEqual({
      x402Version: 1,
      error: "Payment required",
      accepts: [
        {
          scheme: "exact",
          network: "base-sepolia",
          maxAmountRequired: "1000",
          resource: required.resource.url,
          description: "One call",
          mimeType: "application/json",
          payTo: getAddress(PAYEE),
          maxTimeoutSeconds: 900,
          asset: getAddress(USDC),
          extra: { name: "USDC", version: "2" },
        },
      ],
    });
    const quote = parsePaymentRequired({ body: JSON.stringify(body) });
    expect(quote).toMatchObject({ version: 1, required: { accepts: [requirement], resource: required.resource } });
  });

  test("what cannot be understood is left out, and the rest stays", () => {
    const accepts = [
      { ...requirement, scheme: "auth-capture" },
      { ...requirement, network: "solana:mainnet" },
      { ...requirement, payTo: "someone" },
      { ...requirement, maxTimeoutSeconds: 0 },
      { ...requirement, maxTimeoutSeconds: 1e12 },
      null,
      requirement,
    ];
    const quote = parsePaymentRequired({ header: header({ x402Version: 2, accepts, resource: 7, extensions: [] }) });
    expect(quote.required.accepts).toEqual([requirement]);
    expect(quote.wire.accepts).toEqual([requirement]);
    expect(quote.leftOut).toBe(6);
  });

  test("a flood of requirements is cut, and long texts are cut", () => {
    const body = JSON.stringify({
      x402Version: 2,
      accepts: Array.from({ length: MAX_ACCEPTS + 9 }, () => requirement),
      error: "e".repeat(5000),
      resource: { url: "u".repeat(5000) },
    });
    const quote = parsePaymentRequired({ body });
    expect(quote.required.accepts).toHaveLength(MAX_ACCEPTS);
    expect(quote.leftOut).toBe(9);
    expect(quote.required.error).toHaveLength(4096);
    expect(quote.required.resource.url).toHaveLength(4096);
  });

  test.each<[string, { header?: string; body?: string }]>([
    ["nothing", {}],
    ["a header that is not base64", { header: "%" }],
    ["a header of another document", { header: header({ hello: 1 }) }],
    ["a body that is not JSON", { body: "<html>" }],
    ["a body too long", { body: " ".repeat(MAX_QUOTE_BODY_BYTES + 1) }],
    ["a body that nests", { body: `${"[".repeat(5000)}${"]".repeat(5000)}` }],
    ["version 9", { body: JSON.stringify({ x402Version: 9, accepts: [] }) }],
    ["no list", { body: JSON.stringify({ x402Version: 2, accepts: {} }) }],
  ])("%s is refused", (_, from) => {
    expect(() => parsePaymentRequired(from)).toThrow(expect.objectContaining({ code: "payment_quote_malformed" }));
  });
});

describe("settlements", () => {
  const response: SettlementResponse = {
    success: true,
    transaction: "",
    network: "eip155:8453",
    payer: PAYEE,
    amount: "12",
    extra: {
      chargedAmount: "12",
      channelState: {
        channelId: `0x${"33".repeat(32)}`,
        balance: "100",
        totalClaimed: "5",
        withdrawRequestedAt: 0,
        refundNonce: "1",
        chargedCumulativeAmount: "17",
      },
    },
  };

  test("come back from both headers as they went in", () => {
    const second = encodeSettlementResponse(suite, 2, response);
    expect(second.name).toBe("PAYMENT-RESPONSE");
    expect(parseSettlementResponse(second.value)).toEqual(response);
    expect(decodePaymentResponseHeader(second.value)).toMatchObject({ success: true, payer: getAddress(PAYEE) });
    const first = encodeSettlementResponse(suite, 1, response);
    expect(first.name).toBe("X-PAYMENT-RESPONSE");
    expect(decodePaymentResponseHeader(first.value)).toMatchObject({ network: "base" });
    expect(parseSettlementResponse(first.value)).toEqual(response);
    const failed: SettlementResponse = {
      success: false,
      transaction: `0x${"ab".repeat(32)}`,
      network: "eip155:31337",
      errorReason: "insufficient_funds",
      errorMessage: "The payer has nothing.",
    };
    expect(parseSettlementResponse(encodeSettlementResponse(suite, 1, failed).value)).toEqual(failed);
  });

  test("a channel's outcome is read, and a malformed one refused", () => {
    expect(channelOutcome(response)).toEqual({ chargedAtomic: 12n, channelState: response.extra!["channelState"] });
    expect(channelOutcome({ ...response, extra: {} })).toEqual({});
    expect(() => channelOutcome({ ...response, extra: { chargedAmount: "-1" } })).toThrow(/malformed/);
    expect(() => channelOutcome({ ...response, extra: { channelState: { balance: "1" } } })).toThrow(/malformed/);
  });

  test.each<[string, unknown]>([
    ["no success", { ...response, success: "yes" }],
    ["a transaction that is none", { ...response, transaction: "0x12" }],
    ["an amount that is none", { ...response, amount: "many" }],
    ["a payer that is none", { ...response, payer: "0x1" }],
  ])("%s is refused", (_, document) => {
    expect(() => parseSettlementResponse(header(document))).toThrow(
      expect.objectContaining({ code: "payment_malformed" }),
    );
  });
});

test("v1 names of networks go both ways", () => {
  for (const name of ["base", "base-sepolia", "polygon", "avalanche-fuji"])
    expect(v1NameOf(networkOfV1Name(name))).toBe(name);
  expect(v1NameOf("eip155:31337")).toBeUndefined();
  for (const name of ["", "Base", "eip155:1", "constructor"]) {
    expect(() => networkOfV1Name(name)).toThrow(expect.objectContaining({ code: "payment_network_unsupported" }));
  }
});
