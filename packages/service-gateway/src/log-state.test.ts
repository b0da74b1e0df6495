import { nodeSuite as suite } from "@assay/driver-crypto";
import type { LogSink } from "@assay/protocol";
import { describe, expect, test } from "vitest";
import type { DecodedRecord } from "./decode-record.ts";
import { openLogState } from "./log-state.ts";

// Chains of several parties whose statements reach the log in any order, and records that come before those in front.

const EMPTY_LOG = { size: () => 0, readRange: () => Promise.resolve([]) } as unknown as LogSink;
const open = (saved?: string, store: (text: string) => void = () => undefined, log = EMPTY_LOG) =>
  openLogState({
    log,
    suite,
    load: () => Promise.resolve(saved),
    store: (text) => Promise.resolve(store(text)),
  });

const record = (
  logIndex: number,
  seq: number,
  more: Partial<DecodedRecord> = {},
  issuer = "urn:assay:node:a",
): DecodedRecord => ({
  logIndex,
  row: { executionDigest: logIndex.toString(16).padStart(64, "0") } as DecodedRecord["row"],
  heads: [{ issuer, head: { seq: seq + 1, prev: new Uint8Array(32).fill(seq) } }],
  ...more,
});

describe("a chain whose statements come in any order", () => {
  test("has gaps until they are filled", async () => {
    const state = await open();
    const chain = () => state.chain("urn:assay:node:a");
    expect(chain().missing(0, 3, 10)).toEqual({ ranges: [[0, 3]], upTo: 3 });
    for (const [i, seq] of [2, 0, 5].entries()) state.apply([record(i, seq)], i + 1);
    expect(chain().next).toBe(6);
    expect([0, 1, 2, 3, 4, 5, 6].filter((seq) => chain().has(seq))).toEqual([0, 2, 5]);
    expect(chain().missing(0, 8, 10)).toEqual({
      ranges: [
        [1, 2],
        [3, 5],
        [6, 8],
      ],
      upTo: 8,
    });
    expect(chain().missing(0, 8, 1)).toEqual({ ranges: [[1, 2]], upTo: 3 });
    expect(chain().missing(4, 6, 10)).toEqual({ ranges: [[4, 5]], upTo: 6 });
    expect(state.head("urn:assay:node:a")?.seq).toBe(6);
    for (const [i, seq] of [4, 1, 3].entries()) state.apply([record(i + 3, seq)], i + 4);
    expect(chain().missing(0, 6, 10)).toEqual({ ranges: [], upTo: 6 });
    // A later start of the chain's head is not taken back by an earlier statement.
    expect(state.head("urn:assay:node:a")).toEqual({ seq: 6, prev: new Uint8Array(32).fill(5) });
  });

  test("its gaps are kept in the file, and a file without them has none", async () => {
    let text = "";
    const state = await open(undefined, (saved) => (text = saved));
    state.apply([record(0, 3), record(1, 1)], 2);
    await state.save();
    const saved = JSON.parse(text) as { gaps?: unknown; watermark: number };
    expect(saved.gaps).toEqual({
      "urn:assay:node:a": [
        [0, 1],
        [2, 3],
      ],
    });
    // A log without records, so that only what the file says is there.
    const again = await open(JSON.stringify({ ...saved, watermark: 0 }));
    expect(again.chain("urn:assay:node:a").missing(0, 5, 10).ranges).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
    ]);
    delete saved.gaps;
    const older = await open(JSON.stringify({ ...saved, watermark: 0 }));
    expect(older.chain("urn:assay:node:a").missing(0, 5, 10).ranges).toEqual([[4, 5]]);
  });

  test("no more gaps are kept than so many: the oldest are forgotten", async () => {
    const state = await open();
    const many = Array.from({ length: 4200 }, (_, i) => record(i, 2 * i + 1));
    state.apply(many, many.length);
    const { ranges } = state.chain("urn:assay:node:a").missing(0, 8400, 10_000);
    expect(ranges).toHaveLength(4096);
    expect(state.chain("urn:assay:node:a").has(0)).toBe(true);
  });
});

describe("records that come before those in front of them", () => {
  test("are known at once, and the watermark waits", async () => {
    const state = await open();
    state.apply([record(0, 0)], 1);
    const keyset = {
      subject: "s",
      bootSeq: 1,
      keyset: new Uint8Array(32).fill(1),
      statement: new Uint8Array(32),
      logIndex: 3,
    };
    state.apply([record(3, 3, { keyset }), record(4, 4)], 5);
    state.apply([record(6, 6)], 7);
    expect(state.watermark()).toBe(1);
    expect(state.keysetIndex("01".repeat(32))).toBe(3);
    state.apply([record(1, 1), record(2, 2)], 3);
    expect(state.watermark()).toBe(5);
    // The same again changes nothing; an older keyset does not replace a newer one.
    state.apply([record(3, 3, { keyset }), record(4, 4, { keyset: { ...keyset, bootSeq: 0 } })], 5);
    expect(state.watermark()).toBe(5);
    expect(state.lastKeyset("s")?.bootSeq).toBe(1);
    state.apply([record(5, 5)], 6);
    expect(state.watermark()).toBe(7);
    expect(state.chain("urn:assay:node:a").missing(0, 7, 10).ranges).toEqual([]);
  });

  test("releases are listed once and in the log's order", async () => {
    const state = await open();
    const release = {} as NonNullable<DecodedRecord["release"]>;
    for (const index of [4, 2, 4, 9, 0, 2]) state.apply([record(index, index, { release })], index + 1);
    expect(state.releases()).toEqual([0, 2, 4, 9]);
  });
});
