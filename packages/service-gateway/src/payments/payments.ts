import { AssayError, bytesToHex, hexToBytes, utf8ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type {
  BesideUse,
  Charge,
  DurableReceipt,
  ListingSubject,
  LogSink,
  MeteredUse,
  OpenPayment,
  PaidBefore,
  PaymentDesk,
  PaymentHeaders,
  PaymentProblem,
  PricedUse,
  StoredRecord,
} from "@assay/protocol";
import { decodeEntry, parseStatement } from "@assay/receipts";
import type { IncomingHttpHeaders } from "node:http";
import type { Metrics } from "../metrics.ts";
import type { OpeningVault } from "../openings.ts";
import type { RecordedPayment } from "../recorder.ts";
import { single } from "../request-headers.ts";
import { completeAnswer, decodeKept, encodeKept } from "./answer.ts";
import type { CompleteAnswer, IndividualFacts, KeptForm } from "./answer.ts";
import { PAID_HEADERS, paymentRefused } from "./problem.ts";

/** What the composition gives for payments. */
export type PaymentModules = {
  readonly desk: PaymentDesk;
  readonly log: Pick<LogSink, "read">;
  readonly vault: Pick<OpeningVault, "answer" | "sealAnswer">;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly metrics: Metrics;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /**
   * The anchoring of one receipt by itself, signed and stored but not waited for: asked after its record is durable and
   * before the answer's head goes out, and again when the answer is. Without it `individual` answers lack its facts.
   */
  readonly individual?: (receipt: DurableReceipt) => Promise<IndividualFacts>;
  /** Whether no listing is there that charges anything: calls are then answered without another look. */
  readonly allFree?: () => boolean;
  /** Whether any listing of a use charges anything; without it the desk is asked, which takes as long as telling a price. */
  readonly mayCost?: (use: Pick<PricedUse, "subjects" | "besides">) => boolean;
  /** The members of a 402's body that clients of x402 v1 read; without it they are not there. */
  readonly v1?: (required: NonNullable<PaymentProblem["required"]>) => Readonly<Record<string, unknown>>;
  /** Told of what fails behind an answer. */
  readonly onError: (error: unknown) => void;
};

export type PaymentOptions = {
  /** Origin in quotes, `https://api.example`; what the request's Host header says when absent. */
  readonly publicUrl?: string;
  /** How long an answer is kept for its payer, milliseconds; a day when absent. */
  readonly keepMs?: number;
  /** The longest that a text and an inference may run, milliseconds: what bounds a price per second. */
  readonly textLimitMs?: number;
  readonly inferLimitMs?: number;
};

/** A request that is to be paid for, as far as payments look at it. */
export type PayableRequest = {
  readonly headers: IncomingHttpHeaders;
  readonly path: string;
  /** 32 bytes; asked for when there is something to pay, because it reads all of the body. */
  readonly fingerprint: () => Uint8Array;
  readonly signal: AbortSignal;
  /** Whether it came by TLS. */
  readonly secure: boolean;
};

/** A payment that was taken for a request, until it is charged or given back. */
export type Paying = {
  readonly kind: "open";
  /** CAIP-10 account of the payer: who the caller is when no token says so. */
  readonly account: string;
  readonly paymentId: string;
  readonly open: OpenPayment;
  readonly subjects: readonly ListingSubject[];
  /** Fixes the amount. `subject` is charged when it was quoted, else the first that was. */
  readonly charge: (subject: ListingSubject | undefined, used: MeteredUse, besides?: readonly BesideUse[]) => Charge;
  /** The charge as the recorder takes it. */
  readonly recorded: (charge: Charge) => RecordedPayment;
  /** Gives the payment back; resolves when that is done, and never rejects. */
  readonly release: () => Promise<void>;
};

/** An answer that was paid for before. */
export type Replayed = { readonly kind: "replay"; readonly receiptId: string; readonly answer: CompleteAnswer };

/** Payments as the gateway's routes use them. */
export type Payments = {
  readonly limits: { readonly textMs: number; readonly inferMs: number };
  /**
   * Takes the payment of a request, before any work. Undefined: it is free. Throws the desk's refusals, which
   * {@link paymentRefused} made errors of, and `answer_not_kept` for one whose answer is not here any more.
   */
  readonly take: (
    use: Omit<PricedUse, "resource">,
    request: PayableRequest,
    mimeType: string,
  ) => Promise<Paying | Replayed | undefined>;
  /** What is stored beside a paid record, and until when; undefined when the answer is too large to be kept. */
  readonly keep: (
    receiptId: Uint8Array,
    opening: Uint8Array,
    form: KeptForm,
  ) => { readonly bytes: Uint8Array; readonly untilMs: number } | undefined;
  /** What a settlement of its own adds to an answer; undefined for the other ways to settle. */
  readonly individual: (
    settlement: OpenPayment["settlement"],
    receipt: DurableReceipt,
  ) => Promise<IndividualFacts | undefined>;
  readonly nowMs: () => number;
  /** Whether nothing at all has a price: then nobody needs to look for one. */
  readonly allFree: () => boolean;
  /**
   * Serves a GET on a route that has a price: the rest of a channel is given back there, and a client is told what it
   * could pay. Throws `method_not_allowed` where there are no channels.
   */
  readonly refund: (subject: ListingSubject | undefined, request: PayableRequest) => Promise<CompleteAnswer>;
  /** The answer kept beside a record, complete; undefined when none is kept, or not any more. */
  readonly answerIn: (record: StoredRecord) => Promise<CompleteAnswer | undefined>;
};

/** How long an answer is kept for whoever paid for it: a day, in which any client that lost it has come again. */
const KEEP_ANSWER_MS = 24 * 60 * 60 * 1000;
/** The longest that a text may run when nothing else is said: as long as clients of this API wait by default. */
const TEXT_LIMIT_MS = 10 * 60 * 1000;
const INFER_LIMIT_MS = 60 * 1000;

/** Payments over a desk. */
export function createPayments(modules: PaymentModules, options: PaymentOptions = {}): Payments {
  const { desk, log, vault, suite, metrics, now, onError } = modules;
  const keepMs = options.keepMs ?? KEEP_ANSWER_MS;

  const individual = async (
    settlement: OpenPayment["settlement"],
    receipt: DurableReceipt,
  ): Promise<IndividualFacts | undefined> => {
    if (settlement !== "individual" || !modules.individual) return undefined;
    try {
      return await modules.individual(receipt);
    } catch (error) {
      // The receipt is durable and the payment true: the answer goes out, and settling goes on behind it.
      onError(error);
      return undefined;
    }
  };

  /** What a receipt anchored by itself uses beside its answer: a transaction of its own. */
  const anchoring = (settlement: string | undefined): readonly BesideUse[] =>
    modules.individual && settlement?.toLowerCase() === "individual"
      ? [{ subject: "service:anchoring", used: {} }]
      : [];

  const answerIn = async (record: StoredRecord): Promise<CompleteAnswer | undefined> => {
    if (record.erased || record.opening.length === 0) return undefined;
    const [execution, service] = decodeEntry(record.entry).map((envelope) => parseStatement(suite, envelope));
    if (!execution) return undefined;
    const receiptId = receiptIdOf(execution.header.subject);
    if (receiptId === undefined) return undefined;
    let kept: Uint8Array | undefined;
    try {
      kept = vault.answer(hexToBytes(receiptId), record.opening, now());
    } catch (error) {
      // Another gateway over the same log has sealed it with a secret of its own.
      onError(error);
    }
    if (!kept) return undefined;
    const form = decodeKept(kept);
    const receipt: DurableReceipt = {
      receiptId,
      logIndex: record.index,
      executionDigest: bytesToHex(execution.digest),
      serviceDigest: bytesToHex((service ?? execution).digest),
    };
    const facts = form.individual ? await individual("individual", receipt) : undefined;
    return completeAnswer(form, { ...receipt, individual: facts });
  };

  const replay = async ({ receiptId, logIndex }: PaidBefore): Promise<Replayed> => {
    const record = await log.read(logIndex);
    const answer = record && (await answerIn(record));
    if (!answer) {
      metrics.payments.inc({ scheme: "any", outcome: "not_kept" });
      throw paymentRefused(
        {
          status: 409,
          code: "answer_not_kept",
          message: `This payment was for the receipt ${receiptId}, whose answer is not kept here (any more).`,
          headers: {},
        },
        { receiptId },
      );
    }
    metrics.payments.inc({ scheme: "any", outcome: "replayed" });
    const { status, headers, body } = answer;
    return { kind: "replay", receiptId, answer: { status, headers: { ...headers, "assay-replayed": "true" }, body } };
  };

  const paying = (open: OpenPayment, subjects: readonly ListingSubject[]): Paying => {
    let over: Promise<void> | undefined;
    const release = (): Promise<void> => {
      over ??= open.release().then(
        () => metrics.payments.inc({ scheme: open.scheme, outcome: "released" }),
        (error: unknown) => {
          metrics.payments.inc({ scheme: open.scheme, outcome: "stuck" });
          onError(error);
        },
      );
      return over;
    };
    return {
      kind: "open",
      account: `${open.network}:${open.payer}`,
      paymentId: open.paymentId,
      open,
      subjects,
      charge(subject, used, besides) {
        const charged = subject !== undefined && subjects.includes(subject) ? subject : subjects[0];
        if (charged === undefined) throw new TypeError("A quote names no listing.");
        return open.charge(charged, used, [...(besides ?? []), ...anchoring(open.settlement)]);
      },
      recorded: (charge) => ({
        instruction: charge.instruction,
        durable(receipt) {
          over ??= Promise.resolve();
          metrics.payments.inc({ scheme: open.scheme, outcome: "charged" });
          charge.durable(receipt);
        },
        lost: () => void release(),
      }),
      release,
    };
  };

  const refusalOf = ({ required, ...problem }: PaymentProblem): AssayError =>
    paymentRefused(problem, required && modules.v1 ? { body: modules.v1(required) } : {});
  const resourceOf = (request: PayableRequest, mimeType: string): PricedUse["resource"] => ({
    url: `${originOf(options.publicUrl, request)}${request.path}`,
    mimeType,
  });
  const allFree = modules.allFree ?? (() => false);

  return {
    allFree,
    limits: { textMs: options.textLimitMs ?? TEXT_LIMIT_MS, inferMs: options.inferLimitMs ?? INFER_LIMIT_MS },
    async take(use, request, mimeType) {
      if (allFree()) return undefined;
      const headers = paymentHeaders(request);
      const besides = [...(use.besides ?? []), ...anchoring(headers["x-settlement-type"])];
      if (modules.mayCost?.({ ...use, besides }) === false) return undefined;
      const quote = desk.quote({ ...use, besides, resource: resourceOf(request, mimeType) });
      if (!quote) return undefined;
      const { signal } = request;
      const taken = await desk.take(quote, headers, { fingerprint: request.fingerprint(), signal });
      if (taken.kind === "problem") {
        metrics.payments.inc({ scheme: "any", outcome: taken.problem.status === 402 ? "required" : "refused" });
        throw refusalOf(taken.problem);
      }
      if (taken.kind === "replay") return replay(taken);
      const open = paying(taken, use.subjects);
      // Who has left while the payment was being taken gets it back: nobody would have the answer.
      if (signal.aborted) {
        await open.release();
        signal.throwIfAborted();
      }
      return open;
    },
    async refund(subject, request) {
      if (!desk.refund) throw new AssayError("method_not_allowed", "This route takes POST, not GET.");
      const use: PricedUse = {
        subjects: subject === undefined ? [] : [subject],
        // Of anything a little: what is offered matters here, and the price does not.
        most: { inputTokens: 1, outputTokens: 1, milliseconds: 1 },
        resource: resourceOf(request, "application/json"),
      };
      const done = await desk.refund(use, paymentHeaders(request), request.signal);
      if (done.kind === "problem") {
        metrics.payments.inc({ scheme: "batch-settlement", outcome: "refund_refused" });
        throw refusalOf(done.problem);
      }
      metrics.payments.inc({ scheme: "batch-settlement", outcome: "refunded" });
      const headers = { "content-type": "application/json", ...PAID_HEADERS, ...done.headers };
      return { status: done.status, headers, body: utf8ToBytes(done.body) };
    },
    keep(receiptId, opening, form) {
      const untilMs = now() + keepMs;
      const bytes = vault.sealAnswer(receiptId, opening, encodeKept(form), untilMs);
      return bytes && { bytes, untilMs };
    },
    individual,
    nowMs: now,
    answerIn,
  };
}

function paymentHeaders({ headers }: PayableRequest): PaymentHeaders {
  return {
    "payment-signature": single(headers["payment-signature"]),
    "x-payment": single(headers["x-payment"]),
    "idempotency-key": single(headers["idempotency-key"]),
    "x-settlement-type": single(headers["x-settlement-type"]),
  };
}

const HOST = /^[\w.:[\]-]{1,255}$/;

function originOf(publicUrl: string | undefined, { headers, secure }: PayableRequest): string {
  if (publicUrl !== undefined) return publicUrl.replace(/\/+$/, "");
  const host = headers.host ?? "";
  return `${secure ? "https" : "http"}://${HOST.test(host) ? host : "localhost"}`;
}

/** Receipt ids stand at the end of their statements' subjects. */
function receiptIdOf(subject: string): string | undefined {
  return /([0-9a-f]{32})$/.exec(subject)?.[1];
}
