import { randomBytes } from "node:crypto";
import { AssayError } from "@assay/core";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import type { OpenPayment, PaymentProblem } from "@assay/protocol";
import {
  authorizeExact,
  authorizePermit2612,
  authorizeUpto,
  parsePaymentRequired,
  parseSettlementResponse,
  paymentIdOf,
  PERMIT2,
  toHex,
} from "@assay/x402";
import type { EvmSigner, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { PGlite } from "@electric-sql/pglite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeInstruction } from "../instruction.ts";
import { listingDigest } from "../listings/listing.ts";
import { splitAddressOf } from "@assay/contracts";
import {
  MAX_COPIES_PER_PAYMENT,
  MAX_COPIES_WAITING,
  MAX_OPEN_PAYMENTS,
  MAX_TIMEOUT_SECONDS,
  MIN_REMAINING_SECONDS,
} from "./limits.ts";
import { createOpenPayments } from "./open-payments.ts";
import type { OpenEntry } from "./open-payments.ts";
import { overfull } from "./take.ts";
import { addressAt, ASY, headersOf, listing, newPayer, openShop, OPERATOR, suite, USDC } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";
import { createWriting } from "./writing.ts";

let database: Database;
let shop: Shop;
let payer: EvmSigner;
const shops: Shop[] = [];

beforeAll(async () => {
  database = databaseFromPglite(await PGlite.create());
  await migrateDatabase(database);
});
afterAll(() => database.close());
beforeEach(async () => {
  await clear();
  payer = newPayer();
  shop = await open();
});
afterEach(async () => {
  for (const { desk } of shops.splice(0)) await desk.close();
});

async function clear(): Promise<void> {
  await database.exec("TRUNCATE assay.payments, assay.channels; UPDATE assay.ledger_state SET watermark = 0");
}

async function open(
  ...args: Parameters<typeof openShop> extends [unknown, ...infer Rest] ? Rest : never
): Promise<Shop> {
  const opened = await openShop(database, ...args);
  shops.push(opened);
  return opened;
}

const nowS = (): number => Math.floor(shop.clock.nowMs / 1000);
const nonce = (): Uint8Array => new Uint8Array(randomBytes(32));
const exact = (requirement: PaymentRequirements, signer = payer): Promise<PaymentPayload> =>
  authorizeExact({ suite, signer, requirement, nonce: nonce(), nowS: nowS() });
const upto = (requirement: PaymentRequirements, signer = payer): Promise<PaymentPayload> =>
  authorizeUpto({ suite, signer, requirement, nonce: nonce(), nowS: nowS() });

function opened(answer: Awaited<ReturnType<Shop["take"]>>): OpenPayment {
  if (answer.kind !== "open") throw new Error(`not open: ${JSON.stringify(answer)}`);
  return answer;
}

function problem(answer: Awaited<ReturnType<Shop["take"]>>): PaymentProblem {
  if (answer.kind !== "problem") throw new Error(`no problem: ${answer.kind}`);
  return answer.problem;
}

/** Until so many copies wait for somebody else's answer. */
const allWait = async (copies: number): Promise<void> => {
  await expect.poll(() => shop.desk.status().waiting, { interval: 1 }).toBe(copies);
};

const entryAt = (): Omit<OpenEntry, "paymentId"> => ({
  payer: addressAt(1),
  fingerprint: new Uint8Array(32),
  requirement: shop.offer(shop.quote(), "exact"),
  takenAtMs: 0,
  channel: undefined,
  receipt: undefined,
});

const rows = async (): Promise<readonly Readonly<Record<string, unknown>>[]> =>
  (
    await database.query(
      "SELECT state, amount_atomic::text AS amount, log_index FROM assay.payments ORDER BY log_index",
    )
  ).rows;

describe("a quote", () => {
  it("is the most that the dearest listing can cost, and undefined for what is free", () => {
    expect(shop.quote().capAtomic).toBe(2000n);
    shop.listings.set("model:me/big", listing({ subject: "model:me/big", perCall: "0.01" }));
    expect(shop.quote({ subjects: ["model:me/net", "model:me/big", "model:me/free"] }).capAtomic).toBe(11_000n);
    shop.listings.set(
      "model:me/zero",
      listing({ subject: "model:me/zero", perCall: "0", perMillionOutputTokens: "0" }),
    );
    const resource = { url: "http://x" };
    for (const subjects of [["model:me/zero"], ["model:me/free"], []] as const)
      expect(shop.desk.quote({ subjects, most: { outputTokens: 1000 }, resource })).toBeUndefined();
    shop.listings.set(
      "model:me/timed",
      listing({ subject: "model:me/timed", perCall: "0", perMillionOutputTokens: "0", perSecond: "1" }),
    );
    expect(shop.desk.quote({ subjects: ["model:me/timed"], most: { outputTokens: 1000 }, resource })).toBeUndefined();
  });

  it("is of what each listing's own model can use, and a free answer costs by exact what the dearest would", async () => {
    const [small, large, free] = ["model:me/net", "model:me/large", "model:me/free"] as const;
    shop.listings.set(large, listing({ subject: large, perCall: "0", perMillionOutputTokens: "0.000001" }));
    const subjects = [large, small, free];
    const mostOf = new Map([[large, { outputTokens: 1_000_000_000 }]]);
    const quote = shop.quote({ subjects, most: { outputTokens: 10 }, mostOf });
    // A thousand and ten, and not the small one's rate for all that the large one can write.
    expect(quote.capAtomic).toBe(1010n);
    const open = opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact")))));
    const { amountAtomic, price } = open.charge(free, { outputTokens: 1 });
    expect(amountAtomic).toBe(1010n);
    expect(price.rateSource).toBe(`listing:${listingDigest(listing())}`);
  });

  it("offers upto, then channels, then exact, in the listing's token", () => {
    const { accepts } = shop.quote().terms;
    expect(accepts.map(({ scheme }) => scheme)).toEqual(["upto", "batch-settlement", "exact"]);
    expect(
      accepts.every(({ asset, amount, payTo }) => asset === USDC.address && amount === "2000" && payTo === OPERATOR),
    ).toBe(true);
    expect(accepts[2]?.extra.assetTransferMethod).toBeUndefined();
    shop.listings.set("model:me/net", listing({ asset: "ASY" }));
    const asy = shop.quote().terms.accepts;
    expect(asy.map(({ extra }) => extra.assetTransferMethod)).toEqual(["permit2", "permit2", "permit2"]);
    expect(asy[0]?.amount).toBe((2n * 10n ** 15n).toString());
  });

  it("offers nothing that the chain has no contracts for, and takes nothing that was signed for it", async () => {
    const before = shop.quote();
    const paid = await upto(shop.offer(before, "upto"));
    const deployments = { chainId: 31337, paymentBatcher: addressAt(0xba7c), tokens: [USDC, ASY] };
    const few = await open({
      options: { deployments: { ...deployments, network: "eip155:31337", schemes: ["exact"] } },
    });
    const quote = few.quote();
    expect(quote.terms.accepts.map(({ scheme }) => scheme)).toEqual(["exact"]);
    expect((await few.take(quote, headersOf(paid))).kind).toBe("problem");
    expect(shop.quote().terms.accepts).toHaveLength(3);
  });

  it("is paid to a splitter when the listing has payees, with the gateway's rest in it", () => {
    const payees = [{ address: addressAt(7), basisPoints: 9_000 }];
    shop.listings.set("model:me/net", listing({ payees }));
    const split = [...payees, { address: OPERATOR, basisPoints: 1_000 }];
    const { payTo, payees: all } = shop.quote().terms;
    expect(payTo).toBe(splitAddressOf(suite.keccak256, split));
    expect(all).toEqual(split);
    // Which of two models answers is not known yet: shares that differ cannot be signed for.
    shop.listings.set("model:me/other", listing({ subject: "model:me/other" }));
    expect(shop.quote({ subjects: ["model:me/net", "model:me/other"] }).terms.payTo).toBe(OPERATOR);
  });

  it("refuses prices in several tokens, and in one that is not taken", () => {
    const unavailable = expect.objectContaining({ code: "payment_unavailable" }) as AssayError;
    shop.listings.set("model:me/asy", listing({ subject: "model:me/asy", asset: "ASY" }));
    expect(() => shop.quote({ subjects: ["model:me/net", "model:me/asy"] })).toThrow(unavailable);
    shop.listings.set("model:me/net", listing({ asset: "DOGE" }));
    expect(() => shop.quote()).toThrow(unavailable);
  });
});

describe("a request without a good payment", () => {
  it("hears what to pay", async () => {
    const { status, code, headers, required } = problem(await shop.take(shop.quote(), {}));
    expect([status, code]).toEqual([402, "payment_required"]);
    const parsed = parsePaymentRequired({ header: headers["payment-required"] });
    expect(parsed.required.accepts).toEqual(required?.accepts);
    expect(parsed.required.error).toBe("payment_required");
  });

  it("hears what is wrong with its headers", async () => {
    const good = headersOf(await exact(shop.offer(shop.quote(), "exact")));
    const encoded = (document: unknown): string => Buffer.from(JSON.stringify(document)).toString("base64");
    const bad: readonly (readonly [Parameters<Shop["take"]>[1], number, string])[] = [
      [{ "payment-signature": "" }, 400, "payment_malformed"],
      [{ "payment-signature": "?" }, 400, "payment_malformed"],
      [{ "payment-signature": encoded({}) }, 400, "payment_version_unsupported"],
      [{ "payment-signature": encoded({ x402Version: 3 }) }, 400, "payment_version_unsupported"],
      [
        { "x-payment": encoded({ x402Version: 1, scheme: "upto", network: "base" }) },
        402,
        "payment_scheme_unsupported",
      ],
      [
        { "x-payment": encoded({ x402Version: 1, scheme: "exact", network: "mars" }) },
        402,
        "payment_network_unsupported",
      ],
      [{ ...good, "idempotency-key": "" }, 400, "header_invalid"],
      [{ ...good, "idempotency-key": "a b" }, 400, "header_invalid"],
      [{ ...good, "idempotency-key": "x".repeat(129) }, 400, "header_invalid"],
      [{ ...good, "x-settlement-type": "later" }, 400, "header_invalid"],
    ];
    for (const [headers, status, code] of bad) {
      const found = problem(await shop.take(shop.quote(), headers));
      expect([found.status, found.code], JSON.stringify(headers)).toEqual([status, code]);
    }
    expect(await rows()).toEqual([]);
  });

  it("hears what is wrong with what it signed, and leaves nothing behind", async () => {
    const quote = shop.quote();
    const offer = shop.offer(quote, "exact");
    const metered = shop.offer(quote, "upto");
    const late = { suite, signer: payer, nonce: nonce(), nowS: nowS() };
    const cases: readonly (readonly [PaymentPayload, string])[] = [
      [await exact({ ...offer, amount: "1999" }), "invalid_exact_evm_payload_authorization_value_mismatch"],
      [await exact({ ...offer, amount: "2001" }), "invalid_exact_evm_payload_authorization_value_mismatch"],
      [await exact({ ...offer, payTo: addressAt(9) }), "invalid_exact_evm_recipient_mismatch"],
      [await exact({ ...offer, network: "eip155:1" }), "invalid_network"],
      [await exact({ ...offer, asset: ASY.address }), "invalid_payment_requirements"],
      [
        await authorizeExact({ ...late, requirement: offer, nowS: nowS() - 901 }),
        "invalid_exact_evm_payload_authorization_valid_before",
      ],
      [
        await authorizeExact({ ...late, requirement: offer, nowS: nowS() + 601 }),
        "invalid_exact_evm_payload_authorization_valid_after",
      ],
      [
        await authorizeExact({ ...late, requirement: { ...offer, maxTimeoutSeconds: MIN_REMAINING_SECONDS - 1 } }),
        "invalid_exact_evm_payload_authorization_valid_before",
      ],
      [await upto({ ...metered, amount: "1999" }), "permit2_amount_mismatch"],
      [await upto({ ...metered, payTo: addressAt(9) }), "invalid_permit2_recipient_mismatch"],
      [
        await upto({ ...metered, extra: { ...metered.extra, facilitatorAddress: addressAt(9) } }),
        "upto_facilitator_mismatch",
      ],
      [await authorizeUpto({ ...late, requirement: metered, nowS: nowS() - 901 }), "permit2_deadline_expired"],
      [
        await authorizeUpto({ ...late, requirement: { ...metered, maxTimeoutSeconds: MIN_REMAINING_SECONDS - 1 } }),
        "permit2_deadline_expired",
      ],
    ];
    for (const [payload, code] of cases) {
      const found = problem(await shop.take(quote, headersOf(payload)));
      expect([found.status, found.code]).toEqual([402, code]);
      expect(found.required?.error).toBe(code);
    }
    expect(await rows()).toEqual([]);
    expect(shop.desk.status().open).toBe(0);
  });

  it("is not taken for somebody else's account", async () => {
    const quote = shop.quote();
    const payload = await exact(shop.offer(quote, "exact"));
    if (payload.payment.kind !== "eip3009") throw new Error("kind");
    const forged = {
      ...payload,
      payment: { ...payload.payment, authorization: { ...payload.payment.authorization, from: addressAt(3) } },
    };
    // The account could have a contract of its own, which is asked, and says no.
    expect(problem(await shop.take(quote, headersOf(forged))).code).toBe("invalid_payment_signature");
    shop.chain.down = new AssayError("chain_unavailable", "down");
    expect(problem(await shop.take(quote, headersOf(forged)))).toMatchObject({
      status: 503,
      code: "chain_unavailable",
    });
    expect(await rows()).toEqual([]);
  });
});

describe("what the chain says", () => {
  it("is asked before work, and reduced by what is owed already", async () => {
    const quote = shop.quote();
    const refuses = async (scheme: "exact" | "upto", code: string, status = 402): Promise<void> => {
      const payload = await (scheme === "exact" ? exact : upto)(shop.offer(quote, scheme));
      expect(problem(await shop.take(quote, headersOf(payload)))).toMatchObject({ status, code });
    };
    shop.chain.facts = { balance: 1999n };
    await refuses("exact", "invalid_exact_evm_insufficient_balance");
    await refuses("upto", "permit2_insufficient_balance");
    const poor = await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact"))));
    expect(problem(poor).message).toBe(
      "The payer has 1999 of the token's smallest units, and owes 0 of them already; 2000 are to be paid.",
    );
    shop.chain.facts = { balance: undefined };
    await refuses("exact", "payment_unavailable", 503);
    shop.chain.facts = { authorizationUsed: true };
    await refuses("exact", "invalid_exact_evm_nonce_already_used");
    shop.chain.facts = { permit2NonceUsed: true };
    await refuses("upto", "permit2_invalid_nonce");
    shop.chain.facts = { allowance: 1999n };
    await refuses("upto", "permit2_allowance_required");
    expect(await rows()).toEqual([]);

    shop.chain.facts = { balance: 4000n, allowance: 2000n };
    opened(await shop.take(quote, headersOf(await upto(shop.offer(quote, "upto")))));
    await refuses("upto", "permit2_allowance_required");
    opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact")))));
    await refuses("exact", "invalid_exact_evm_insufficient_balance");
  });

  it("counts what runs beside it: no two payments spend one balance", async () => {
    const quote = shop.quote();
    shop.chain.facts = { balance: 6000n };
    const payloads = await Promise.all(Array.from({ length: 12 }, () => exact(shop.offer(quote, "exact"))));
    const answers = await Promise.all(payloads.map((payload) => shop.take(quote, headersOf(payload))));
    const taken = answers.filter(({ kind }) => kind === "open").length;
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThanOrEqual(3);
    expect(await rows()).toHaveLength(taken);
  });

  it("takes a sponsored approval, and only where it is needed", async () => {
    const quote = shop.quote();
    const requirement = shop.offer(quote, "upto");
    const sponsored = (tokenNonce: bigint): Promise<PaymentPayload> =>
      authorizePermit2612({ suite, signer: payer, requirement, nowS: nowS() }, quote.capAtomic, tokenNonce).then(
        (permit) => authorizeUpto({ suite, signer: payer, requirement, nonce: nonce(), nowS: nowS() }, permit),
      );
    const kept = async (answer: Awaited<ReturnType<Shop["take"]>>): Promise<boolean> => {
      const { instruction } = opened(answer).charge("model:me/net", {});
      await opened(answer).release();
      const { payment } = decodeInstruction(instruction).payload;
      return payment.kind === "upto" && payment.sponsored?.spender === PERMIT2;
    };
    expect(await kept(await shop.take(quote, headersOf(await sponsored(0n))))).toBe(false);
    shop.chain.facts = { allowance: 0n, permitNonce: 5n };
    expect(await kept(await shop.take(quote, headersOf(await sponsored(5n))))).toBe(true);
    expect(problem(await shop.take(quote, headersOf(await sponsored(4n)))).code).toBe("eip2612_nonce_mismatch");
    opened(await shop.take(quote, headersOf(await sponsored(5n))));
    expect(problem(await shop.take(quote, headersOf(await sponsored(6n))))).toMatchObject({
      status: 503,
      code: "sponsored_payment_pending",
    });
  });

  it("lets an account with code answer for itself, whatever its key signed", async () => {
    const quote = shop.quote();
    shop.chain.facts = { payerCodeBytes: 23 };
    expect(problem(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact"))))).code).toBe(
      "invalid_payment_signature",
    );
    shop.chain.valid = true;
    opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact")))));
  });

  it("is done without within a limit, and not beyond it", async () => {
    const limited = await open({ options: { maxUnsettledPerPayer: { USDC: 4000n } }, over: shop });
    const quote = limited.quote();
    for (const down of [
      new AssayError("chain_unavailable", "down"),
      new AssayError("chain_rpc_error", "lies"),
      new AssayError("chain_mismatch", "another"),
    ]) {
      limited.chain.down = down;
      const other = newPayer();
      for (let i = 0; i < 2; i++)
        opened(await limited.take(quote, headersOf(await exact(limited.offer(quote, "exact"), other))));
      const third = problem(await limited.take(quote, headersOf(await exact(limited.offer(quote, "exact"), other))));
      expect([third.status, third.code, third.headers["retry-after"]]).toEqual([503, "chain_unavailable", "3"]);
    }
  });

  it("is not done without for ever new accounts: all of them together have a limit, until the chain answers", async () => {
    const limits = { maxUnsettledPerPayer: { USDC: 4000n }, maxUnsettledOnTrust: { USDC: 6000n } };
    const limited = await open({ options: limits, over: shop });
    const quote = limited.quote();
    const fresh = async (): Promise<Awaited<ReturnType<Shop["take"]>>> =>
      limited.take(quote, headersOf(await exact(limited.offer(quote, "exact"), newPayer())));
    limited.chain.down = new AssayError("chain_unavailable", "down");
    for (let i = 0; i < 3; i++) opened(await fresh());
    expect(problem(await fresh())).toMatchObject({ status: 503, code: "chain_unavailable" });
    limited.chain.down = undefined;
    opened(await fresh());
    limited.chain.down = new AssayError("chain_unavailable", "down");
    for (let i = 0; i < 3; i++) opened(await fresh());
    expect(problem(await fresh()).code).toBe("chain_unavailable");
  });

  it("does not lift the limit on what no block has yet", async () => {
    // One alone is taken though it costs more than that.
    const limited = await open({ options: { maxVerifiedUnsettledPerPayer: { USDC: 1999n } }, over: shop });
    const quote = limited.quote();
    opened(await limited.take(quote, headersOf(await exact(limited.offer(quote, "exact")))));
    expect(problem(await limited.take(quote, headersOf(await exact(limited.offer(quote, "exact")))))).toMatchObject({
      status: 503,
      code: "payer_unsettled_limit",
    });
    opened(await limited.take(quote, headersOf(await exact(limited.offer(quote, "exact"), newPayer()))));
  });
});

describe("a charge", () => {
  it("is the cap by exact, and what was used by upto, at most the cap", async () => {
    const quote = shop.quote();
    const charged = async (scheme: "exact" | "upto", outputTokens: number): Promise<bigint> => {
      const payload = await (scheme === "exact" ? exact : upto)(shop.offer(quote, scheme));
      const charge = opened(await shop.take(quote, headersOf(payload))).charge("model:me/net", { outputTokens });
      const settled = parseSettlementResponse(charge.headers["payment-response"] ?? "");
      expect(settled).toMatchObject({ success: true, transaction: "", amount: charge.amountAtomic.toString() });
      return charge.amountAtomic;
    };
    expect(await charged("exact", 1)).toBe(2000n);
    expect(await charged("upto", 1)).toBe(1001n);
    expect(await charged("upto", 1_000_000)).toBe(2000n);
  });

  it("leaves time to settle it: the work is to be done before the signature ends", async () => {
    const quote = shop.quote();
    const offer = shop.offer(quote, "exact");
    const signed = { suite, signer: payer, nonce: nonce(), nowS: nowS() };
    const short = await authorizeExact({ ...signed, requirement: { ...offer, maxTimeoutSeconds: 100 } });
    for (const [payload, seconds] of [
      [await exact(offer), MAX_TIMEOUT_SECONDS],
      [short, 100],
    ] as const) {
      const { untilMs } = opened(await shop.take(quote, headersOf(payload)));
      expect(untilMs).toBe((nowS() + seconds - MIN_REMAINING_SECONDS) * 1000);
    }
  });

  it("says in claims and instruction what was charged by which listing", async () => {
    const quote = shop.quote();
    const payload = await upto(shop.offer(quote, "upto"));
    const open = opened(await shop.take(quote, headersOf(payload, { "x-settlement-type": "private" })));
    const charge = open.charge("model:me/net", { outputTokens: 10 });
    const digest = listingDigest(listing());
    expect(charge.price).toEqual({
      amountAtomic: "1010",
      asset: "USDC",
      rateSource: `listing:${digest}`,
      unit: "1e-6",
    });
    expect(charge.payment).toEqual({
      payer: payer.address,
      paymentId: toHex(paymentIdOf(suite, payload, { asset: USDC.address })),
      scheme: "upto",
      network: "eip155:31337",
      amountAtomic: "1010",
      asset: USDC.address,
      settlement: "private",
      payTo: OPERATOR,
    });
    const instruction = decodeInstruction(charge.instruction);
    expect(instruction).toMatchObject({ payer: payer.address, amountAtomic: 1010n, capAtomic: 2000n, listing: digest });
    expect(instruction.payload.payment).toEqual(payload.payment);
    expect(JSON.parse(charge.event)).toMatchObject({
      success: true,
      amount: "1010",
      payer: expect.anything() as string,
    });
    expect(() => open.charge("model:me/net", {})).toThrow(TypeError);
  });

  it("refuses a subject that was not quoted, and anything after a release", async () => {
    const quote = shop.quote();
    const open = opened(await shop.take(quote, headersOf(await upto(shop.offer(quote, "upto")))));
    expect(() => open.charge("model:me/other", {})).toThrow(TypeError);
    await open.release();
    expect(() => open.charge("model:me/net", {})).toThrow(TypeError);
  });
});

describe("once", () => {
  it.each(["exact", "upto"] as const)("fifty copies at once by %s run one, and all have its answer", async (scheme) => {
    const quote = shop.quote();
    const headers = headersOf(await (scheme === "exact" ? exact : upto)(shop.offer(quote, scheme)));
    const ran: OpenPayment[] = [];
    const answers = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const answer = await shop.take(quote, headers);
        if (answer.kind === "open") {
          ran.push(answer);
          await allWait(49);
          await shop.finish(answer);
        }
        return answer;
      }),
    );
    expect(ran).toHaveLength(1);
    expect(answers.filter(({ kind }) => kind === "replay")).toHaveLength(49);
    expect(new Set(answers.map((answer) => (answer.kind === "replay" ? answer.receiptId : ""))).size).toBe(2);
    expect(shop.log.records).toHaveLength(1);
    expect(shop.desk.status().waiting).toBe(0);
  });

  it("a copy takes the place of one that was given back, and each charge has one run", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    let runs = 0;
    const answers = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const answer = await shop.take(quote, headers);
        if (answer.kind !== "open") return answer.kind;
        await allWait(7 - runs++);
        // The first three fail, and whoever waits works for itself.
        if (runs <= 3) await answer.release();
        else await shop.finish(answer);
        return runs <= 3 ? "failed" : "charged";
      }),
    );
    expect(answers.toSorted()).toEqual(["charged", "failed", "failed", "failed", ...Array(4).fill("replay")]);
    expect([runs, shop.log.records.length]).toEqual([4, 1]);
    await shop.desk.ingested(1);
    expect(await rows()).toEqual([{ state: "due", amount: "2000", log_index: 0 }]);
  });

  it("copies wait for so long, in so many, and hear then to come again", async () => {
    const quote = shop.quote();
    const inFlight = { status: 409, code: "payment_in_flight", headers: { "retry-after": "1" } };
    const first = headersOf(await exact(shop.offer(quote, "exact")));
    const held = opened(await shop.take(quote, first));
    const waiting = Array.from({ length: MAX_COPIES_PER_PAYMENT }, () => shop.take(quote, first));
    await allWait(MAX_COPIES_PER_PAYMENT);
    expect(problem(await shop.take(quote, first))).toMatchObject(inFlight);
    // The bound is the payment's: copies of another wait.
    const second = headersOf(await exact(shop.offer(quote, "exact"), newPayer()));
    const other = opened(await shop.take(quote, second));
    const late = shop.take(quote, second);
    await allWait(MAX_COPIES_PER_PAYMENT + 1);
    await shop.finish(held);
    for (const answer of await Promise.all(waiting)) expect(answer.kind).toBe("replay");
    // A desk that closes lets nobody wait for what it will not hear of.
    await shop.desk.close();
    expect(problem(await late)).toMatchObject(inFlight);
    await other.release();
    const hasty = await open({ over: shop, options: { copyWaitMs: 1 } });
    const slow = headersOf(await exact(shop.offer(quote, "exact")));
    const running = opened(await hasty.take(quote, slow));
    expect(problem(await hasty.take(quote, slow))).toMatchObject(inFlight);
    await running.release();
    expect(hasty.desk.status()).toMatchObject({ open: 0, waiting: 0 });
  });

  it("copies that go away leave nothing, and take nothing", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const held = opened(await shop.take(quote, headers));
    const leaving = Array.from({ length: 10 }, () => new AbortController());
    const gone = leaving.map(({ signal }) =>
      shop.take(quote, headers, "body", signal).catch((error: unknown) => error),
    );
    const stays = shop.take(quote, headers);
    await allWait(11);
    const reason = new Error("gone");
    for (const one of leaving) one.abort(reason);
    expect(await Promise.all(gone)).toEqual(Array.from({ length: 10 }, () => reason));
    expect(shop.desk.status().waiting).toBe(1);
    await held.release();
    await shop.finish(opened(await stays));
    expect(shop.desk.status().waiting).toBe(0);
  });

  it("only what its payer signed waits", async () => {
    const quote = shop.quote();
    const payload = await upto(shop.offer(quote, "upto"));
    const open = opened(await shop.take(quote, headersOf(payload)));
    if (payload.payment.kind !== "upto") throw new Error("kind");
    const forged = { ...payload, payment: { ...payload.payment, signature: payload.payment.signature.with(5, 1) } };
    expect(problem(await shop.take(quote, headersOf(forged))).code).toBe("invalid_payment_signature");
    // Nor when it is no longer what is asked.
    shop.listings.set("model:me/net", listing({ perCall: "0.5" }));
    expect(problem(await shop.take(shop.quote(), headersOf(forged))).status).toBe(402);
    await open.release();
  });

  it("fifty copies at two gateways run one", async () => {
    const second = await open({ over: shop, options: { gateway: "second" } });
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const told: string[] = [];
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const at = i % 2 === 0 ? shop : second;
        const answer = await at.take(quote, headers);
        if (answer.kind === "problem") told.push(answer.problem.code);
        if (answer.kind !== "open") return answer.kind;
        // Its own copies wait for it; those of the other gateway hear so.
        await expect.poll(() => [at.desk.status().waiting, told.length]).toEqual([24, 25]);
        await at.finish(answer);
        return answer.kind;
      }),
    );
    expect(answers.filter((kind) => kind === "open")).toHaveLength(1);
    expect(answers.filter((kind) => kind === "replay")).toHaveLength(24);
    expect(told).toEqual(Array.from({ length: 25 }, () => "payment_in_flight"));
  });

  it("a copy after the receipt gets its answer, before and after the rows know of it", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const open = opened(await shop.take(quote, headers));
    const { logIndex } = await shop.finish(open);
    expect(await shop.take(quote, headers)).toMatchObject({ kind: "replay", payer: payer.address, logIndex });
    await shop.desk.ingested(shop.log.size());
    expect(await shop.take(quote, headers)).toMatchObject({ kind: "replay", payer: payer.address, logIndex });
    expect(shop.desk.status().open).toBe(0);
    expect(await rows()).toEqual([{ state: "due", amount: "2000", log_index: logIndex }]);
    expect(shop.due).toHaveLength(1);
  });

  it("gives the answer though the signature has ended, the price has changed, and the process is another", async () => {
    const quote = shop.quote();
    const payload = await upto(shop.offer(quote, "upto"));
    const { logIndex } = await shop.finish(opened(await shop.take(quote, headersOf(payload))));
    await shop.desk.ingested(1);
    shop.listings.set("model:me/net", listing({ perCall: "0.5" }));
    shop.clock.nowMs += 3_600_000;
    const again = await open({ over: shop });
    expect(await again.take(again.quote(), headersOf(payload))).toMatchObject({ kind: "replay", logIndex });
    // A copy with another signature is nobody's, whatever id it has.
    if (payload.payment.kind !== "upto") throw new Error("kind");
    const forged = {
      ...payload,
      payment: { ...payload.payment, signature: payload.payment.signature.with(5, 1).with(6, 1) },
    };
    expect(problem(await again.take(again.quote(), headersOf(forged))).status).toBe(402);
  });

  it("a copy waits while its payment is worked for, though the price has changed meanwhile", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const open = opened(await shop.take(quote, headers, "one"));
    shop.listings.set("model:me/net", listing({ perCall: "0.5" }));
    const copy = shop.take(shop.quote(), headers, "one");
    expect(problem(await shop.take(shop.quote(), headers, "two")).status).toBe(402);
    await allWait(1);
    const { logIndex } = await shop.finish(open);
    expect(await copy).toMatchObject({ kind: "replay", logIndex });
    await shop.desk.ingested(1);
    expect(await shop.take(shop.quote(), headers, "one")).toMatchObject({ kind: "replay", logIndex });
  });

  it("a payment is bound to its request, while it runs and afterwards", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const open = opened(await shop.take(quote, headers, "one"));
    expect(problem(await shop.take(quote, headers, "two"))).toMatchObject({ status: 409, code: "payment_bound" });
    await shop.finish(open);
    expect(problem(await shop.take(quote, headers, "two"))).toMatchObject({ status: 409, code: "payment_bound" });
    await shop.desk.ingested(1);
    expect(problem(await shop.take(quote, headers, "two"))).toMatchObject({ status: 409, code: "payment_bound" });
  });

  it("an idempotency key gives its payer the answer again, for the same request", async () => {
    const quote = shop.quote();
    const fresh = async (key: string, signer = payer): Promise<ReturnType<typeof headersOf>> =>
      headersOf(await exact(shop.offer(quote, "exact"), signer), { "idempotency-key": key });
    const open = opened(await shop.take(quote, await fresh("key-1")));
    const waits = shop.take(quote, await fresh("key-1"));
    await allWait(1);
    const { logIndex } = await shop.finish(open);
    expect(await waits).toMatchObject({ kind: "replay", logIndex });
    await shop.desk.ingested(1);
    expect(await shop.take(quote, await fresh("key-1"))).toMatchObject({ kind: "replay", logIndex });
    expect(problem(await shop.take(quote, await fresh("key-1"), "other"))).toMatchObject({
      status: 409,
      code: "idempotency_conflict",
    });
    // The key is the payer's own: another's is another.
    opened(await shop.take(quote, await fresh("key-1", newPayer()), "other"));
    opened(await shop.take(quote, await fresh("key-2"), "other"));
  });

  it("a payment's identifier is a key, and two that differ are refused", async () => {
    const quote = shop.quote();
    const identifier = "identifier-0001x";
    const pay = async (): Promise<PaymentPayload> =>
      authorizeExact({
        suite,
        signer: payer,
        requirement: shop.offer(quote, "exact"),
        nonce: nonce(),
        nowS: nowS(),
        identifier,
      });
    const { logIndex } = await shop.finish(opened(await shop.take(quote, headersOf(await pay()))));
    await shop.desk.ingested(1);
    expect(await shop.take(quote, headersOf(await pay()))).toMatchObject({ kind: "replay", logIndex });
    expect(problem(await shop.take(quote, headersOf(await pay(), { "idempotency-key": "another" }))).code).toBe(
      "header_invalid",
    );
  });

  it("a release gives the payment back, once and only before the receipt", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const first = opened(await shop.take(quote, headers));
    await Promise.all([first.release(), first.release()]);
    expect(await rows()).toEqual([]);
    const second = opened(await shop.take(quote, headers, "another request"));
    await shop.finish(second);
    await second.release();
    expect(await shop.take(quote, headers, "another request")).toMatchObject({ kind: "replay" });
  });

  it("an aborted request takes nothing", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    await expect(shop.take(quote, headers, "body", AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
    expect(await rows()).toEqual([]);
    opened(await shop.take(quote, headers));
  });

  it("a payer whose payment could not be settled is refused until it is, or for a day", async () => {
    const quote = shop.quote();
    await shop.finish(opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact"))))));
    await shop.desk.ingested(1);
    await database.query("UPDATE assay.payments SET state = 'dead', updated_at_ms = $1", [shop.clock.nowMs]);
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    expect(problem(await shop.take(quote, headers))).toMatchObject({ status: 402, code: "payer_denied" });
    opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact"), newPayer()))));
    await database.query("UPDATE assay.payments SET state = 'settled' WHERE state = 'dead'");
    opened(await shop.take(quote, headers));
  });
});

describe("the rows", () => {
  const dump = async (): Promise<unknown> =>
    (await database.query("SELECT * FROM assay.payments WHERE state <> 'taken' ORDER BY log_index")).rows;

  it("are the same when they are made again from the log", async () => {
    const quote = shop.quote();
    for (const [i, scheme] of (["exact", "upto", "upto", "exact"] as const).entries()) {
      const payload = await (scheme === "exact" ? exact : upto)(shop.offer(quote, scheme), newPayer());
      await shop.finish(
        opened(await shop.take(quote, headersOf(payload, { "idempotency-key": `key ${i}`.replace(" ", "-") }))),
      );
    }
    shop.log.records.push({
      logIndex: 4,
      row: { receiptId: "", executionDigest: "", serviceDigest: null, issuedAtMs: 0 },
    });
    await shop.desk.ingested(4);
    const before = await dump();
    await clear();
    await open({ over: shop });
    expect(await dump()).toEqual(before);
    // Once more over the same log changes nothing.
    await database.query("UPDATE assay.ledger_state SET watermark = 1");
    const again = await open({ over: shop });
    expect(await dump()).toEqual(before);
    expect(again.events).toEqual([]);
  });

  it("of a process that died: what has a receipt becomes due, what has none is free, and nobody else's is touched", async () => {
    const quote = shop.quote();
    const charged = headersOf(await exact(shop.offer(quote, "exact")));
    const lost = headersOf(await exact(shop.offer(quote, "exact")));
    const other = await open({ over: shop, options: { gateway: "other" } });
    opened(await other.take(quote, headersOf(await exact(shop.offer(quote, "exact")))));
    const open1 = opened(await shop.take(quote, charged));
    opened(await shop.take(quote, lost));
    // The record is durable, and the process ends before the desk hears of it.
    const charge = open1.charge("model:me/net", {});
    shop.log.records.push({
      logIndex: 0,
      row: {
        receiptId: "ab".repeat(16),
        executionDigest: "cd".repeat(32),
        serviceDigest: "ef".repeat(32),
        issuedAtMs: 5,
      },
      payment: charge.instruction,
    });
    await shop.desk.close();
    const again = await open({ over: shop });
    expect(await again.take(quote, charged)).toMatchObject({ kind: "replay", receiptId: "ab".repeat(16), logIndex: 0 });
    opened(await again.take(quote, lost));
    expect((await rows()).map(({ state }) => state)).toEqual(["due", "taken", "taken"]);
  });

  it("come back though the claim was lost in the crash", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const { logIndex } = await shop.finish(opened(await shop.take(quote, headers)));
    await shop.desk.ingested(1);
    await clear();
    const again = await open({ over: shop });
    expect(await again.take(quote, headers)).toMatchObject({ kind: "replay", logIndex });
  });

  it("tell of a payment that has two receipts, and charge the first", async () => {
    const quote = shop.quote();
    const { logIndex } = await shop.finish(
      opened(await shop.take(quote, headersOf(await upto(shop.offer(quote, "upto"))))),
    );
    await shop.desk.ingested(1);
    const [record] = shop.log.records;
    if (!record) throw new Error("no record");
    const copies = [1, 2].map((i) => ({ ...record, logIndex: logIndex + i }));
    shop.log.records.push(...copies);
    shop.desk.ingest(copies, 3);
    await shop.desk.ingested(3);
    expect(shop.events.filter(({ type }) => type === "doubled")).toHaveLength(2);
    expect(await rows()).toEqual([{ state: "due", amount: "1500", log_index: logIndex }]);
  });

  it("go on past an instruction that cannot be read", async () => {
    const quote = shop.quote();
    const damaged = {
      logIndex: 0,
      row: { receiptId: "ab".repeat(16), executionDigest: "cd".repeat(32), serviceDigest: null, issuedAtMs: 5 },
      payment: Uint8Array.of(1, 2, 3),
    };
    shop.log.records.push(damaged);
    shop.desk.ingest([damaged], 1);
    await shop.finish(opened(await shop.take(quote, headersOf(await exact(shop.offer(quote, "exact"))))));
    await shop.desk.ingested(2);
    expect(shop.events.map(({ type }) => type)).toEqual(["unreadable"]);
    expect(await rows()).toHaveLength(1);
  });

  it("are claimed anew when a claim could not be taken back", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    let broken = false;
    const flaky: Database = {
      ...database,
      query: (text, ...rest) =>
        broken && text.startsWith("DELETE")
          ? Promise.reject(new AssayError("database_unavailable", "away"))
          : database.query(text, ...rest),
    };
    const flawed = await openShop(flaky, { over: shop });
    shops.push(flawed);
    const open = opened(await flawed.take(quote, headers));
    broken = true;
    await open.release();
    expect(flawed.events.map(({ type }) => type)).toEqual(["stuck"]);
    expect(await rows()).toHaveLength(1);
    broken = false;
    opened(await flawed.take(quote, headers, "another request"));
  });
});

describe("a desk", () => {
  it("takes nothing before its rows are up to the log, nor while the database is away", async () => {
    const quote = shop.quote();
    const headers = headersOf(await exact(shop.offer(quote, "exact")));
    const early = await open({ over: shop, start: false });
    expect(problem(await early.take(quote, headers))).toMatchObject({ status: 503, code: "payments_starting" });
    expect(problem(await early.take(quote, {})).status).toBe(402);
    const away: Database = {
      ...database,
      query: (text, ...rest) =>
        text.includes("take_payment")
          ? Promise.reject(new AssayError("database_unavailable", "PostgreSQL is away."))
          : database.query(text, ...rest),
    };
    const without = await openShop(away, { over: shop });
    shops.push(without);
    expect(problem(await without.take(quote, headers))).toMatchObject({ status: 503, code: "database_unavailable" });
    expect(without.desk.status().open).toBe(0);
  });

  it("refuses a quote of another desk, and a second start", async () => {
    await expect(
      shop.desk.take(
        { use: { subjects: [], most: {}, resource: { url: "" } }, asset: "USDC", capAtomic: 1n },
        {},
        { fingerprint: new Uint8Array(32), signal: new AbortController().signal },
      ),
    ).rejects.toThrow(TypeError);
    await expect(shop.desk.start(shop.log, shop.log.decode)).rejects.toThrow(TypeError);
  });

  it("takes no more payments than it can hold", () => {
    const entries = createOpenPayments();
    const entry = entryAt();
    for (let i = 1; i < MAX_OPEN_PAYMENTS; i++) entries.add({ ...entry, paymentId: `0x${i}` });
    expect(overfull({ entries })).toBeUndefined();
    entries.add({ ...entry, paymentId: "0x0" });
    expect(overfull({ entries })?.problem).toMatchObject({ status: 503, code: "payments_overloaded" });
  });

  it("counts what is being written once for each payment, and forgets it", () => {
    const writing = createWriting();
    const first = writing.begin("payer usdc", "a", 5n);
    const copy = writing.begin("payer usdc", "a", 5n);
    const other = writing.begin("payer usdc", "b", 7n);
    const elsewhere = writing.begin("payer asy", "c", 1n);
    expect([first, copy, other, elsewhere].map(({ beside }) => beside)).toEqual([0n, 0n, 5n, 0n]);
    first.end();
    expect(writing.begin("payer usdc", "d", 1n).beside).toBe(12n);
    copy.end();
    const last = writing.begin("payer usdc", "d", 1n);
    expect([last.beside, writing.size()]).toEqual([7n, 2]);
    for (const { end } of [last, other, elsewhere]) end();
    expect(writing.size()).toBe(1);
  });

  it("lets no more copies wait in all than it can hold, and forgets whom it waited for", async () => {
    const entries = createOpenPayments();
    const open = Array.from({ length: 1 + MAX_COPIES_WAITING / MAX_COPIES_PER_PAYMENT }, (_, i): OpenEntry => ({
      ...entryAt(),
      paymentId: `0x${i}`,
    }));
    for (const entry of open) entries.add(entry);
    const wait = (entry: OpenEntry): Promise<boolean> => entries.ended(entry, 60_000, new AbortController().signal);
    const [last, ...others] = open;
    if (!last) throw new Error("none");
    const waiting = others.flatMap((entry) => Array.from({ length: MAX_COPIES_PER_PAYMENT }, () => wait(entry)));
    expect(entries.waiting()).toBe(MAX_COPIES_WAITING);
    expect(await wait(last)).toBe(false);
    for (const entry of others) entries.remove(entry);
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([true]));
    expect([entries.waiting(), entries.size()]).toEqual([0, 1]);
    // What ended before somebody came to wait is not waited for.
    entries.remove(last);
    expect(await wait(last)).toBe(true);
    await expect(entries.ended(last, 60_000, AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
  });
});
