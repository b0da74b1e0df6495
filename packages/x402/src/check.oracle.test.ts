// The stock facilitator of @x402/evm judges the same payments. Its chain is a stand-in that says of signatures what the
// contracts say (v 27 or 28, low s), has every balance and knows every contract.
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/facilitator";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import type { JsonValue } from "@assay/core";
import fc from "fast-check";
import { encodeAbiParameters, recoverTypedDataAddress } from "viem";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { PERMIT2 } from "./addresses.ts";
import {
  authorizeDeposit,
  authorizeExact,
  authorizePermit2612,
  authorizeRefund,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
} from "./authorize.ts";
import { checkPayment } from "./check.ts";
import { fromHex, toHex } from "./hex.ts";
import { nobleEvmSigner, nobleEvmSuite as suite } from "./noble.ts";
import { parsePaymentDocument, paymentDocument } from "./payload.ts";
import { requirementsToJson } from "./requirements.ts";
import { isSignedBy, wrapErc6492 } from "./signature.ts";
import type { SignatureQuestion } from "./signature.ts";
import type { Address, PaymentRequirements } from "./types.ts";
import type { JsonObject } from "./values.ts";

const NOW_S = 1_800_000_000;
const TOKEN_NONCE = 7n;
const USDC: Address = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const PAYEE: Address = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const FACILITATOR: Address = "0x90f79bf6eb2c4f870365e785982e1f101e93b906";
const OTHER: Address = "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65";
const FACTORY: Address = "0x0ba5ed0c6aa8c49038f819e587e2633c4a9f428a";
const payer = nobleEvmSigner(fromHex(`0x${"11".repeat(32)}`));
const authorizer = nobleEvmSigner(fromHex(`0x${"22".repeat(32)}`));

const exact: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:84532",
  amount: "1000",
  asset: USDC,
  payTo: PAYEE,
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};
const permit2: PaymentRequirements = { ...exact, extra: { ...exact.extra, assetTransferMethod: "permit2" } };
const upto: PaymentRequirements = {
  ...exact,
  scheme: "upto",
  extra: { ...permit2.extra, facilitatorAddress: FACILITATOR },
};
const batch: PaymentRequirements = {
  ...exact,
  scheme: "batch-settlement",
  extra: { ...exact.extra, receiverAuthorizer: FACILITATOR, withdrawDelay: 900 },
};
const batchPermit2: PaymentRequirements = { ...batch, extra: { ...batch.extra, assetTransferMethod: "permit2" } };

/** A contract account that takes a digest read backwards for its signature. */
const backwards = (digest: Uint8Array): string => toHex(digest.slice().reverse());
const answers = ({ digest, signature }: SignatureQuestion): boolean => toHex(signature) === backwards(digest);

function tokenTakes(v: unknown, s: string): boolean {
  return (
    (Number(v) === 27 || Number(v) === 28) &&
    BigInt(s) <= 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n
  );
}

/** What the stand-in chain answers to a call. Throws where a contract would revert. */
async function call(request: { functionName: string; args?: readonly unknown[] }): Promise<unknown> {
  const args = (request.args ?? []) as readonly never[];
  const words = (...values: readonly bigint[]): unknown => ({
    success: true,
    returnData: encodeAbiParameters(
      values.map(() => ({ type: "uint256" })),
      values,
    ),
  });
  switch (request.functionName) {
    case "isValidSignature":
      return answers({ account: PAYEE, digest: fromHex(args[0]!), signature: fromHex(args[1]!) })
        ? "0x1626ba7e"
        : "0xffffffff";
    case "transferWithAuthorization":
      if (args.length === 9 && !tokenTakes(args[6], args[8]!)) throw new Error("InvalidSignature");
      return undefined;
    case "settle":
      takeSignature(args.at(-1)!);
      return undefined;
    case "settleWithPermit": {
      takeSignature(args.at(-1)!);
      const [permit, terms] = args as unknown as [
        { value: bigint; deadline: bigint; r: string; s: string; v: number },
        { permitted: { token: Address; amount: bigint } },
      ];
      if (permit.value !== terms.permitted.amount) throw new Error("Permit2612AmountMismatch");
      const owner = await recoverTypedDataAddress({
        domain: { name: "USDC", version: "2", chainId: 84_532, verifyingContract: terms.permitted.token },
        types: {
          Permit: ["owner", "spender", "value", "nonce", "deadline"].map((name) => ({
            name,
            type: name === "owner" || name === "spender" ? "address" : "uint256",
          })),
        },
        primaryType: "Permit",
        message: {
          owner: payer.address,
          spender: PERMIT2,
          value: permit.value,
          nonce: TOKEN_NONCE,
          deadline: permit.deadline,
        },
        signature: `${permit.r}${permit.s.slice(2)}${permit.v.toString(16).padStart(2, "0")}` as `0x${string}`,
      });
      if (owner.toLowerCase() !== payer.address || !tokenTakes(permit.v, permit.s))
        throw new Error("ERC2612InvalidSigner");
      return undefined;
    }
    case "allowance":
      return 10n ** 40n;
    case "deposit":
      return undefined;
    case "tryAggregate": {
      const calls: readonly unknown[] = args[1]!;
      const answer = [words(10n ** 36n, 0n), words(10n ** 40n), words(0n, 0n), words(0n)];
      // Of a channel there are asked balance, withdrawal and nonce; a deposit asks its payer's balance as well.
      return calls.length === 3
        ? [answer[0], answer[2], answer[3]]
        : calls.length === 4
          ? answer
          : [words(1n), words(1n)];
    }
    default:
      throw new Error(`The stand-in has no ${request.functionName}.`);
  }
}

function takeSignature(signature: string): void {
  if (signature.length === 132 && !tokenTakes(`0x${signature.slice(130)}`, `0x${signature.slice(66, 130)}`)) {
    throw new Error("InvalidSigner");
  }
}

let payerCode: "0x" | "0x60" = "0x";
const chain = {
  getAddresses: () => [FACILITATOR],
  getCode: ({ address }: { address: string }) =>
    Promise.resolve(address.toLowerCase() === payer.address ? payerCode : "0x60"),
  readContract: call,
} as never;
const config = { eip6492AllowedFactories: [FACTORY] };
const schemes = {
  exact: new ExactEvmScheme(chain, config),
  upto: new UptoEvmScheme(chain),
  "batch-settlement": new BatchSettlementEvmScheme(chain, undefined, config),
};

type Verdict = { readonly valid: boolean; readonly code?: string | undefined };

async function stock(document: JsonObject, requirement: PaymentRequirements): Promise<Verdict> {
  try {
    const answer = await schemes[requirement.scheme].verify(
      document as never,
      requirementsToJson(suite, requirement) as never,
    );
    return { valid: answer.isValid, code: answer.invalidReason };
  } catch {
    return { valid: false };
  }
}

function ours(document: JsonObject, requirement: PaymentRequirements, code: "none" | "some" | "unknown"): Verdict {
  try {
    const payload = parsePaymentDocument(document);
    const verdict = checkPayment(suite, payload, requirement, NOW_S, { payerCode: code, factories: [FACTORY] });
    if (!verdict.ok) return { valid: false, code: verdict.code };
    expect(verdict.payer).toBe(payer.address);
    return { valid: verdict.signer === "undeployed" || verdict.questions.every(answers) };
  } catch (error) {
    return { valid: false, code: (error as { code: string }).code };
  }
}

const nonce = (seed: number): Uint8Array => new Uint8Array(32).map((_, i) => (seed * 31 + i * 7) & 255);
const base = { suite, signer: payer, nowS: NOW_S, nonce: nonce(1) };

/** One payment of each kind for a requirement. */
const builders: Readonly<
  Record<
    string,
    { requirement: PaymentRequirements; build: (r: PaymentRequirements, nowS?: number) => Promise<JsonObject> }
  >
> = {
  "exact by EIP-3009": {
    requirement: exact,
    build: async (requirement, nowS = NOW_S) =>
      paymentDocument(suite, await authorizeExact({ ...base, requirement, nowS })),
  },
  "exact by Permit2": {
    requirement: permit2,
    build: async (requirement, nowS = NOW_S) =>
      paymentDocument(suite, await authorizeExact({ ...base, requirement, nowS })),
  },
  "exact by Permit2, sponsored": {
    requirement: permit2,
    build: async (requirement, nowS = NOW_S) => {
      const sponsored = await authorizePermit2612(
        { ...base, requirement, nowS },
        BigInt(requirement.amount),
        TOKEN_NONCE,
      );
      return paymentDocument(suite, await authorizeExact({ ...base, requirement, nowS }, sponsored));
    },
  },
  upto: {
    requirement: upto,
    build: async (requirement, nowS = NOW_S) =>
      paymentDocument(suite, await authorizeUpto({ ...base, requirement, nowS })),
  },
  "upto, sponsored": {
    requirement: upto,
    build: async (requirement, nowS = NOW_S) => {
      const sponsored = await authorizePermit2612(
        { ...base, requirement, nowS },
        BigInt(requirement.amount),
        TOKEN_NONCE,
      );
      return paymentDocument(suite, await authorizeUpto({ ...base, requirement, nowS }, sponsored));
    },
  },
  "a deposit by EIP-3009": {
    requirement: batch,
    build: async (requirement, nowS = NOW_S) => {
      const channel = channelFor(requirement, payer.address);
      const from = { ...base, requirement, nowS, channel, maxClaimable: 1000n, payer };
      return paymentDocument(suite, await authorizeDeposit(from, 5000n));
    },
  },
  "a deposit by Permit2, vouchers by an authorizer": {
    requirement: batchPermit2,
    build: async (requirement, nowS = NOW_S) => {
      const channel = channelFor(requirement, payer.address, nonce(9), authorizer.address);
      const from = { ...base, signer: authorizer, requirement, nowS, channel, maxClaimable: 1000n, payer };
      return paymentDocument(suite, await authorizeDeposit(from, 5000n));
    },
  },
  "a voucher": {
    requirement: batch,
    build: async (requirement) =>
      paymentDocument(
        suite,
        await authorizeVoucher({
          ...base,
          requirement,
          channel: channelFor(requirement, payer.address),
          maxClaimable: 5n,
        }),
      ),
  },
  "a voucher by an authorizer": {
    requirement: batch,
    build: async (requirement) => {
      const channel = channelFor(requirement, payer.address, nonce(3), authorizer.address);
      return paymentDocument(
        suite,
        await authorizeVoucher({ ...base, signer: authorizer, requirement, channel, maxClaimable: 5n }),
      );
    },
  },
  "a refund": {
    requirement: batch,
    build: async (requirement) =>
      paymentDocument(
        suite,
        await authorizeRefund(
          { ...base, requirement, channel: channelFor(requirement, payer.address), maxClaimable: 5n },
          3n,
        ),
      ),
  },
};

beforeAll(() => {
  vi.useFakeTimers({ toFake: ["Date"], now: NOW_S * 1000 });
});
afterAll(() => {
  vi.useRealTimers();
});

describe.each(Object.entries(builders))("%s", (_, { requirement, build }) => {
  test("is taken by both", async () => {
    const document = await build(requirement);
    expect(await stock(document, requirement)).toEqual({ valid: true });
    for (const code of ["none", "unknown"] as const) expect(ours(document, requirement, code)).toEqual({ valid: true });
  });

  test("signed for something else is refused by both for the same reason", async () => {
    const changes: readonly Partial<PaymentRequirements>[] = [
      { amount: "999" },
      { amount: "1001" },
      { payTo: OTHER },
      { asset: OTHER },
      { network: "eip155:8453" },
      { extra: { ...requirement.extra, name: "USD Coin" } },
      { extra: { ...requirement.extra, version: "1" } },
      { extra: { ...requirement.extra, facilitatorAddress: OTHER } },
      { extra: { ...requirement.extra, receiverAuthorizer: OTHER } },
      { extra: { ...requirement.extra, withdrawDelay: 901 } },
      { maxTimeoutSeconds: 5 },
      { maxTimeoutSeconds: 6 },
    ];
    for (const change of changes) {
      const document = await build({ ...requirement, ...change });
      const theirs = await stock(document, requirement);
      const own = ours(document, requirement, "none");
      // A permit over another domain is a matter of simulation to the stock facilitator, and has a reason of its own here.
      if (own.code === "invalid_eip2612_signature") expect(theirs.valid, JSON.stringify(change)).toBe(false);
      else expect({ ...own, code: own.code }, JSON.stringify(change)).toEqual({ ...theirs, code: theirs.code });
    }
  });

  test("out of its time is refused by both for the same reason", async () => {
    for (const nowS of [NOW_S - 2000, NOW_S - 895, NOW_S - 894, NOW_S + 601]) {
      const document = await build(requirement, nowS);
      expect(ours(document, requirement, "none"), `${nowS}`).toEqual(await stock(document, requirement));
    }
  });

  test("with any member changed is judged alike", async () => {
    const document = await build(requirement);
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(), async (place, how) => {
        const mutated = mutate(document, place, how);
        expect(ours(mutated, requirement, "none").valid, JSON.stringify(mutated)).toBe(
          (await stock(mutated, requirement)).valid,
        );
      }),
      { numRuns: 60 },
    );
  });
});

type Place = { readonly at: Record<string, JsonValue>; readonly name: string };

function leaves(value: Record<string, JsonValue>, out: Place[] = []): Place[] {
  for (const [name, member] of Object.entries(value)) {
    if (typeof member === "object" && member !== null) leaves(member as Record<string, JsonValue>, out);
    // No signature covers a refund's amount, and the stock facilitator looks at a permit's nonce through the chain alone.
    else if (value["type"] === "refund" && name === "amount") continue;
    else if (!("version" in value && (name === "nonce" || name === "version"))) out.push({ at: value, name });
  }
  return out;
}

/** A copy with one leaf of its payload or extensions changed. */
function mutate(document: JsonObject, place: number, how: number): JsonObject {
  const copy = structuredClone(document) as Record<string, JsonValue>;
  const { accepted: _, x402Version: __, ...rest } = copy;
  const places = leaves(rest as Record<string, JsonValue>);
  const { at, name } = places[place % places.length]!;
  const value = at[name];
  if (typeof value === "number") at[name] = how % 2 === 0 ? value + 1 : value - 1;
  else if (typeof value === "string" && value.startsWith("0x")) {
    const digit = 2 + (how % (value.length - 2));
    const changed = ((Number.parseInt(value.charAt(digit), 16) + 1 + (how % 14)) % 16).toString(16);
    const cut = [value.slice(0, -2), `${value}00`, OTHER, "0x"];
    at[name] = how % 5 === 0 ? cut[how % 4]! : value.slice(0, digit) + changed + value.slice(digit + 1);
  } else if (typeof value === "string" && /^[0-9]+$/.test(value)) {
    const number = BigInt(value);
    const changed = [number + 1n, number - 1n, number * 2n, 0n, 1n << 256n, 1n << 128n];
    at[name] = changed[how % changed.length]!.toString();
  } else at[name] = "other";
  return copy;
}

describe("payers with code", () => {
  const kinds = ["exact by EIP-3009", "exact by Permit2", "upto", "a voucher"] as const;

  async function contractSigned(
    kind: (typeof kinds)[number],
    change: (signature: string) => string,
  ): Promise<JsonObject> {
    const { requirement, build } = builders[kind]!;
    const document = structuredClone(await build(requirement)) as { payload: Record<string, JsonValue> };
    const verdict = checkPayment(suite, parsePaymentDocument(document as never), requirement, NOW_S, {
      payerCode: "some",
    });
    if (!verdict.ok) throw new Error(verdict.message);
    expect(verdict.signer).toBe("contract");
    const [question] = verdict.questions;
    const holder = (kind === "a voucher" ? document.payload["voucher"] : document.payload) as Record<string, JsonValue>;
    holder["signature"] = change(backwards(question!.digest));
    // The authorizer of a stock client is the payer's key, which then signs by itself.
    return document as never;
  }

  test.each(kinds.slice(0, 3))("%s: the contract judges, and the key does not", async (kind) => {
    const { requirement, build } = builders[kind]!;
    payerCode = "0x60";
    try {
      const byKey = await build(requirement);
      expect(await stock(byKey, requirement)).toMatchObject({ valid: false });
      expect(ours(byKey, requirement, "some")).toMatchObject({ valid: false });
      const byContract = await contractSigned(kind, (signature) => signature);
      expect(await stock(byContract, requirement)).toEqual({ valid: true });
      expect(ours(byContract, requirement, "some")).toEqual({ valid: true });
      expect(ours(byContract, requirement, "unknown")).toEqual({ valid: true });
      expect(ours(byContract, requirement, "none").valid).toBe(false);
      const wrong = await contractSigned(
        kind,
        (signature) => `${signature.slice(0, -1)}${signature.endsWith("0") ? 1 : 0}`,
      );
      expect(await stock(wrong, requirement)).toMatchObject({ valid: false });
      expect(ours(wrong, requirement, "some")).toMatchObject({ valid: false });
      const empty = await contractSigned(kind, () => "0x");
      for (const code of ["some", "none", "unknown"] as const) expect(ours(empty, requirement, code).valid).toBe(false);
    } finally {
      payerCode = "0x";
    }
  });

  test("a channel without an authorizer asks its payer's contract", async () => {
    const channel = channelFor(batch, payer.address, nonce(4), "0x0000000000000000000000000000000000000000");
    const document = paymentDocument(
      suite,
      await authorizeVoucher({ ...base, requirement: batch, channel, maxClaimable: 5n }),
    );
    expect(ours(document, batch, "none")).toEqual(await stock(document, batch));
    payerCode = "0x60";
    try {
      expect(ours(document, batch, "some").valid).toBe(false);
      expect((await stock(document, batch)).valid).toBe(false);
    } finally {
      payerCode = "0x";
    }
  });

  test.each([
    [FACTORY, true, undefined],
    [OTHER, false, "eip6492_factory_not_allowed"],
  ])("an account that %s would deploy is taken: %s", async (factory, valid, code) => {
    const document = await contractSigned("exact by EIP-3009", (signature) =>
      toHex(wrapErc6492({ factory, calldata: new Uint8Array([1, 2, 3]) }, fromHex(signature))),
    );
    expect(await stock(document, exact)).toEqual({ valid, ...(code === undefined ? {} : { code }) });
    expect(ours(document, exact, "none")).toEqual({ valid, ...(code === undefined ? {} : { code }) });
    // Once it is deployed its contract judges what was wrapped, whoever deployed it.
    payerCode = "0x60";
    try {
      expect(await stock(document, exact)).toEqual({ valid: true });
      expect(ours(document, exact, "some")).toEqual({ valid: true });
    } finally {
      payerCode = "0x";
    }
  });

  test("an account that is not deployed pays nothing through Permit2", async () => {
    for (const kind of ["exact by Permit2", "upto"] as const) {
      const { requirement } = builders[kind]!;
      const document = await contractSigned(kind, (signature) =>
        toHex(wrapErc6492({ factory: FACTORY, calldata: new Uint8Array([1]) }, fromHex(signature))),
      );
      expect(await stock(document, requirement)).toEqual({ valid: false, code: "invalid_permit2_signature" });
      expect(ours(document, requirement, "none")).toEqual({ valid: false, code: "invalid_permit2_signature" });
    }
  });
});

describe("what is refused here alone", () => {
  const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

  /** The other signature that recovers to the same key. */
  function twin(signature: string): string {
    const s = ORDER - BigInt(`0x${signature.slice(66, 130)}`);
    return `${signature.slice(0, 66)}${s.toString(16).padStart(64, "0")}${signature.endsWith("1b") ? "1c" : "1b"}`;
  }

  test("a voucher's twin, which nobody signed, and which is another payment by its id", async () => {
    const document = structuredClone(await builders["a voucher by an authorizer"]!.build(batch)) as unknown as {
      payload: { voucher: { signature: string } };
    };
    document.payload.voucher.signature = twin(document.payload.voucher.signature);
    expect(await stock(document as never, batch)).toEqual({ valid: true });
    expect(ours(document as never, batch, "none").code).toBe("invalid_batch_settlement_evm_voucher_signature");
  });

  test("v of 0 and 1, which contracts do not take", async () => {
    const digest = nonce(5);
    const signature = await payer.signDigest(digest);
    expect(isSignedBy(suite, payer.address, digest, signature)).toBe(true);
    for (const v of [0, 1, 26, 29, 255]) {
      const other = signature.slice();
      other[64] = v;
      expect(isSignedBy(suite, payer.address, digest, other)).toBe(false);
    }
    expect(isSignedBy(suite, payer.address, digest, fromHex(twin(toHex(signature))))).toBe(false);
  });

  test("a refund of nothing", async () => {
    const document = structuredClone(await builders["a refund"]!.build(batch)) as { payload: { amount: string } };
    document.payload.amount = "0";
    expect(ours(document as never, batch, "none").code).toBe("invalid_batch_settlement_evm_refund_amount_invalid");
  });

  test("a way of payment that was not asked for", async () => {
    const byPermit2 = await builders["exact by Permit2"]!.build(permit2);
    expect(ours(byPermit2, exact, "none").code).toBe("unsupported_payload_type");
    const by3009 = await builders["exact by EIP-3009"]!.build(exact);
    expect(ours(by3009, permit2, "none").code).toBe("unsupported_payload_type");
    expect(ours(by3009, upto, "none").code).toBe("invalid_upto_evm_scheme");
    expect(ours(by3009, batch, "none").code).toBe("invalid_batch_settlement_evm_scheme");
  });
});
