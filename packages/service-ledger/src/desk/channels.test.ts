import { randomBytes } from "node:crypto";
import { AssayError } from "@assay/core";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import type { OpenPayment, PaymentProblem } from "@assay/protocol";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeRefund,
  authorizeVoucher,
  channelFor,
  channelIdOf,
  channelOutcome,
  parseSettlementResponse,
  resyncFrom,
  toHex,
} from "@assay/x402";
import type { ChannelStateWire, EvmSigner, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { PGlite } from "@electric-sql/pglite";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createChannels } from "./channel-state.ts";
import {
  CHANNEL_FRESH_MS,
  CHANNEL_WAIT_MS,
  MAX_CHANNEL_WAITERS,
  MAX_TIMEOUT_SECONDS,
  MIN_REMAINING_SECONDS,
  STANDING_FRESH_MS,
} from "./limits.ts";
import { headersOf, newPayer, openShop, suite } from "./testing/shop.ts";
import type { Shop } from "./testing/shop.ts";

const MISMATCH = "invalid_batch_settlement_evm_cumulative_amount_mismatch";
const EXCEEDS = "invalid_batch_settlement_evm_cumulative_exceeds_balance";
const CAP = 2000n;
const DEPOSIT = 20_000n;

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

type Answer = Awaited<ReturnType<Shop["take"]>>;
const offer = (): PaymentRequirements => shop.offer(shop.quote(), "batch-settlement");
const from = (maxClaimable: bigint, signer = payer) => ({
  suite,
  signer,
  requirement: offer(),
  nowS: Math.floor(shop.clock.nowMs / 1000),
  channel: channelFor(offer(), signer.address),
  maxClaimable,
});
const voucher = (maxClaimable: bigint, signer = payer): Promise<PaymentPayload> =>
  authorizeVoucher(from(maxClaimable, signer));
const deposit = (amount: bigint, maxClaimable: bigint, signer = payer): Promise<PaymentPayload> =>
  authorizeDeposit({ ...from(maxClaimable, signer), payer: signer, nonce: new Uint8Array(randomBytes(32)) }, amount);
const channelId = (signer = payer): Uint8Array => channelIdOf(suite, 31337, channelFor(offer(), signer.address));

async function pay(
  payload: PaymentPayload | Promise<PaymentPayload>,
  body: string = randomBytes(8).toString("hex"),
  at = shop,
): Promise<Answer> {
  return at.take(at.quote(), headersOf(await payload), body);
}

function opened(answer: Answer): OpenPayment {
  if (answer.kind !== "open") throw new Error(`not open: ${JSON.stringify(answer)}`);
  return answer;
}

function problem(answer: Answer | Awaited<ReturnType<NonNullable<Shop["desk"]["refund"]>>>): PaymentProblem {
  if (answer.kind !== "problem") throw new Error(`no problem: ${answer.kind}`);
  return answer.problem;
}

/** The state in a corrective 402, believed as a client does. */
function told({ required }: PaymentProblem): { readonly state: ChannelStateWire; readonly believed: boolean } {
  const extra = required?.accepts.find(({ scheme }) => scheme === "batch-settlement")?.extra;
  if (!extra?.channelState) throw new Error("no state");
  return { state: extra.channelState, believed: resyncFrom(extra, channelId(), () => true) !== undefined };
}

/** Something to put vouchers into another order by. */
const toKey = ({ payment }: PaymentPayload): string =>
  payment.kind === "voucher" ? toHex(suite.keccak256(payment.voucher.signature)) : "";

/** Opens the payer's channel, with one call on it. */
async function openChannel(amount = DEPOSIT, at = shop): Promise<void> {
  await at.finish(opened(await pay(deposit(amount, CAP), undefined, at)), { outputTokens: 0 });
  await at.desk.ingested(at.log.size());
}

const channelRow = async (): Promise<Readonly<Record<string, unknown>> | undefined> =>
  (
    await database.query(
      "SELECT charged::text, balance::text, signed_max::text, total_claimed::text FROM assay.channels WHERE channel_id = decode($1, 'hex')",
      [toHex(channelId()).slice(2)],
    )
  ).rows[0];

describe("a deposit", () => {
  it("counts from its signature on, and is charged for its first call", async () => {
    const answer = opened(await pay(deposit(DEPOSIT, CAP)));
    const charge = answer.charge("model:me/net", { outputTokens: 500 });
    expect(charge.amountAtomic).toBe(1500n);
    const { chargedAtomic, channelState } = channelOutcome(
      parseSettlementResponse(charge.headers["payment-response"] ?? ""),
    );
    expect(chargedAtomic).toBe(1500n);
    expect(channelState).toMatchObject({
      channelId: toHex(channelId()),
      balance: DEPOSIT.toString(),
      chargedCumulativeAmount: "1500",
      totalClaimed: "0",
    });
  });

  it("is refused when it is too small, unpayable, spent or not signed by its payer", async () => {
    expect(problem(await pay(deposit(5n * CAP - 1n, CAP))).code).toBe(
      "invalid_batch_settlement_evm_deposit_below_min_deposit",
    );
    shop.chain.facts = { balance: DEPOSIT - 1n };
    expect(problem(await pay(deposit(DEPOSIT, CAP))).code).toBe("invalid_batch_settlement_evm_insufficient_balance");
    shop.chain.facts = { authorizationUsed: true };
    expect(problem(await pay(deposit(DEPOSIT, CAP))).code).toBe(
      "invalid_batch_settlement_evm_deposit_simulation_failed",
    );
    shop.chain.facts = { payerCodeBytes: 100 };
    expect(problem(await pay(deposit(DEPOSIT, CAP))).code).toBe(
      "invalid_batch_settlement_evm_receive_authorization_signature",
    );
    shop.chain.facts = {};
    const good = await deposit(DEPOSIT, CAP);
    const other = await deposit(DEPOSIT, CAP, newPayer());
    if (good.payment.kind !== "deposit" || other.payment.kind !== "deposit") throw new Error("kind");
    const swapped = { ...good, payment: { ...good.payment, by: other.payment.by } };
    // Somebody else's signature could be a contract's own way: it is asked.
    expect(problem(await pay(swapped)).code).toBe("invalid_payment_signature");
    expect(problem(await pay(deposit(DEPOSIT, DEPOSIT + 1n))).code).toBe(EXCEEDS);
    expect((await database.query("SELECT 1 FROM assay.payments")).rows).toEqual([]);
  });

  it("that a block has is given its answer again, also while the chain is away, and for no other request", async () => {
    const payload = await deposit(DEPOSIT, CAP);
    const { logIndex } = await shop.finish(opened(await pay(payload, "same")));
    await shop.desk.ingested(shop.log.size());
    shop.chain.facts = { authorizationUsed: true };
    expect(await pay(payload, "same")).toMatchObject({ kind: "replay", logIndex });
    shop.chain.down = new AssayError("chain_unavailable", "Nobody answers.");
    expect(await pay(payload, "same")).toMatchObject({ kind: "replay", logIndex });
    shop.chain.down = undefined;
    expect(problem(await pay(payload, "other")).code).toBe("invalid_batch_settlement_evm_deposit_simulation_failed");
    expect(shop.events).toEqual([]);
  });

  it("does not count twice, whatever vouchers come with it", async () => {
    const first = await deposit(DEPOSIT, CAP);
    await shop.finish(opened(await pay(first)), { outputTokens: 1000 });
    const second = await deposit(DEPOSIT, 2n * CAP);
    if (first.payment.kind !== "deposit" || second.payment.kind !== "deposit") throw new Error("kind");
    const again = { ...second, payment: { ...second.payment, by: first.payment.by } };
    await shop.finish(opened(await pay(again)), { outputTokens: 1000 });
    await shop.desk.ingested(2);
    expect(await channelRow()).toEqual({
      charged: "4000",
      balance: DEPOSIT.toString(),
      signed_max: "4000",
      total_claimed: "0",
    });
    const beyond = await deposit(DEPOSIT, DEPOSIT + 1n);
    if (beyond.payment.kind !== "deposit") throw new Error("kind");
    expect(problem(await pay({ ...beyond, payment: { ...beyond.payment, by: first.payment.by } })).code).toBe(EXCEEDS);
  });

  it("has its answer again when it is on the chain, and only for its payer", async () => {
    const payload = await deposit(DEPOSIT, CAP);
    const { logIndex } = await shop.finish(opened(await pay(payload, "body")));
    await shop.desk.ingested(shop.log.size());
    shop.chain.facts = { authorizationUsed: true, balance: 0n };
    shop.chain.channelFacts = { balance: DEPOSIT, totalClaimed: 1500n };
    const again = await open({ over: shop });
    expect(await pay(payload, "body", again)).toMatchObject({ kind: "replay", logIndex });
    if (payload.payment.kind !== "deposit") throw new Error("kind");
    const by = { ...payload.payment.by, signature: payload.payment.by.signature.with(5, 1).with(6, 1) };
    const forged = { ...payload, payment: { ...payload.payment, by } };
    expect(problem(await pay(forged as PaymentPayload, "body", again)).code).toBe("invalid_payment_signature");
  });

  it("that is sent several times at once is judged as one, and answered as one", async () => {
    // Of no more than one: copies must not be taken to want the money twice.
    shop.chain.facts = { balance: DEPOSIT };
    const payload = await deposit(DEPOSIT, CAP);
    const answers = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const answer = await pay(payload, "same");
        if (answer.kind === "open") {
          await expect.poll(() => shop.desk.status().waiting, { interval: 1 }).toBe(7);
          await shop.finish(answer, { outputTokens: 0 });
        }
        return answer.kind;
      }),
    );
    expect(answers.toSorted()).toEqual(["open", ...Array(7).fill("replay")]);
    await shop.desk.ingested(1);
    expect(await channelRow()).toMatchObject({ charged: "1000", balance: DEPOSIT.toString() });
  });

  it("without a chain stays within the limit", async () => {
    shop.chain.down = new AssayError("chain_unavailable", "down");
    expect(problem(await pay(deposit(1_000_001n, CAP)))).toMatchObject({ status: 503, code: "chain_unavailable" });
    opened(await pay(deposit(1_000_000n, CAP)));
  });

  it("without a chain counts with all of those before, also of other channels and other payers", async () => {
    const limits = { maxUnsettledPerPayer: { USDC: 3n * DEPOSIT }, maxUnsettledOnTrust: { USDC: 4n * DEPOSIT } };
    const limited = await open({ over: shop, options: limits });
    shop.chain.down = new AssayError("chain_unavailable", "down");
    for (const max of [CAP, 2n * CAP, 3n * CAP])
      await limited.finish(opened(await pay(deposit(DEPOSIT, max), undefined, limited)), { outputTokens: 1000 });
    expect(problem(await pay(deposit(DEPOSIT, 4n * CAP), undefined, limited)).code).toBe("chain_unavailable");
    opened(await pay(deposit(DEPOSIT, CAP, newPayer()), undefined, limited));
    expect(problem(await pay(deposit(DEPOSIT, CAP, newPayer()), undefined, limited)).code).toBe("chain_unavailable");
  });

  it("is trusted up to the payer's limit until a block has it, whatever it is of", async () => {
    const limited = await open({ over: shop, options: { maxVerifiedUnsettledPerPayer: { USDC: 5000n } } });
    await openChannel(DEPOSIT, limited);
    await limited.finish(opened(await pay(voucher(1000n + CAP), undefined, limited)), { outputTokens: 1000 });
    await limited.desk.ingested(limited.log.size());
    opened(await pay(voucher(3000n + CAP), "the last", limited));
    const tooMuch = { status: 503, code: "payer_unsettled_limit" };
    expect(problem(await pay(voucher(5000n + CAP), "beyond", limited))).toMatchObject(tooMuch);
    // Nor is another deposit counted on meanwhile.
    expect(problem(await pay(deposit(DEPOSIT, 5000n + CAP), "more", limited))).toMatchObject(tooMuch);
    expect(limited.desk.status().open).toBe(1);
    shop.chain.channelFacts = { balance: DEPOSIT };
    shop.clock.nowMs += 1;
    opened(await pay(voucher(5000n + CAP), "beyond", limited));
  });

  it("is taken for one call that costs more than that limit", async () => {
    const limited = await open({ over: shop, options: { maxVerifiedUnsettledPerPayer: { USDC: CAP - 1n } } });
    await limited.finish(opened(await pay(deposit(DEPOSIT, CAP), undefined, limited)), { outputTokens: 1000 });
    expect(problem(await pay(voucher(2n * CAP), undefined, limited)).code).toBe("payer_unsettled_limit");
    shop.chain.channelFacts = { balance: DEPOSIT };
    shop.clock.nowMs += 1;
    opened(await pay(voucher(2n * CAP), undefined, limited));
  });

  it("leaves the account only once, beside other payments", async () => {
    shop.chain.facts = { balance: DEPOSIT + 1999n };
    const answers = await Promise.all([
      pay(deposit(DEPOSIT, CAP)),
      shop.take(
        shop.quote(),
        headersOf(
          await authorizeExact({
            suite,
            signer: payer,
            requirement: shop.offer(shop.quote(), "exact"),
            nonce: new Uint8Array(randomBytes(32)),
            nowS: Math.floor(shop.clock.nowMs / 1000),
          }),
        ),
      ),
    ]);
    expect(answers.filter(({ kind }) => kind === "open").length).toBeLessThanOrEqual(1);
  });
});

describe("vouchers", () => {
  it("end with nothing, and their work takes no longer than that of others", async () => {
    await openChannel();
    const { untilMs } = opened(await pay(voucher(1000n + CAP)));
    expect(untilMs).toBe(shop.clock.nowMs + (MAX_TIMEOUT_SECONDS - MIN_REMAINING_SECONDS) * 1000);
  });

  it("go one after the other, without waiting for the rows", async () => {
    await openChannel();
    let charged = 1000n;
    for (let i = 0; i < 5; i++) {
      const answer = opened(await pay(voucher(charged + CAP)));
      const charge = answer.charge("model:me/net", { outputTokens: 100 });
      charged += charge.amountAtomic;
      const { channelState } = channelOutcome(parseSettlementResponse(charge.headers["payment-response"] ?? ""));
      expect(channelState?.chargedCumulativeAmount).toBe(charged.toString());
      // Durable, but not in the rows: the next voucher counts with the charge all the same.
      const logIndex = shop.log.records.length;
      const row = { receiptId: "ab".repeat(16), executionDigest: "cd".repeat(32), serviceDigest: null, issuedAtMs: 1 };
      shop.log.records.push({ logIndex, row, payment: charge.instruction });
      charge.durable({ receiptId: row.receiptId, logIndex, executionDigest: row.executionDigest, serviceDigest: "" });
    }
    shop.desk.ingest(shop.log.records.slice(1), shop.log.size());
    await shop.desk.ingested(shop.log.size());
    expect(await channelRow()).toMatchObject({ charged: charged.toString(), signed_max: "7400" });
  });

  it("run side by side when each covers what is under way", async () => {
    await openChannel();
    const payloads = await Promise.all([1, 2, 3, 4, 5].map((i) => voucher(1000n + BigInt(i) * CAP)));
    const answers: OpenPayment[] = [];
    for (const payload of payloads) answers.push(opened(await pay(payload)));
    expect(answers).toHaveLength(5);
    await Promise.all(answers.map((answer) => shop.finish(answer, { outputTokens: 1000 })));
    await shop.desk.ingested(shop.log.size());
    expect(await channelRow()).toMatchObject({ charged: "11000", signed_max: "11000" });
  });

  it("that were overtaken by a higher one are as good as that one, which their receipts keep", async () => {
    await openChannel(50_000n);
    const higher = opened(await pay(voucher(1000n + 3n * CAP)));
    const lower: OpenPayment[] = [];
    for (const i of [2n, 1n]) lower.push(opened(await pay(voucher(1000n + i * CAP))));
    // All that the highest promised is under way: one more needs a voucher of its own.
    const more = pay(voucher(1000n + 2n * CAP - 1n));
    await new Promise((resolve) => setTimeout(resolve, 50));
    // The request that brought the highest one leaves no receipt, and what the others cost is covered all the same.
    await higher.release();
    lower.push(opened(await more));
    for (const answer of lower) await shop.finish(answer, { outputTokens: 1000 });
    await shop.desk.ingested(shop.log.size());
    expect(await channelRow()).toMatchObject({ charged: "7000", signed_max: "7000" });
    // Another process knows the highest one from the rows, and it is used up.
    const second = await open({ over: shop, options: { gateway: "second" } });
    expect(problem(await pay(voucher(6999n), undefined, second))).toMatchObject({ status: 402, code: MISMATCH });
    opened(await pay(voucher(7000n + 2n * CAP), undefined, second));
    opened(await pay(voucher(7000n + CAP), undefined, second));
  });

  it("in any order of arrival, and with any of them given back, are covered by what is durable", async () => {
    await openChannel(1_000_000n);
    const steps = fc.array(
      fc.record({ at: fc.nat(), ends: fc.integer({ min: 0, max: 3 }), outputTokens: fc.nat(1000) }),
      {
        minLength: 12,
        maxLength: 12,
      },
    );
    let told = 1000n;
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        // A client with twelve under way; the network deals them in an order of its own.
        const sent = await Promise.all(plan.map((_, i) => voucher(told + BigInt(i + 1) * CAP)));
        const running: OpenPayment[] = [];
        const end = async ({ at, ends, outputTokens }: (typeof plan)[number]): Promise<void> => {
          for (let i = 0; i < ends && running.length > 0; i++) {
            const [one] = running.splice(at % running.length, 1);
            if (!one) return;
            if ((at + i) % 3 === 0) await one.release();
            else await shop.finish(one, { outputTokens });
          }
        };
        // The highest first: whatever follows is covered by it, in whatever order.
        const arriving = [...sent.splice(-1), ...sent.toSorted((a, b) => (toKey(a) < toKey(b) ? -1 : 1))];
        for (const [i, payload] of arriving.entries()) {
          running.push(opened(await pay(payload)));
          const step = plan[i];
          if (step) await end(step);
        }
        await end({ at: 1, ends: running.length, outputTokens: 7 });
        await shop.desk.ingested(shop.log.size());
        const row = await channelRow();
        expect(BigInt(String(row?.["charged"]))).toBeLessThanOrEqual(BigInt(String(row?.["signed_max"])));
        told += 12n * CAP;
      }),
      { numRuns: 10 },
    );
  });

  it("promise no more than the channel holds", async () => {
    await openChannel(10_000n);
    expect(problem(await pay(voucher(10_001n))).code).toBe(EXCEEDS);
    expect(problem(await pay(voucher(10_001n, newPayer())))).toMatchObject({
      status: 402,
      code: "invalid_batch_settlement_evm_channel_not_found",
    });
    // A deposit that the payer made by itself is seen on the chain.
    await database.exec("UPDATE assay.payments SET state = 'settled'");
    shop.chain.channelFacts = { balance: 30_000n };
    shop.clock.nowMs += 1;
    opened(await pay(voucher(20_001n)));
    // What is on its way out is promised to nobody.
    shop.clock.nowMs += CHANNEL_FRESH_MS + 1;
    shop.chain.channelFacts = { balance: 30_000n, withdrawAmount: 25_000n, withdrawRequestedAt: 5 };
    expect(problem(await pay(voucher(20_000n))).code).toBe(EXCEEDS);
  });

  it("that are too low hear of the channel's state, and are right at the second try", async () => {
    await openChannel();
    const low = problem(await pay(voucher(CAP)));
    expect(low).toMatchObject({ status: 402, code: MISMATCH });
    const { state, believed } = told(low);
    expect(state.chargedCumulativeAmount).toBe("1000");
    expect(believed).toBe(true);
    opened(await pay(voucher(BigInt(state.chargedCumulativeAmount) + CAP)));
  });

  it("of clients that count finished requests alone succeed at the second try, however many there are at once", async () => {
    await openChannel();
    const finished = async (answer: Answer): Promise<boolean> => {
      if (answer.kind !== "open") return false;
      await shop.finish(answer, { outputTokens: 1000 });
      // The clock stands still here, and an answer takes its time.
      shop.clock.nowMs += 50;
      return true;
    };
    const client = async (): Promise<boolean> => {
      const answer = await pay(voucher(1000n + CAP));
      if (answer.kind === "open") return finished(answer);
      const { state, believed } = told(problem(answer));
      expect(believed).toBe(true);
      return finished(await pay(voucher(BigInt(state.chargedCumulativeAmount) + CAP)));
    };
    expect(await Promise.all(Array.from({ length: 8 }, client))).toEqual(Array.from({ length: 8 }, () => true));
  });

  it("are bound to a request like any payment: a copy waits, or has its answer", async () => {
    await openChannel();
    const payload = await voucher(1000n + CAP);
    let runs = 0;
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const answer = await pay(payload, "same");
        if (answer.kind !== "open") return answer;
        await expect.poll(() => shop.desk.status().waiting, { interval: 1 }).toBe(19 - runs++);
        // The first run fails: another of the copies is worked for.
        if (runs === 1) await answer.release();
        else await shop.finish(answer);
        return answer;
      }),
    );
    expect(answers.map(({ kind }) => kind).toSorted()).toEqual(["open", "open", ...Array(18).fill("replay")]);
    expect([runs, shop.log.records.length]).toEqual([2, 2]);
    const logIndex = 1;
    expect(await pay(payload, "same")).toMatchObject({ kind: "replay", logIndex });
    await shop.desk.ingested(shop.log.size());
    expect(await pay(payload, "same")).toMatchObject({ kind: "replay", logIndex });
    // For another request it is a voucher whose signer has not heard of the charge.
    expect(told(problem(await pay(payload, "other"))).state.chargedCumulativeAmount).toBe("2500");
  });

  it("give back what a failed run reserved, and never charge nothing", async () => {
    await openChannel();
    const payload = await voucher(1000n + CAP);
    const first = opened(await pay(payload, "one"));
    first.charge("model:me/net", { outputTokens: 1000 });
    await first.release();
    const second = opened(await pay(payload, "two"));
    shop.listings.set("model:me/net", {
      ...shop.listings.get("model:me/net"),
      subject: "model:me/net",
      asset: "USDC",
      owner: "o",
      changedAtMs: 2,
    });
    expect(second.charge("model:me/net", {}).amountAtomic).toBe(1000n);
    const free = await open({ over: { ...shop, listings: new Map(shop.listings) } });
    free.listings.set("model:me/net", {
      subject: "model:me/net",
      asset: "USDC",
      perMillionOutputTokens: "2",
      owner: "o",
      changedAtMs: 2,
    });
    await second.release();
    const third = opened(await pay(voucher(1000n + 2000n), "three", free));
    expect(third.charge("model:me/net", { outputTokens: 0 }).amountAtomic).toBe(1n);
  });

  it("without a chain are taken while what may be lost is within the limit", async () => {
    const limited = await open({ over: shop, options: { maxUnsettledPerPayer: { USDC: 4000n } } });
    await openChannel(DEPOSIT, limited);
    shop.chain.down = new AssayError("chain_unavailable", "down");
    shop.clock.nowMs += CHANNEL_FRESH_MS + 1;
    await limited.finish(opened(await pay(voucher(1000n + CAP), undefined, limited)), { outputTokens: 1000 });
    await limited.desk.ingested(limited.log.size());
    shop.clock.nowMs += CHANNEL_FRESH_MS + 1;
    expect(problem(await pay(voucher(3000n + CAP), undefined, limited))).toMatchObject({
      status: 503,
      code: "chain_unavailable",
    });
    expect(problem(await pay(voucher(CAP, newPayer()), undefined, limited))).toMatchObject({
      status: 503,
      code: "chain_unavailable",
    });
  });

  it("of a payer who failed elsewhere are refused", async () => {
    await openChannel();
    opened(await pay(voucher(1000n + CAP)));
    await database.query("UPDATE assay.payments SET state = 'dead', updated_at_ms = $1 WHERE state = 'due'", [
      shop.clock.nowMs,
    ]);
    shop.clock.nowMs += STANDING_FRESH_MS;
    expect(problem(await pay(voucher(3000n + CAP)))).toMatchObject({ status: 402, code: "payer_denied" });
  });

  it("wait for another gateway's claims, and no longer than the limit", async () => {
    const second = await open({ over: shop, options: { gateway: "second" } });
    await openChannel();
    const held = opened(await pay(voucher(1000n + CAP), "held", second));
    const waiting = pay(voucher(1000n + CAP), "waits");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await held.release();
    opened(await waiting);
    const again = opened(await pay(voucher(3000n + CAP), "held", second));
    const late = pay(voucher(3000n + CAP), "late");
    await new Promise((resolve) => setTimeout(resolve, 50));
    shop.clock.nowMs += CHANNEL_WAIT_MS;
    expect(problem(await late).code).toBe(MISMATCH);
    await again.release();
  });

  it("wait for a deposit that another gateway has under way, and hear when it comes to nothing", async () => {
    const second = await open({ over: shop, options: { gateway: "second" } });
    const held = opened(await pay(deposit(DEPOSIT, CAP), "held", second));
    const waiting = pay(voucher(2n * CAP), "waits");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await second.finish(held, { outputTokens: 0 });
    await second.desk.ingested(second.log.size());
    opened(await waiting);
    payer = newPayer();
    const never = opened(await pay(deposit(DEPOSIT, CAP), "never", second));
    const refused = pay(voucher(2n * CAP), "refused");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await never.release();
    expect(problem(await refused)).toMatchObject({
      status: 402,
      code: "invalid_batch_settlement_evm_channel_not_found",
    });
  });

  it("of two gateways never promise the same money twice", async () => {
    const second = await open({ over: shop, options: { gateway: "second" } });
    await openChannel(10_000n);
    const payloads = await Promise.all(Array.from({ length: 8 }, () => voucher(10_000n)));
    shop.clock.nowMs += 1;
    const answers = await Promise.all(
      payloads.map(async (payload, i) => {
        const abort = new AbortController();
        const at = i % 2 === 0 ? shop : second;
        const taken = at.take(at.quote(), headersOf(payload), String(i), abort.signal).catch(() => undefined);
        setTimeout(() => abort.abort(), 300);
        return taken;
      }),
    );
    expect(answers.filter((answer) => answer?.kind === "open")).toHaveLength(1);
  });

  it("are the same rows when they are made again from the log", async () => {
    const dump = async (): Promise<unknown> => [
      (await database.query("SELECT * FROM assay.payments ORDER BY log_index")).rows,
      (
        await database.query(
          "SELECT channel_id, payer, token, receiver, config, charged, balance, signed_max, signature FROM assay.channels",
        )
      ).rows,
    ];
    await openChannel();
    await shop.finish(opened(await pay(voucher(1000n + CAP))), { outputTokens: 10 });
    await shop.finish(opened(await pay(deposit(DEPOSIT, 2010n + CAP))), { outputTokens: 20 });
    await shop.desk.ingested(shop.log.size());
    const before = await dump();
    expect(await channelRow()).toMatchObject({ balance: (2n * DEPOSIT).toString(), charged: "3030" });
    await clear();
    await open({ over: shop });
    expect(await dump()).toEqual(before);
  });
});

describe("a refund", () => {
  const refunds: { readonly channelId: string; readonly amountAtomic: bigint | undefined }[] = [];
  const transaction = `0x${"ab".repeat(32)}` as const;
  const refunding = (): Promise<Shop> =>
    open({
      over: shop,
      modules: {
        refund: (id, amountAtomic) => {
          refunds.push({ channelId: id, amountAtomic });
          shop.chain.channelFacts = { balance: 1000n, totalClaimed: 1000n, refundNonce: 1n };
          return Promise.resolve({ transaction, amountAtomic: amountAtomic ?? 19_000n });
        },
      },
    });
  const ask = async (
    at: Shop,
    payload: PaymentPayload | undefined,
  ): ReturnType<NonNullable<Shop["desk"]["refund"]>> => {
    const { refund } = at.desk;
    if (!refund) throw new Error("no refunds");
    const use = { subjects: [], most: {}, resource: { url: "http://127.0.0.1/v1/chat/completions" } };
    return refund(use, payload ? headersOf(payload) : {}, new AbortController().signal);
  };
  beforeEach(() => void refunds.splice(0));

  it("gives the rest back on its payer's wish, and the channel holds no more than the chain says", async () => {
    const at = await refunding();
    await openChannel(DEPOSIT, at);
    await database.exec("UPDATE assay.payments SET state = 'settled'");
    shop.chain.channelFacts = { balance: DEPOSIT };
    const probe = problem(await ask(at, undefined));
    expect(probe).toMatchObject({ status: 402, code: "payment_required" });
    expect(probe.required?.accepts.filter(({ scheme }) => scheme === "batch-settlement")).toHaveLength(2);
    const done = await ask(at, await authorizeRefund(from(1000n)));
    expect(done).toMatchObject({ kind: "done", status: 200 });
    if (done.kind !== "done") throw new Error("kind");
    expect(JSON.parse(done.body)).toEqual({ message: "Channel refunded.", channelId: toHex(channelId()) });
    expect(parseSettlementResponse(done.headers["payment-response"] ?? "")).toMatchObject({
      success: true,
      transaction,
    });
    expect(refunds).toEqual([{ channelId: toHex(channelId()), amountAtomic: undefined }]);
    expect(await channelRow()).toMatchObject({ balance: "1000", total_claimed: "1000" });
    expect(problem(await pay(voucher(1000n + CAP), undefined, at)).code).toBe(EXCEEDS);
  });

  it("waits for what is under way, and is refused for what was not signed by the payer", async () => {
    const at = await refunding();
    await openChannel(DEPOSIT, at);
    await database.exec("UPDATE assay.payments SET state = 'settled'");
    shop.chain.channelFacts = { balance: DEPOSIT };
    const running = opened(await pay(voucher(1000n + CAP), undefined, at));
    const asked = ask(at, await authorizeRefund(from(1000n)));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(refunds).toEqual([]);
    await running.release();
    expect((await asked).kind).toBe("done");
    const stranger = await authorizeRefund({ ...from(1000n), signer: newPayer() });
    expect(problem(await ask(at, stranger)).code).toBe("invalid_batch_settlement_evm_voucher_signature");
  });

  it("is refused with its reason", async () => {
    const at = await refunding();
    const refuses = async (payload: PaymentPayload, code: string, status = 402, where = at): Promise<void> =>
      expect(problem(await ask(where, payload))).toMatchObject({ status, code });
    await refuses(await authorizeRefund(from(0n)), "invalid_batch_settlement_evm_channel_not_found");
    await openChannel(DEPOSIT, at);
    await database.exec("UPDATE assay.payments SET state = 'settled'");
    shop.chain.channelFacts = { balance: DEPOSIT };
    await refuses(await authorizeRefund(from(999n)), MISMATCH);
    await refuses(await authorizeRefund(from(DEPOSIT + 1n)), EXCEEDS);
    await refuses(await authorizeRefund(from(1000n), 0n), "invalid_batch_settlement_evm_refund_amount_invalid");
    await refuses(await voucher(1000n + CAP), "payment_not_a_refund", 400);
    await refuses(
      await authorizeRefund(from(1000n)),
      "invalid_batch_settlement_evm_authorizer_not_configured",
      402,
      shop,
    );
    expect(problem(await pay(authorizeRefund(from(1000n)), undefined, at))).toMatchObject({
      status: 400,
      code: "payment_not_a_payment",
    });
    expect(refunds).toEqual([]);
    const broken = await open({
      over: shop,
      modules: { refund: () => Promise.reject(new AssayError("refund_failed", "It failed.")) },
    });
    await refuses(await authorizeRefund(from(1000n)), "refund_failed", 503, broken);
    expect(await channelRow()).toMatchObject({ balance: DEPOSIT.toString() });
  });
});

describe("a channel's state", () => {
  it("is forgotten when it is idle and there are too many, and never while it is used", async () => {
    const channels = createChannels(2);
    const busy = channels.get("0x01");
    busy.charge(1n);
    const idle = channels.get("0x02");
    channels.get("0x03");
    expect(channels.get("0x01")).toBe(busy);
    expect(channels.get("0x02")).not.toBe(idle);
    const end = await busy.turn();
    end?.();
  });

  it("gives turns in order, to so many and no more", async () => {
    const state = createChannels().get("0x01");
    const turns = Array.from({ length: MAX_CHANNEL_WAITERS }, () => state.turn());
    expect(state.turn()).toBeUndefined();
    const order: number[] = [];
    await Promise.all(
      turns.map(async (turn, i) => {
        const end = await turn;
        order.push(i);
        end?.();
      }),
    );
    expect(order).toEqual(turns.map((_, i) => i));
    expect(state.turn()).toBeDefined();
  });
});
