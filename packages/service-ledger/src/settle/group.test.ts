import type { Hex } from "@assay/x402";
import { describe, expect, it } from "vitest";
import { groupRows } from "./group.ts";
import type { GroupContext, GroupOptions } from "./group.ts";
import {
  GAS_MARGIN_PERCENT,
  MAX_BLOCK_SHARE_PERCENT,
  MAX_GROUP_CHANNELS,
  MAX_GROUP_GAS,
  MAX_GROUP_ITEMS,
} from "./limits.ts";
import { gasLimitFor } from "./gas.ts";
import { createLink, MAX_CALLS } from "./link.ts";
import { resolveOptions } from "./options.ts";
import { isPassing } from "./patient.ts";
import type { ChainReads } from "./ports.ts";
import type { PaymentRow } from "./rows.ts";
import { AssayError } from "@assay/core";

const NOW = 1_000_000_000;
const options: GroupOptions = { items: 10, afterMs: 5_000, claimAfterMs: 60_000, immediateAbove: {} };
const context: GroupContext = { nowMs: NOW, kicked: new Set<Hex>(), busyChannels: new Set(), deposited: new Set() };

let next = 0;
const address = (byte: string): Hex => `0x${byte.repeat(20)}`;

/** A row that waits, in the parts that grouping looks at. */
function row(change: Partial<PaymentRow> = {}, kind = "eip3009", more: object = {}): PaymentRow {
  const paymentId: Hex = `0x${(next++).toString(16).padStart(64, "0")}`;
  const payment = { kind, channel: { receiverAuthorizer: address("ee") }, ...more };
  return {
    paymentId,
    scheme: "exact",
    asset: address("aa"),
    amountAtomic: 10n,
    settlement: "batch",
    attempts: 0,
    channelId: undefined,
    deadlineS: NOW / 1000 + 900,
    updatedAtMs: NOW,
    instruction: { payload: { payment } },
    ...change,
  } as unknown as PaymentRow;
}

const sizes = (rows: readonly PaymentRow[], changed: Partial<GroupContext> = {}, other: Partial<GroupOptions> = {}) =>
  groupRows(rows, { ...options, ...other }, { ...context, ...changed }).map(
    (group) => `${group.kind} ${group.rows.length}`,
  );

describe("payments go together", () => {
  it("when they are enough, and not before", () => {
    expect(sizes(Array.from({ length: 9 }, () => row()))).toEqual([]);
    expect(sizes(Array.from({ length: 10 }, () => row()))).toEqual(["pay 10"]);
  });

  it("by scheme and token", () => {
    const rows = [...Array.from({ length: 9 }, () => row()), row({ asset: address("bb") }), row({ scheme: "upto" })];
    expect(sizes(rows)).toEqual([]);
    expect(sizes(rows, { kicked: "all" })).toEqual(["pay 9", "pay 1", "pay 1"]);
  });

  it.each([
    ["the first has waited", row({ updatedAtMs: NOW - 5_000 })],
    ["a deadline is near", row({ deadlineS: NOW / 1000 + 100 })],
    ["one is individual", row({ settlement: "individual" })],
    ["one carries a permit", row({}, "upto", { sponsored: {} })],
    ["one is large", row({ amountAtomic: 1_000n })],
  ])("at once when %s", (_, urgent) => {
    const other = { immediateAbove: { [address("aa")]: 1_000n } };
    expect(sizes([row(), urgent], {}, other)).toEqual(["pay 2"]);
    expect(sizes([row(), row()], {}, other)).toEqual([]);
  });

  it("at once when somebody asks for one of them", () => {
    const asked = row();
    expect(sizes([row(), asked], { kicked: new Set([asked.paymentId]) })).toEqual(["pay 2"]);
    expect(sizes([row(), row()], { kicked: new Set([asked.paymentId]) })).toEqual([]);
  });

  it(`in transactions of at most ${MAX_GROUP_ITEMS}`, () => {
    const rows = Array.from({ length: MAX_GROUP_ITEMS + 1 }, () => row());
    expect(sizes(rows)).toEqual([`pay ${MAX_GROUP_ITEMS}`, "pay 1"]);
  });
});

describe("what failed", () => {
  const failed = (count: number, attempts: number): readonly PaymentRow[] =>
    Array.from({ length: count }, () => row({ attempts, updatedAtMs: NOW - 5_000 }));

  it("is tried again apart from what did not, and in ever smaller company", () => {
    expect(sizes([...failed(3, 0), ...failed(2, 1)])).toEqual(["pay 3", "pay 2"]);
    expect(sizes(failed(26, 1))).toEqual(["pay 25", "pay 1"]);
    expect(sizes(failed(4, 2))).toEqual(["pay 3", "pay 1"]);
    expect(sizes(failed(2, 3))).toEqual(["pay 1", "pay 1"]);
    expect(sizes([...failed(1, 3), ...failed(1, 7)])).toEqual(["pay 1", "pay 1"]);
  });
});

describe("channels", () => {
  const channel = (n: number): Hex => `0x${n.toString(16).padStart(64, "f")}`;
  const voucher = (n: number, change: Partial<PaymentRow> = {}): PaymentRow =>
    row({ scheme: "batch-settlement", channelId: channel(n), updatedAtMs: NOW - 60_000, ...change }, "voucher");

  it("are claimed together when the first charge has waited", () => {
    expect(sizes([voucher(1), voucher(1), voucher(2)])).toEqual(["claim 3"]);
    expect(sizes([voucher(1, { updatedAtMs: NOW })])).toEqual([]);
  });

  it("are left alone while a job has charges of them under way", () => {
    expect(sizes([voucher(1), voucher(2)], { busyChannels: new Set([channel(1)]) })).toEqual(["claim 1"]);
  });

  it("are opened before anything is claimed from them, one deposit at a time", () => {
    const deposit = (): PaymentRow =>
      row({ scheme: "batch-settlement", channelId: channel(3), updatedAtMs: NOW - 60_000 }, "deposit");
    const [first, second] = [deposit(), deposit()];
    expect(sizes([first, second, voucher(3)])).toEqual(["deposit 1"]);
    expect(sizes([first, voucher(3)], { deposited: new Set([first.paymentId]) })).toEqual(["claim 2"]);
  });

  it("whose claims failed are claimed apart, all charges of one together", () => {
    expect(sizes([voucher(1), voucher(2, { attempts: 3 }), voucher(2), voucher(3, { attempts: 4 })])).toEqual([
      "claim 1",
      "claim 2",
      "claim 1",
    ]);
  });

  it(`are claimed ${MAX_GROUP_CHANNELS} at a time`, () => {
    const rows = Array.from({ length: MAX_GROUP_CHANNELS + 1 }, (_, n) => voucher(n));
    expect(sizes(rows)).toEqual([`claim ${MAX_GROUP_CHANNELS}`, "claim 1"]);
  });
});

describe("a transaction's gas", () => {
  const chain = (estimate: bigint | undefined, block: bigint): ChainReads =>
    ({
      estimateGas: () => Promise.resolve(estimate),
      blockGasLimit: () => Promise.resolve(block),
    }) as unknown as ChainReads;
  const call = { from: address("11"), to: address("22"), data: "0x" } as const;

  it("is its estimate and a margin, within a share of the block", async () => {
    expect(await gasLimitFor(chain(100_000n, 30_000_000n), call)).toBe(
      100_000n + (100_000n * GAS_MARGIN_PERCENT) / 100n,
    );
    const share = (10_000_000n * MAX_BLOCK_SHARE_PERCENT) / 100n;
    expect(await gasLimitFor(chain(share, 10_000_000n), call)).toBe(share);
    expect(await gasLimitFor(chain(share + 1n, 10_000_000n), call)).toBeUndefined();
    expect(await gasLimitFor(chain(MAX_GROUP_GAS + 1n, 10n ** 12n), call)).toBeUndefined();
    expect(await gasLimitFor(chain(undefined, 30_000_000n), call)).toBeUndefined();
  });
});

describe("a settler's surroundings", () => {
  it("refuse options that are no whole numbers within their ranges", () => {
    for (const wrong of [
      { items: 0 },
      { items: 1.5 },
      { confirmations: 0 },
      { afterMs: -1 },
      { tickMs: 5 },
      { pollMs: 86_400_001 },
    ])
      expect(() => resolveOptions(wrong)).toThrow(
        expect.objectContaining({ code: "settler_options_invalid" }) as Error,
      );
    expect(resolveOptions({}).confirmations).toBe(1);
  });

  it("tell what waiting mends from what it does not", () => {
    for (const code of ["chain_unavailable", "database_unavailable", "transaction_queue_full", "chain_mismatch"])
      expect(isPassing(new AssayError(code, "x"))).toBe(true);
    expect(isPassing(new AssayError("transaction_job_conflict", "x"))).toBe(false);
    expect(isPassing(new TypeError("x"))).toBe(false);
  });

  it("end every call when the other end goes, and bound how many wait", async () => {
    const link = createLink({ post: () => undefined, onMessage: () => undefined }, {}, {});
    const calls = Array.from({ length: MAX_CALLS }, () => link.call("never"));
    for (const call_ of calls) call_.catch(() => undefined);
    await expect(link.call("one more")).rejects.toMatchObject({ code: "settler_gone" });
    link.sever();
    await expect(calls[0]).rejects.toMatchObject({ code: "settler_gone" });
    await expect(link.call("after")).rejects.toMatchObject({ code: "settler_gone" });
  });

  it("carry errors with their codes", async () => {
    const ends: ((message: unknown) => void)[] = [];
    const wire = (to: number) => ({
      post: (message: unknown) => queueMicrotask(() => ends[to]?.(structuredClone(message))),
      onMessage: (listener: (message: unknown) => void) => void (ends[1 - to] = listener),
    });
    const here = createLink(wire(1), {}, {});
    createLink(
      wire(0),
      {
        add: ([a, b]: readonly [number, number]) => Promise.resolve(a + b),
        fail: () => Promise.reject(new AssayError("refund_failed", "no")),
      },
      {},
    );
    expect(await here.call("add", [1, 2])).toBe(3);
    await expect(here.call("fail")).rejects.toMatchObject({ code: "refund_failed", message: "no" });
    await expect(here.call("missing")).rejects.toThrow(/no method/);
  });
});
