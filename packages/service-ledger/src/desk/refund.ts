import { isAssayError } from "@assay/core";
import type { PaymentDone } from "@assay/protocol";
import { encodeSettlementResponse, judgeRefund } from "@assay/x402";
import type { ChannelAccount, RefundVerdict } from "@assay/x402";
import { CHANNEL_POLL_MS, CHANNEL_WAIT_MS, SETTLE_RETRY_S } from "./limits.ts";
import { channelWire } from "./open.ts";
import { refused } from "./problem.ts";
import type { Refused } from "./problem.ts";
import { lowerBalance, observeChannel, readChannel, reservedOn } from "./rows.ts";
import type { ChannelRow } from "./rows.ts";
import { askContract } from "./take.ts";
import type { TakeContext } from "./take.ts";
import { again, corrective, crowded, freshChannel } from "./take-channel.ts";
import type { OnChannel } from "./take-channel.ts";

/**
 * Gives a channel's payer back what was not charged, on its own signed wish alone. What is under way is waited for, and
 * what was charged is claimed in the same transaction; meanwhile nothing new is taken on the channel here.
 */
export async function refundChannel(context: TakeContext, on: OnChannel): Promise<PaymentDone | Refused> {
  const { refund, now } = context.modules;
  if (!refund)
    return again(
      context,
      on,
      "invalid_batch_settlement_evm_authorizer_not_configured",
      "This gateway gives nothing back by itself: withdraw through the contract, which needs nobody's consent.",
    );
  const asked = await askContract(context, on.verdict);
  if (asked) return asked;
  const untilMs = now() + CHANNEL_WAIT_MS;
  for (;;) {
    on.signal.throwIfAborted();
    const turn = on.state.turn();
    if (!turn) return crowded();
    const end = await turn;
    try {
      const row = await freshChannel(context, on, now());
      if ("kind" in row) return row;
      const judged = await judge(context, on, row);
      if (judged.ok) return await give(context, on, row, judged.amountAtomic, refund);
      if (!judged.wait || now() >= untilMs)
        return corrective(context, on, judged.code, judged.message, {
          channelState: channelWire(on.channelId, { row, balance: row.balance }, row.charged),
        });
    } finally {
      end();
    }
    await on.state.wait(CHANNEL_POLL_MS, on.signal);
  }
}

async function judge(context: TakeContext, on: OnChannel, row: ChannelRow): Promise<RefundVerdict> {
  const { payment } = on;
  const account: ChannelAccount = {
    ...row,
    withdrawing: 0n,
    reserved: await reservedOn(context.modules.database, payment.voucher.channelId),
    signed: row.signedMax,
    signature: row.signature ?? new Uint8Array(),
    charged: row.charged > row.totalClaimed ? row.charged : row.totalClaimed,
  };
  return judgeRefund(account, payment.voucher, payment.kind === "refund" ? payment.amount : undefined);
}

async function give(
  context: TakeContext,
  on: OnChannel,
  before: ChannelRow,
  amountAtomic: bigint,
  refund: NonNullable<TakeContext["modules"]["refund"]>,
): Promise<PaymentDone | Refused> {
  const { database, suite, now } = context.modules;
  const { payment, channelId, requirement, verdict, state } = on;
  const id = payment.voucher.channelId;
  // Other gateways are not to promise meanwhile what is on its way out.
  await lowerBalance(database, id, amountAtomic, now());
  try {
    const given = await refund(channelId, payment.kind === "refund" ? payment.amount : undefined);
    await look(context, on);
    const row = (await readChannel(database, id)) ?? before;
    const { value } = encodeSettlementResponse(suite, 2, {
      success: true,
      transaction: given.transaction,
      network: requirement.network,
      payer: verdict.payer,
      amount: given.amountAtomic.toString(),
      extra: { channelState: channelWire(channelId, { row, balance: row.balance }, row.charged) },
    });
    return {
      kind: "done",
      status: 200,
      headers: { "payment-response": value },
      body: JSON.stringify({ message: "Channel refunded.", channelId }),
    };
  } catch (error) {
    await look(context, on);
    if (!isAssayError(error) || !/^(refund|chain|settler)_/.test(error.code)) throw error;
    return refused(503, error.code, error.message, SETTLE_RETRY_S);
  } finally {
    state.lookedAtMs = undefined;
    state.wake();
  }
}

/** Whatever came of a refund, the chain says what the channel holds now. */
async function look(context: TakeContext, on: OnChannel): Promise<void> {
  const { chain, database, now } = context.modules;
  if (!chain) return;
  try {
    await observeChannel(database, on.payment.voucher.channelId, await chain.channel(on.channelId), now());
  } catch {
    // The balance stays lowered, which promises too little and never too much, until the chain is asked again.
  }
}
