import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { TxRecord } from "../sender/types.ts";
import { MAX_JOURNAL_BYTES, openFileJournal } from "./file-journal.ts";

const network = "eip155:7";
const sender = `0x${"11".repeat(20)}` as const;
const record = (nonce: number, changes: Partial<TxRecord> = {}): TxRecord => ({
  jobId: `job ${nonce}`,
  attempt: 0,
  network,
  sender,
  nonce,
  hash: `0x${"22".repeat(32)}`,
  raw: Uint8Array.of(2, nonce),
  maxFee: 7n,
  state: "signed",
  createdAtMs: 1,
  updatedAtMs: 1,
  ...changes,
});
const code = (value: string): object => expect.objectContaining({ code: value }) as object;

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "assay-journal-"));
  path = join(directory, "journal.jsonl");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("a journal in a file", () => {
  it("has after a restart what was written down", async () => {
    const first = await openFileJournal(path);
    await first.append(record(0));
    await first.append(record(1, { attempt: 3 }));
    const change = {
      state: "final",
      updatedAtMs: 2,
      blockNumber: 9,
      blockHash: `0x${"33".repeat(32)}`,
      gasUsed: 5n,
    } as const;
    await first.change(record(0), change);
    await first.close();

    const second = await openFileJournal(path);
    expect(second.size()).toBe(2);
    expect(await second.ofJob(network, sender, "job 0")).toEqual([{ ...record(0), ...change }]);
    expect(await second.open(network, sender)).toEqual([expect.objectContaining({ nonce: 1, attempt: 3 })]);
    expect(await second.lastNonce(network, sender)).toBe(1);
    await expect(second.append(record(0))).rejects.toEqual(code("transaction_journal_conflict"));
    // What went back into the open has no block any more.
    await second.change(record(0), {
      state: "sent",
      updatedAtMs: 3,
      blockNumber: undefined,
      blockHash: undefined,
      gasUsed: undefined,
    });
    await second.close();
    const third = await openFileJournal(path);
    expect((await third.ofJob(network, sender, "job 0"))[0]).toMatchObject({ state: "sent", blockNumber: undefined });
    await third.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it("forgets a line that a crash cut off, wherever it was cut", async () => {
    const first = await openFileJournal(path);
    await first.append(record(0));
    const whole = statSync(path).size;
    await first.append(record(1));
    await first.close();
    const full = readFileSync(path);
    for (const size of [full.length - 1, whole + 1, whole]) {
      writeFileSync(path, full);
      truncateSync(path, size);
      const again = await openFileJournal(path);
      expect(await again.lastNonce(network, sender)).toBe(0);
      await again.append(record(1));
      await again.close();
      expect(readFileSync(path)).toEqual(full);
    }
  });

  it.each([
    ["no JSON", "{]"],
    ["no object", "[]"],
    ["nothing known", "{}"],
    [
      "an unknown state",
      JSON.stringify({ change: { network, sender, nonce: 0, attempt: 0, state: "lost", updatedAtMs: 1 } }),
    ],
    [
      "a nonce below zero",
      JSON.stringify({ change: { network, sender, nonce: -1, attempt: 0, state: "sent", updatedAtMs: 1 } }),
    ],
    [
      "no account",
      JSON.stringify({ change: { network, sender: "0x1", nonce: 0, attempt: 0, state: "sent", updatedAtMs: 1 } }),
    ],
    [
      "no transaction",
      JSON.stringify({ append: { network, sender, nonce: 0, attempt: 0, state: "sent", updatedAtMs: 1 } }),
    ],
  ])("with %s in it is refused", async (_, line) => {
    const first = await openFileJournal(path);
    await first.append(record(0));
    await first.close();
    appendFileSync(path, `${line}\n`);
    await expect(openFileJournal(path)).rejects.toEqual(code("transaction_record_invalid"));
  });

  it("that is too large is refused", async () => {
    writeFileSync(path, "");
    truncateSync(path, MAX_JOURNAL_BYTES + 1);
    await expect(openFileJournal(path)).rejects.toEqual(code("transaction_record_invalid"));
  });
});
