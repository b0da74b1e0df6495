import { AssayError } from "@assay/core";
import { batchSettlement, erc3009DepositCollector, permit2, permit2DepositCollector, testUsdc } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import {
  afterDeployment,
  channelCalls,
  channelFrom,
  channelSteps,
  claimCall,
  depositCall,
  sweepCall,
  unwrapSignature,
} from "@assay/driver-chain";
import type { Call, ChannelOnChain } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import { claimBatchDigest, depositNonce } from "@assay/x402";
import type { Address, EvmSigner, EvmSuite, Hex, Payment } from "@assay/x402";
import { encodeFunctionData, hexToBytes, toHex } from "viem";
import { isNumberUsed } from "./elsewhere.ts";
import type { EngineEvent, JobHandler } from "./engine.ts";
import { faultOf } from "./faults.ts";
import { gasLimitFor } from "./gas.ts";
import { MAX_ATTEMPTS } from "./limits.ts";
import type { ChainReads, JobOutcome, TransactionSender } from "./ports.ts";
import { claimableOf, giveBack, jobRows, markFailed, markSettled } from "./rows.ts";
import type { PaymentRow, SettleFault } from "./rows.ts";
import { highestVoucher, voucherOf } from "./voucher.ts";
import type { ChannelClaim } from "./voucher.ts";

export type ChannelModules = {
  readonly database: Database;
  readonly chain: ChainReads;
  readonly sender: TransactionSender;
  /** The receiver authorizer of our channels. */
  readonly authorizer: EvmSigner;
  readonly contracts: Deployments;
  readonly suite: EvmSuite;
  readonly now: () => number;
  readonly onEvent: (event: EngineEvent) => void;
};

type Deposit = Extract<Payment, { kind: "deposit" }>;

const ABIS = [batchSettlement.abi, erc3009DepositCollector.abi, permit2DepositCollector.abi, permit2.abi, testUsdc.abi];

/** Whether a deposit's signature was used: its money is in the channel, or its payer took the signature back. */
export async function isDepositUsed(
  modules: Pick<ChannelModules, "chain" | "contracts" | "suite">,
  row: PaymentRow,
): Promise<boolean> {
  const { payment } = row.instruction.payload;
  if (payment.kind !== "deposit") return false;
  const { chain, contracts } = modules;
  if (payment.by.kind === "permit2") return isNumberUsed(chain, contracts, row.payer, payment.by.permit.nonce);
  const nonce = toHex(depositNonce(modules.suite, payment.voucher.channelId, payment.by.salt));
  const answer = await chain.call({
    to: payment.channel.token,
    data: encodeFunctionData({ abi: testUsdc.abi, functionName: "authorizationState", args: [row.payer, nonce] }),
  });
  return answer.ok && answer.data !== "0x" && BigInt(answer.data) === 1n;
}

/** Opens a channel, or adds to it: the deposit that a payer signed. Its charge is claimed later, with others. */
export function createDepositHandler(modules: ChannelModules): JobHandler {
  const { database, chain, sender, now } = modules;
  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const [row] = await jobRows(database, jobId, now());
      if (!row || (await isDepositUsed(modules, row))) return false;
      const { payment } = row.instruction.payload;
      if (payment.kind !== "deposit") return false;
      const call = { from: sender.address, ...openingCall(payment) };
      const answer = await chain.call(call);
      const gasLimit = answer.ok ? await gasLimitFor(chain, call) : undefined;
      if (gasLimit === undefined) {
        const fault = answer.ok
          ? { code: "gas_limit_exceeded", message: "The deposit takes too much gas." }
          : faultOf(ABIS, answer.data, answer.message);
        await fail(modules, row, fault);
        return false;
      }
      await sender.submit({ jobId, to: call.to, data: call.data, gasLimit });
      return true;
    },
    async apply(jobId, outcome) {
      if (outcome.state === "reverted")
        for (const row of await jobRows(database, jobId, now()))
          if (!(await isDepositUsed(modules, row)))
            await fail(modules, row, { code: "transaction_reverted", message: "The deposit reverted." });
      // The charge itself is due still: it is claimed from the channel that now has something in it.
      await giveBack(database, jobId, now());
    },
  };
}

/** Claims from channels what was charged on them, and sends what was claimed to its receivers, in one transaction. */
export function createClaimHandler(modules: ChannelModules): JobHandler {
  const { database, chain, sender, now } = modules;

  /** Claims that the contract would take, and why it would not take the others. */
  async function sift(
    claims: readonly ChannelClaim[],
  ): Promise<{ readonly good: readonly ChannelClaim[]; readonly bad: ReadonlyMap<Hex, SettleFault> }> {
    const answer = await chain.call({ from: sender.address, ...channelCalls(await claimCalls(modules, claims)) });
    if (answer.ok) return { good: claims, bad: new Map() };
    const [only] = claims;
    if (claims.length === 1 && only)
      return { good: [], bad: new Map([[only.channelId, faultOf(ABIS, answer.data, answer.message)]]) };
    const half = claims.length >> 1;
    const [first, second] = [await sift(claims.slice(0, half)), await sift(claims.slice(half))];
    return { good: [...first.good, ...second.good], bad: new Map([...first.bad, ...second.bad]) };
  }

  return {
    async submit(jobId) {
      if ((await sender.outcome(jobId)).state !== "none") return true;
      const rows = await jobRows(database, jobId, now());
      const claims = await claimsOf(modules, jobId, rows);
      if (claims.length === 0) return false;
      const channels = byChannel(rows);
      const { good, bad } = await sift(claims);
      for (const [channelId, fault] of bad)
        for (const row of channels.get(channelId) ?? []) await fail(modules, row, fault);
      for (let kept = good; kept.length > 0; kept = kept.slice(0, kept.length >> 1)) {
        const call = channelCalls(await claimCalls(modules, kept));
        const gasLimit = await gasLimitFor(chain, { from: sender.address, ...call });
        if (gasLimit !== undefined) {
          await sender.submit({ jobId, ...call, gasLimit });
          return true;
        }
        // Too much for one transaction: the later half waits for the next.
        const later = kept.slice(kept.length >> 1).flatMap(({ channelId }) => channels.get(channelId) ?? []);
        if (kept.length === 1)
          for (const row of later)
            await fail(modules, row, { code: "gas_limit_exceeded", message: "The claim takes too much gas." });
        else
          await giveBack(
            database,
            jobId,
            now(),
            later.map(({ paymentId }) => paymentId),
          );
      }
      return false;
    },

    async apply(jobId, outcome) {
      await concludeClaims(modules, jobId, outcome);
      await giveBack(database, jobId, now());
    },
  };
}

/** What a job may claim, a channel each; charges that no voucher reaches are put down as failed. */
export async function claimsOf(
  modules: ChannelModules,
  jobId: string,
  rows: readonly PaymentRow[],
): Promise<readonly ChannelClaim[]> {
  const { database } = modules;
  const claims: ChannelClaim[] = [];
  for (const [channelId, charges] of byChannel(rows)) {
    const totalClaimed = await claimableOf(database, channelId, jobId);
    const voucher = await highestVoucher(database, channelId, charges, totalClaimed);
    if (voucher && totalClaimed <= voucher.maxClaimable) claims.push({ channelId, totalClaimed, ...voucher });
    else
      for (const row of charges)
        await fail(modules, row, { code: "voucher_exceeded", message: "No voucher reaches what was charged." });
  }
  return claims;
}

/** Calls that claim, and one transfer for each receiver and token that the claims add to. */
export async function claimCalls(modules: ChannelModules, claims: readonly ChannelClaim[]): Promise<readonly Call[]> {
  const { sender, authorizer, contracts, suite } = modules;
  if (claims.length === 0) return [];
  // Whoever the channels name may claim without a further signature.
  if (claims.every(({ channel }) => channel.receiverAuthorizer === sender.address))
    return [claimCall(claims), ...sweeps(claims)];
  const entries = claims.map((claim) => ({ ...claim, channelId: hexToBytes(claim.channelId) }));
  const signature = await authorizer.signDigest(claimBatchDigest(suite, contracts.chainId, entries));
  return [claimCall(claims, signature), ...sweeps(claims)];
}

/** Puts down what became of a job's claims. */
export async function concludeClaims(modules: ChannelModules, jobId: string, outcome: JobOutcome): Promise<void> {
  const { database, now } = modules;
  const channels = byChannel(await jobRows(database, jobId, now()));
  if (outcome.state === "final" || outcome.state === "mined") {
    for (const [channelId, rows] of channels) await settleClaimed(modules, jobId, channelId, rows, outcome);
  } else if (outcome.state === "reverted") {
    for (const row of [...channels.values()].flat())
      await fail(modules, row, { code: "transaction_reverted", message: "The claim reverted." });
  }
}

/** Puts a channel's charges down as settled when the contract says that they are claimed. */
async function settleClaimed(
  modules: ChannelModules,
  jobId: string,
  channelId: Hex,
  rows: readonly PaymentRow[],
  outcome: Extract<JobOutcome, { transaction: Hex }>,
): Promise<void> {
  const { database, now } = modules;
  const state = await readChannel(modules, channelId);
  if (state.totalClaimed < (await claimableOf(database, channelId, jobId))) return;
  await markSettled(
    database,
    rows.map(({ paymentId }) => ({
      paymentId,
      transaction: outcome.transaction,
      blockNumber: outcome.blockNumber,
    })),
    now(),
  );
  await noteChannel(modules, channelId, state);
}

/** What the contract knows of a channel now. */
export async function readChannel(
  { chain, contracts }: Pick<ChannelModules, "chain" | "contracts">,
  channelId: Hex,
): Promise<ChannelOnChain> {
  const state = channelFrom(await chain.read(channelSteps(channelId)));
  if (state) return state;
  throw new AssayError("chain_unavailable", `There is no contract of channels at ${contracts.batchSettlement}.`, {
    hints: ["Check the chain's deployments."],
  });
}

/** Notes what the contract said of a channel. Its balance is the ledger's to count: deposits may be on their way. */
export async function noteChannel(
  { database, now }: Pick<ChannelModules, "database" | "now">,
  channelId: Hex,
  state: ChannelOnChain,
): Promise<void> {
  await database.query(
    `UPDATE assay.channels SET total_claimed = $2::numeric, refund_nonce = $3::numeric, withdraw_requested_at = $4,
       observed_at_ms = $5, updated_at_ms = $5 WHERE channel_id = decode($1, 'hex')`,
    [channelId.slice(2), state.totalClaimed.toString(), state.refundNonce.toString(), state.withdrawRequestedAt, now()],
  );
}

/** One transfer for each receiver and token that these claims add to. */
function sweeps(claims: readonly ChannelClaim[]): readonly Call[] {
  const pairs = new Map<string, readonly [Address, Address]>();
  for (const { channel } of claims)
    pairs.set(`${channel.receiver} ${channel.token}`, [channel.receiver, channel.token]);
  return [...pairs.values()].map((pair) => sweepCall(...pair));
}

/** A deposit, after its payer's account when that is still to come into being. */
function openingCall(payment: Deposit): Call {
  const { deployment } = unwrapSignature(payment.by.signature);
  const call = depositCall(payment);
  return deployment ? afterDeployment(deployment, call) : call;
}

function byChannel(rows: readonly PaymentRow[]): ReadonlyMap<Hex, readonly PaymentRow[]> {
  const channels = new Map<Hex, PaymentRow[]>();
  for (const row of rows) {
    if (row.channelId === undefined || !voucherOf(row)) continue;
    const list = channels.get(row.channelId);
    if (list) list.push(row);
    else channels.set(row.channelId, [row]);
  }
  return channels;
}

/** A signature of a channel does not expire, so only the number of tries ends them. */
async function fail(modules: ChannelModules, row: PaymentRow, fault: SettleFault): Promise<void> {
  const dead = row.attempts + 1 >= MAX_ATTEMPTS;
  await markFailed(modules.database, row.paymentId, fault, dead, modules.now());
  if (dead) modules.onEvent({ type: "payment_dead", paymentId: row.paymentId, code: fault.code });
}
