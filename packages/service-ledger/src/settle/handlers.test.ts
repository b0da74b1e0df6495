import { PGlite } from "@electric-sql/pglite";
import { testWalletFactory, testWalletFactoryAddress } from "@assay/contracts";
import { createSender } from "@assay/driver-chain";
import type { Sender } from "@assay/driver-chain";
import { databaseFromPglite, migrateDatabase } from "@assay/driver-postgres";
import type { Database } from "@assay/driver-postgres";
import { wrapErc6492 } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { decodeFunctionResult, encodeFunctionData, hexToBytes } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chainReads } from "./chain-reads.ts";
import { createClaimHandler, createDepositHandler } from "./channel-jobs.ts";
import { groupRows } from "./group.ts";
import { createTxJournal } from "./journal.ts";
import { createPayHandler } from "./pay.ts";
import type { TransactionSender } from "./ports.ts";
import { createRefundHandler, refundJob } from "./refunds.ts";
import { claimForJob, dueRows, jobRows, markFailed, rowById } from "./rows.ts";
import { transactionSender } from "./sender.ts";
import {
  account,
  charge,
  openWorld,
  payer,
  signDeposit,
  signExact,
  signVoucher,
  suite,
  until,
  usdcOf,
} from "./testing/world.ts";
import type { Account, Signed, World } from "./testing/world.ts";

let world: World;
let database: Database;
let made: Sender;
let sender: TransactionSender;

beforeAll(async () => {
  world = await openWorld();
  database = databaseFromPglite(new PGlite());
  await migrateDatabase(database);
  const { chain, operator } = world;
  made = createSender({ chain, signer: operator.signer, journal: createTxJournal(database), options: { pollMs: 30 } });
  sender = transactionSender(made);
});

afterAll(async () => {
  await made?.close();
  await database?.close();
  await world?.close();
});

const now = (): number => Date.now();
const modules = (through: TransactionSender = sender) => ({
  database,
  chain: chainReads(world.chain),
  sender: through,
  authorizer: world.operator.signer,
  contracts: world.embedded.deployments,
  suite,
  now,
  onEvent: () => undefined,
});
const final = (jobId: string) =>
  until(async () => {
    const outcome = await sender.outcome(jobId);
    return outcome.state === "final" ? outcome : undefined;
  });

/** A payment of an account that its signature describes and that is not there yet. */
async function undeployed(amount: bigint): Promise<Signed> {
  const key = account();
  const { abi } = testWalletFactory;
  const args = [key.address, `0x${"00".repeat(32)}`] as const;
  const answer = await chainReads(world.chain).call({
    to: testWalletFactoryAddress,
    data: encodeFunctionData({ abi, functionName: "walletOf", args }),
  });
  const address = decodeFunctionResult({ abi, functionName: "walletOf", data: answer.data }).toLowerCase() as Address;
  await world.embedded.fund(address, { asset: "USDC", amountAtomic: amount });
  const signed = await signExact(world, { ...key, signer: { ...key.signer, address } }, amount);
  const { payment } = signed.payload;
  if (payment.kind !== "eip3009") throw new Error("Not EIP-3009.");
  const calldata = hexToBytes(encodeFunctionData({ abi, functionName: "createWallet", args }));
  const signature = wrapErc6492({ factory: testWalletFactoryAddress, calldata }, payment.signature);
  return { ...signed, payload: { ...signed.payload, payment: { ...payment, signature } } };
}

describe("accounts that payments make on their way", () => {
  it("do not end a job that is taken up again with fewer payments than it sent them for", async () => {
    const jobId = "pay-accounts";
    const ids: Hex[] = [];
    for (const amount of [7n, 8n]) ids.push(await charge(database, await undeployed(amount)));
    await claimForJob(database, jobId, ids, now());
    // It dies after the accounts were sent, before the payments were.
    const dying: TransactionSender = {
      ...sender,
      submit: (job) => (job.jobId === jobId ? Promise.reject(new Error("It dies.")) : sender.submit(job)),
    };
    await expect(createPayHandler(modules(dying)).submit(jobId)).rejects.toThrow("It dies.");
    const [first, second] = ids;
    if (!first || !second) throw new Error("No payments.");
    await markFailed(database, first, { code: "payment_reverted", message: "no" }, true, now());
    const handler = createPayHandler(modules());
    expect(await handler.submit(jobId)).toBe(true);
    await handler.apply(jobId, await final(jobId));
    const { rows } = await database.query("SELECT state FROM assay.payments ORDER BY amount_atomic");
    expect(rows.map(({ state }) => state)).toEqual(["dead", "settled"]);
  });
});

describe("a payer's contract that behaves while it is asked, and uses up a transaction's gas in its block", () => {
  it("costs others some tries, and none of them its payment", async () => {
    // GASPRICE is zero while a call is only tried: isValidSignature answers its magic value then, and fails otherwise.
    const code = `0x3a15600657fe5b7f1626ba7e${"00".repeat(28)}5f5260205ff3`;
    let clock = Date.now();
    const hostile = await payer(world, 1_000n);
    await world.chain.request("anvil_setCode", [hostile.address, code]);
    const honest = await Promise.all(Array.from({ length: 8 }, () => payer(world, 1_000n)));
    const ids = new Map<Account, Hex>();
    for (const from of [hostile, ...honest]) ids.set(from, await charge(database, await signExact(world, from, 9n)));
    const handler = createPayHandler({ ...modules(), now: () => clock });
    const stateOf = async (from: Account): Promise<unknown> =>
      (await rowById(database, ids.get(from) ?? "0x", clock))?.state;
    const { network } = world.embedded;
    const told: string[] = [];
    for (let turn = 0; turn < 5; turn++) {
      const due = await dueRows(database, network, clock);
      const ours = due.filter(({ paymentId }) => [...ids.values()].includes(paymentId));
      const context = { nowMs: clock, kicked: "all", busyChannels: new Set<Hex>(), deposited: new Set<Hex>() } as const;
      const options = { items: 1, afterMs: 0, claimAfterMs: 0, immediateAbove: {} };
      for (const group of groupRows(ours, options, context)) {
        const jobId = `pay-hostile-${turn}-${told.length}`;
        const paymentIds = group.rows.map(({ paymentId }) => paymentId);
        await claimForJob(database, jobId, paymentIds, clock);
        if (!(await handler.submit(jobId))) continue;
        const outcome = await until(async () => {
          const found = await sender.outcome(jobId);
          return found.state === "final" || found.state === "reverted" ? found : undefined;
        });
        told.push(outcome.state);
        await handler.apply(jobId, outcome);
      }
      // Past the wait for the next try.
      clock += 20_000;
    }
    expect(told[0]).toBe("reverted");
    for (const from of honest) expect(await stateOf(from)).toBe("settled");
    expect(await stateOf(hostile)).toBe("failed");
    expect(await usdcOf(world, hostile.address)).toBe(1_000n);
  });
});

describe("refunds of one channel", () => {
  let from: Account;
  let channelId: Hex;

  /** Opens a channel of 1,000 and leaves a charge of each of `amounts` on it. */
  async function open(amounts: readonly bigint[]): Promise<readonly Hex[]> {
    from = await payer(world, 1_000n);
    const deposit = await signDeposit(world, from, 1_000n, 10n);
    channelId = `0x${Buffer.from(deposit.channelId ?? []).toString("hex")}`;
    const opening = await charge(database, deposit, { amount: 10n });
    const jobs = [`deposit-${channelId}`, `claim-${channelId}`] as const;
    await claimForJob(database, jobs[0], [opening], now());
    const handler = createDepositHandler(modules());
    expect(await handler.submit(jobs[0])).toBe(true);
    await handler.apply(jobs[0], await final(jobs[0]));
    await claimForJob(database, jobs[1], [opening], now());
    const claims = createClaimHandler(modules());
    expect(await claims.submit(jobs[1])).toBe(true);
    await claims.apply(jobs[1], await final(jobs[1]));
    const ids: Hex[] = [];
    let total = 10n;
    for (const amount of amounts) {
      total += amount;
      ids.push(await charge(database, await signVoucher(world, from, total), { amount }));
    }
    return ids;
  }

  it("do not wait for each other when each has charges of it", async () => {
    const before = await usdcOf(world, world.receiver.address);
    const [first, second] = await open([20n, 30n]);
    if (!first || !second) throw new Error("No charges.");
    const jobs = [refundJob(channelId, undefined), refundJob(channelId, undefined)];
    await claimForJob(database, jobs[0] ?? "", [first], now());
    await claimForJob(database, jobs[1] ?? "", [second], now());
    await Promise.all(
      jobs.map(async (jobId) => {
        const handler = createRefundHandler(modules());
        if (await handler.submit(jobId)) await handler.apply(jobId, await final(jobId));
        else await handler.apply(jobId, { state: "none" });
      }),
    );
    expect((await usdcOf(world, world.receiver.address)) - before).toBe(60n);
    expect(await usdcOf(world, from.address)).toBe(940n);
  });

  it("claim what failed lately too, and do not give it back", async () => {
    const before = await usdcOf(world, world.receiver.address);
    const [failed] = await open([40n]);
    if (!failed) throw new Error("No charge.");
    await markFailed(database, failed, { code: "transaction_reverted", message: "no" }, false, now());
    const jobId = refundJob(channelId, undefined);
    const handler = createRefundHandler(modules());
    expect(await handler.submit(jobId)).toBe(true);
    await handler.apply(jobId, await final(jobId));
    expect((await usdcOf(world, world.receiver.address)) - before).toBe(50n);
    expect(await usdcOf(world, from.address)).toBe(950n);
    expect(await jobRows(database, jobId, now())).toEqual([]);
  });
});
