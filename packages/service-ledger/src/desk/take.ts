import { equalBytes, isAssayError } from "@assay/core";
import type { OpenPayment, PaidBefore } from "@assay/protocol";
import { checkPayment, matchRequirement, paymentIdOf, toHex } from "@assay/x402";
import type { Address, Admission, Hex, PaymentPayload, PaymentRequirements, Refusal } from "@assay/x402";
import { askFacts, bounded, doubtOf, leavingOf } from "./facts.ts";
import type { Facts } from "./facts.ts";
import {
  CLAIM_TRIES,
  DEFAULT_TRUSTED_TOKENS,
  DEFAULT_UNSETTLED_TOKENS,
  DEFAULT_VERIFIED_UNSETTLED_TOKENS,
  IN_FLIGHT_RETRY_S,
  MAX_OPEN_PAYMENTS,
  MIN_REMAINING_SECONDS,
  SETTLE_RETRY_S,
} from "./limits.ts";
import type { DeskModules, DeskOptions } from "./modules.ts";
import { openPayment } from "./open.ts";
import type { Taken } from "./open.ts";
import type { OpenEntry, OpenPayments } from "./open-payments.ts";
import { refused, unpaid } from "./problem.ts";
import type { Refused } from "./problem.ts";
import type { PaymentRequest } from "./request.ts";
import { chargedInstruction, claimPayment, knownPayments, releaseClaim } from "./rows.ts";
import type { Claim, KnownPayment, Standing } from "./rows.ts";
import type { DeskQuote, Pricing } from "./terms.ts";
import type { Trust } from "./trust.ts";
import type { Writing } from "./writing.ts";

/** What the steps of taking a payment share. */
export type TakeContext = {
  readonly modules: DeskModules;
  readonly options: DeskOptions;
  readonly pricing: Pricing;
  readonly entries: OpenPayments;
  /** Caps of claims that are being written, by payer and asset: no row has them yet. */
  readonly writing: Writing;
  readonly trust: Trust;
  /** Gateway and process, as rows name who took them. */
  readonly takenBy: string;
};

/** One request that pays. */
export type Paying = {
  readonly quote: DeskQuote;
  readonly request: PaymentRequest;
  readonly fingerprint: Uint8Array;
  readonly signal: AbortSignal;
};

/** A payment that passed every check that needs no chain. */
export type Admitted = Paying & {
  readonly requirement: PaymentRequirements;
  readonly verdict: Admission;
  readonly paymentId: Hex;
  readonly nowMs: number;
};

/** A copy of a payment that is worked for in this process: what becomes of that is the answer. */
export type UnderWay = { readonly kind: "under-way"; readonly entry: OpenEntry };

export type Answer = OpenPayment | PaidBefore | Refused | UnderWay;

/** Checks a payment against its quote, without a chain and without the rows. */
export function admit(context: TakeContext, paying: Paying): Admitted | Refusal {
  const { suite, now } = context.modules;
  const { payload } = paying.request;
  const matched = matchRequirement(payload, paying.quote.terms.accepts);
  if (!matched.ok) return matched;
  const { requirement } = matched;
  const nowMs = now();
  const nowS = Math.floor(nowMs / 1000);
  const verdict = checkPayment(suite, payload, requirement, nowS, { factories: context.options.factories ?? [] });
  if (!verdict.ok) return verdict;
  if (verdict.deadlineS - nowS < MIN_REMAINING_SECONDS)
    return {
      ok: false,
      code: expiryCode(payload),
      message: `The signature ends in less than ${MIN_REMAINING_SECONDS} seconds, which is too soon to settle it.`,
    };
  return { ...paying, requirement, verdict, paymentId: toHex(verdict.paymentId), nowMs };
}

function expiryCode({ payment }: PaymentPayload): string {
  if (payment.kind === "eip3009") return "invalid_exact_evm_payload_authorization_valid_before";
  if (payment.kind === "permit2" || payment.kind === "upto") return "permit2_deadline_expired";
  return "invalid_batch_settlement_evm_payload_authorization_valid_before";
}

/**
 * The answer to a copy of a payment that is charged: quotes change and signatures expire, and it is to be answered all
 * the same. It is checked against what was settled, at the time when it was taken. Undefined when it is no such copy.
 */
export async function copyOfCharged(context: TakeContext, paying: Paying): Promise<Answer | undefined> {
  const { database, suite } = context.modules;
  const { payload } = paying.request;
  const asset = payload.accepted?.asset ?? paying.quote.terms.token.address;
  const paymentId = toHex(paymentIdOf(suite, payload, { asset }));
  // Its row may not say yet that it is charged: whoever was refused now would pay a second time.
  const entry = context.entries.get(paymentId);
  const taken = entry ?? (await chargedInstruction(database, paymentId));
  if (!taken) return undefined;
  const { requirement, takenAtMs } = taken;
  const verdict = checkPayment(suite, payload, requirement, Math.floor(takenAtMs / 1000), {
    factories: context.options.factories ?? [],
  });
  if (!verdict.ok) return undefined;
  const asked = await askContract(context, verdict);
  if (asked) return asked.kind === "problem" && asked.problem.status === 503 ? asked : undefined;
  if (entry) return equalBytes(entry.fingerprint, paying.fingerprint) ? inEntry(entry) : undefined;
  const [known] = await knownPayments(database, paymentId, undefined, undefined);
  return known && judgeKnown(context, known, paymentId, paying.fingerprint);
}

/** Takes an admitted payment by `exact` or `upto`. */
export async function takeDirect(context: TakeContext, admitted: Admitted): Promise<Answer> {
  const { modules, entries } = context;
  const { verdict, quote, requirement, request } = admitted;
  const asked = await askContract(context, verdict);
  if (asked) return asked;
  const before = duplicate(context, admitted) ?? overfull(context);
  if (before) return before;
  const entry = entryOf(admitted, undefined);
  entries.add(entry);
  try {
    const facts = askFacts(modules.suite, modules.chain, request.payload.payment, verdict.payer, quote.terms.token);
    // Whoever fails first is the answer; the other's failure is not to end the process.
    facts.catch(() => undefined);
    const standing = await claim(context, admitted, entry);
    if ("kind" in standing) {
      entries.remove(entry);
      return standing;
    }
    const judged = await judge(context, admitted, await facts, standing);
    if ("kind" in judged) {
      await release(context, entry);
      return judged;
    }
    admitted.signal.throwIfAborted();
    return openPayment(openModules(context), takenOf(admitted, entry, requirement, judged.payload, undefined));
  } catch (error) {
    await release(context, entry);
    throw error;
  }
}

/** An admitted payment as copies of it find it. */
export function entryOf(
  { paymentId, fingerprint, verdict, requirement, nowMs }: Admitted,
  channel: OpenEntry["channel"],
): OpenEntry {
  const { payer } = verdict;
  return { paymentId, payer, fingerprint, requirement, takenAtMs: nowMs, channel, receipt: undefined };
}

/** What {@link openPayment} is given. */
export function takenOf(
  { quote, verdict, request, nowMs }: Admitted,
  entry: OpenEntry,
  requirement: PaymentRequirements,
  payload: PaymentPayload,
  channel: Taken["channel"],
): Taken {
  return {
    entry,
    quote,
    requirement,
    payload,
    payer: verdict.payer,
    settlement: request.settlement,
    key: request.key,
    deadlineS: verdict.deadlineS,
    takenAtMs: nowMs,
    channel,
  };
}

export function openModules(context: TakeContext): Parameters<typeof openPayment>[0] {
  return {
    suite: context.modules.suite,
    pricing: context.pricing,
    takenBy: context.takenBy,
    now: context.modules.now,
    durable: context.entries.durable,
    release: (entry) => release(context, entry),
  };
}

/** The row that an admitted payment claims. */
export function claimOf(context: TakeContext, admitted: Admitted): Claim {
  const { quote, requirement, verdict, request } = admitted;
  return {
    paymentId: admitted.paymentId,
    network: requirement.network,
    scheme: requirement.scheme,
    payer: verdict.payer,
    asset: requirement.asset,
    payTo: requirement.payTo,
    capAtomic: quote.capAtomic,
    fingerprint: admitted.fingerprint,
    idempotencyKey: request.key,
    takenBy: context.takenBy,
    takenAtMs: admitted.nowMs,
    deadlineS: verdict.deadlineS,
    settlement: request.settlement,
  };
}

/** Claims the row, or says to whom it belongs already. */
async function claim(context: TakeContext, admitted: Admitted, entry: OpenEntry): Promise<Standing | Answer> {
  const { database } = context.modules;
  const { quote, verdict, requirement, paymentId, fingerprint, request } = admitted;
  const account = `${verdict.payer} ${requirement.asset}`;
  for (let attempt = 0; attempt < CLAIM_TRIES; attempt++) {
    const { beside, end } = context.writing.begin(account, paymentId, quote.capAtomic);
    let standing: Standing | undefined;
    try {
      standing = await claimPayment(database, claimOf(context, admitted), quote.terms.token.eip3009);
    } finally {
      end();
    }
    if (standing)
      return {
        ...standing,
        unsettled: standing.unsettled + beside,
        unsettledPermit2: standing.unsettledPermit2 + beside,
        risked: standing.risked + beside,
      };
    const answer = await known(context, paymentId, verdict.payer, request.key, fingerprint, entry);
    if (answer) return answer;
  }
  return refused(409, "payment_in_flight", "This payment is being taken back; send it again.", IN_FLIGHT_RETRY_S);
}

/**
 * What the rows say of a payment, or of its idempotency key. Undefined when they say nothing (any more): then the claim
 * is free. A row of this process that nobody in it works for (`own` asks) could not be taken back before, and is now.
 */
export async function known(
  context: TakeContext,
  paymentId: Hex,
  payer: Address,
  key: string | undefined,
  fingerprint: Uint8Array,
  own?: OpenEntry,
): Promise<Answer | undefined> {
  const { database } = context.modules;
  const rows = await knownPayments(database, paymentId, payer, key);
  for (const row of rows) {
    const entry = context.entries.get(row.paymentId);
    const lost = row.receipt === undefined && row.takenBy === context.takenBy && (!entry || entry === own);
    if (!lost) return judgeKnown(context, row, paymentId, fingerprint);
    await releaseClaim(database, row.paymentId, context.takenBy);
  }
  return undefined;
}

/** What a payment that was taken before means for a request. */
function judgeKnown(context: TakeContext, row: KnownPayment, paymentId: Hex, fingerprint: Uint8Array): Answer {
  const same = equalBytes(row.fingerprint, fingerprint);
  if (!same) return row.paymentId === paymentId ? bound() : conflict();
  const { receipt, payer } = row;
  if (receipt) return { kind: "replay", payer, receiptId: receipt.receiptId, logIndex: receipt.logIndex };
  // What another process works for ends where nobody here hears of it.
  const entry = row.takenBy === context.takenBy ? context.entries.get(row.paymentId) : undefined;
  return entry && equalBytes(entry.fingerprint, fingerprint) ? inEntry(entry) : inFlight();
}

/** What an entry means for a copy of its payment: it has its answer, or is under way. */
function inEntry(entry: OpenEntry): PaidBefore | UnderWay {
  const { receipt, payer } = entry;
  if (!receipt) return { kind: "under-way", entry };
  return { kind: "replay", payer, receiptId: receipt.receiptId, logIndex: receipt.logIndex };
}

/** What a payment under way in this process means for a copy of it. */
export function duplicate(context: TakeContext, { paymentId, fingerprint }: Admitted): Answer | undefined {
  const entry = context.entries.get(paymentId);
  if (!entry) return undefined;
  return equalBytes(entry.fingerprint, fingerprint) ? inEntry(entry) : bound();
}

export function overfull({ entries }: Pick<TakeContext, "entries">): Refused | undefined {
  if (entries.size() < MAX_OPEN_PAYMENTS) return undefined;
  return refused(503, "payments_overloaded", `${MAX_OPEN_PAYMENTS} payments are under way.`, SETTLE_RETRY_S);
}

function bound(): Refused {
  return refused(409, "payment_bound", "This payment was made for another request: sign a new one for this.");
}

function conflict(): Refused {
  return refused(409, "idempotency_conflict", "This idempotency key was used for another request.");
}

export function inFlight(): Refused {
  return refused(
    409,
    "payment_in_flight",
    "This payment is being worked for: ask again with the same one, and the answer will be there.",
    IN_FLIGHT_RETRY_S,
  );
}

/** Asks contracts whether they signed (EIP-1271, ERC-6492). Undefined when they did, or need not be asked. */
export async function askContract(context: TakeContext, verdict: Admission): Promise<Refused | undefined> {
  const { chain } = context.modules;
  const { questions, deployment } = verdict;
  if (questions.length === 0) return undefined;
  if (!chain) return chainSilent();
  const answer = await bounded(
    Promise.all(
      questions.map(({ account, digest, signature }) =>
        deployment
          ? chain.isValidUndeployed(account, digest, {
              factory: deployment.factory,
              factoryData: deployment.calldata,
              signature,
            })
          : chain.isValidSignature(account, digest, signature),
      ),
    ),
  );
  if ("silent" in answer) return chainSilent();
  return answer.every(Boolean)
    ? undefined
    : refused(402, "invalid_payment_signature", "The payer's contract does not know this signature as its own.");
}

export function chainSilent(): Refused {
  return refused(
    503,
    "chain_unavailable",
    "The chain does not answer, and without it this payment cannot be checked. Nothing was charged.",
    SETTLE_RETRY_S,
  );
}

/** Judges what chain and rows say; gives the payload as it is to be settled. */
async function judge(
  context: TakeContext,
  admitted: Admitted,
  facts: Facts,
  standing: Standing,
): Promise<{ readonly payload: PaymentPayload } | Refused> {
  const { quote, requirement, verdict, request } = admitted;
  const { payload } = request;
  const again = (code: string, message: string): Refused =>
    unpaid(context.modules.suite, code, message, context.pricing.required(quote, code));
  if (standing.failed !== undefined) return again(...denied(standing.failed));
  const risked = standing.risked + quote.capAtomic;
  const limits = limitsOf(context.options, quote.terms.token);
  if ("silent" in facts)
    return risked <= limits.blind && isTrusted(context, quote, quote.capAtomic) ? { payload } : chainSilent();
  context.trust.clear();
  // One alone is taken whatever it costs, when its balance is there: waiting would never make room for it.
  if (standing.risked > 0n && risked > limits.verified) return tooMuch(risked, limits.verified);
  if (facts.payerCodeBytes > 0 && verdict.questions.length === 0) {
    // An account with code answers for itself, whatever its key signed.
    const strict = checkPayment(context.modules.suite, payload, requirement, Math.floor(admitted.nowMs / 1000), {
      payerCode: "some",
    });
    if (!strict.ok) return again(strict.code, strict.message);
    const asked = await askContract(context, strict);
    if (asked) return asked;
  }
  const doubt = doubtOf(facts, standing, leavingOf(payload.payment, quote.capAtomic));
  if ("sponsorNeeded" in doubt) return { payload: doubt.sponsorNeeded ? payload : unsponsored(payload) };
  return doubt.later ? refused(503, doubt.code, doubt.message, SETTLE_RETRY_S) : again(doubt.code, doubt.message);
}

export function denied(failed: Hex): readonly [string, string] {
  return [
    "payer_denied",
    `Payment ${failed} of this payer could not be settled: nothing more is done for it until it is.`,
  ];
}

export function tooMuch(risked: bigint, limit: bigint): Refused {
  return refused(
    503,
    "payer_unsettled_limit",
    `This payer's payments that no block has yet would be ${risked}, more than ${limit}: wait until some are settled.`,
    SETTLE_RETRY_S,
  );
}

/** Whether so much more is given to those whom a silent chain says nothing of; without any chain it is each one's limit alone. */
export function isTrusted(context: TakeContext, { terms: { token } }: DeskQuote, amountAtomic: bigint): boolean {
  if (!context.modules.chain) return true;
  return context.trust.give(token.address, amountAtomic, limitsOf(context.options, token).trusted);
}

/** What may be owed in a token: by a payer unseen, by all of those, and by a payer with a known balance. */
export function limitsOf(
  options: DeskOptions,
  token: { readonly symbol: string; readonly decimals: number },
): { readonly blind: bigint; readonly trusted: bigint; readonly verified: bigint } {
  const whole = 10n ** BigInt(token.decimals);
  return {
    blind: options.maxUnsettledPerPayer?.[token.symbol] ?? DEFAULT_UNSETTLED_TOKENS * whole,
    trusted: options.maxUnsettledOnTrust?.[token.symbol] ?? DEFAULT_TRUSTED_TOKENS * whole,
    verified: options.maxVerifiedUnsettledPerPayer?.[token.symbol] ?? DEFAULT_VERIFIED_UNSETTLED_TOKENS * whole,
  };
}

/** A payload without the approval that it does not need: carried out, it would replace a larger one. */
export function unsponsored(payload: PaymentPayload): PaymentPayload {
  const { payment } = payload;
  if (payment.kind === "permit2" || payment.kind === "upto") {
    const { sponsored: _unneeded, ...rest } = payment;
    return { ...payload, payment: rest };
  }
  if (payment.kind === "deposit" && payment.by.kind === "permit2") {
    const { sponsored: _unneeded, ...by } = payment.by;
    return { ...payload, payment: { ...payment, by } };
  }
  return payload;
}

/** Takes a claim back, and lets the same payment be tried again. A claim that stays behind heals when it is. */
export async function release(context: TakeContext, entry: OpenEntry): Promise<void> {
  const { database, onEvent } = context.modules;
  try {
    await releaseClaim(database, entry.paymentId, context.takenBy);
  } catch (error) {
    onEvent?.({ type: "stuck", paymentId: entry.paymentId, error });
  } finally {
    context.entries.remove(entry);
    entry.channel?.wake();
  }
}

/** A failure of the database as a refusal: without its rows nobody can say whether a payment is used already. */
export function databaseRefusal(error: unknown): Refused {
  if (!isAssayError(error) || !/^(database|storage)_/.test(error.code)) throw error;
  const { code, message } = error;
  return refused(503, code, `${message} Nothing was charged.`, SETTLE_RETRY_S);
}
