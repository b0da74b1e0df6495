// 200 payers at once for a minute, each with a call under way all the time, while the server is killed three times (SIGKILL)
// and started again over the same home: what was answered, what was settled, what was lost and what was doubled. The last
// two must be zero. Calls go on with the payment that they were first sent with until they are answered.
//   npx tsx --conditions=assay-source bench/pay-chaos.ts [seconds, default 60] [payers, default 200]
import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Deployments } from "@assay/contracts";
import { nodeSuite } from "@assay/driver-crypto";
import { createClient } from "@assay/sdk";
import type { PaymentPage } from "@assay/sdk";
import type { Address } from "@assay/x402";
import { judgePayments } from "../tests/crash/judge-payments.ts";
import type { PaidRecord } from "../tests/crash/paid-records.ts";
import { chainAt, startPayers } from "../tests/crash/payers.ts";
import type { PayerKind } from "../tests/crash/payers.ts";
import { processesOf, signalAll, startServerProcess } from "../tests/crash/server-process.ts";
import type { ServerProcess } from "../tests/crash/server-process.ts";
import { benchModel, operatorSigner } from "../tests/crash/support.ts";

const [seconds = 60, payerCount = 200] = process.argv.slice(2).map(Number);
const KILLS = 3;
const MODEL = "bench/tiny";
const KINDS: readonly PayerKind[] = ["voucher", "exact", "upto"];
const SETTLING = { items: 50, afterMs: 1_000, claimAfterMs: 5_000, anchorEveryMs: 10_000 };
const SETTLED_WITHIN_MS = 300_000;

const home = realpathSync(mkdtempSync(join(tmpdir(), "assay-bench-chaos-")));
let server: ServerProcess | undefined;
const start = async (port?: number): Promise<{ readonly process: ServerProcess; readonly url: string }> => {
  server = startServerProcess(home, { settling: SETTLING, ...(port === undefined ? {} : { port }) });
  const { url } = await server.told("listening");
  return { process: server, url: String(url) };
};

try {
  const { process: first, url } = await start();
  const money = await first.told("money");
  const port = Number(new URL(url).port);
  const deployments = money["deployments"] as Deployments;
  const rpcUrl = String(money["rpcUrl"]);
  const client = createClient({ url, signer: operatorSigner(home), suite: nodeSuite });
  await client.push(MODEL, benchModel("tiny-mlp", "chaos"));
  const price = { asset: "USDC", perCall: "0.001", perSecond: "0.0001" };
  await client.admin({ method: "PUT", path: `/v1/prices/${encodeURIComponent(`model:${MODEL}`)}`, body: price });

  let answers = 0;
  /** Answers of each second. */
  const bySecond: number[] = [];
  const beganMs = performance.now();
  let startMs = beganMs;
  const payers = await startPayers({
    url,
    rpcUrl,
    deployments,
    kinds: Array.from({ length: payerCount }, (_, i) => KINDS[i % KINDS.length] ?? "exact"),
    lanes: 1,
    model: MODEL,
    loseEvery: 0,
    onAnswer: () => {
      answers++;
      const second = Math.floor((performance.now() - startMs) / 1000);
      bySecond[second] = (bySecond[second] ?? 0) + 1;
    },
  });
  startMs = performance.now();
  const givenMoneyMs = startMs - beganMs;
  let downMs = 0;
  for (let kill = 1; kill <= KILLS; kill++) {
    // Somewhere in the middle two thirds of its part of the minute.
    const atMs = ((kill - 1 + (1 + 4 * Math.random()) / 6) / KILLS) * seconds * 1000;
    await pause(Math.max(0, startMs + atMs - performance.now()));
    const doomed = server;
    const before = answers;
    const killedMs = performance.now();
    if (doomed) signalAll([doomed.pid], "SIGKILL");
    await doomed?.gone;
    const { process: next } = await start(port);
    await next.told("money");
    const backMs = performance.now() - killedMs;
    downMs += backMs;
    console.log(
      `kill ${kill} at ${((killedMs - startMs) / 1000).toFixed(1)} s, after ${before} answers; payments are taken again ${(backMs / 1000).toFixed(1)} s later`,
    );
  }
  await pause(Math.max(0, startMs + seconds * 1000 - performance.now()));
  const inTime = answers;
  const tookMs = performance.now() - startMs;
  await payers.finish();
  const settlingMs = performance.now();
  const states = ["taken", "due", "settling", "failed", "dead"];
  for (;;) {
    await client.admin({ method: "POST", path: "/v1/payments/settle" });
    const pages = await Promise.all(
      states.map((state) => client.admin({ method: "GET", path: `/v1/payments?limit=1&state=${state}` })),
    );
    if (pages.every((page) => (page as PaymentPage).payments.length === 0)) break;
    if (performance.now() - settlingMs > SETTLED_WITHIN_MS) break;
  }
  const lastMs = performance.now() - settlingMs;
  const { file } = (await server?.ask("paid", "paid")) ?? {};
  const records = JSON.parse(readFileSync(String(file), "utf8")) as PaidRecord[];
  const { calls, parties, heard } = payers;
  const chain = chainAt(rpcUrl, deployments);
  const payTo = String(money["payTo"]) as Address;
  const judged = await judgePayments({ chain, deployments, payTo, parties, calls, records });

  const schemes = ["batch-settlement", "exact", "upto"].map(
    (scheme) => `${records.filter((record) => record.scheme === scheme).length} by ${scheme}`,
  );
  console.log(`
${payerCount} payers for ${(tookMs / 1000).toFixed(0)} s, ${KILLS} times kill -9 (their money took ${(givenMoneyMs / 1000).toFixed(1)} s before)

answered   ${judged.answered} of ${calls.length} calls
receipts   ${records.length}: ${schemes.join(", ")}
settled    ${judged.settled}, the last of them ${(lastMs / 1000).toFixed(1)} s after the last answer
lost       ${judged.lost.length}
doubled    ${judged.doubled.length}

answers/s  ${(inTime / (tookMs / 1000)).toFixed(0)} over all of the time, ${(inTime / ((tookMs - downMs) / 1000)).toFixed(0)} while payments were taken (${(downMs / 1000).toFixed(1)} s were not)
in each     ${Array.from(bySecond, (count) => count ?? 0).join(" ")}
heard beside answers, each followed by another try with the same payment:`);
  for (const [what, times] of [...heard].toSorted(([, a], [, b]) => b - a)) console.log(`  ${times} x ${what}`);
  for (const fault of [...judged.lost, ...judged.doubled].slice(0, 20)) console.log(fault.slice(0, 2000));
  const good = judged.lost.length === 0 && judged.doubled.length === 0;
  console.log(good ? "\nnothing was lost and nothing doubled: met" : "\nsomething was lost or doubled: NOT met");
  process.exitCode = good && judged.answered === calls.length ? 0 : 1;
  await server?.end();
} finally {
  signalAll(processesOf(home, server?.pid), "SIGKILL");
  await server?.gone;
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}
