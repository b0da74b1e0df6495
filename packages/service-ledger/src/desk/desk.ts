import type { LogSink, PaymentDesk, StoredRecord } from "@assay/protocol";
import { startFollower } from "./follow.ts";
import type { Follower } from "./follow.ts";
import type { PaidRecord } from "./ingest.ts";
import type { DeskModules, DeskOptions } from "./modules.ts";
import { createOpenPayments } from "./open-payments.ts";
import { refused, unpaid } from "./problem.ts";
import { readRequest } from "./request.ts";
import { releaseExpired, releaseLeft } from "./rows.ts";
import { admit, copyOfCharged, databaseRefusal, takeDirect } from "./take.ts";
import type { Answer, Paying, TakeContext } from "./take.ts";
import { createPricing } from "./terms.ts";
import type { DeskQuote } from "./terms.ts";

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
  readonly status: () => { readonly open: number; readonly lag: number };
  readonly close: () => Promise<void>;
};

/** How often claims whose signatures ended are looked for, milliseconds. */
const SWEEP_MS = 60_000;

/**
 * A desk that takes payments on one chain, over rows that several gateways may share. Nothing is charged before a record
 * of the log says so; a claim that is lost in a crash was never charged.
 */
export function createDesk(modules: DeskModules, options: DeskOptions): Desk {
  const pricing = createPricing(modules, options);
  const entries = createOpenPayments();
  const context: TakeContext = {
    modules,
    options,
    pricing,
    entries,
    writing: new Map(),
    takenBy: `${options.gateway}/${options.bootId}`,
  };
  let follower: Follower | undefined;
  let sweeping: NodeJS.Timeout | undefined;
  let started = false;

  const take = async (paying: Paying): Promise<Answer> => {
    const { suite } = modules;
    const { payload } = paying.request;
    const admitted = admit(context, paying);
    if ("ok" in admitted) {
      const copy = await copyOfCharged(context, paying);
      return copy ?? unpaid(suite, admitted.code, admitted.message, pricing.required(paying.quote, admitted.code));
    }
    if (payload.scheme === "batch-settlement")
      return refused(400, "payment_scheme_unsupported", "Channels are not open.");
    return takeDirect(context, admitted);
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
      if (!started)
        return refused(503, "payments_starting", "Payments are not taken yet: the ledger is reading the log.", 1);
      try {
        return await take({ quote: own, request, fingerprint, signal });
      } catch (error) {
        return databaseRefusal(error);
      }
    },
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
    status: () => ({ open: entries.size(), lag: follower?.lag() ?? 0 }),
    async close() {
      started = false;
      clearInterval(sweeping);
      await follower?.stop();
    },
  };
}

function quoteOf(quote: object): DeskQuote {
  if (!("terms" in quote)) throw new TypeError("A quote of another desk was brought.");
  return quote as DeskQuote;
}
