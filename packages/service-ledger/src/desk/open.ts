import type { BesideUse, Charge, DurableReceipt, ListingSubject, MeteredUse, OpenPayment } from "@assay/protocol";
import { encodeSettlementResponse, settlementDocument, toHex } from "@assay/x402";
import type { Address, ChannelStateWire, EvmSuite, Hex, PaymentPayload, SettlementResponse } from "@assay/x402";
import { encodeInstruction } from "../instruction.ts";
import type { SettlementMode } from "../instruction.ts";
import { listingDigest } from "../listings/listing.ts";
import { MAX_TIMEOUT_SECONDS, MIN_REMAINING_SECONDS } from "./limits.ts";
import type { ChannelHistory } from "./rows.ts";
import { plainRequirement } from "./rows.ts";
import type { OpenEntry } from "./open-payments.ts";
import type { ChargedPart, DeskQuote, Pricing } from "./terms.ts";
import type { PaymentRequirements } from "@assay/x402";

/** A payment that was verified and claimed. */
export type Taken = {
  readonly entry: OpenEntry;
  readonly quote: DeskQuote;
  readonly requirement: PaymentRequirements;
  readonly payload: PaymentPayload;
  readonly payer: Address;
  readonly settlement: SettlementMode;
  readonly key: string | undefined;
  readonly deadlineS: number;
  readonly takenAtMs: number;
  /** The channel as its row stood, for what an answer says of it. */
  readonly channel: { readonly id: Uint8Array; readonly row: ChannelHistory; readonly balance: bigint } | undefined;
};

export type OpenModules = {
  readonly suite: EvmSuite;
  readonly pricing: Pricing;
  readonly takenBy: string;
  readonly now: () => number;
  /** Says that it is charged, to whoever waits for it. */
  readonly durable: (entry: OpenEntry, receipt: DurableReceipt) => void;
  /** Takes the claim back. */
  readonly release: (entry: OpenEntry) => Promise<void>;
};

/** An answer needs this long to arrive: who waits on its channel is told of the charge after it, milliseconds. */
const ANSWER_MS = 50;
/** The smallest charge on a channel: a voucher that charged nothing would be signed again for the next request. */
const LEAST_VOUCHER_CHARGE = 1n;

/** What a gateway does with a payment that it has: it charges it once, or gives it back. */
export function openPayment(modules: OpenModules, taken: Taken): OpenPayment {
  const { suite, pricing, takenBy, durable, release, now } = modules;
  const { entry, quote, requirement, payload, payer, settlement } = taken;
  const { scheme, network } = requirement;
  let charged: bigint | undefined;
  let released = false;

  const answer = (response: SettlementResponse): Readonly<Record<string, string>> => {
    const { value } = encodeSettlementResponse(suite, 2, response);
    if (payload.version === 2) return { "payment-response": value };
    return { "payment-response": value, "x-payment-response": encodeSettlementResponse(suite, 1, response).value };
  };

  const settled = (extra: Readonly<Record<string, unknown>>, amountAtomic?: bigint): SettlementResponse => ({
    success: true,
    transaction: "",
    network,
    payer,
    ...(amountAtomic === undefined ? {} : { amount: amountAtomic.toString() }),
    extra: { settlement: "deferred", paymentId: entry.paymentId, ...extra },
  });

  const partsFor = (
    subject: ListingSubject,
    used: MeteredUse,
    besides: readonly BesideUse[],
  ): readonly [ChargedPart, ...ChargedPart[]] => {
    const [first, ...rest] =
      scheme === "exact" ? pricing.whole(quote, subject) : pricing.metered(quote, subject, used, besides);
    // Nothing of what is priced was used: the service beside that was asked for costs nothing then.
    if (!first) return [{ ...besideOf(quote), amountAtomic: scheme === "upto" ? 0n : LEAST_VOUCHER_CHARGE }];
    const nothing = sumOf([first, ...rest]) < LEAST_VOUCHER_CHARGE;
    return scheme === "batch-settlement" && nothing
      ? [{ ...first, amountAtomic: LEAST_VOUCHER_CHARGE }, ...rest]
      : [first, ...rest];
  };

  return {
    kind: "open",
    payer,
    network,
    paymentId: entry.paymentId,
    scheme,
    settlement,
    // A voucher does not end, and its channel can be emptied in time: its work takes no longer than any other.
    untilMs:
      Math.min(taken.deadlineS * 1000, taken.takenAtMs + MAX_TIMEOUT_SECONDS * 1000) - MIN_REMAINING_SECONDS * 1000,
    headers: answer(settled({}, scheme === "exact" ? quote.capAtomic : undefined)),
    charge(subject, used, besides = []): Charge {
      if (charged !== undefined || released)
        throw new TypeError("A payment is charged once, and not after it was given back.");
      const parts = partsFor(subject, used, besides);
      const amountAtomic = sumOf(parts);
      const listing = listingDigest(parts[0].listing);
      const instruction = encodeInstruction({
        paymentId: entry.paymentId,
        payer,
        scheme,
        network,
        asset: requirement.asset,
        amountAtomic,
        capAtomic: quote.capAtomic,
        payTo: requirement.payTo,
        payees: quote.terms.payees,
        settlement,
        deadlineS: taken.deadlineS,
        listing,
        fingerprint: entry.fingerprint,
        ...(taken.key === undefined ? {} : { idempotencyKey: taken.key }),
        ...(taken.channel ? { channelId: taken.channel.id } : {}),
        takenBy,
        takenAtMs: taken.takenAtMs,
        requirement: plainRequirement(requirement),
        payload,
      });
      charged = amountAtomic;
      entry.channel?.charge(amountAtomic);
      const response = settled(
        taken.channel && entry.channel
          ? {
              chargedAmount: amountAtomic.toString(),
              channelState: channelWire(toHex(taken.channel.id), taken.channel, entry.channel.charged()),
            }
          : {},
        amountAtomic,
      );
      return {
        amountAtomic,
        payment: {
          payer,
          paymentId: entry.paymentId,
          scheme,
          network,
          amountAtomic: amountAtomic.toString(),
          asset: requirement.asset,
          settlement,
          payTo: requirement.payTo,
        },
        price: {
          amountAtomic: amountAtomic.toString(),
          asset: quote.terms.token.symbol,
          unit: `1e-${quote.terms.token.decimals}`,
          ...ratesOf(parts),
        },
        instruction,
        headers: answer(response),
        event: JSON.stringify(settlementDocument(suite, payload.version, response)),
        durable(receipt: DurableReceipt) {
          if (entry.receipt) return;
          entry.channel?.durable(entry.paymentId, amountAtomic, now() + ANSWER_MS);
          durable(entry, receipt);
        },
      };
    },
    async release() {
      if (released || entry.receipt) return;
      released = true;
      if (charged !== undefined) entry.channel?.uncharge(charged);
      await release(entry);
    },
  };
}

/** What a channel's answer says of it, after `charged` in all. */
export function channelWire(
  channelId: Hex,
  channel: { readonly row: ChannelHistory; readonly balance: bigint },
  charged: bigint,
): ChannelStateWire {
  return {
    channelId,
    balance: channel.balance.toString(),
    totalClaimed: channel.row.totalClaimed.toString(),
    withdrawRequestedAt: channel.row.withdrawRequestedAt,
    refundNonce: channel.row.refundNonce.toString(),
    chargedCumulativeAmount: charged.toString(),
  };
}

function sumOf(parts: readonly ChargedPart[]): bigint {
  return parts.reduce((sum, { amountAtomic }) => sum + amountAtomic, 0n);
}

/** What a price says of the listings that it is made of. */
function ratesOf(parts: readonly [ChargedPart, ...ChargedPart[]]): Pick<Charge["price"], "rateSource" | "parts"> {
  const named = parts.map(({ subject, listing, amountAtomic }) => ({
    amountAtomic: amountAtomic.toString(),
    subject,
    rateSource: `listing:${listingDigest(listing)}`,
  }));
  const [only, ...more] = named;
  return only && more.length === 0 ? { rateSource: only.rateSource } : { rateSource: "parts", parts: named };
}

/** The listing of a service beside, where nothing else has one. */
function besideOf({ terms }: DeskQuote): Omit<ChargedPart, "amountAtomic"> {
  const [first] = terms.besides;
  if (!first) throw new TypeError("A quote without a listing was charged.");
  return { subject: first[0], listing: first[1].listing };
}
