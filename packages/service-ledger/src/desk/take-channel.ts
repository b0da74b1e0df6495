import { depositIdOf, toHex } from "@assay/x402";
import type { Hex, Payment, PaymentPayload, PaymentRequirements, Voucher } from "@assay/x402";
import { equalBytes } from "@assay/core";
import type { ChannelState } from "./channel-state.ts";
import { askFacts, bounded, doubtOf, leavingOf } from "./facts.ts";
import {
  CHANNEL_FRESH_MS,
  CHANNEL_POLL_MS,
  CHANNEL_WAIT_MS,
  CLAIM_TRIES,
  IN_FLIGHT_RETRY_S,
  MAX_CHANNEL_WAITERS,
  RESYNC_GRACE_MS,
  SETTLE_RETRY_S,
  STANDING_FRESH_MS,
} from "./limits.ts";
import { channelWire, openPayment } from "./open.ts";
import { refused, unpaid } from "./problem.ts";
import type { Refused } from "./problem.ts";
import { claimVoucher, isDepositTaken, observeChannel, openChannel, payerStanding, readChannel } from "./rows.ts";
import type { ChannelRow, Standing, VoucherClaim, VoucherOutcome } from "./rows.ts";
import {
  askContract,
  chainSilent,
  claimOf,
  denied,
  duplicate,
  entryOf,
  isTrusted,
  known,
  limitsOf,
  openModules,
  overfull,
  release,
  takenOf,
  tooMuch,
  unsponsored,
} from "./take.ts";
import type { Admitted, Answer, TakeContext } from "./take.ts";

/** A payment for a channel, and what this process knows of that channel. */
export type OnChannel = Admitted & {
  readonly payment: Extract<Payment, { kind: "voucher" | "deposit" | "refund" }>;
  readonly channelId: Hex;
  readonly state: ChannelState;
};

const PREFIX = "invalid_batch_settlement_evm";

/**
 * Takes a voucher, with or without a deposit. A voucher is a ceiling and not a charge, so that many may be under way on a
 * channel: each is admitted when it, or a higher one that overtook it, covers what was charged, what is under way, and what
 * it asks for. One that does not is answered with the channel's state, to one client at a time: two that were told the
 * same would sign the same.
 */
export async function takeOnChannel(context: TakeContext, on: OnChannel): Promise<Answer> {
  // Whose payment it is comes first: a stored answer is for its payer alone.
  const asked = await askContract(context, on.verdict);
  if (asked) return asked;
  const answer = await takeVoucher(context, on);
  if (answer.kind !== "problem" || (answer.problem.status !== 402 && answer.problem.status !== 503)) return answer;
  // What speaks against a payment may be that it was taken before: its deposit is on the chain, its channel has gone on.
  const before = await known(context, on.paymentId, on.verdict.payer, on.request.key, on.fingerprint);
  return before?.kind === "replay" || before?.kind === "under-way" ? before : answer;
}

async function takeVoucher(context: TakeContext, on: OnChannel): Promise<Answer> {
  const copy = context.entries.get(on.paymentId);
  if (copy && equalBytes(copy.fingerprint, on.fingerprint)) return duplicate(context, on) ?? crowded();
  if (on.payment.kind === "voucher") {
    // The claim reads the row itself; only what the chain says of it has to be fresh.
    const row = isLookedAt(on) ? undefined : await freshChannel(context, on);
    if (row && "kind" in row) return row;
    const failed = await standingOnChannel(context, on);
    if (failed) return failed;
    return claimOnChannel(context, on, on.request.payload);
  }
  const row = await freshChannel(context, on);
  if ("kind" in row) return row;
  if (on.payment.kind !== "deposit") return claimOnChannel(context, on, on.request.payload);
  // What leaves the payer's account is counted from here on, also by payments that run beside this one.
  const account = `${on.verdict.payer} ${on.requirement.asset}`;
  const id = toHex(depositIdOf(context.modules.suite, on.request.payload, on.payment));
  const { beside, end } = context.writing.begin(account, id, on.payment.amount);
  try {
    const payload = await judgeDeposit(context, on, row, beside);
    return "kind" in payload ? payload : await claimOnChannel(context, on, payload);
  } finally {
    end();
  }
}

/** A voucher is covered by its channel; only a payer who failed elsewhere is refused, which is looked up now and then. */
async function standingOnChannel(context: TakeContext, on: OnChannel): Promise<Refused | undefined> {
  const { state, nowMs } = on;
  if (nowMs - state.standingAtMs < STANDING_FRESH_MS) return undefined;
  const { failed } = await standingOf(context, on);
  if (failed !== undefined) return again(context, on, ...denied(failed));
  state.standingAtMs = nowMs;
  return undefined;
}

function standingOf(context: TakeContext, on: OnChannel): Promise<Standing> {
  const { verdict, requirement, nowMs, quote, paymentId } = on;
  const { network, asset } = requirement;
  return payerStanding(
    context.modules.database,
    { paymentId, payer: verdict.payer, asset, network, takenAtMs: nowMs },
    quote.terms.token.eip3009,
  );
}

/**
 * Judges a deposit like a payment of its amount. It counts from its signature on, because whoever opens a channel would
 * wait for a block otherwise: what is lost if it fails are the charges until then, which the payer's limit bounds.
 */
async function judgeDeposit(
  context: TakeContext,
  on: OnChannel,
  row: ChannelRow,
  beside: bigint,
): Promise<PaymentPayload | Refused> {
  const { modules, options } = context;
  const { payment, quote, verdict, request, requirement } = on;
  if (payment.kind !== "deposit") return request.payload;
  const { minDeposit } = requirement.extra;
  if (row.balance === 0n && minDeposit !== undefined && payment.amount < BigInt(minDeposit))
    return again(
      context,
      on,
      `${PREFIX}_deposit_below_min_deposit`,
      `The first deposit is ${payment.amount}, and at least ${minDeposit} is asked: moving it costs more than less would pay.`,
    );
  const [facts, rows] = await Promise.all([
    askFacts(modules.suite, modules.chain, payment, verdict.payer, quote.terms.token),
    standingOf(context, on),
  ]);
  const standing = {
    ...rows,
    unsettled: rows.unsettled + beside,
    unsettledPermit2: rows.unsettledPermit2 + beside,
    risked: rows.risked + beside,
  };
  if (standing.failed !== undefined) return again(context, on, ...denied(standing.failed));
  const limits = limitsOf(options, quote.terms.token);
  const risked = standing.risked + quote.capAtomic;
  // Of earlier deposits that no block has all can be lost, and not only what was charged with them.
  if ("silent" in facts) {
    const within = standing.unsettled + payment.amount <= limits.blind && isTrusted(context, quote, payment.amount);
    return within ? request.payload : chainSilent();
  }
  context.trust.clear();
  if (standing.risked > 0n && risked > limits.verified) return tooMuch(risked, limits.verified);
  if (standing.unsettled > limits.verified) return tooMuch(standing.unsettled, limits.verified);
  if (facts.payerCodeBytes > 0 && verdict.questions.length === 0)
    return again(
      context,
      on,
      `${PREFIX}_receive_authorization_signature`,
      "An account with code signs by its contract.",
    );
  const doubt = doubtOf(facts, standing, leavingOf(payment, quote.capAtomic));
  if ("sponsorNeeded" in doubt) return doubt.sponsorNeeded ? request.payload : unsponsored(request.payload);
  return doubt.later
    ? refused(503, doubt.code, doubt.message, SETTLE_RETRY_S)
    : again(context, on, doubt.code, doubt.message);
}

/** Claims the voucher, waiting for others on the channel where that may help. */
async function claimOnChannel(context: TakeContext, on: OnChannel, payload: PaymentPayload): Promise<Answer> {
  const { state, signal, request } = on;
  const untilMs = context.modules.now() + CHANNEL_WAIT_MS;
  let current = { payload, looked: false };
  for (let tries = 0; ;) {
    signal.throwIfAborted();
    const attempt = await attemptOnChannel(context, on, current.payload);
    if ("answer" in attempt) return attempt.answer;
    const nowMs = context.modules.now();
    switch (attempt.outcome) {
      case "deposited":
        // The deposit is in the accounts with another voucher: this one stands for itself.
        current = { ...current, payload: voucherOnly(current.payload) };
        continue;
      case "missing": {
        if (++tries > CLAIM_TRIES) return refused(503, "payments_overloaded", "The channel's row comes and goes.", 1);
        const opened = await freshChannel(context, on);
        if ("kind" in opened) return opened;
        continue;
      }
      case "known": {
        const answer = await known(context, on.paymentId, on.verdict.payer, request.key, on.fingerprint);
        // The same voucher for another request: its signer has not heard of a charge, and is told of it.
        const unheard = answer?.kind === "problem" && answer.problem.code === "payment_bound";
        if (answer && !unheard) return answer;
        if (!answer && ++tries <= CLAIM_TRIES) continue;
        break;
      }
      case "exposed": {
        // The deposit may have got its block since the chain was asked.
        if (current.looked) {
          const { verified } = limitsOf(context.options, on.quote.terms.token);
          return tooMuch(exposureOf(on, attempt), verified);
        }
        const looked = await freshChannel(context, on, nowMs);
        if ("kind" in looked) return looked;
        current = { ...current, looked: true };
        continue;
      }
      case "balance":
        if (!current.looked) {
          // A deposit that others made, or a withdrawal, is seen on the chain alone.
          const looked = await freshChannel(context, on, nowMs);
          if ("kind" in looked) return looked;
          current = { ...current, looked: true };
          continue;
        }
        // A deposit counts with its receipt, and another process may be about to write one.
        if (
          nowMs < untilMs &&
          attempt.underWay > 0 &&
          (await isDepositTaken(context.modules.database, channelBytes(on)))
        )
          break;
        return exceeds(context, on, attempt);
      default:
    }
    const told = await resync(context, on, attempt, nowMs, untilMs);
    if (told) return told;
    if (state.version() !== attempt.version) continue;
    if (state.waiting() >= MAX_CHANNEL_WAITERS) return crowded();
    await state.wait(Math.max(1, Math.min(CHANNEL_POLL_MS, untilMs - nowMs)), signal);
  }
}

/** What the rows said, and whether anything has happened since. `exposed`: too much of it is covered by no block yet. */
type Judged = Omit<VoucherOutcome, "outcome"> & {
  readonly outcome: VoucherOutcome["outcome"] | "exposed";
  readonly version: number;
};

/** What would be lost of a channel, with this call, if the deposits that no block has came to nothing. */
function exposureOf(
  { state, quote }: OnChannel,
  { charged, reserved }: Pick<VoucherOutcome, "charged" | "reserved">,
): bigint {
  // What the chain has never said of here was limited when it was not asked.
  if (state.onChain === undefined) return 0n;
  const before = charged + reserved - state.onChain;
  // One call alone is taken whatever it costs: its deposit gets no block before it.
  return before > 0n ? before + quote.capAtomic : 0n;
}

/** One try: in the channel's turn, and with the entry that makes copies of the payment hear of it. */
async function attemptOnChannel(
  context: TakeContext,
  on: OnChannel,
  payload: PaymentPayload,
): Promise<{ readonly answer: Answer } | Judged> {
  const { state, paymentId, fingerprint, requirement } = on;
  const turn = state.turn();
  if (!turn) return { answer: crowded() };
  const end = await turn;
  try {
    const copy = context.entries.get(paymentId);
    if (copy && equalBytes(copy.fingerprint, fingerprint)) return { answer: duplicate(context, on) ?? crowded() };
    const full = overfull(context);
    if (full) return { answer: full };
    const entry = entryOf(on, state);
    // The same voucher for another request is under way: its row says how far the channel is promised.
    if (!copy) context.entries.add(entry);
    try {
      const mark = state.mark();
      const claimed = voucherClaim(context, on, payload);
      const outcome = await claimVoucher(context.modules.database, claimed, state.own());
      if (outcome.outcome !== "missing") state.note(outcome.charged, mark);
      if (outcome.outcome !== "taken") {
        context.entries.remove(entry);
        return { ...outcome, version: state.version() };
      }
      context.entries.add(entry);
      if (exposureOf(on, outcome) > limitsOf(context.options, on.quote.terms.token).verified) {
        await release(context, entry);
        return { ...outcome, outcome: "exposed", version: state.version() };
      }
      if (on.signal.aborted) {
        await release(context, entry);
        on.signal.throwIfAborted();
      }
      state.promisedUntilMs = 0;
      state.wake();
      const voucher = voucherIn(payload);
      if (voucher) state.sign(voucher);
      const deposit = payload.payment.kind === "deposit" ? payload.payment.amount : 0n;
      const channel = { id: channelBytes(on), row: outcome.row, balance: outcome.balance + deposit };
      const covered = coveredBy(payload, [state.signed(), outcome.signed], outcome, claimed.capAtomic);
      return { answer: openPayment(openModules(context), takenOf(on, entry, requirement, covered, channel)) };
    } catch (error) {
      if (context.entries.get(paymentId) === entry) await release(context, entry);
      throw error;
    }
  } finally {
    end();
  }
}

/**
 * A payment with the voucher that it is claimed by: its own when that covers what is promised with it, the highest of its
 * payer otherwise. Whatever is charged is then covered by what is durable, also when the request that brought the higher
 * one is given back: of the payments with a receipt, the one that was admitted last was so over all the others.
 */
function coveredBy(
  payload: PaymentPayload,
  known: readonly (Pick<Voucher, "maxClaimable" | "signature"> | undefined)[],
  { charged, reserved }: VoucherOutcome,
  capAtomic: bigint,
): PaymentPayload {
  const { payment } = payload;
  if (payment.kind !== "voucher" && payment.kind !== "deposit") return payload;
  let voucher = payment.voucher;
  if (voucher.maxClaimable >= charged + reserved + capAtomic) return payload;
  for (const higher of known)
    if (higher && higher.maxClaimable > voucher.maxClaimable) voucher = { ...voucher, ...higher };
  return { ...payload, payment: { ...payment, voucher } };
}

function voucherClaim(context: TakeContext, on: OnChannel, payload: PaymentPayload): VoucherClaim {
  const { payment } = payload;
  const { suite } = context.modules;
  return {
    ...claimOf(context, on),
    channelId: channelBytes(on),
    maxClaimable: on.payment.voucher.maxClaimable,
    signedMax: on.state.signed()?.maxClaimable ?? 0n,
    deposit:
      payment.kind === "deposit"
        ? { amountAtomic: payment.amount, id: depositIdOf(suite, payload, payment) }
        : undefined,
  };
}

/**
 * Tells a client the channel's state, so that its next voucher is right. Undefined while it is worth waiting: something is
 * under way on the channel, whose charge is not known yet, or another client was told and has not come back. Whoever has
 * waited for long is told what is promised in all, under way or not: a voucher for as much and its own is right at once.
 */
async function resync(
  context: TakeContext,
  on: OnChannel,
  outcome: Judged,
  nowMs: number,
  untilMs: number,
): Promise<Refused | undefined> {
  const { state } = on;
  const late = nowMs >= untilMs;
  if (!late && (nowMs < state.promisedUntilMs || outcome.underWay > 0)) return undefined;
  const row = await readChannel(context.modules.database, channelBytes(on));
  if (!row) return undefined;
  const committed = outcome.charged + outcome.reserved;
  const here = state.signed();
  const there = row.signature && { maxClaimable: row.signedMax, signature: row.signature };
  const proof = !there || (here && here.maxClaimable > there.maxClaimable) ? here : there;
  const shown = proof !== undefined && proof.maxClaimable >= committed;
  // What happened while the row was read made the account old: it is judged again.
  if (!late && (context.modules.now() < state.promisedUntilMs || state.version() !== outcome.version)) return undefined;
  state.promisedUntilMs = context.modules.now() + RESYNC_GRACE_MS;
  return corrective(
    context,
    on,
    `${PREFIX}_cumulative_amount_mismatch`,
    `The voucher promises ${on.payment.voucher.maxClaimable}; ${outcome.charged} was charged, ${outcome.reserved} is under way, and ${on.quote.capAtomic} is asked.`,
    {
      channelState: channelWire(on.channelId, { row, balance: outcome.balance }, committed),
      ...(shown
        ? { voucherState: { signedMaxClaimable: proof.maxClaimable.toString(), signature: toHex(proof.signature) } }
        : {}),
    },
  );
}

function exceeds(context: TakeContext, on: OnChannel, outcome: Pick<VoucherOutcome, "balance">): Refused {
  return again(
    context,
    on,
    outcome.balance === 0n && on.payment.kind === "voucher"
      ? `${PREFIX}_channel_not_found`
      : `${PREFIX}_cumulative_exceeds_balance`,
    `The voucher promises ${on.payment.voucher.maxClaimable}, and the channel holds ${outcome.balance}: deposit more.`,
  );
}

/** A 402 with the same offers, and what the payer has to know of its channel. */
export function corrective(
  context: TakeContext,
  on: OnChannel,
  code: string,
  message: string,
  extra: Partial<PaymentRequirements["extra"]> = {},
): Refused {
  const accepts = on.quote.terms.accepts.map((requirement) =>
    requirement.scheme === "batch-settlement"
      ? { ...requirement, extra: { ...requirement.extra, ...extra } }
      : requirement,
  );
  return unpaid(context.modules.suite, code, message, context.pricing.required(on.quote, code, accepts));
}

export function again(context: TakeContext, on: OnChannel, code: string, message: string): Refused {
  return corrective(context, on, code, message);
}

/**
 * The channel's row, with what the chain said of it lately. A channel that was never seen is looked up and given a row.
 * `sinceMs` asks for a look that is not older. Without the chain the row stands, within the payer's limit.
 */
export async function freshChannel(
  context: TakeContext,
  on: OnChannel,
  sinceMs?: number,
): Promise<ChannelRow | Refused> {
  const { database, chain, now } = context.modules;
  const { payment, requirement, quote, nowMs, state } = on;
  const id = channelBytes(on);
  let row = await readChannel(database, id);
  if (row && isLookedAt(on, sinceMs)) return row;
  const facts = chain ? await bounded(chain.channel(on.channelId)) : { silent: undefined };
  if ("silent" in facts) {
    // Nobody knows whether the payer took its money back: what may be lost is what was not claimed.
    const exposed = (row ? row.charged - row.totalClaimed : 0n) + quote.capAtomic;
    const { blind } = limitsOf(context.options, quote.terms.token);
    const mayBe = payment.kind === "deposit" || (row !== undefined && row.balance > 0n);
    if (!mayBe || exposed > blind) return chainSilent();
    if (!row) await openChannel(database, requirement.network, id, payment.channel, nowMs);
  } else {
    if (!row) await openChannel(database, requirement.network, id, payment.channel, nowMs);
    await observeChannel(database, id, facts, now());
    state.lookedAtMs = now();
    state.onChain = facts.balance - facts.withdrawAmount;
  }
  row = await readChannel(database, id);
  return row ?? refused(503, "payments_overloaded", "The channel's row comes and goes.", IN_FLIGHT_RETRY_S);
}

/** Whether this process has asked the chain of the channel since then; lately, when nothing else is said. */
function isLookedAt({ payment, nowMs, state }: OnChannel, sinceMs?: number): boolean {
  const freshMs = Math.min(CHANNEL_FRESH_MS, (payment.channel.withdrawDelay * 1000) / 3);
  return state.lookedAtMs !== undefined && state.lookedAtMs >= (sinceMs ?? nowMs - freshMs);
}

function voucherIn({ payment }: PaymentPayload): Voucher | undefined {
  return payment.kind === "voucher" || payment.kind === "deposit" ? payment.voucher : undefined;
}

function voucherOnly(payload: PaymentPayload): PaymentPayload {
  const { payment } = payload;
  if (payment.kind !== "deposit") return payload;
  return { ...payload, payment: { kind: "voucher", channel: payment.channel, voucher: payment.voucher } };
}

function channelBytes(on: OnChannel): Uint8Array {
  return on.payment.voucher.channelId;
}

export function crowded(): Refused {
  return refused(503, "channel_overloaded", `${MAX_CHANNEL_WAITERS} requests wait on this channel.`, IN_FLIGHT_RETRY_S);
}
