import { randomBytes } from "node:crypto";
import { bytesToHex, isAssayError } from "@assay/core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { createChain, createSender, evmSigner, memoryJournal } from "../index.ts";
import type { Sender, SenderEvent, SenderOptions, TxJournal, TxState } from "../index.ts";
import { startFaultProxy } from "../testing/fault-proxy.ts";
import type { FaultProxy } from "../testing/fault-proxy.ts";
import { startBareNode } from "../testing/node.ts";
import type { BareNode } from "../testing/node.ts";
import { rpcError } from "../rpc/fault.ts";
import { refusalOf } from "./refusal.ts";
import { MAX_JOB_ID } from "./job.ts";
import { MAX_ATTEMPTS, MAX_CANCELS, MAX_OPEN, MAX_REMEMBERED, MAX_REVIVED } from "./limits.ts";
import { readTransaction, signTransaction } from "./transaction.ts";

const code = (value: string): object => expect.objectContaining({ code: value }) as object;
/** Reverts with one word of data; and a contract that counts its calls in slot 0. */
const REVERTER = "0x60aa5f5260205ffd";
const COUNTER = "0x5f54600101805f555f5260205ff3";
const reverter = "0x00000000000000000000000000000000000000f1";
const counter = "0x00000000000000000000000000000000000000f2";
const call = Uint8Array.of(1);

let node: BareNode;
let proxy: FaultProxy;
let signer: ReturnType<typeof evmSigner>;
let events: SenderEvent[];
const senders = new Set<Sender>();

beforeAll(async () => {
  node = await startBareNode();
  proxy = await startFaultProxy(node.url);
  await node.rpc.request("anvil_setCode", [reverter, REVERTER]);
  await node.rpc.request("anvil_setCode", [counter, COUNTER]);
});
afterAll(async () => {
  await proxy.close();
  await node.close();
});
beforeEach(async () => {
  signer = evmSigner(randomBytes(32));
  events = [];
  await fund(signer.address);
});
afterEach(async () => {
  proxy.fault = () => undefined;
  for (const sender of senders) await sender.close();
  senders.clear();
  await node.rpc.request("anvil_dropAllTransactions", []);
  await node.rpc.request("evm_setAutomine", [true]);
});

async function fund(account: string): Promise<void> {
  await node.rpc.request("anvil_setBalance", [account, "0xde0b6b3a7640000"]);
}

function open(journal: TxJournal, options: SenderOptions = {}, breakable = true): Sender {
  const sender = createSender({
    chain: createChain({ url: proxy.url, chainId: 31337, timeoutMs: 10_000 }),
    signer,
    journal,
    options: { pollMs: 10, resendMs: 50, dropMs: 50, onEvent: (event) => events.push(event), ...options },
  });
  if (breakable) senders.add(sender);
  return sender;
}

const mine = (): Promise<unknown> => node.rpc.request("evm_mine", []);
const hold = (): Promise<unknown> => node.rpc.request("evm_setAutomine", [false]);
const count = async (): Promise<number> =>
  Number(await node.rpc.request("eth_getStorageAt", [counter, `0x${"0".repeat(64)}`, "latest"]));
const nonceOf = async (): Promise<number> =>
  Number(await node.rpc.request("eth_getTransactionCount", [signer.address, "latest"]));
const states = (journal: ReturnType<typeof memoryJournal>): readonly TxState[] =>
  journal.records().map(({ state }) => state);

/** A process that ends without another word: its calls reach nobody any more, and its journal stays as it is. */
async function kill(sender: Sender): Promise<void> {
  await sender.close();
  senders.delete(sender);
}

describe("a job", () => {
  it("is written down before it is sent, mined, and final with its receipt and logs", async () => {
    const journal = memoryJournal();
    const before = await count();
    const seen: number[] = [];
    proxy.fault = ({ method }) => {
      if (method === "eth_sendRawTransaction") seen.push(journal.records().length);
      return undefined;
    };
    const sender = open(journal);
    const handle = await sender.submit({ jobId: "a", to: counter, data: call });
    expect(handle).toMatchObject({ jobId: "a", nonce: 0 });
    const outcome = await sender.wait("a");
    expect(outcome).toMatchObject({ state: "final", nonce: 0, hash: handle.hash, receipt: { ok: true, to: counter } });
    expect(seen).toEqual([1]);
    expect(await count()).toBe(before + 1);
    expect(journal.records()).toMatchObject([{ state: "final", attempt: 0, hash: handle.hash }]);
    expect(journal.records()[0]!.gasUsed).toBeGreaterThan(21_000n);
    expect(await sender.outcome("a")).toEqual(outcome);
    expect(sender.status()).toEqual({ open: 0, nextNonce: 1 });
  });

  it("is done once, however often and at whatever time it is submitted", async () => {
    const journal = memoryJournal();
    const before = await count();
    const sender = open(journal);
    const job = { jobId: "a", to: counter, data: call } as const;
    const handles = await Promise.all(Array.from({ length: 8 }, () => sender.submit(job)));
    expect(new Set(handles.map(({ hash }) => hash)).size).toBe(1);
    await sender.wait("a");
    expect(await sender.submit(job)).toEqual(handles[0]);
    await kill(sender);
    const next = open(journal);
    expect(await next.submit(job)).toEqual(handles[0]);
    expect(await next.wait("a")).toMatchObject({ state: "final" });
    expect(await count()).toBe(before + 1);
    await expect(next.submit({ ...job, data: Uint8Array.of(2) })).rejects.toThrow(code("transaction_job_conflict"));
  });

  it("has numbers without gaps when many are submitted at once", async () => {
    const journal = memoryJournal();
    const before = await count();
    const sender = open(journal);
    const ids = Array.from({ length: 24 }, (_, i) => `job-${i}`);
    const handles = await Promise.all(
      ids.map((jobId) => sender.submit({ jobId, to: counter, data: call, gasLimit: 100_000n })),
    );
    expect(handles.map(({ nonce }) => nonce).sort((a, b) => a - b)).toEqual(ids.map((_, i) => i));
    for (const outcome of await Promise.all(ids.map((id) => sender.wait(id))))
      expect(outcome).toMatchObject({ state: "final" });
    expect(await count()).toBe(before + 24);
  });

  it("says that it reverted, when that was not rehearsed", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    await sender.submit({ jobId: "r", to: reverter, data: call, gasLimit: 60_000n });
    expect(await sender.wait("r")).toMatchObject({ state: "reverted", receipt: { ok: false } });
    expect(states(journal)).toEqual(["reverted"]);
    await kill(sender);
    expect(await open(journal).outcome("r")).toMatchObject({ state: "reverted", receipt: { ok: false } });
  });

  it("of another id is not known", async () => {
    const sender = open(memoryJournal());
    expect(await sender.outcome("nothing")).toBeUndefined();
    await expect(sender.wait("nothing")).rejects.toThrow(code("transaction_unknown"));
  });
});

describe("what is refused before anything is written down", () => {
  it("a transaction that would revert, with the node's reason and data", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    const failure = await sender.submit({ jobId: "r", to: reverter, data: call }).catch((error: unknown) => error);
    expect(failure).toMatchObject(code("transaction_reverts"));
    expect(journal.records()).toEqual([]);
    expect(await sender.outcome("r")).toBeUndefined();
  });

  it("one that nobody can pay for, one that is too large, and what is no job", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    await expect(sender.submit({ jobId: "v", to: counter, data: call, value: 10n ** 30n })).rejects.toThrow(
      code("transaction_unfunded"),
    );
    await expect(sender.submit({ jobId: "g", to: counter, data: call, gasLimit: 2n ** 24n + 1n })).rejects.toThrow(
      code("transaction_too_large"),
    );
    for (const bad of [
      { jobId: "", to: counter, data: call },
      { jobId: "x".repeat(MAX_JOB_ID + 1), to: counter, data: call },
      { jobId: "gap:1", to: counter, data: call },
      { jobId: "x", to: "0x12", data: call },
      { jobId: "x", to: counter, data: call, value: -1n },
      { jobId: "x", to: signer.address, data: new Uint8Array() },
      // 21,000 for the transaction and at least 40 for each byte of data that is not zero (EIP-7623).
      { jobId: "x", to: counter, data: call, gasLimit: 21_039n },
      { jobId: "x", to: counter, data: new Uint8Array(1), gasLimit: 21_009n },
    ] as const)
      await expect(sender.submit(bad)).rejects.toThrow(code("transaction_invalid"));
    expect(journal.records()).toEqual([]);
  });

  it("one at a price above the limit, and one more than a node keeps", async () => {
    const journal = memoryJournal();
    await expect(open(journal, { maxFeePerGas: 1n }).submit({ jobId: "f", to: counter, data: call })).rejects.toThrow(
      code("transaction_fee_above_limit"),
    );
    await hold();
    const sender = open(journal);
    const job = (i: number) => ({ jobId: `j${i}`, to: counter, data: call, gasLimit: 60_000n }) as const;
    for (let i = 0; i < MAX_OPEN; i++) await sender.submit(job(i));
    await expect(sender.submit(job(MAX_OPEN))).rejects.toThrow(code("transaction_queue_full"));
    expect(journal.records().length).toBe(MAX_OPEN);
  });

  it("anything while the node is away, and after the end", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    proxy.fault = () => ({ kind: "cut" });
    await expect(sender.submit({ jobId: "a", to: counter, data: call })).rejects.toThrow(code("chain_unavailable"));
    expect(journal.records()).toEqual([]);
    await kill(sender);
    await expect(sender.submit({ jobId: "a", to: counter, data: call })).rejects.toThrow(code("sender_closed"));
  });
});

describe("what goes wrong on the way", () => {
  it("a lost answer to the sending: sent again, known already, done once", async () => {
    const journal = memoryJournal();
    const before = await count();
    let cuts = 2;
    proxy.fault = ({ method }) =>
      method === "eth_sendRawTransaction" && cuts-- > 0 ? { kind: "cut", after: true } : undefined;
    await hold();
    const sender = open(journal);
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(cuts).toBeLessThan(0), { timeout: 60_000 });
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent"]), { timeout: 60_000 });
    await mine();
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
    expect(await count()).toBe(before + 1);
  });

  it("a node that goes away and comes back", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    await sender.start();
    await hold();
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent"]), { timeout: 60_000 });
    proxy.fault = () => ({ kind: "cut" });
    await vi.waitFor(() => expect(events.some(({ type }) => type === "tx_poll_failed")).toBe(true), {
      timeout: 60_000,
    });
    await mine();
    proxy.fault = () => undefined;
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
  });

  it("a price that is too low: raised by an eighth at least until it is mined, all under one nonce", async () => {
    const journal = memoryJournal();
    const before = await count();
    await hold();
    const sender = open(journal, { stuckMs: 30 });
    const { nonce } = await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(journal.records().length).toBeGreaterThan(3), { timeout: 60_000 });
    await mine();
    const outcome = await sender.wait("a");
    expect(outcome.state).toBe("final");
    const records = journal.records();
    expect(new Set(records.map((record) => record.nonce))).toEqual(new Set([nonce]));
    for (let i = 1; i < records.length; i++) {
      const [a, b] = [readTransaction(records[i - 1]!.raw), readTransaction(records[i]!.raw)];
      expect(b.maxFee * 8n).toBeGreaterThanOrEqual(a.maxFee * 9n);
      expect(b.tip * 8n).toBeGreaterThanOrEqual(a.tip * 9n);
      expect(b).toMatchObject({ to: a.to, data: a.data, gas: a.gas });
    }
    expect(states(journal).filter((state) => state === "final").length).toBe(1);
    expect(states(journal).filter((state) => state === "replaced").length).toBe(records.length - 1);
    expect(await count()).toBe(before + 1);
  });

  it("a price that may not be raised further: said, and waited out", async () => {
    const journal = memoryJournal();
    await hold();
    const sender = open(journal, { stuckMs: 20, maxFeePerGas: 4_000_000_000n });
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(
      () => expect(events).toContainEqual(expect.objectContaining({ type: "tx_problem", problem: "fee_above_limit" })),
      { timeout: 10_000 },
    );
    expect(journal.records().length).toBeLessThan(MAX_ATTEMPTS);
    expect(await sender.outcome("a")).toMatchObject({ state: "pending" });
    await mine();
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
  });

  it("a node that finds the replacement too cheap: raised at once", async () => {
    const journal = memoryJournal();
    let refusals = 2;
    proxy.fault = ({ method }) =>
      method === "eth_sendRawTransaction" && refusals-- > 0
        ? { kind: "error", code: -32000, message: "replacement transaction underpriced" }
        : undefined;
    const sender = open(journal);
    await sender.submit({ jobId: "a", to: counter, data: call });
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
    expect(journal.records().length).toBe(3);
  });

  it("an account that ran dry: kept, said, and sent when it is funded", async () => {
    const journal = memoryJournal();
    const sender = open(journal);
    await sender.start();
    await node.rpc.request("anvil_setBalance", [signer.address, "0x1"]);
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(
      async () => expect(await sender.outcome("a")).toMatchObject({ state: "pending", problem: "insufficient_funds" }),
      { timeout: 10_000 },
    );
    await fund(signer.address);
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
    expect(journal.records().length).toBe(1);
  });

  it("bytes that no node takes: the nonce is used up, the job dropped, and those after it go on", async () => {
    const journal = memoryJournal();
    const sender = open(journal, { maxGas: 1n << 26n });
    await sender.submit({ jobId: "bad", to: counter, data: call, gasLimit: 40_000_000n });
    await sender.submit({ jobId: "good", to: counter, data: call, gasLimit: 60_000n });
    expect(await sender.wait("bad")).toEqual({ state: "dropped", nonce: 0 });
    expect(await sender.wait("good")).toMatchObject({ state: "final", nonce: 1 });
    await kill(sender);
    expect(await open(journal).outcome("bad")).toEqual({ state: "dropped", nonce: 0 });
  });

  it("a transaction that is taken and never mined, at whatever price: given up, so that others go on", async () => {
    const journal = memoryJournal();
    const before = await count();
    await hold();
    const sender = open(journal, { stuckMs: 1 });
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(journal.records().length).toBeGreaterThan(MAX_ATTEMPTS), { timeout: 60_000 });
    await mine();
    expect(await sender.wait("a")).toEqual({ state: "dropped", nonce: 0 });
    expect(await count()).toBe(before);
    expect(journal.records().length).toBeLessThanOrEqual(MAX_ATTEMPTS + MAX_CANCELS);
  });

  it("an answer of the journal that is lost when a nonce was signed often is no end of it", async () => {
    const journal = memoryJournal();
    await hold();
    let lost = 0;
    const sender = open(
      {
        ...journal,
        async append(record) {
          await journal.append(record);
          if (record.attempt > MAX_ATTEMPTS && lost++ === 0) throw new Error("connection lost");
        },
      },
      // What others offered before does not count here.
      { stuckMs: 1, maxFeePerGas: 10n ** 15n },
    );
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(journal.records().length).toBeGreaterThan(MAX_ATTEMPTS + 3), { timeout: 60_000 });
    expect(lost).toBeGreaterThan(0);
    await mine();
    expect(await sender.wait("a")).toEqual({ state: "dropped", nonce: 0 });
  });

  it("somebody else uses the key: the job whose nonce was taken is dropped, not doubled", async () => {
    const journal = memoryJournal();
    const before = await count();
    const sender = open(journal);
    await sender.start();
    const draft = { chainId: 31337, nonce: 0, to: reverter, value: 0n, gas: 60_000n, tip: 1n } as const;
    const other = await signTransaction(signer, { ...draft, data: call, maxFee: 5_000_000_000n });
    await node.rpc.request("eth_sendRawTransaction", [`0x${bytesToHex(other.raw)}`]);
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    expect(await sender.wait("a")).toEqual({ state: "dropped", nonce: 0 });
    expect(states(journal)).toEqual(["dropped"]);
    expect(await count()).toBe(before);
    await sender.submit({ jobId: "b", to: counter, data: call });
    expect(await sender.wait("b")).toMatchObject({ state: "final", nonce: 1 });
  });

  it("a cancelled job: whichever is mined first decides, and only one of them is", async () => {
    const journal = memoryJournal();
    const before = await count();
    await hold();
    const sender = open(journal);
    await sender.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent"]), { timeout: 60_000 });
    await sender.cancel("a");
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent", "sent"]), { timeout: 60_000 });
    await mine();
    expect(await sender.wait("a")).toEqual({ state: "dropped", nonce: 0 });
    expect(states(journal)).toEqual(["dropped", "final"]);
    expect(await count()).toBe(before);
  });
});

describe("after a kill", () => {
  it("what was written down and not sent is sent, by whoever comes next", async () => {
    const journal = memoryJournal();
    const before = await count();
    proxy.fault = ({ method }) => (method === "eth_sendRawTransaction" ? { kind: "cut" } : undefined);
    const first = open(journal);
    const job = { jobId: "a", to: counter, data: call, gasLimit: 60_000n } as const;
    await first.submit(job);
    await kill(first);
    expect(states(journal)).toEqual(["signed"]);
    proxy.fault = () => undefined;
    const second = open(journal);
    await second.start();
    expect(await second.wait("a")).toMatchObject({ state: "final", nonce: 0 });
    await second.submit({ ...job, jobId: "b" });
    expect(await second.wait("b")).toMatchObject({ state: "final", nonce: 1 });
    expect(await count()).toBe(before + 2);
  });

  it("what was mined meanwhile is found", async () => {
    const journal = memoryJournal();
    await hold();
    const first = open(journal);
    await first.submit({ jobId: "a", to: counter, data: call, gasLimit: 60_000n });
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent"]), { timeout: 60_000 });
    await kill(first);
    await mine();
    const second = open(journal);
    await second.start();
    expect(await second.wait("a")).toMatchObject({ state: "final" });
    expect(second.status().nextNonce).toBe(1);
  });

  it("what the database wrote after its process was dead and its successor had begun is sent all the same", async () => {
    const journal = memoryJournal();
    const before = await count();
    const job = { jobId: "a", to: counter, data: call, gasLimit: 60_000n } as const;
    const written: Parameters<TxJournal["append"]>[0][] = [];
    const dying = open({ ...journal, append: (record) => Promise.resolve(void written.push(record)) });
    proxy.fault = ({ method }) => (method === "eth_sendRawTransaction" ? { kind: "cut" } : undefined);
    await dying.submit(job);
    await kill(dying);
    proxy.fault = () => undefined;
    const next = open(journal);
    await next.start();
    expect(await next.outcome("a")).toBeUndefined();
    for (const record of written) await journal.append(record);
    // Whoever only asks after it has it sent; whoever submits it again does not send it a second time.
    expect(await next.outcome("a")).toMatchObject({ state: "pending" });
    expect(await next.wait("a")).toMatchObject({ state: "final", nonce: 0 });
    expect(await next.submit(job)).toMatchObject({ nonce: 0 });
    expect(await count()).toBe(before + 1);
  });

  it("and what it wrote between a job's look and its turn is not numbered twice", async () => {
    const journal = memoryJournal();
    const before = await count();
    const job = (jobId: string) => ({ jobId, to: counter, data: call, gasLimit: 60_000n }) as const;
    const written: Parameters<TxJournal["append"]>[0][] = [];
    const dying = open({ ...journal, append: (record) => Promise.resolve(void written.push(record)) });
    proxy.fault = ({ method }) => (method === "eth_sendRawTransaction" ? { kind: "cut" } : undefined);
    await dying.submit(job("a"));
    await kill(dying);
    proxy.fault = () => undefined;
    let submittedA: Promise<unknown> = Promise.resolve();
    let looked = (): void => undefined;
    const lookedForA = new Promise<void>((resolve) => (looked = resolve));
    const next = open({
      ...journal,
      async ofJob(network, sender, jobId) {
        const rows = await journal.ofJob(network, sender, jobId);
        if (jobId === "a") looked();
        return rows;
      },
      async append(record) {
        if (record.jobId === "b" && journal.records().length === 0) {
          submittedA = next.submit(job("a"));
          await lookedForA;
          for (const row of written) await journal.append(row);
        }
        await journal.append(record);
      },
    });
    await expect(next.submit(job("b"))).rejects.toThrow(code("transaction_journal_conflict"));
    await next.submit(job("b"));
    await submittedA;
    expect(await next.wait("a")).toMatchObject({ state: "final", nonce: 0 });
    expect(await next.wait("b")).toMatchObject({ state: "final", nonce: 1 });
    expect(await count()).toBe(before + 2);
    expect(journal.records().map(({ jobId }) => jobId)).toEqual(["a", "b"]);
  });

  it("a journal whose answer was lost is believed, whichever way it went", async () => {
    for (const wrote of [true, false]) {
      const journal = memoryJournal();
      let fail = true;
      const flaky: TxJournal = {
        ...journal,
        async append(record) {
          if (fail) {
            fail = false;
            if (wrote) await journal.append(record);
            throw new Error("connection lost");
          }
          await journal.append(record);
        },
      };
      signer = evmSigner(randomBytes(32));
      await fund(signer.address);
      const sender = open(flaky);
      const job = { jobId: "a", to: counter, data: call, gasLimit: 60_000n } as const;
      const first = await sender.submit(job).catch((error: unknown) => error);
      if (!wrote) expect(first).toBeInstanceOf(Error);
      await sender.submit(job);
      await sender.submit({ ...job, jobId: "b" });
      expect(await sender.wait("a")).toMatchObject({ state: "final", nonce: 0 });
      expect(await sender.wait("b")).toMatchObject({ state: "final", nonce: 1 });
      await kill(sender);
    }
  });

  it("whoever comes next does not get a number that may be taken, when nobody can say whether it is", async () => {
    const journal = memoryJournal();
    let away = true;
    const flaky: TxJournal = {
      ...journal,
      async append(record) {
        await journal.append(record);
        if (away) throw new Error("connection lost");
      },
      async from(...asked) {
        if (!away) return journal.from(...asked);
        away = false;
        throw new Error("connection lost");
      },
    };
    const sender = open(flaky);
    const job = { to: counter, data: call, gasLimit: 60_000n } as const;
    const [first, second] = await Promise.allSettled([
      sender.submit({ ...job, jobId: "a" }),
      sender.submit({ ...job, jobId: "b" }),
    ]);
    expect([first.status, second.status].toSorted()).toEqual(["fulfilled", "rejected"]);
    for (const jobId of ["a", "b"]) await sender.submit({ ...job, jobId });
    for (const jobId of ["a", "b"]) expect(await sender.wait(jobId)).toMatchObject({ state: "final" });
    expect(journal.records().map(({ nonce }) => nonce)).toEqual([0, 1]);
  });

  it("remembers the outcomes of its latest jobs, and asks for those of others", async () => {
    const journal = memoryJournal();
    let asked = 0;
    const sender = open({
      ...journal,
      ofJob(...of) {
        asked++;
        return journal.ofJob(...of);
      },
    });
    const job = { to: counter, data: call, gasLimit: 60_000n } as const;
    const ids = Array.from({ length: MAX_REMEMBERED + 1 }, (_, i) => `job ${i}`);
    for (const jobId of ids) {
      await sender.submit({ ...job, jobId });
      await sender.wait(jobId);
    }
    asked = 0;
    expect(await sender.outcome(ids.at(-1) ?? "")).toMatchObject({ state: "final" });
    expect(asked).toBe(0);
    expect(await sender.outcome(ids[0] ?? "")).toMatchObject({ state: "final" });
    expect(asked).toBe(1);
  });

  it("a nonce that nothing was written down for is used up, so that those above it can be mined", async () => {
    const journal = memoryJournal();
    await hold();
    const first = open(journal);
    const job = { to: counter, data: call, gasLimit: 60_000n } as const;
    await first.submit({ ...job, jobId: "a" });
    await first.submit({ ...job, jobId: "b" });
    await vi.waitFor(() => expect(states(journal)).toEqual(["sent", "sent"]), { timeout: 60_000 });
    await kill(first);
    await node.rpc.request("anvil_dropAllTransactions", []);
    await node.rpc.request("evm_setAutomine", [true]);
    // A journal restored without its first record.
    const torn = memoryJournal();
    await torn.append(journal.records()[1]!);
    const second = open(torn);
    await second.start();
    expect(await second.wait("b")).toMatchObject({ state: "final", nonce: 1 });
    expect(events).toContainEqual({ type: "tx_gap_filled", nonce: 0 });
  });
});

describe("a chain that goes back", () => {
  it("takes a mined transaction out of its block: sent again, done once", async () => {
    const journal = memoryJournal();
    const before = await count();
    const sender = open(journal, { confirmations: 3 });
    await sender.submit({ jobId: "a", to: counter, data: call });
    expect(await sender.wait("a", { until: "mined" })).toMatchObject({ state: "mined", receipt: { ok: true } });
    expect(states(journal)).toEqual(["mined"]);
    await hold();
    await node.rpc.request("anvil_rollback", [1]);
    await vi.waitFor(() => expect(events.some(({ type }) => type === "tx_reorganised")).toBe(true), {
      timeout: 60_000,
    });
    expect(await count()).toBe(before);
    await mine();
    expect(await sender.wait("a", { until: "mined" })).toMatchObject({ state: "mined" });
    await mine();
    await mine();
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
    expect(await count()).toBe(before + 1);
  });

  it("takes back what was final already: sent again when somebody looks, and after a restart", async () => {
    const journal = memoryJournal();
    const before = await count();
    const first = open(journal);
    await first.submit({ jobId: "a", to: counter, data: call });
    await first.wait("a");
    await node.rpc.request("anvil_rollback", [1]);
    expect(await count()).toBe(before);
    // With something else under way the poller sees it by itself.
    await first.submit({ jobId: "b", to: counter, data: call, gasLimit: 60_000n });
    expect(await first.wait("b")).toMatchObject({ state: "final", nonce: 1 });
    expect(await first.wait("a")).toMatchObject({ state: "final", nonce: 0 });
    expect(await count()).toBe(before + 2);
    await kill(first);
    await node.rpc.request("anvil_rollback", [2]);
    // Both may have been in one block; then the account's ether went as well.
    await fund(signer.address);
    const second = open(journal);
    await second.start();
    await vi.waitFor(async () => expect(await nonceOf()).toBe(2), { timeout: 60_000 });
    expect(await second.wait("b")).toMatchObject({ state: "final", nonce: 1 });
  });

  it("is not followed to another chain: nothing of the old one is repeated there", async () => {
    const journal = memoryJournal();
    const first = open(journal);
    await first.submit({ jobId: "a", to: counter, data: call });
    await first.wait("a");
    await kill(first);
    const [record] = journal.records();
    await journal.append({ ...record!, nonce: (await nonceOf()) + MAX_REVIVED, jobId: "far" });
    const second = open(journal);
    await expect(second.start()).rejects.toThrow(code("chain_rewound"));
    await expect(second.submit({ jobId: "b", to: counter, data: call })).rejects.toThrow(code("chain_rewound"));
  });
});

describe("a node that lies", () => {
  it("about receipts, blocks and hashes is not believed", async () => {
    const journal = memoryJournal();
    const sender = open(journal, { confirmations: 2 });
    let lie: unknown = { transactionHash: `0x${"11".repeat(32)}` };
    proxy.fault = ({ method }) =>
      method === "eth_getTransactionReceipt" && lie !== undefined ? { kind: "result", result: lie } : undefined;
    await sender.submit({ jobId: "a", to: counter, data: call });
    await vi.waitFor(() => expect(events.some(({ type }) => type === "tx_poll_failed")).toBe(true), {
      timeout: 60_000,
    });
    expect((await sender.outcome("a"))?.state).toBe("pending");
    lie = undefined;
    expect(await sender.wait("a", { until: "mined" })).toMatchObject({ state: "mined" });
    // The receipt's block is not the one at that height: not final, however deep.
    proxy.fault = ({ method, params }) =>
      method === "eth_getBlockByNumber" && params[0] !== "latest" ? { kind: "result", result: null } : undefined;
    await mine();
    await mine();
    const polls = proxy.calls.length;
    await vi.waitFor(() => expect(proxy.calls.length).toBeGreaterThan(polls + 12), { timeout: 60_000 });
    expect((await sender.outcome("a"))?.state).toBe("mined");
    proxy.fault = () => undefined;
    expect(await sender.wait("a")).toMatchObject({ state: "final" });
  });
});

describe("the words of nodes", () => {
  it("are told apart", () => {
    const words: readonly (readonly [string, string])[] = [
      ["already known", "known"],
      ["transaction already imported", "known"],
      ["ALREADY_EXISTS: already in mempool", "known"],
      ["nonce too low: next nonce 5, tx nonce 4", "nonce_used"],
      ["Nonce has already been used", "nonce_used"],
      ["replacement transaction underpriced", "underpriced"],
      ["transaction underpriced: tip needed 1, tip permitted 0", "underpriced"],
      ["max fee per gas less than block base fee", "underpriced"],
      ["FeeCap lower than base fee", "underpriced"],
      ["insufficient funds for gas * price + value", "unfunded"],
      ["Insufficient funds for gas * price + value", "unfunded"],
      ["intrinsic gas too low", "invalid"],
      ["exceeds block gas limit", "invalid"],
      ["invalid sender", "invalid"],
      ["invalid chain id for signer", "invalid"],
      ["tx pool is full", "unknown"],
      ["internal error", "unknown"],
    ];
    for (const [message, meaning] of words) {
      let error: unknown;
      try {
        throw rpcError("eth_sendRawTransaction", { code: -32000, message });
      } catch (caught) {
        error = caught;
      }
      expect([message, isAssayError(error) && refusalOf(error)]).toEqual([message, meaning]);
    }
    expect(refusalOf(new Error("nonce too low"))).toBeUndefined();
  });
});
