import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Deployments } from "@assay/contracts";
import { nodeSuite } from "@assay/driver-crypto";
import { createClient } from "@assay/sdk";
import type { Client, PaymentPage } from "@assay/sdk";
import type { Address } from "@assay/x402";
import { afterAll, expect, test } from "vitest";
import { judgePayments } from "./judge-payments.ts";
import type { PaidRecord } from "./paid-records.ts";
import { chainAt, startPayers } from "./payers.ts";
import type { PaidCall, PayerKind, Payers } from "./payers.ts";
import { isAlive, processesOf, signalAll, startServerProcess } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";
import { benchModel, eventually, operatorSigner } from "./support.ts";

const ROUNDS = Number(process.env["ASSAY_CRASH_ROUNDS"] ?? 3);
const MODEL = "crash/tiny";
const KINDS: readonly PayerKind[] = ["exact", "upto", "voucher"];
const PAYERS = 12;
/** Answers of a round before the kill; the moment is drawn from these and a moment more. */
const MAX_ANSWERS = 60;
const SETTLED_WITHIN_MS = 60_000;
/** Groups small and soon, so that kills meet transactions that are signed, sent and mined. */
const SETTLING = {
  items: 10,
  afterMs: 150,
  claimAfterMs: 400,
  tickMs: 50,
  pollMs: 50,
  anchorEveryMs: 1_000,
  payoutEveryMs: 0,
};

const home = realpathSync(mkdtempSync(join(tmpdir(), "assay-crash-pay-")));
let current: ServerProcess | undefined;
let payers: Payers | undefined;

afterAll(async () => {
  await payers?.stop();
  signalAll(processesOf(home, current?.pid), "SIGKILL");
  await current?.gone;
  await eventually("all processes gone", () => processesOf(home).length === 0);
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
});

const below = (n: number): number => Math.floor(Math.random() * n);

async function kill(server: ServerProcess, everything: boolean): Promise<void> {
  const all = processesOf(home, server.pid);
  const victims = everything ? all : [server.pid];
  signalAll(victims, "SIGSTOP");
  signalAll(victims, "SIGKILL");
  await server.gone;
  if (everything) await eventually("every process gone", () => !victims.some(isAlive));
}

async function countIn(client: Client, state: string): Promise<number> {
  const page = (await client.admin({ method: "GET", path: `/v1/payments?state=${state}&limit=1000` })) as PaymentPage;
  return page.payments.length;
}

test(`${ROUNDS} rounds of paying, SIGKILL and restart: each receipt is settled once, each answer is there`, async () => {
  const boot = async (port?: number): Promise<{ readonly server: ServerProcess; readonly port: number }> => {
    const server = startServerProcess(home, { settling: SETTLING, ...(port === undefined ? {} : { port }) });
    current = server;
    const { url } = await server.told("listening");
    return { server, port: Number(new URL(String(url)).port) };
  };
  let { server, port } = await boot();
  const money = await server.told("money");
  const deployments = money["deployments"] as Deployments;
  const rpcUrl = String(money["rpcUrl"]);
  const url = `http://127.0.0.1:${port}`;
  const client = createClient({ url, signer: operatorSigner(home), suite: nodeSuite });
  await client.push(MODEL, benchModel("tiny-mlp", "paid"));
  await client.admin({
    method: "PUT",
    path: `/v1/prices/${encodeURIComponent(`model:${MODEL}`)}`,
    body: { asset: "USDC", perCall: "0.001", perSecond: "0.0001" },
  });

  let answers = 0;
  let reached: { readonly at: number; readonly resolve: () => void } | undefined;
  payers = await startPayers({
    url,
    rpcUrl,
    deployments,
    kinds: Array.from({ length: PAYERS }, (_, i) => KINDS[i % KINDS.length] ?? "exact"),
    lanes: 2,
    model: MODEL,
    loseEvery: 9,
    onAnswer: () => {
      if (++answers >= (reached?.at ?? Infinity)) reached?.resolve();
    },
  });
  const table: Record<string, unknown>[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const everything = round % 3 === 2;
    const before = answers;
    await new Promise<void>((resolve) => {
      reached = { at: before + 1 + below(MAX_ANSWERS), resolve };
    });
    await pause(below(400));
    await kill(server, everything);
    const atKill = answers;
    // Now and then the next start is killed too, before or while it recovers.
    const twice = round % 3 === 0;
    if (twice) {
      const boots = startServerProcess(home, { settling: SETTLING, port });
      current = boots;
      await pause(500 + below(2500));
      await kill(boots, everything);
    }
    ({ server } = await boot(port));
    await server.told("money");
    table.push({
      round,
      killed: everything ? "everything" : "server",
      answered: atKill - before,
      "start killed": twice,
    });
  }
  await payers.finish();

  await eventually(
    "everything that is due is settled",
    async () => {
      await client.admin({ method: "POST", path: "/v1/payments/settle" });
      const open = await Promise.all(["taken", "due", "settling", "failed", "dead"].map((one) => countIn(client, one)));
      return open.every((count) => count === 0);
    },
    SETTLED_WITHIN_MS,
  );
  const { file } = await server.ask("paid", "paid");
  const records = JSON.parse(readFileSync(String(file), "utf8")) as PaidRecord[];
  const { calls, parties, heard } = payers;
  const chain = chainAt(rpcUrl, deployments);
  const judged = await judgePayments({
    chain,
    deployments,
    payTo: String(money["payTo"]) as Address,
    parties,
    calls,
    records,
  });
  console.table(table);
  console.table([{ answered: judged.answered, receipts: records.length, settled: judged.settled }]);
  console.table(Object.fromEntries(heard));
  expect(judged.lost).toEqual([]);
  expect(judged.doubled).toEqual([]);
  expect(judged.answered).toBe(calls.length);
  expect(judged.settled).toBe(records.length);
  expect(records.length).toBe(calls.length);
  for (const scheme of ["exact", "upto", "batch-settlement"] as const)
    expect(records.filter((record) => record.scheme === scheme).length).toBeGreaterThan(ROUNDS);

  // Answers that were given before any of the kills too.
  const due = [...calls];
  const askers = Array.from({ length: 8 }, async () => {
    for (let call = due.pop(); call; call = due.pop()) await expectStored(url, call);
  });
  await Promise.all(askers);
  expect(calls.some(({ sent }) => [...sent.values()].some((one) => one.answers.some(({ replayed }) => replayed)))).toBe(
    true,
  );
  await server.end();
  // The watchdog of a server that was killed sleeps out its half minute, whoever took its chain over meanwhile.
  await eventually("every process gone", () => processesOf(home).length === 0, 60_000);
});

/** The payment that a call was answered for gets the same answer again, byte for byte. */
async function expectStored(url: string, { body, answered }: PaidCall): Promise<void> {
  if (!answered) return;
  const response = await fetch(`${url}/v2/models/${encodeURIComponent(MODEL)}/infer`, {
    method: "POST",
    headers: { "content-type": "application/json", "payment-signature": answered.payment.header },
    body,
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  expect([response.status, response.headers.get("assay-replayed")], bytes.toString("utf8").slice(0, 300)).toEqual([
    200,
    "true",
  ]);
  expect(response.headers.get("assay-receipt-id")).toBe(answered.receiptId);
  expect(bytes.equals(answered.body)).toBe(true);
}
