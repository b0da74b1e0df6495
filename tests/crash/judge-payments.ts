// Compares what payers did, what the log says was paid, and what the chain has, each read for itself.
import { paymentBatcher, batchSettlement } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { Chain } from "@assay/driver-chain";
import { toHex } from "@assay/x402";
import type { Address, Hex } from "@assay/x402";
import { decodeEventLog, encodeEventTopics, encodeFunctionData, hexToBytes } from "viem";
import type { PaidRecord } from "./paid-records.ts";
import { FUNDS } from "./payers.ts";
import type { PaidCall, PayingParty } from "./payers.ts";

export type Judgement = {
  /** Calls whose callers have an answer. */
  readonly answered: number;
  /** Receipts of the log whose payments the chain has, each once and with the receipt's amount. */
  readonly settled: number;
  /** Answers without a receipt, and receipts whose money did not come. */
  readonly lost: readonly string[];
  /** Calls and payments that were charged twice, and money that moved without a receipt. */
  readonly doubled: readonly string[];
};

/** Logs are asked for by so many blocks: one answer has a limit. */
const BLOCKS_AT_ONCE = 50;

/** Judges a whole run, once everything that is due was settled. `payTo` began with nothing. */
export async function judgePayments(run: {
  readonly chain: Chain;
  readonly deployments: Deployments;
  readonly payTo: Address;
  readonly parties: readonly PayingParty[];
  readonly calls: readonly PaidCall[];
  readonly records: readonly PaidRecord[];
}): Promise<Judgement> {
  const { chain, deployments, parties, calls, records } = run;
  const lost: string[] = [];
  const doubled: string[] = [];
  const receipts = new Map<string, PaidRecord>();
  for (const record of records) {
    const before = receipts.get(record.paymentId);
    if (before) doubled.push(`payment ${record.paymentId} has receipts ${before.receiptId} and ${record.receiptId}`);
    else receipts.set(record.paymentId, record);
  }

  const channelOf = new Map<string, Hex>();
  let answered = 0;
  for (const { body, sent, history, answered: answer } of calls) {
    const name = body.slice(0, body.indexOf(","));
    const charged = [...sent.values()].filter(({ paymentId }) => receipts.has(paymentId));
    for (const { paymentId, channelId } of sent.values()) if (channelId) channelOf.set(paymentId, channelId);
    if (charged.length > 1) doubled.push(`${name} was charged ${charged.length} times: ${history.join(", ")}`);
    for (const { answers, paymentId } of sent.values()) {
      const receiptId = receipts.get(paymentId)?.receiptId;
      const others = answers.filter((one) => one.receiptId !== receiptId);
      if (others.length > 0) lost.push(`${name} has receipt ${others[0]?.receiptId}, which is not in the log`);
      if (answers.some((one) => !one.body.equals(answers[0]?.body ?? one.body)))
        doubled.push(`${name} was answered differently for one payment`);
    }
    if (!answer) continue;
    answered++;
    if (receipts.get(answer.payment.paymentId)?.receiptId !== answer.receiptId)
      lost.push(`${name} was answered, and its receipt is not in the log`);
  }

  const settled = await settledPayments(chain, deployments);
  let good = 0;
  const fixed = records.filter(({ scheme }) => scheme !== "batch-settlement");
  for (const { paymentId, amountAtomic } of fixed) {
    const amounts = settled.get(paymentId) ?? [];
    if (amounts.length === 0) lost.push(`payment ${paymentId} is not settled`);
    else if (amounts.length > 1) doubled.push(`payment ${paymentId} is settled ${amounts.length} times`);
    else if (amounts[0] !== BigInt(amountAtomic))
      doubled.push(`payment ${paymentId} is settled for ${amounts[0]}, and its receipt says ${amountAtomic}`);
    else good++;
  }
  for (const paymentId of settled.keys())
    if (!receipts.has(paymentId)) doubled.push(`payment ${paymentId} is settled without a receipt`);

  const channels = new Map<Hex, { charged: bigint; count: number }>();
  for (const { paymentId, amountAtomic, scheme } of receipts.values()) {
    if (scheme !== "batch-settlement") continue;
    const channelId = channelOf.get(paymentId);
    if (!channelId) {
      lost.push(`voucher ${paymentId} was sent by nobody`);
      continue;
    }
    const sum = channels.get(channelId) ?? { charged: 0n, count: 0 };
    channels.set(channelId, { charged: sum.charged + BigInt(amountAtomic), count: sum.count + 1 });
  }
  const deposits = new Map<Address, bigint>();
  const owners = new Map(
    calls.flatMap(({ payer, sent }) =>
      [...sent.values()].flatMap(({ channelId }) => (channelId ? [[channelId, payer] as const] : [])),
    ),
  );
  for (const [channelId, payer] of owners) {
    const { balance, claimed } = await channelOnChain(chain, deployments, channelId);
    deposits.set(payer, (deposits.get(payer) ?? 0n) + balance);
    const { charged, count } = channels.get(channelId) ?? { charged: 0n, count: 0 };
    if (claimed < charged) lost.push(`channel ${channelId} has ${claimed} of ${charged} claimed`);
    else if (claimed > charged) doubled.push(`channel ${channelId} has ${claimed} claimed of ${charged}`);
    else good += count;
  }

  const asset = deployments.tokens[0]?.address ?? "0x";
  const balanceOf = async (account: Address): Promise<bigint> =>
    (await chain.payerFacts({ payer: account, asset })).balance ?? -1n;
  for (const { address } of parties) {
    const own = fixed.filter(({ payer }) => payer === address);
    const paid = own.reduce((sum, { amountAtomic }) => sum + BigInt(amountAtomic), 0n);
    const expected = FUNDS - paid - (deposits.get(address) ?? 0n);
    const has = await balanceOf(address);
    if (has > expected) lost.push(`${address} has ${has - expected} more than its receipts leave it`);
    if (has < expected) doubled.push(`${address} has ${expected - has} less than its receipts leave it`);
  }
  const earned = [...receipts.values()].reduce((sum, { amountAtomic }) => sum + BigInt(amountAtomic), 0n);
  const got = await balanceOf(run.payTo);
  if (got < earned) lost.push(`${earned - got} of ${earned} did not arrive`);
  if (got > earned) doubled.push(`${got - earned} more than ${earned} arrived`);
  return { answered, settled: good, lost, doubled };
}

/** Amounts that the batcher moved, by payment. */
async function settledPayments(chain: Chain, { paymentBatcher: address }: Deployments): Promise<Map<string, bigint[]>> {
  const topics = encodeEventTopics({ abi: paymentBatcher.abi, eventName: "PaymentSettled" }) as readonly Hex[];
  const found = new Map<string, bigint[]>();
  const latest = await chain.blockNumber();
  for (let fromBlock = 0; fromBlock <= latest; fromBlock += BLOCKS_AT_ONCE) {
    const toBlock = Math.min(fromBlock + BLOCKS_AT_ONCE - 1, latest);
    for (const {
      data,
      topics: [signature, ...indexed],
    } of await chain.logs({ address, topics, fromBlock, toBlock })) {
      if (!signature) continue;
      const event = decodeEventLog({ abi: paymentBatcher.abi, data: toHex(data), topics: [signature, ...indexed] });
      if (event.eventName !== "PaymentSettled" || !event.args.ok) continue;
      const { paymentId, amount } = event.args;
      found.set(paymentId, [...(found.get(paymentId) ?? []), amount]);
    }
  }
  return found;
}

async function channelOnChain(
  chain: Chain,
  { batchSettlement: to }: Deployments,
  channelId: Hex,
): Promise<{ readonly balance: bigint; readonly claimed: bigint }> {
  const { abi } = batchSettlement;
  const data = hexToBytes(encodeFunctionData({ abi, functionName: "channels", args: [channelId] }));
  const words = toHex(await chain.call({ to, data }));
  return { balance: BigInt(words.slice(0, 66)), claimed: BigInt(`0x${words.slice(66, 130)}`) };
}
