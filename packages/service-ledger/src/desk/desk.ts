import { AssayError } from "@assay/core";
import { toHex } from "@assay/x402";
import type { PaymentRequired } from "@assay/x402";
import type { LogSink, PaymentDesk, PaymentDone, PaymentHeaders, PricedUse, StoredRecord } from "@assay/protocol";
import { startFollower } from "./follow.ts";
import type { Follower } from "./follow.ts";
import type { PaidRecord } from "./ingest.ts";
import type { DeskModules, DeskOptions } from "./modules.ts";
import { createChannels } from "./channel-state.ts";
import { COPY_WAIT_MS } from "./limits.ts";
import { createOpenPayments } from "./open-payments.ts";
import { refused, unpaid } from "./problem.ts";
import type { Refused } from "./problem.ts";
import { refundChannel } from "./refund.ts";
import { readRequest } from "./request.ts";
import { releaseExpired, releaseLeft } from "./rows.ts";
import { admit, copyOfCharged, databaseRefusal, inFlight, takeDirect } from "./take.ts";
import type { Admitted, Answer, Paying, TakeContext, UnderWay } from "./take.ts";
import { takeOnChannel } from "./take-channel.ts";
import type { OnChannel } from "./take-channel.ts";
import { createPricing } from "./terms.ts";
import type { DeskQuote } from "./terms.ts";
import { createTrust } from "./trust.ts";
import { createWriting } from "./writing.ts";

/** A desk, and what keeps its rows behind the log. */
export type Desk = PaymentDesk & {
  /**
   * Begins to follow the log. Resolves once the rows have everything that was in it at the call, and what dead processes
   * of this gateway left claimed is free: before that no payment may be taken.
   */
  readonly start: (
    log: Pick<LogSink, "size" | "readRange">,
    decode: (record: StoredRecord) => PaidRecord,
  ) => Promise<void>;
  /** Takes records as they become durable, in log order; `next` is the index after the last. */
  readonly ingest: (records: readonly PaidRecord[], next: number) => void;
  /** Resolves once the rows have everything below `size`; false when the desk is closed before. */
  readonly ingested: (size: number) => Promise<boolean>;
  /** Payments under way, copies that wait for one of them, and records that the rows lack. */
  readonly status: () => { readonly open: number; readonly waiting: number; readonly lag: number };
  readonly close: () => Promise<void>;
};

/** A refund is bound to its channel, and to no request. */
const NO_FINGERPRINT = new Uint8Array(32);
/** How often claims whose signatures ended are looked for, milliseconds. */
const SWEEP_MS = 60_000;

/**
 * A desk that takes payments on one chain, over rows that several gateways may share. Nothing is charged before a record
 * of the log says so; a claim that is lost in a crash was never charged.
 */
export function createDesk(modules: DeskModules, options: DeskOptions): Desk {
  const pricing = createPricing(modules, options);
  const entries = createOpenPayments();
  const channels = createChannels();
  const context: TakeContext = {
    modules,
    options,
    pricing,
    entries,
    writing: createWriting(),
    trust: createTrust(),
    takenBy: `${options.gateway}/${options.bootId}`,
  };
  let follower: Follower | undefined;
  let sweeping: NodeJS.Timeout | undefined;
  let started = false;

  const take = async (paying: Paying): Promise<Answer> => {
    const { suite } = modules;
    const admitted = admit(context, paying);
    if ("ok" in admitted) {
      const copy = await copyOfCharged(context, paying);
      return copy ?? unpaid(suite, admitted.code, admitted.message, pricing.required(paying.quote, admitted.code));
    }
    const channel = onChannel(admitted);
    if (!channel) return takeDirect(context, admitted);
    if (channel.payment.kind === "refund")
      return refused(400, "payment_not_a_payment", "A refund pays for nothing: ask for it with a GET.");
    return takeOnChannel(context, channel);
  };

  /** Takes a payment; a copy of one that is worked for here waits for its answer, or takes its place. */
  const takeOrWait = async (paying: Paying): Promise<Exclude<Answer, UnderWay>> => {
    const untilMs = modules.now() + (options.copyWaitMs ?? COPY_WAIT_MS);
    for (;;) {
      const answer = await take(paying);
      if (answer.kind !== "under-way") return answer;
      if (!(await entries.ended(answer.entry, untilMs - modules.now(), paying.signal))) return inFlight();
    }
  };

  const onChannel = (admitted: Admitted): OnChannel | undefined => {
    const { payment } = admitted.request.payload;
    if (payment.kind !== "voucher" && payment.kind !== "deposit" && payment.kind !== "refund") return undefined;
    const channelId = toHex(payment.voucher.channelId);
    return { ...admitted, payment, channelId, state: channels.get(channelId) };
  };

  const refund = async (
    use: PricedUse,
    headers: PaymentHeaders,
    signal: AbortSignal,
  ): Promise<PaymentDone | Refused> => {
    const { suite } = modules;
    const quote = pricing.quote(use) ?? pricing.anything(use);
    if (!quote) throw new AssayError("payment_unavailable", "This gateway takes no token.");
    const required = (error: string): PaymentRequired => pricing.required(quote, error);
    const request = readRequest(suite, headers, required);
    if (request.kind === "problem") return request;
    if (!started) return starting();
    const admitted = admit(context, { quote, request, fingerprint: NO_FINGERPRINT, signal });
    if ("ok" in admitted) return unpaid(suite, admitted.code, admitted.message, required(admitted.code));
    const channel = onChannel(admitted);
    if (channel?.payment.kind !== "refund")
      return refused(400, "payment_not_a_refund", "A GET gives a channel's rest back, and nothing is paid by it.");
    try {
      return await refundChannel(context, channel);
    } catch (error) {
      return databaseRefusal(error);
    }
  };

  const sweep = async (): Promise<void> => {
    try {
      await releaseExpired(modules.database, modules.now(), context.takenBy);
    } catch {
      // The database is away; the next sweep is soon enough.
    }
  };

  return {
    quote: pricing.quote,
    async take(quote, headers, { fingerprint, signal }) {
      const own = quoteOf(quote);
      const request = readRequest(modules.suite, headers, (error) => pricing.required(own, error));
      if (request.kind === "problem") return request;
      if (!started) return starting();
      try {
        return await takeOrWait({ quote: own, request, fingerprint, signal });
      } catch (error) {
        return databaseRefusal(error);
      }
    },
    ...(options.receiverAuthorizer === undefined ? {} : { refund }),
    async start(log, decode) {
      if (follower) throw new TypeError("A desk is started once.");
      follower = startFollower({
        database: modules.database,
        suite: modules.suite,
        log,
        decode,
        onIngested(due, watermark) {
          entries.settledBelow(watermark);
          if (due.length > 0) modules.onDue?.(due);
        },
        onEvent: (event) => modules.onEvent?.(event),
      });
      if (!(await follower.reached(log.size()))) return;
      await releaseLeft(modules.database, options.gateway, context.takenBy);
      sweeping = setInterval(() => void sweep(), SWEEP_MS);
      sweeping.unref();
      started = true;
    },
    ingest: (records, next) => follower?.offer(records, next),
    ingested: (size) => follower?.reached(size) ?? Promise.resolve(false),
    status: () => ({ open: entries.size(), waiting: entries.waiting(), lag: follower?.lag() ?? 0 }),
    async close() {
      started = false;
      clearInterval(sweeping);
      entries.close();
      await follower?.stop();
    },
  };
}

function starting(): Refused {
  return refused(503, "payments_starting", "Payments are not taken yet: the ledger is reading the log.", 1);
}

function quoteOf(quote: object): DeskQuote {
  if (!("terms" in quote)) throw new TypeError("A quote of another desk was brought.");
  return quote as DeskQuote;
}
