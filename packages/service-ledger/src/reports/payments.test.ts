import { PGlite } from "@electric-sql/pglite";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import type { Hex } from "@assay/x402";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  claimForJob,
  dueRows,
  giveBack,
  jobRows,
  markFailed,
  markSettled,
  markUnsettled,
  revive,
} from "../settle/rows.ts";
import { forgetChain } from "../settle/forget.ts";
import { createSupplementer } from "../settle/supplements.ts";
import type { SettlementDraft } from "../settle/supplements.ts";
import { account, chargeUnsettled } from "../settle/testing/rows.ts";
import { decimalText } from "./money.ts";
import { MAX_REPORT_ROWS, listPayments, paymentSums, showPayment } from "./payments.ts";
import { settleNow } from "./settle-now.ts";

let database: Database;
const assets = [{ symbol: "USDC", address: `0x${"aa".repeat(20)}`, decimals: 6 }] as const;
const NETWORK = "eip155:31337";
const ids: Hex[] = [];
const NOW = 1_800_000_000_000;

beforeAll(async () => {
  database = databaseFromPglite(new PGlite());
  await migrateDatabase(database);
  const from = account();
  for (let i = 0; i < 5; i++)
    ids.push(
      await chargeUnsettled(database, from, { asset: assets[0].address, amount: BigInt(1_000 + i), nowMs: NOW + i }),
    );
});

afterAll(() => database.close());

const some = (index: number): Hex => ids[index] ?? "0x";
const TX: Hex = `0x${"cd".repeat(32)}`;

it("writes amounts as decimal texts", () => {
  expect(decimalText(1_234_500n, 6)).toBe("1.2345");
  expect(decimalText(5n, 6)).toBe("0.000005");
  expect(decimalText(0n, 6)).toBe("0");
  expect(decimalText(7n, 0)).toBe("7");
});

it("lists payments, the latest first, a page at a time", async () => {
  const seen: string[] = [];
  let before: string | undefined;
  for (;;) {
    const page = await listPayments(database, assets, { limit: 2, ...(before === undefined ? {} : { before }) });
    seen.push(...page.payments.map(({ paymentId }) => paymentId));
    if (page.next === null) break;
    before = page.next;
  }
  expect(seen).toEqual(ids.toReversed());
  const one = await showPayment(database, assets, some(0));
  expect(one).toMatchObject({ state: "due", amount: { amount: "0.001", amountAtomic: "1000", symbol: "USDC" } });
  expect(await showPayment(database, assets, `0x${"00".repeat(32)}`)).toBeUndefined();
  expect(await showPayment(database, assets, "nonsense")).toBeUndefined();
});

it("refuses filters that are none", async () => {
  for (const filter of [
    { limit: 0 },
    { limit: MAX_REPORT_ROWS + 1 },
    { before: "yesterday" },
    { payer: "0x12" as Hex },
    { receiptId: "zz" },
    { state: "paid" as "due" },
  ])
    await expect(listPayments(database, assets, filter)).rejects.toMatchObject({ code: "report_filter_invalid" });
});

it("moves a payment from state to state, and only as it may", async () => {
  expect((await dueRows(database, NETWORK, NOW)).map(({ paymentId }) => paymentId)).toEqual(ids);
  expect(await claimForJob(database, "pay-1", [some(0), some(1)], NOW)).toBe(2);
  expect(await claimForJob(database, "pay-2", [some(1), some(2)], NOW)).toBe(1);
  expect((await jobRows(database, "pay-1", NOW)).length).toBe(2);
  await giveBack(database, "pay-1", NOW, [some(1)]);
  expect((await jobRows(database, "pay-1", NOW)).map(({ paymentId }) => paymentId)).toEqual([some(0)]);

  await markFailed(database, some(2), { code: "insufficient_funds", message: "none\0left" }, false, NOW);
  expect((await dueRows(database, NETWORK, NOW + 1_000)).map(({ paymentId }) => paymentId)).not.toContain(some(2));
  expect((await dueRows(database, NETWORK, NOW + 2_000)).map(({ paymentId }) => paymentId)).toContain(some(2));
  await markFailed(database, some(2), { code: "insufficient_funds", message: "none" }, true, NOW);
  expect((await dueRows(database, NETWORK, NOW + 10 ** 9)).map(({ paymentId }) => paymentId)).not.toContain(some(2));
  expect(await revive(database, some(2), NOW)).toBe(true);
  expect(await revive(database, some(2), NOW)).toBe(false);

  await markSettled(database, [{ paymentId: some(0), transaction: TX, blockNumber: 5 }], NOW);
  await markFailed(database, some(0), { code: "late", message: "late" }, true, NOW);
  expect(await showPayment(database, assets, some(0))).toMatchObject({
    state: "settled",
    transaction: TX,
    error: null,
  });
});

it("states each settlement once, whatever is lost in between, and again when it moved", async () => {
  const log: SettlementDraft[] = [];
  let broken = true;
  const supplement = (): (() => Promise<number>) =>
    createSupplementer({
      database,
      contractOf: () => `0x${"bb".repeat(20)}`,
      now: () => NOW,
      write(drafts) {
        const places = drafts.map((draft) => log.push(draft) - 1);
        return broken ? Promise.reject(new Error("the answer was lost")) : Promise.resolve(places);
      },
    });
  await expect(supplement()()).rejects.toThrow("lost");
  // The log's index knows it by the time that the next process begins.
  const [draft] = log;
  if (!draft) throw new Error("Nothing was written.");
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  await database.query(
    `INSERT INTO assay.receipts (log_index, receipt_id, execution_digest, kind, visibility, issued_at_ms)
     VALUES (77, decode($1, 'hex'), decode($2, 'hex'), 'supplement', 'private', 0)`,
    [hex(draft.supplementId), "ab".repeat(32)],
  );
  broken = false;
  expect(await supplement()()).toBe(1);
  expect(log).toHaveLength(1);
  expect(await showPayment(database, assets, some(0))).toMatchObject({ supplementIndex: 77 });
  expect(await supplement()()).toBe(0);

  expect(await markUnsettled(database, [some(0)], NOW)).toBe(1);
  await markSettled(database, [{ paymentId: some(0), transaction: TX, blockNumber: 5 }], NOW);
  expect(await supplement()()).toBe(0);
  await markUnsettled(database, [some(0)], NOW);
  await markSettled(database, [{ paymentId: some(0), transaction: TX, blockNumber: 6 }], NOW);
  expect(await supplement()()).toBe(1);
  expect(log).toHaveLength(2);
});

it("settles now what is due, and says what it came to", async () => {
  let kicked = 0;
  const settler = {
    kick() {
      kicked++;
      void markSettled(
        database,
        ids.map((paymentId) => ({ paymentId, transaction: TX, blockNumber: 9 })),
        NOW,
      );
    },
  };
  expect(await settleNow(database, settler, 5_000)).toEqual({ due: 4, settled: 4, transactions: [TX] });
  expect(kicked).toBe(1);
  expect(await settleNow(database, { kick: () => undefined }, 0)).toEqual({ due: 0, settled: 0, transactions: [] });
  expect(await paymentSums(database, assets)).toMatchObject([
    { state: "settled", count: 5, sum: { amountAtomic: "5010" } },
  ]);
});

it("forgets a chain that is no more, and nobody's payment", async () => {
  await forgetChain(database, NETWORK, NOW);
  const { payments } = await listPayments(database, assets);
  expect(payments.every(({ state, blockNumber }) => state === "settled" && blockNumber === null)).toBe(true);
});
